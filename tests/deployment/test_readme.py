"""What the README shows a newcomer is what the project does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml
from ansible_collections.pickbox.cluster.plugins.filter.table import table

README = Path("README.md").read_text()
HOSTS = yaml.safe_load(Path("inventories/local/hosts.yml").read_text())["pickbox"]["hosts"]
HOME = "/home/you/.local/share/pickbox"


def test_the_ports_are_those_of_the_local_inventory() -> None:
    assert list(HOSTS) == ["node1", "node2", "node3"]
    for purpose in ("port", "admin_port", "monitor_port", "dashboard_port"):
        row = ", ".join(str(host[f"pickbox_{purpose}"]) for host in HOSTS.values())
        assert f"\n| {row} |" in README


def test_the_end_of_a_deployment_is_what_the_playbook_says() -> None:
    last = yaml.safe_load(Path("playbooks/deploy.yml").read_text())[-1]["tasks"][-1]
    assert f"TASK [{last['name']}] ***" in README
    said = last["vars"]["deploy_lines"]
    rows = [
        (
            node,
            f"http://127.0.0.1:{host['pickbox_dashboard_port']}",
            f"{HOME}/nodes/{node}/data/files",
        )
        for node, host in HOSTS.items()
    ]
    for line in table(rows, ["NODE", "DASHBOARD", "FOLDER"]):
        assert f"\n    - {line}\n" in README
    for sentence in (
        "Copy a file into one of these folders, and it is in all of them a moment later.",
        "See how it does: make status. Remove it: make teardown.",
    ):
        assert sentence in said
        assert sentence in README
    assert "'Pickbox runs: '" in said
    assert "' nodes are ready.'" in said
    assert "'Pickbox runs: 3 nodes are ready.'" in README


def test_every_playbook_can_be_named_as_in_a_clone() -> None:
    done = subprocess.run(
        [
            Path(sys.executable).parent / "ansible-playbook",
            "--inventory=inventories/local",
            "--syntax-check",
            *sorted(map(str, Path("playbooks").glob("*.yml"))),
        ],
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
