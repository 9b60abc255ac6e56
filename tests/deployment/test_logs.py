"""The logs of all nodes in one file: real rsyslog, set up by the collection's own playbook."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from authority import Authority
from cluster import wait_until
from deployed import Run, run_playbook
from ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster import Cluster

pytestmark = pytest.mark.cluster

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
    """A sender for the three nodes of a cluster, and a collector."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory
        self.sender = Rsyslog(directory / "sender")
        self.collector = Rsyslog(directory / "collector")
        self.variables: dict[str, dict[str, Any]] = {"pickbox": {}, "pickbox_logs": {}}
        (self._port,) = free_ports(1)

    @property
    def file(self) -> Path:
        return self.directory / "logs/cluster.jsonl"

    def events(self) -> list[dict[str, Any]]:
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [json.loads(line) for line in lines]

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
            "pickbox_logs_files": [str(node.log) for node in self.cluster],
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


@pytest.fixture(scope="module")
def logs(module_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logs]:
    assert shutil.which("rsyslogd", path=PATH), "apt-get install rsyslog rsyslog-gnutls"
    made = Logs(module_cluster, tmp_path_factory.mktemp("logs"))
    with made.running():
        yield made


def test_one_query_reads_the_path_of_a_change_through_all_nodes(logs: Logs) -> None:
    taking, *_ = logs.cluster
    answer = taking.put("followed", b"content")
    request_id = answer.headers["X-Request-Id"]

    def trail() -> set[tuple[str, str]]:
        found = [event for event in logs.events() if event.get("request_id") == request_id]
        return {(event["event"], event["node"]) for event in found}

    expected = {("change_applied", node.node_id) for node in logs.cluster}
    expected.add(("change_proposed", taking.node_id))
    wait_until(lambda: trail() == expected, "all of its events are in one file")


def test_each_line_arrives_as_the_node_wrote_it(logs: Logs) -> None:
    taking, *_ = logs.cluster
    name = 'a "quoted" name, ünïcode and %n'
    taking.put("a%20%22quoted%22%20name%2C%20%C3%BCn%C3%AFcode%20and%20%25n", b"content")
    own = [event for event in taking.events() if event.get("path") == name]
    assert own
    wait_until(lambda: all(event in logs.events() for event in own), "they are collected")


def test_what_is_logged_while_nobody_takes_it_arrives_later(logs: Logs) -> None:
    taking, *_ = logs.cluster
    logs.collector.stop()
    ids = [taking.put(f"late {number}", b"x").headers["X-Request-Id"] for number in range(20)]
    logs.collector.start()
    wait_until(
        lambda: set(ids) <= {event.get("request_id") for event in logs.events()},
        "what waited is collected",
        seconds=60,
    )


@pytest.mark.parametrize("trusted", [True, False], ids=["its CA", "another CA"])
def test_over_tls_only_the_collector_of_the_right_ca_is_sent_anything(
    cluster: Cluster, tmp_path: Path, *, trusted: bool
) -> None:
    own = Authority(tmp_path / "own").issue("collector", hosts=("localhost",))
    other = Authority(tmp_path / "other").issue("collector", hosts=("localhost",))
    logs = Logs(cluster, tmp_path)
    logs.variables["pickbox"] = {
        "pickbox_logs_target": "localhost",
        "pickbox_logs_ca": str(own.ca if trusted else other.ca),
    }
    logs.variables["pickbox_logs"] = {
        "pickbox_logs_certificate": str(own.certificate),
        "pickbox_logs_key": str(own.key),
    }
    with logs.running():
        if trusted:
            wait_until(logs.events, "events arrive")
        else:
            complaints = logs.sender.complaints
            wait_until(lambda: "certificate" in complaints.read_text(), "the sender refuses it")
            assert logs.events() == []


@pytest.mark.parametrize("mode", [(), ("--check",)], ids=["run", "check"])
def test_a_second_run_changes_nothing(logs: Logs, mode: tuple[str, ...]) -> None:
    again = logs.play(*mode)
    assert again.code == 0, again.output
    assert "changed=0" in again.output
    assert "changed=1" not in again.output


def test_without_a_receiver_it_says_how_to_name_one(logs: Logs) -> None:
    refused = logs.play("--extra-vars=pickbox_logs_target=")
    assert refused.code != 0
    assert "put a host into the group pickbox_logs" in refused.output
