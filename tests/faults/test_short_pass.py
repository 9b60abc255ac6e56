"""A short pass of `make faults`: one cluster, one fault of each kind, another seed each time."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FAULTS = (
    "kill_leader",
    "pause_leader",
    "isolate_leader",
    "slow_links",
    "fsync_error_once",
    "disk_full_in_a_place",
    "power_loss_of_all",
    "clock_jumps",
)


def test_a_cluster_keeps_its_promises_under_one_fault_of_each_kind(
    needs_faults: None, tmp_path: Path
) -> None:
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "faults.run", "--nodes", "3", "--seconds", "1"]
    command += ["--seed", secrets.token_hex(4), "--faults", ",".join(FAULTS)]
    path = os.pathsep.join(map(str, (tests.parent / "node_service", tests, tests / "integration")))
    done = subprocess.run(
        [*command, "--keep", tmp_path],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    summary = json.loads(done.stdout)
    told = f"{done.stderr}\n{done.stdout}"
    assert summary["violations"] == [], told
    assert set(summary["faults"]) == set(FAULTS), told
    assert not any(summary["without_effect"].values()), told
    assert summary["acknowledged_writes"] > 0, told
