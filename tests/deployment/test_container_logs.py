"""The logs of nodes in containers, collected from the files that Docker's engine writes.

The engine is played by a writer of such files; rsyslog is real, set up by the playbook.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from cluster import wait_until
from collected import PATH, Logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster

NODES = ("node1", "node2", "node3")


class Container:
    """A container's log as the engine's driver json-file writes it."""

    def __init__(self, directory: Path, number: int, tag: str = "") -> None:
        identity = f"{number:064x}"
        self._path = directory / identity / f"{identity}-json.log"
        self._path.parent.mkdir(parents=True)
        self._tag = tag

    def say(self, line: str) -> None:
        tagged = {"attrs": {"tag": self._tag}} if self._tag else {}
        record = {"log": f"{line}\n", "stream": "stderr", **tagged, "time": "2026-11-28T16:20:01Z"}
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def rotate(self) -> None:
        """Begin a new file, as the engine does when one is as large as it may be."""
        self._path.rename(f"{self._path}.1")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the engine's containers."""
    return tmp_path_factory.mktemp("containers")


@pytest.fixture(scope="module")
def nodes(engine: Path) -> dict[str, Container]:
    return {
        name: Container(engine, number, f"pickbox-pickbox-{name}")
        for number, name in enumerate(NODES)
    }


@pytest.fixture(scope="module")
def logs(
    nodes: dict[str, Container], engine: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Logs]:
    assert shutil.which("rsyslogd", path=PATH), "apt-get install rsyslog rsyslog-gnutls"
    made = Logs(tmp_path_factory.mktemp("logs"))
    made.variables["pickbox"] = {
        "pickbox_runtime": "docker",
        "pickbox_logs_containers_dir": str(engine),
    }
    with made.running():
        yield made


def event(node: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"ts": "2026-11-28T16:20:01.113Z", "event": name, "node": node, **fields}


def test_one_query_reads_the_path_of_a_change_through_all_containers(
    logs: Logs, nodes: dict[str, Container]
) -> None:
    path = 'reports/a "quoted" name, ünïcode\\ and %n'
    said = [event("node2", "change_proposed", path=path)]
    said += [event(name, "change_applied", path=path) for name in NODES]
    for one in said:
        nodes[one["node"]].say(json.dumps(one))
    wait_until(lambda: len(logs.events()) >= len(said), "all of its events are in one file")
    found = [one for one in logs.events() if one.get("path") == path]
    assert sorted(found, key=str) == sorted(said, key=str)


def test_a_container_that_is_made_later_and_a_file_that_is_begun_are_read_too(
    logs: Logs, nodes: dict[str, Container], engine: Path
) -> None:
    """An upgrade makes containers anew, and a limit begins files anew."""
    nodes["node1"].rotate()
    nodes["node1"].say(json.dumps(event("node1", "after_rotation")))
    upgraded = Container(engine, 10, "pickbox-pickbox-node3")
    upgraded.say(json.dumps(event("node3", "after_upgrade")))
    expected = {"after_rotation", "after_upgrade"}
    wait_until(lambda: expected <= {one["event"] for one in logs.events()}, "both are collected")


def test_what_other_containers_say_is_left_where_it_is(
    logs: Logs, nodes: dict[str, Container], engine: Path
) -> None:
    for number, tag in ((20, ""), (21, "database")):
        Container(engine, number, tag).say(json.dumps(event("other", "not_of_pickbox")))
    nodes["node1"].say(json.dumps(event("node1", "said_afterwards")))
    wait_until(
        lambda: "said_afterwards" in {one["event"] for one in logs.events()}, "it is collected"
    )
    assert "not_of_pickbox" not in {one["event"] for one in logs.events()}


def test_what_is_said_while_the_sender_is_down_is_sent_once(
    logs: Logs, nodes: dict[str, Container]
) -> None:
    logs.sender.stop()
    late = [event("node1", "late", number=number) for number in range(20)]
    for one in late:
        nodes["node1"].say(json.dumps(one))
    logs.sender.start()

    def found() -> list[dict[str, Any]]:
        return [one for one in logs.events() if one["event"] == "late"]

    wait_until(lambda: len(found()) >= len(late), "what waited is collected", seconds=60)
    assert found() == late


@pytest.mark.parametrize("mode", [(), ("--check",)], ids=["run", "check"])
def test_a_second_run_changes_nothing(logs: Logs, mode: tuple[str, ...]) -> None:
    again = logs.play(*mode)
    assert again.code == 0, again.output
    assert again.changed == {"collector": 0, "nodes": 0}
