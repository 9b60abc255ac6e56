"""The harness, on the published library: the same every time, fair, and it finds."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simulation.events import Answered, Fate
from simulation.network import Weather
from simulation.stock import Stock
from simulation.swarm import draw
from simulation.world import simulate

TESTS = Path(__file__).parent.parent


def test_a_cluster_without_faults_keeps_every_promise() -> None:
    calm = replace(
        draw(1, power=0.0),
        voters=3, spares=0, steps=150, step_seconds=0.02, write=1.0, read=0.3, mutual=False,
        weather=Weather(delay_max=0.002), skew=0.0, cold_start=0.0, crash=0, blackout=0, restart=0,
        pause=0, refuse=0, indispose=0, part=0, cut=0, hold=0, reset=0, split=0, change=0, wipe=0,
        transfer=0, snapshot=0, snapshot_every=10_000, batch_bytes=1 << 16,
    )  # fmt: skip
    outcome = simulate(Stock(), calm)
    assert outcome.violations == []
    assert sum(isinstance(e, Answered) and e.fate is Fate.DONE for e in outcome.events) > 50


def test_a_seed_gives_the_same_events_in_every_process() -> None:
    program = (
        "from simulation.stock import Stock; from simulation.swarm import draw;"
        "from simulation.world import simulate; import zlib;"
        "print(zlib.crc32(repr([simulate(Stock(), draw(s)).events for s in (5, 6, 7)]).encode()))"
    )
    seen = set()
    for hash_seed in ("1", "2"):
        paths = os.pathsep.join([str(TESTS), *sys.path])
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
        command = [sys.executable, "-c", program]
        seen.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("power", "seeds", "invariant"),
    [
        pytest.param(0.0, range(60), "linearizable", id="P9: an isolated leader serves reads"),
        pytest.param(1.0, range(10), "acknowledged is durable", id="P2: nothing is synced"),
    ],
)
def test_the_faults_of_the_library_are_found(power: float, seeds: range, invariant: str) -> None:
    found = set()
    for seed in seeds:
        outcome = simulate(Stock(), draw(seed, power=power, tcp=True))
        found |= {violation.invariant for violation in outcome.violations}
        if invariant in found:
            return
    pytest.fail(f"{invariant} held on all of {seeds}, others broken: {sorted(found)}")
