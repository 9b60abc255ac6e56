"""The core keeps every promise under simulation; weakened in one place, it is found out."""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from simulation import weakened
from simulation.safe import Safe
from simulation.swarm import draw
from simulation.world import simulate

if TYPE_CHECKING:
    from simulation.weakened import Weakening

SECONDS = float(os.environ.get("SIMULATION_SECONDS", "20"))
"""How long new seeds are drawn."""


def test_new_seeds_keep_every_promise() -> None:
    """With fixed members; `make simulate` changes them, too."""
    until = time.monotonic() + SECONDS
    fresh = random.SystemRandom()
    ran = 0
    while time.monotonic() < until:
        seed = fresh.randrange(1 << 32)
        plan = replace(draw(seed), change=0.0, wipe=0.0)
        outcome = simulate(Safe(), plan)
        ran += 1
        told = "\n".join(f"{v.invariant}: {v.message}" for v in outcome.violations[:5])
        assert not told, f"{plan}\n{told}"
    assert ran > 0


@pytest.mark.parametrize(
    "weaken",
    [
        weakened.acknowledges_before_its_sync,
        weakened.counts_itself_before_its_sync,
        weakened.votes_for_anybody,
        weakened.votes_twice,
        weakened.takes_what_does_not_fit,
        weakened.commits_with_one_too_few,
        weakened.reads_without_a_round,
        weakened.counts_learners,
    ],
)
def test_a_weakened_core_is_found_out(weaken: Weakening, monkeypatch: pytest.MonkeyPatch) -> None:
    weaken(monkeypatch)
    for seed in range(400):
        if simulate(Safe(), draw(seed)).violations:
            return
    pytest.fail("400 seeds did not find it")
