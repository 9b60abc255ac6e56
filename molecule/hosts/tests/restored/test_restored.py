"""What was in the folder when the backup was made is on every node of the new cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

testinfra_hosts = ["ansible://pickbox?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

EXPECTED = Path(os.environ["PICKBOX_TEST_STATE"], "backed-up.json")
LISTING = Path(__file__).parents[2] / "files/listing.py"
FILES_AT_LEAST = 60


def listing(host: Any) -> dict[str, list[Any]]:
    with host.sudo():
        return dict(json.loads(host.check_output("python3 -c %s", LISTING.read_text())))


def test_every_node_has_all_of_it_with_content_mode_time_and_links(host: Any) -> None:
    expected = json.loads(EXPECTED.read_text())
    assert len(expected) > FILES_AT_LEAST
    assert listing(host) == expected


def test_nothing_is_left_of_the_restoring(host: Any) -> None:
    with host.sudo():
        assert host.file("/var/lib/pickbox/restores").listdir() == []


def test_the_next_backup_is_made_by_itself(host: Any) -> None:
    timer = host.service("pickbox-backup.timer")
    assert timer.is_running
    assert timer.is_enabled
