"""Runs seeds: `python -m simulation.replay 123` shows one, `--seconds 600` draws new ones.

Both run from the tests directory, or with it on PYTHONPATH.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from simulation.campaign import SUBJECTS, Terms, draw_seeds
from simulation.tally import Tally

if TYPE_CHECKING:
    from simulation.world import Outcome


@click.command()
@click.argument("seeds", nargs=-1, type=int)
@click.option("--seconds", default=60.0, help="How long to draw new seeds, if none is given.")
@click.option("--jobs", default=os.cpu_count() or 1, help="Seeds that run at once.")
@click.option("--subject", type=click.Choice(list(SUBJECTS)), default="safe", help="What runs.")
@click.option("--tcp", is_flag=True, help="Links neither lose, double nor reorder a message.")
@click.option("--power", type=float, help="Share of crashes that are power cuts, not the seed's.")
@click.option("--weakened", default="", help="Where to weaken the core: a function of weakened.py.")
@click.option("--tail", default=40, help="Events to show before the end.")
def main(
    seeds: tuple[int, ...],
    seconds: float,
    jobs: int,
    subject: str,
    tcp: bool,
    power: float | None,
    weakened: str,
    tail: int,
) -> None:
    """Simulate, and count the seeds that break each invariant."""
    terms = Terms(subject, power, tcp, weakened)
    if seeds:
        tally = Tally()
        for seed in seeds:
            outcome = terms.run(seed)
            tally.take(seed, outcome)
            _show(terms, seed, outcome, tail)
    else:
        tally = draw_seeds(terms, seconds, jobs)
    for line in tally.lines():
        click.echo(line)
    sys.exit(bool(tally.broken))


def _show(terms: Terms, seed: int, outcome: Outcome, tail: int) -> None:
    click.echo(terms.plan(seed))
    for event in outcome.events[-tail:]:
        click.echo(event)
    for violation in outcome.violations:
        click.echo(f"{violation.invariant}: {violation.message}")


if __name__ == "__main__":
    main()
