"""An upgrade that failed at its first node: that one is as it was, the others never moved."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

testinfra_hosts = ["ansible://node1?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

STATE = Path(os.environ["PICKBOX_TEST_STATE"])


def test_one_container_was_made_anew_and_what_was_said_names_its_node(
    host: Any, prefix: str, now: dict[str, str]
) -> None:
    before = json.loads((STATE / "containers.json").read_text())
    moved = [
        node
        for node, number in before.items()
        if host.check_output(f"docker inspect --format {{{{.Id}}}} {prefix}-{node}") != number
    ]
    assert len(moved) == 1
    said = (STATE / "failed_upgrade.txt").read_text()
    for expected in (moved[0], now["version"], "this release of a test is never ready"):
        assert expected in said
    assert "It has its old release" in " ".join(said.split())
    assert list(STATE.glob("evidence/*/what-happened.txt"))
