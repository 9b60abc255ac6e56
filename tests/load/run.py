"""Reads and writes at one address until told to stop, and records what a client saw.

Fails if any request failed: no answer, an answer that should not have come, content that is not
what was written, or, at the end, an acknowledged write that is not there.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import signal
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load.client import Client
from load.content import content_of
from load.ledger import Ledger
from load.record import Record, summary
from load.workers import Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

PATHS_PER_WRITER = 25
POLL_SECONDS = 0.1


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="load.run", description=__doc__)
    parser.add_argument("--url", required=True, help="of the balancer")
    parser.add_argument("--ca", help="file of the CA that its certificate is checked against")
    parser.add_argument("--seconds", type=float, help="how long to go on")
    parser.add_argument("--until-file", type=Path, help="go on until this file appears")
    parser.add_argument("--record", type=Path, help="file for every answer, one JSON object a line")
    parser.add_argument("--summary", type=Path, help="file for the summary, beside standard output")
    parser.add_argument("--expected", type=Path, help="file for the digest of each path at the end")
    parser.add_argument("--steps", type=Path, help="file of steps to report on one by one")
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second, of all")
    parser.add_argument("--prefix", default="load", help="directory in the cluster to write to")
    parser.add_argument("--timeout", type=float, default=15.0, help="seconds to wait for an answer")
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(arguments)
    if options.seconds is None and options.until_file is None:
        parser.error("say when to stop: --seconds, --until-file, or both")
    return options


class Load:
    """Writers and readers over one ledger."""

    def __init__(self, options: argparse.Namespace, record: Record) -> None:
        self._options = options
        self.record = record
        self.stop = threading.Event()
        rng = random.Random(options.seed)
        # Of this run only: what an earlier one left would be content that was never written.
        place = f"{options.prefix}/{uuid.uuid4().hex[:8]}"
        shares = [
            [f"{place}/{writer}/{number}" for number in range(PATHS_PER_WRITER)]
            for writer in range(options.writers)
        ]
        self.ledger = Ledger([path for share in shares for path in share])
        self._workers: list[Writer | Reader] = [
            Writer(self._client(), self.ledger, record, random.Random(rng.random()), share)
            for share in shares
        ]
        self._workers += [self._reader(rng) for _ in range(options.readers)]
        self._last = self._reader(rng)

    def run(self) -> None:
        """Until one of the reasons to stop; then look for all that was acknowledged."""
        interval = len(self._workers) / self._options.rate
        with ThreadPoolExecutor(len(self._workers)) as pool:
            work = [pool.submit(worker.run, self.stop, interval) for worker in self._workers]
            for one in work:
                one.add_done_callback(lambda _: self.stop.set())  # if one breaks, none goes on
            try:
                self._wait()
            finally:
                self.stop.set()
        for one in work:
            one.result()  # raises what it ended with

    def missing(self) -> list[str]:
        """The paths that are not as their last acknowledged write left them."""
        paths = self.ledger.paths
        return [p for p in paths if not self._last.read(p, stale=False, operation="get-at-the-end")]

    def expected(self) -> dict[str, str | None]:
        """Path -> SHA-256 of what must be there now; None where nothing must be."""
        return {
            path: None if number is None else self._digest(path, number)
            for path, number in self.ledger.final().items()
        }

    def _digest(self, path: str, number: int) -> str:
        size = self.ledger.entry(path).sizes[number]
        assert size is not None
        return hashlib.sha256(content_of(path, number, size)).hexdigest()

    def _client(self) -> Client:
        return Client(self._options.url, self._options.timeout, self._options.ca)

    def _reader(self, rng: random.Random) -> Reader:
        return Reader(self._client(), self.ledger, self.record, random.Random(rng.random()))

    def _wait(self) -> None:
        seconds, file = self._options.seconds, self._options.until_file
        ends = time.monotonic() + seconds if seconds is not None else float("inf")
        while time.monotonic() < ends and not (file and file.exists()):
            if self.stop.wait(min(POLL_SECONDS, max(0.0, ends - time.monotonic()))):
                return


@contextlib.contextmanager
def stopped_by_signals(load: Load) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        load.stop.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def steps(record: Record, file: Path) -> dict[str, Any]:
    """A summary of each step in the file, which says when it `began` and `ended` by the clock."""
    shift = time.time() - time.monotonic()
    return {
        step["step"]: summary(record.answers, step["began"] - shift, step["ended"] - shift)
        for step in map(json.loads, file.read_text().splitlines())
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Load, judge, summarise."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(options.record.open("w")) if options.record else None
        load = Load(options, record := Record(file))
        stack.enter_context(stopped_by_signals(load))
        began = time.monotonic()
        load.run()
        ended = time.monotonic()
        missing = load.missing()
    result = summary(record.answers, began, ended)
    result["missing_at_the_end"] = missing
    if options.steps:
        result["steps"] = steps(record, options.steps)
    if options.expected:
        options.expected.write_text(json.dumps(load.expected(), indent=1))
    return result


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    result = run(options)
    text = json.dumps(result, indent=1)
    if options.summary:
        options.summary.write_text(text + "\n")
    print(text)  # noqa: T201 - it is what this program is for
    return 1 if result["failed"] or result["missing_at_the_end"] or not result["writes"] else 0


if __name__ == "__main__":
    sys.exit(main())
