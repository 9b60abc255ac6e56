"""Starts new clusters again and again, in random order and twice: ``python -m faults.cold_starts``.

Each round makes three nodes with empty data directories, starts them in a random order with random
pauses between, and wants one cluster of three. Then it stops them all, half of the times by
``kill -9``, starts them anew in another order, and wants the same cluster with what it had.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from cluster import Cluster, put_until_acknowledged


def cold_start(cluster: Cluster, rng: random.Random, spread: float) -> float:
    """Start all nodes in a random order; seconds from the last start until all are ready."""
    nodes = list(cluster)
    rng.shuffle(nodes)
    pauses = [0.0, *(rng.uniform(0.0, spread) for _ in nodes[1:])]
    for node, pause in zip(nodes, pauses, strict=True):
        time.sleep(pause)  # what is drawn here is the fault
        node.start()
    began = time.monotonic()
    cluster.wait_ready(seconds=60.0)
    return time.monotonic() - began


def check(cluster: Cluster, name: str) -> None:
    """One cluster: one leader, the same members, a write that all have."""
    cluster.leader()
    put_until_acknowledged(list(cluster), name, name.encode())
    cluster.wait_settled()
    members = {node.admin_request("GET", "/api/v1/members").data for node in cluster}
    assert len(members) == 1, f"the nodes do not agree on the members: {members}"
    voters = [m for m in json.loads(members.pop())["members"] if m["role"] == "voter"]
    assert len(voters) == len(list(cluster)), voters


def round_of(seed: str, spread: float) -> list[float]:
    """One new cluster, started twice; the seconds that each start took."""
    rng = random.Random(seed)
    directory = Path(tempfile.mkdtemp(prefix="pickbox-cold-"))
    cluster = Cluster(directory / "cluster")
    try:
        seconds = [cold_start(cluster, rng, spread)]
        check(cluster, "first")
        for node in cluster:
            if rng.random() < 0.5:
                node.kill()
            else:
                node.stop()
        seconds.append(cold_start(cluster, rng, spread))
        check(cluster, "second")
        assert {b"first", b"second"} == cluster.wait_settled().keys()
    finally:
        cluster.stop()
    shutil.rmtree(directory)
    return seconds


def main() -> int:
    """Run the rounds, and print a summary as JSON."""
    parser = argparse.ArgumentParser(prog="python -m faults.cold_starts", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many clusters (100)")
    parser.add_argument("--spread", type=float, default=3.0, help="longest pause, in seconds (3)")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="all is drawn from it")
    arguments = parser.parse_args()
    seconds: list[float] = []
    failed: list[str] = []
    for number in range(arguments.count):
        seed = f"{arguments.seed}/{number}"
        try:
            seconds += round_of(seed, arguments.spread)
        except Exception as error:  # told with its seed, and the others still have their turn
            failed.append(f"{seed}: {error}")
            print(failed[-1], file=sys.stderr, flush=True)  # noqa: T201
    seconds.sort()
    summary = {
        "seed": arguments.seed,
        "clusters": arguments.count,
        "starts": len(seconds),
        "failed": failed,
        "seconds_until_ready": {
            "median": round(seconds[len(seconds) // 2], 2) if seconds else None,
            "worst": round(seconds[-1], 2) if seconds else None,
        },
    }
    print(json.dumps(summary, indent=1))  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
