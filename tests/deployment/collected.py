"""Senders and collectors of logs for tests: real rsyslog, set up by the collection's playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml
from ports import free_ports

from playbooks import Run, run_playbook

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Programs of the system may be where a user has no path to.
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

# What the distribution's configuration has, but for logs of the machine.
MAIN = """
global(workDirectory="{directory}/spool")
module(load="imuxsock" SysSock.Use="off")
include(file="{directory}/conf.d/*.conf")
"""


class Rsyslog:
    """One rsyslogd with a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("spool", "conf.d"):
            (directory / name).mkdir(parents=True)
        (directory / "rsyslog.conf").write_text(MAIN.format(directory=directory))
        self.complaints = directory / "complaints"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["rsyslogd", "-n", "-f", "rsyslog.conf", "-i", str(self.directory / "pid")]
        with self.complaints.open("a") as errors:
            self._process = subprocess.Popen(
                command, cwd=self.directory, env={**os.environ, "PATH": PATH}, stderr=errors
            )

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)


class Logs:
    """A sender for what is written into `files`, and a collector."""

    def __init__(self, directory: Path, files: Iterable[Path] = ()) -> None:
        self.directory = directory
        self._files = [str(path) for path in files]
        self.sender = Rsyslog(directory / "sender")
        self.collector = Rsyslog(directory / "collector")
        self.variables: dict[str, dict[str, Any]] = {"pickbox": {}, "pickbox_logs": {}}
        (self._port,) = free_ports(1)

    @property
    def file(self) -> Path:
        return self.directory / "logs/cluster.jsonl"

    def events(self) -> list[dict[str, Any]]:
        text = self.file.read_text() if self.file.exists() else ""
        whole, _, _ = text.rpartition("\n")  # the last line may be in the middle of being written
        return [json.loads(line) for line in whole.splitlines()]

    def play(self, *arguments: str) -> Run:
        return run_playbook(self._inventory(), *arguments, "pickbox.cluster.logs")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Both set up by the playbook, and running."""
        done = self.play()
        assert done.code == 0, done.output
        self.collector.start()
        self.sender.start()
        try:
            yield
        finally:
            self.sender.stop()
            self.collector.stop()

    def _inventory(self) -> Path:
        shared = {
            "ansible_connection": "local",
            "ansible_host": "127.0.0.1",
            "ansible_python_interpreter": sys.executable,
            "pickbox_logs_service": False,
            "pickbox_logs_become": False,
            "pickbox_logs_port": self._port,
        }
        sending = {
            **shared,
            "pickbox_logs_config_dir": str(self.sender.directory / "conf.d"),
            "pickbox_logs_spool": str(self.sender.directory / "spool"),
            "pickbox_logs_files": self._files,
            **self.variables["pickbox"],
        }
        collecting = {
            **shared,
            "pickbox_logs_config_dir": str(self.collector.directory / "conf.d"),
            "pickbox_logs_dir": str(self.file.parent),
            **self.variables["pickbox_logs"],
        }
        groups = {
            "pickbox": {"hosts": {"nodes": sending}},
            "pickbox_logs": {"hosts": {"collector": collecting}},
        }
        path = self.directory / "hosts.yml"
        path.write_text(yaml.safe_dump({"all": {"children": groups}}))
        return path
