"""The core, ended at each of its failpoints: what was acknowledged is there, the same everywhere.

All nodes of the cluster are in the process that ends, so each end is one of all of them at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from cli_run import PACKAGE

from pickbox.failpoints import EXIT_CODE

PROGRAM = Path(__file__).with_name("failpoint_core.py")

OF_THE_CORE = (
    "append_before_sync",
    "append_after_sync",
    "ack_before_send",
    "truncate_before",
    "commit_before_apply",
    "configuration_before_apply",
    "snapshot_before_rename",
    "snapshot_after_rename",
    "snapshot_receive_mid",
    "snapshot_after_load",
)


def life(directory: Path, what: str, asked: str = "") -> subprocess.CompletedProcess[str]:
    """One life of the cluster in `directory`, with failpoints as they are asked for."""
    command = [sys.executable, str(PROGRAM), str(directory), what]
    variables = {"PYTHONPATH": str(PACKAGE), "PICKBOX_FAILPOINTS": asked}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def hits(ran: subprocess.CompletedProcess[str]) -> Counter[str]:
    """How often each failpoint was hit, as the log says."""
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    return Counter(event["failpoint"] for event in events if event["event"] == "failpoint_hit")


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How often each failpoint is hit in a life that none of them ends."""
    asked = ";".join(f"{name}=sleep(0)" for name in OF_THE_CORE)
    ran = life(tmp_path_factory.mktemp("rehearsal"), "work", asked)
    assert ran.returncode == 0, ran.stderr
    return hits(ran)


@pytest.mark.parametrize("name", OF_THE_CORE)
@pytest.mark.parametrize("which", ["first", "middle", "last"])
def test_nothing_acknowledged_is_lost(
    name: str, which: str, rehearsal: Counter[str], tmp_path: Path
) -> None:
    assert rehearsal[name] >= 1
    hit = {"first": 1, "middle": (rehearsal[name] + 1) // 2, "last": rehearsal[name]}[which]
    ended = life(tmp_path, "work", f"{name}=exit@{hit}")
    assert ended.returncode == EXIT_CODE, ended.stderr
    assert hits(ended) == {name: 1}
    acknowledged = [line.partition(" ")[2] for line in ended.stdout.splitlines()]

    again = life(tmp_path, "look")
    assert again.returncode == 0, again.stderr
    applied: defaultdict[str, list[str]] = defaultdict(list)
    for line in again.stdout.splitlines():
        node_id, _, command = line.partition(" ")
        applied[node_id].append(command)
    del applied["acknowledged"]
    histories = list(applied.values())
    assert len(histories) >= 3
    assert all(history == histories[0] for history in histories)
    assert len(set(histories[0])) == len(histories[0]), "a command was applied twice"
    assert set(acknowledged) <= set(histories[0])
