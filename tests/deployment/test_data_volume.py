"""A data directory that is a volume of its own: it is not moved aside, and only emptied."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROLE = Path("collections/ansible_collections/pickbox/cluster/roles/node").resolve()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a node, beside its other files; as mountpoint(1) says, a volume."""
    (tmp_path / "mountpoint").write_text(f'#!/bin/sh\ntest "$2" = {tmp_path}/home/nodes/node1/data')
    (tmp_path / "mountpoint").chmod(0o755)
    found = tmp_path / "home/nodes/node1/data"
    (found / "files/.pickbox").mkdir(parents=True)
    (found / "lost+found").mkdir()
    (found / ".hidden").write_text("data")
    (found.parent / "node.log").write_text("log")
    return found


def run(tasks: str, data: Path, **variables: str) -> tuple[int, str]:
    """Run tasks of the role for the node; gives the exit code and what was said."""
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
        "tasks": [{"ansible.builtin.include_tasks": str(ROLE / f"tasks/{tasks}.yml")}],
    }
    place = data.parents[3]
    (place / "play.yml").write_text(yaml.safe_dump([play]))
    given = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "pickbox_home": str(place / "home"),
        "pickbox_node_id": "node1",
        **variables,
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "--inventory=localhost,"]
    done = subprocess.run(
        [*command, "--extra-vars", json.dumps(given), str(place / "play.yml")],
        env={**os.environ, "PATH": f"{place}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_data_on_a_volume_of_their_own_are_refused_and_not_moved(data: Path) -> None:
    code, said = run("aside", data, pickbox_identity="node1")
    assert code != 0
    assert f"its data directory {data} is a volume of its own, which cannot be moved aside" in said
    assert (data / ".hidden").is_file()


def test_an_empty_volume_is_taken_as_it_is(data: Path) -> None:
    code, said = run("aside", data, pickbox_identity="")
    assert code == 0, said
    assert list(data.parent.glob("data.*")) == []


def test_a_directory_is_moved_aside(data: Path) -> None:
    (data.parents[3] / "mountpoint").unlink()
    code, said = run("aside", data, pickbox_identity="node1")
    assert code == 0, said
    (aside,) = data.parent.glob("data.*")
    assert (aside / ".hidden").is_file()
    assert list(data.iterdir()) == []


def test_a_purge_leaves_of_a_volume_the_directory(data: Path) -> None:
    code, said = run("purge", data)
    assert code == 0, said
    assert list(data.iterdir()) == [data / "lost+found"]
    assert list(data.parent.iterdir()) == [data]


def test_a_purge_leaves_no_directory_that_is_none(data: Path) -> None:
    (data.parents[3] / "mountpoint").unlink()
    code, said = run("purge", data)
    assert code == 0, said
    assert not data.parent.exists()


def test_a_disaster_recovery_looks_for_volumes_before_it_stops_a_node() -> None:
    plays = yaml.safe_load((ROLE.parents[1] / "playbooks/disaster_recovery.yml").read_text())
    entered = [
        task.get("ansible.builtin.include_role", {}).get("tasks_from")
        for play in plays
        for task in play.get("tasks", [])
    ]
    assert entered.index("movable") < entered.index("stop") < entered.index("aside")
