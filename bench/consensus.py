"""The same load on Pickbox's consensus layer and on etcd, one after the other, in one run.

Three members each, on loopback and on the same disk, every acknowledged value durable on a
majority. Pickbox's members speak TLS with each other, etcd's do not. The load comes from a process
of its own, on one connection to the leader.

    bench/consensus.py                     all of it: about 15 minutes
    bench/consensus.py --quick --json      what the targets are about, within 5 minutes, as JSON
    bench/consensus.py --soak 3600         full load on Pickbox for an hour; counts elections
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import machine
from clusters import HERE, Cluster, Etcd, Pickbox
from failover import fail_over
from load import Figures

if TYPE_CHECKING:
    from collections.abc import Sequence

_SOAK_STEP = 60.0


@dataclass(frozen=True)
class Plan:
    """How much is measured. `cells` are bytes of a value and puts outstanding."""

    cells: Sequence[tuple[int, int]]
    rounds: int
    seconds: float
    trials: int
    etcd_trials: int


FULL = Plan([(size, n) for size in (100, 4096) for n in (1, 16, 64, 256)], 3, 8.0, 20, 20)
QUICK = Plan([(100, 1), (100, 64)], 3, 5.0, 20, 5)


@dataclass(frozen=True)
class Cell:
    """One load: what each round gave on the two systems, taken right after each other."""

    size: int
    outstanding: int
    pickbox: list[Figures]
    etcd: list[Figures]

    @property
    def ratio(self) -> float:
        """Commits a second here over etcd's: the median of the rounds."""
        return statistics.median(
            ours.commits_per_s / theirs.commits_per_s
            for ours, theirs in zip(self.pickbox, self.etcd, strict=True)
        )


def median(rounds: list[Figures], name: str) -> float:
    """The median of one figure over the rounds."""
    values: list[float] = [getattr(figures, name) for figures in rounds]
    return statistics.median(values)


def say(text: str) -> None:
    """Tell people how far it is; the result alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the program's output


def run_load(cluster: Cluster, size: int, outstanding: int, seconds: float) -> Figures:
    """One run of `load.py` on the cluster's leader."""
    leader = cluster.leader()
    assert leader is not None, f"{cluster.system} has no leader"
    command = [
        *(sys.executable, str(HERE / "load.py"), cluster.system, cluster.clients[leader]),
        *(f"--size={size}", f"--outstanding={outstanding}", f"--seconds={seconds}"),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return Figures(**json.loads(done.stdout))


def measure_loads(pickbox: Cluster, etcd: Cluster, plan: Plan) -> list[Cell]:
    """Each load on both systems, `rounds` times in turn."""
    cells = []
    for size, outstanding in plan.cells:
        cell = Cell(size, outstanding, [], [])
        for _ in range(plan.rounds):
            for cluster, rounds in ((pickbox, cell.pickbox), (etcd, cell.etcd)):
                rounds.append(run_load(cluster, size, outstanding, plan.seconds))
        say(_row(cell))
        cells.append(cell)
    return cells


_HEAD = (
    f"{'value':>6} {'outstanding':>11} {'commits/s':>10} {'etcd':>7} {'ratio':>6} {'p50 ms':>8}"
    f" {'etcd':>7} {'p99 ms':>8} {'etcd':>7} {'client CPU':>11} {'etcd':>5}"
)


def _row(cell: Cell) -> str:
    ours, theirs = cell.pickbox, cell.etcd
    return (
        f"{cell.size:>4} B {cell.outstanding:>11} {median(ours, 'commits_per_s'):>10.0f}"
        f" {median(theirs, 'commits_per_s'):>7.0f} {cell.ratio:>6.2f}"
        f" {median(ours, 'p50_ms'):>8.2f} {median(theirs, 'p50_ms'):>7.2f}"
        f" {median(ours, 'p99_ms'):>8.2f} {median(theirs, 'p99_ms'):>7.2f}"
        f" {median(ours, 'cpu_share'):>11.0%} {median(theirs, 'cpu_share'):>5.0%}"
    )


def measure_failover(cluster: Cluster, trials: int) -> list[float]:
    """Seconds of `trials` failovers."""
    seconds = [fail_over(cluster) for _ in range(trials)]
    say(
        f"failover, {cluster.system}: median {statistics.median(seconds):.2f} s, worst "
        f"{max(seconds):.2f} s of {trials} ({', '.join(f'{s:.2f}' for s in sorted(seconds))})"
    )
    return seconds


def compare(directory: Path, plan: Plan) -> dict[str, float]:
    """Measure both systems; returns the figures that targets are about."""
    sync, trip = machine.fdatasync_ms(directory, 128), machine.loopback_ms(100)
    bare = machine.bare_commit_ms(directory, 128)
    say(
        f"machine: fdatasync {sync:.2f} ms, round trip on loopback {trip:.3f} ms, "
        f"a commit without consensus {bare:.2f} ms (medians)"
    )
    with ExitStack() as stack:
        pickbox, etcd = Pickbox(directory / "pickbox"), Etcd(directory / "etcd")
        for cluster in (pickbox, etcd):
            stack.callback(cluster.stop)
            cluster.start()
        say(_HEAD)
        cells = measure_loads(pickbox, etcd, plan)
        ours = measure_failover(pickbox, plan.trials)
        theirs = measure_failover(etcd, plan.etcd_trials)
    at = {(cell.size, cell.outstanding): cell for cell in cells}
    one, many = at[100, 1], at[100, 64]
    figures = {
        "ratio_to_etcd_64": many.ratio,
        "commits_per_s_64": median(many.pickbox, "commits_per_s"),
        "etcd_commits_per_s_64": median(many.etcd, "commits_per_s"),
        "p50_ms_1": median(one.pickbox, "p50_ms"),
        "etcd_p50_ms_1": median(one.etcd, "p50_ms"),
        "fdatasync_ms": sync,
        "loopback_ms": trip,
        "bare_commit_ms": bare,
        "client_cpu_share_64": median(many.pickbox, "cpu_share"),
        "etcd_client_cpu_share_64": median(many.etcd, "cpu_share"),
        "failover_median_s": statistics.median(ours),
        "failover_max_s": max(ours),
        "etcd_failover_median_s": statistics.median(theirs),
        "etcd_failover_max_s": max(theirs),
    }
    return {name: round(value, 3) for name, value in figures.items()}


def soak(directory: Path, seconds: float) -> dict[str, float]:
    """Full load on Pickbox for `seconds`; nothing is killed, so every election is one too many."""
    cluster = Pickbox(directory / "pickbox")
    try:
        cluster.start()
        before = cluster.events("election_called")
        began, commits, slowest = time.monotonic(), 0, 0.0
        while (left := seconds - (time.monotonic() - began)) > 0:
            figures = run_load(cluster, 100, 64, min(_SOAK_STEP, left))
            commits += figures.commits
            slowest = max(slowest, figures.max_ms)
            elections = cluster.events("election_called") - before
            say(
                f"{time.monotonic() - began:.0f} s: {figures.commits_per_s:.0f} commits/s, "
                f"p99 {figures.p99_ms:.1f} ms, worst {figures.max_ms:.0f} ms, "
                f"elections so far {elections}"
            )
        took = time.monotonic() - began
    finally:
        cluster.stop()
    return {
        "soak_s": round(took),
        "commits": commits,
        "worst_ms": round(slowest, 1),
        "elections": elections,
    }


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="within 5 minutes")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="count elections under load")
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: $TMPDIR")
    args = parser.parse_args()
    if not args.soak and Etcd.program is None:
        parser.error("etcd is missing; get it with: apt-get install etcd-server")
    with tempfile.TemporaryDirectory(prefix="consensus-bench-", dir=args.directory) as directory:
        if args.soak:
            figures = soak(Path(directory), args.soak)
        else:
            figures = compare(Path(directory), QUICK if args.quick else FULL)
    if args.json:
        print(json.dumps(figures))  # noqa: T201 - the program's output
    else:
        say("\n".join(f"{name}: {value:g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
