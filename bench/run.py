"""Measures Pickbox on this machine: three real nodes, loopback, each figure printed as it is had.

``make bench`` runs all of it; ``bench/run.py tree large`` only what is named. Not a test: what must
hold is in ``tests/``; this says how quickly.
"""

from __future__ import annotations

import argparse
import itertools
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "integration"))

from typing import TYPE_CHECKING

from cluster import Cluster, Node, tree, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path("/usr/share/doc")
GIB = 1 << 30


class PeakMemory:
    """Samples the resident memory of every node in the background."""

    def __init__(self, cluster: Cluster) -> None:
        self.peaks = {node.node_id: 0 for node in cluster}
        self._cluster = cluster
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(0.05):
            for node in self._cluster:
                self.peaks[node.node_id] = max(self.peaks[node.node_id], node.rss())

    def __str__(self) -> str:
        return ", ".join(f"{node} {peak / (1 << 20):.0f} MiB" for node, peak in self.peaks.items())


def say(text: str) -> None:
    """Print a figure at once."""
    print(text, flush=True)  # noqa: T201 - the program's output


def bench_tree(cluster: Cluster) -> None:
    """A tree of thousands of files into one folder, then gone through another."""
    first, _, third = cluster
    count = len(tree(SOURCE))
    started = time.monotonic()
    subprocess.run(["cp", "-a", str(SOURCE), str(first.files)], check=True)
    copied = time.monotonic() - started
    wait_until(
        lambda: all(_count(n.files) == count + 1 for n in cluster), "all paths there", 300, 0.2
    )
    names = time.monotonic() - started
    everything = cluster.wait_same(300)
    same = time.monotonic() - started
    expected = {b"doc/" + path: what for path, what in tree(SOURCE).items()}
    found = {path: what for path, what in everything.items() if path.startswith(b"doc/")}
    say(
        f"tree: cp -a {SOURCE} ({count} paths) took {copied:.1f} s; all there after {names:.1f} s, "
        f"identical (content, type, mode, link target, mtime) after {same:.1f} s; "
        f"equal to the source: {found == expected}"
    )
    for path in sorted(expected.keys() | found.keys()):
        if expected.get(path) != found.get(path):
            say(f"  {path!r}: {expected.get(path)} became {found.get(path)}")
    started = time.monotonic()
    subprocess.run(["rm", "-r", str(third.files / "doc")], check=True)
    removed = time.monotonic() - started
    wait_until(lambda: not any((node.files / "doc").exists() for node in cluster), "gone", 300, 0.2)
    say(
        f"tree: rm -r on node 3 took {removed:.1f} s; gone everywhere after "
        f"{time.monotonic() - started:.1f} s"
    )


def bench_large(cluster: Cluster) -> None:
    """A file of 1 GiB into one folder."""
    first = next(iter(cluster))
    source = cluster.directory / "source.bin"
    with source.open("wb") as file:
        for _ in range(GIB >> 20):
            file.write(os.urandom(1 << 20))
    with PeakMemory(cluster) as memory:
        started = time.monotonic()
        shutil.copyfile(source, first.files / "large.bin")
        copied = time.monotonic() - started
        wait_until(
            lambda: all(
                (n.files / "large.bin").exists() and (n.files / "large.bin").stat().st_size == GIB
                for n in cluster
            ),
            "the file is everywhere",
            300,
        )
        there = time.monotonic() - started
    cluster.wait_same(120)
    say(
        f"large: 1 GiB copied in {copied:.1f} s, on all nodes after {there:.1f} s "
        f"({GIB / there / 1e6:.0f} MB/s); peak RSS {memory}"
    )
    source.unlink()
    (first.files / "large.bin").unlink()
    cluster.wait_same(60)


def bench_latency(cluster: Cluster) -> None:
    """Small files: over HTTP, and dropped into a follower's folder."""
    leader = cluster.leader()
    follower = cluster.followers()[0]
    for name, node in (("leader", leader), ("follower", follower)):
        times = [_timed(lambda n=n, node=node: _put(node, f"put/{n}")) for n in range(200)]
        say(f"latency: PUT 1 KiB at the {name}: {_percentiles(times)}")
    started = time.monotonic()
    _in_threads(32, 640, lambda n: _put(follower, f"many/{n}"))
    say(f"latency: PUT 1 KiB, 32 clients: {640 / (time.monotonic() - started):.0f} per second")
    times = []
    for n in range(100):
        started = time.monotonic()
        (follower.files / f"drop-{n}").write_bytes(os.urandom(1024))
        wait_until(
            lambda n=n: all((x.files / f"drop-{n}").exists() for x in cluster), "seen", 10, 0.001
        )
        times.append(time.monotonic() - started)
    say(f"latency: 1 KiB dropped on a follower, visible everywhere: {_percentiles(times)}")


def bench_failover(cluster: Cluster) -> None:
    """Kill the leader (-9) while 500 files are written through the others."""
    leader = cluster.leader()
    others = [node for node in cluster if node is not leader]
    acknowledged: dict[str, bytes] = {}
    times: list[float] = []
    retries = []

    def write(number: int) -> None:
        content = os.urandom(2048)
        for attempt in range(200):
            if number == 150 and attempt == 0:
                leader.kill()
            node = others[(number + attempt) % 2]
            answer = node.put(f"failover/{number}", content, Idempotency_Key=f"failover-{number}")
            if answer.status in (200, 201):
                acknowledged[f"failover/{number}"] = content
                times.append(time.monotonic())
                return
            retries.append(answer.status)
            time.sleep(0.05)

    _in_threads(8, 500, write)
    times.sort()
    gap = max(after - before for before, after in itertools.pairwise(times))
    leader.start()
    cluster.wait_ready()
    cluster.wait_same(60)
    lost = sum(
        not (node.files / path).exists() or (node.files / path).read_bytes() != content
        for node in cluster
        for path, content in acknowledged.items()
    )
    say(
        f"failover: {len(acknowledged)} of 500 writes acknowledged ({len(retries)} retries), "
        f"{lost} of them missing or different on any of three nodes; "
        f"{gap:.2f} s without an acknowledged write"
    )


def bench_offline(cluster: Cluster) -> None:
    """A node is down while 1,000 files change elsewhere and 10 of the same ones in its folder."""
    first, second, away = cluster
    folder = first.files / "offline"
    folder.mkdir()
    for number in range(1000):
        (folder / f"{number}.txt").write_text(f"original {number}")
    cluster.wait_same(120)
    away.stop()
    for number in range(1000):
        (folder / f"{number}.txt").write_text(f"changed on {first.node_id} {number}")
    for number in range(10):
        (away.files / "offline" / f"{number}.txt").write_text(f"changed while away {number}")
    wait_until(
        lambda: (second.files / "offline" / "999.txt").read_text().startswith("changed"), "seen"
    )
    away.start()
    started = time.monotonic()
    cluster.wait_ready()
    cluster.wait_same(120)
    seconds = time.monotonic() - started
    files = {path.name: path.read_text() for path in (away.files / "offline").iterdir()}
    current = sum(files.get(f"{n}.txt") == f"changed on {first.node_id} {n}" for n in range(1000))
    copies = sorted(text for name, text in files.items() if ".sync-conflict-" in name)
    kept = copies == sorted(f"changed while away {number}" for number in range(10))
    say(
        f"offline: identical on all nodes {seconds:.1f} s after the node's start; "
        f"{current} of 1000 files as changed elsewhere, {len(copies)} conflict copies, which hold "
        f"the 10 edits made while away: {kept}"
    )


def bench_idle(cluster: Cluster) -> None:
    """With writers stopped, the log does not grow."""
    before = {node.node_id: node.status()["last_index"] for node in cluster}
    time.sleep(60)
    grown = {node.node_id: node.status()["last_index"] - before[node.node_id] for node in cluster}
    say(f"idle: log entries in 60 s: {grown}")


BENCHES: dict[str, Callable[[Cluster], None]] = {
    "tree": bench_tree,
    "large": bench_large,
    "latency": bench_latency,
    "failover": bench_failover,
    "offline": bench_offline,
    "idle": bench_idle,
}


def _count(root: Path) -> int:
    """Paths below `root`, but for the marker."""
    found = sum(len(names) + len(files) for _, names, files in os.walk(root))
    return found - sum(1 + len(files) for _, _, files in os.walk(root / ".pickbox"))


def _put(node: Node, path: str) -> None:
    answer = node.put(path, b"x" * 1024)
    if answer.status not in (200, 201):
        raise SystemExit(f"PUT {path} at {node.node_id}: {answer.status} {answer.data!r}")


def _timed(action: Callable[[], None]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def _percentiles(times: list[float]) -> str:
    cuts = statistics.quantiles(times, n=100)
    return f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms (n={len(times)})"


def _in_threads(threads: int, count: int, action: Callable[[int], None]) -> None:
    numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(count):
        numbers.put(number)

    def work() -> None:
        while True:
            try:
                number = numbers.get_nowait()
            except queue.Empty:
                return
            action(number)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def main() -> None:
    """Run the benches that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHES], help="default: all")
    names = parser.parse_args().names or list(BENCHES)
    with (
        tempfile.TemporaryDirectory(prefix="pickbox-bench-") as directory,
        Cluster(Path(directory)) as cluster,
    ):
        for name in names:
            BENCHES[name](cluster)


if __name__ == "__main__":
    main()
