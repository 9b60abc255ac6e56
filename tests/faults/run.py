"""Runs clusters under faults and judges what they did: ``python -m faults.run --help``.

Everything is drawn from a seed; an episode is one cluster, its clients and a hand of the faults.
What an episode found is told with the line that runs it again.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import tempfile
import time
from pathlib import Path

from faults.episode import Episode, Summary
from faults.isolation import is_isolated, isolate, missing
from faults.nemesis import FAULTS

HAND = 8
"""Faults of one episode; the next ones follow in the next."""
_EPISODE_SECONDS = 60.0


def hand(seed: str, number: int, names: list[str]) -> list[str]:
    """The faults of an episode: all are dealt before any comes again."""
    rounds, place = divmod(number, -(-len(names) // HAND))
    deck = random.Random(f"{seed}/deck {rounds}").sample(names, len(names))
    return deck[place * HAND : (place + 1) * HAND]


def run(arguments: argparse.Namespace) -> Summary:
    """Episodes until the time is over, one at least."""
    summary = Summary(arguments.seed)
    names = arguments.faults.split(",")
    deadline = time.monotonic() + arguments.seconds
    number = arguments.episode
    while True:
        seed = f"{arguments.seed}/{number}"
        size = arguments.nodes or random.Random(seed).choice((3, 3, 5))
        seconds = max(0.0, min(_EPISODE_SECONDS, deadline - time.monotonic()))
        say(f"episode {number}: {size} nodes, seed {seed}")
        dealt = hand(arguments.seed, number, names)
        found = Episode(seed, size, dealt, arguments.keep).run(seconds, summary, say)
        summary.violations += found
        if found:
            line = f"python -m faults.run --seed {arguments.seed} --episode {number} "
            summary.replay.append(f"{line}--nodes {size} --faults {arguments.faults} --seconds 1")
            say("\n".join(["  " + text for text in found[:20]] + [summary.replay[-1]]))
        number += 1
        if time.monotonic() >= deadline:
            return summary


def say(line: str) -> None:
    """Tell people how it goes; the summary alone is on the standard output."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def main() -> int:
    """Parse the command line, isolate this process, run, print the summary as JSON."""
    parser = argparse.ArgumentParser(prog="python -m faults.run", description=__doc__)
    parser.add_argument("--seed", default=secrets.token_hex(4), help="all is drawn from it")
    parser.add_argument("--episode", type=int, default=0, help="the first episode (0)")
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long; 3600 if not said")
    parser.add_argument("--nodes", type=int, choices=(3, 5), help="3 or 5; drawn if not said")
    parser.add_argument("--faults", default=",".join(FAULTS), help=f"of {', '.join(FAULTS)}")
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="where to leave logs, histories and volumes of what was wrong",
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.faults.split(",")) - set(FAULTS):
        parser.error(f"--faults: {', '.join(sorted(unknown))} not known; {', '.join(FAULTS)} are")
    if lacks := missing():
        say("\n".join(["faults cannot be inflicted here:", *lacks]))
        return 2
    if not is_isolated():
        return isolate("faults.run", [*sys.argv[1:], "--seed", arguments.seed])
    summary = run(arguments)
    print(json.dumps(vars(summary), indent=1))  # noqa: T201
    return 1 if summary.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
