"""Many seeds, on as many processors as there are."""

from __future__ import annotations

import multiprocessing
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from simulation import weakened
from simulation.safe import Safe
from simulation.stock import Stock
from simulation.swarm import Plan, draw
from simulation.tally import Tally
from simulation.world import Outcome, simulate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simulation.subject import Subject

SUBJECTS: dict[str, type[Subject]] = {"safe": Safe, "stock": Stock}


@dataclass(frozen=True, slots=True)
class Terms:
    """What all seeds of a campaign have in common.

    Attributes:
        subject: ``safe`` or ``stock``.
        power: share of crashes that are power cuts; None leaves it to the seed.
        tcp: links neither lose, double nor reorder a message.
        weakening: a function of `weakened`, in which to weaken the core; none if empty.
    """

    subject: str = "safe"
    power: float | None = None
    tcp: bool = False
    weakening: str = ""

    def plan(self, seed: int) -> Plan:
        return draw(seed, power=self.power, tcp=self.tcp)

    def run(self, seed: int) -> Outcome:
        with pytest.MonkeyPatch.context() as patch:
            if self.weakening:
                getattr(weakened, self.weakening)(patch)
            return simulate(SUBJECTS[self.subject](), self.plan(seed))


def draw_seeds(terms: Terms, seconds: float, jobs: int) -> Tally:
    """Run new seeds for as long as `seconds`, in `jobs` processes at once."""
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        total = Tally()
        for tally in pool.starmap(run_new_seeds, [(terms, seconds)] * jobs):
            total.add(tally)
        return total


def run_new_seeds(terms: Terms, seconds: float) -> Tally:
    """Run seeds that are new each time, for as long as `seconds`, in this process."""
    fresh = random.SystemRandom()
    until = time.monotonic() + seconds
    tally = Tally()
    while time.monotonic() < until:
        tally.add(run_seeds(terms, [fresh.randrange(1 << 32)]))
    return tally


def run_seeds(terms: Terms, seeds: Iterable[int]) -> Tally:
    """Run these."""
    tally = Tally()
    for seed in seeds:
        tally.take(seed, terms.run(seed))
    return tally
