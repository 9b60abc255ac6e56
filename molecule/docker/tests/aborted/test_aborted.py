"""An upgrade that failed at its first node: that one is as it was, the others never moved."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

testinfra_hosts = ["ansible://node1?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

STATE = Path(os.environ["PICKBOX_TEST_STATE"])


def is_another(host: Any, container: str, number: str) -> bool:
    return bool(host.check_output(f"docker inspect --format {{{{.Id}}}} {container}") != number)


def test_one_container_was_made_anew_and_what_was_said_names_its_node(
    host: Any, prefix: str, now: dict[str, str]
) -> None:
    before = json.loads((STATE / "containers.json").read_text())
    moved = [node for node in before if is_another(host, f"{prefix}-{node}", before[node])]
    assert len(moved) == 1
    said = (STATE / "failed_upgrade.txt").read_text()
    for expected in (moved[0], now["version"], "this release of a test is never ready"):
        assert expected in said
    assert "It has its old release" in " ".join(said.split())
    assert list(STATE.glob("evidence/*/what-happened.txt"))


def test_what_earlier_containers_have_logged_to_their_end_is_kept(
    host: Any, prefix: str, home: Path, now: dict[str, str]
) -> None:
    before = json.loads((STATE / "containers.json").read_text())
    for node, number in before.items():
        logged = host.check_output(f"cat {home}/nodes/{node}/logs/*.log.gz | zcat").splitlines()
        events = [json.loads(line) for line in logged]
        versions = [event["version"] for event in events if event["event"] == "started"]
        if is_another(host, f"{prefix}-{node}", number):
            assert now["version"] in versions
            assert versions[-1] > now["version"], "the one that failed"
        else:
            assert versions[-1] < now["version"], "the one before, not the present one"
            assert events[-1]["event"] == "stopped"
            kept = host.check_output(f"find {home}/nodes/{node}/logs -type f").split()
            assert len(kept) == 1, "neither a stop nor a kill makes a container anew"
