"""A node that fails on a host gets its old release back, and it is that release that runs then."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

ROLE = Path("collections/ansible_collections/pickbox/cluster/roles/node").resolve()
OLD, NEW = "1.0.0-a", "1.1.0-b"

SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$SYSTEMCTL_TOLD"
case "$*" in
*is-enabled*) echo enabled ;;
*show*) printf 'LoadState=loaded\\nActiveState=active\\nMainPID=%s\\n' "$NODE_PID" ;;
esac
"""
"""Says that the node runs, and notes what it is told to do."""


class Ready(BaseHTTPRequestHandler):
    """A node that is in service."""

    def do_GET(self) -> None:
        node = {"node_id": "node1", "leader": "node2", "draining": False}
        content = json.dumps({"node": node}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def process_of(release: str) -> Iterator[int]:
    """What runs as the node, started with this release."""
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(
        command,
        env={"PICKBOX_RELEASE": release},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as node:
        assert node.stdout
        node.stdout.readline()  # it has that environment from here on
        yield node.pid


def giving_back(directory: Path, url: str) -> list[dict[str, Any]]:
    """A play that gives a node back what it had, which was down when it was looked at last."""
    known = {
        "__node_touched": True,
        "__node_had": {"results": []},
        "__node_release_before": f"{directory}/releases/{OLD}",
        "__node_current": f"{directory}/current",
        "__node_target": NEW,
        "__node_process": {"known": True, "running": False, "pid": 0},
        "__node_admin_token": "token",
        "__node_admin_before": url,
        "__node_monitor_before": url,
        "__node_log": "",
    }
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
        "tasks": [
            {"ansible.builtin.set_fact": known},
            {"ansible.builtin.include_tasks": str(ROLE / "tasks/restore.yml")},
        ],
    }
    return [play]


def given_back(directory: Path, release: str) -> tuple[int, str, list[str]]:
    """Give a node its old release back that runs with `release`.

    Gives the exit code, what the playbook said, and what systemd was told.
    """
    (directory / f"releases/{OLD}").mkdir(parents=True)
    (directory / "told").touch()
    (directory / "systemctl").write_text(SYSTEMCTL)
    (directory / "systemctl").chmod(0o755)
    given = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "pickbox_runtime": "systemd",
        "pickbox_node_id": "node1",
        "pickbox_ready_timeout": 5,
        "pickbox_member": {"tls": {"ca": ""}},
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "--inventory=localhost,"]
    with serving(Ready) as url, process_of(release) as pid:
        (directory / "play.yml").write_text(yaml.safe_dump(giving_back(directory, url)))
        done = subprocess.run(
            [*command, "--extra-vars", json.dumps(given), str(directory / "play.yml")],
            env={
                **os.environ,
                "PATH": f"{directory}:{os.environ['PATH']}",
                "SYSTEMCTL_TOLD": str(directory / "told"),
                "NODE_PID": str(pid),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    told = (directory / "told").read_text().splitlines()
    return done.returncode, " ".join((done.stdout + done.stderr).split()), told


def test_a_node_that_was_down_before_and_runs_now_is_restarted_with_its_old_release(
    tmp_path: Path,
) -> None:
    code, said, told = given_back(tmp_path, OLD)
    assert code == 0, said
    assert any("restart pickbox.service" in line for line in told), told


def test_a_node_that_runs_the_new_release_still_does_not_have_its_old_one_back(
    tmp_path: Path,
) -> None:
    code, said, _ = given_back(tmp_path, NEW)
    assert code != 0
    assert f"node1 runs {NEW} still, and not {OLD}" in said
