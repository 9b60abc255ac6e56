"""The core keeps every promise under simulation; weakened in one place, it is found out."""

from __future__ import annotations

import inspect
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from pysyncobj import syncobj as library

from simulation import regressions, weakened
from simulation.campaign import Terms, run_new_seeds, run_seeds

if TYPE_CHECKING:
    from simulation.regressions import Regression
    from simulation.tally import Tally

SECONDS = float(os.environ.get("SIMULATION_SECONDS", "20"))
"""How long new seeds are drawn."""

HAPPENS = {
    "seeds",
    "steps",
    "elections",
    "writes acknowledged",
    "reads answered",
    "members changed",
    "leadership handed over",
    "snapshots installed",
    "nodes wiped",
    "kills",
    "power cuts",
    "disk refusals",
}
"""What there has to be in a tally, so that keeping the promises means something."""


def told(tally: Tally) -> str:
    return "\n".join(tally.lines())


def test_new_seeds_keep_every_promise(capsys: pytest.CaptureFixture[str]) -> None:
    tally = run_new_seeds(Terms(), SECONDS)
    with capsys.disabled():
        print(f"\n{told(tally)}")  # noqa: T201 - seeds are new each time: how far did they go?
    assert not tally.broken, told(tally)
    assert {what for what, count in tally.happened.items() if count} >= HAPPENS, told(tally)


def test_seeds_that_once_found_something_keep_every_promise() -> None:
    seeds = sorted({seed for regression in regressions.ALL for seed in regression.seeds})
    tally = run_seeds(Terms(), seeds)
    assert not tally.broken, told(tally)
    assert {what for what, count in tally.happened.items() if count} >= HAPPENS, told(tally)


def test_nothing_else_in_the_process_passes_time_in_a_run() -> None:
    undisturbed = Terms().run(20000).events
    enough = threading.Event()

    def look_at_the_time() -> None:
        while not enough.is_set():
            library.monotonicTime()

    with ThreadPoolExecutor(1) as another:
        another.submit(look_at_the_time)
        try:
            disturbed = Terms().run(20000).events
        finally:
            enough.set()
    assert disturbed == undisturbed


@pytest.mark.parametrize("regression", regressions.ALL, ids=lambda r: r.name)
def test_a_weakened_core_is_found_out(regression: Regression) -> None:
    terms = Terms(weakening=regression.name)
    broken: set[str] = set()
    for seed in regression.seeds:
        broken |= run_seeds(terms, [seed]).broken.keys()
        if regression.promise in broken:
            return
    seeds, others = " ".join(map(str, regression.seeds)), sorted(broken) or "nothing"
    pytest.fail(
        f"{regression.promise!r} is kept in the seeds {seeds}; broken is {others}: look for "
        f"others with tools/simulate --weakened {regression.name}"
    )


def test_every_weakening_is_looked_for() -> None:
    functions = inspect.getmembers(weakened, inspect.isfunction)
    public = {name for name, _ in functions if not name.startswith("_")}
    assert {regression.name for regression in regressions.ALL} == public
    assert all(regression.seeds for regression in regressions.ALL)
