"""The witness check: answers name log indexes and versions, and those must tell one story.

It is exact where `linearizability` searches, takes whole histories, and says what is wrong; but it
believes the indexes, which is why both are run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from faults.history import Operation


def violations(operations: Sequence[Operation]) -> list[str]:
    """What contradicts the log in the operations on any number of paths; empty if nothing does."""
    acknowledged = [o for o in operations if o.writes and o.outcome == "done"]
    found = [*_versions_given_twice(operations), *_out_of_order(acknowledged)]
    paths: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        for part in _on_one_path(operation):
            paths[part.path].append(part)
    for path in paths.values():
        found += _reads(path)
    return found


def _on_one_path(operation: Operation) -> list[Operation]:
    """A move is a put at its destination and a delete of its source."""
    if operation.kind != "move":
        return [operation]
    there = replace(operation, kind="put", path=operation.destination, destination="")
    gone = replace(operation, kind="delete", token=None, version=0, destination="")
    return [there, gone]


def _versions_given_twice(operations: Sequence[Operation]) -> Iterator[str]:
    """A version names one content, and a content has one more by each move of it and no other."""
    contents: dict[int, str] = {}
    versions: dict[str, set[int]] = defaultdict(set)
    moves = Counter(o.token for o in operations if o.kind == "move" and o.writes)
    for o in operations:
        if o.token is None or not o.version:
            continue
        if contents.setdefault(o.version, o.token) != o.token:
            yield f"version {o.version} is {contents[o.version]} and also {o.token}"
        versions[o.token].add(o.version)
    for token, given in versions.items():
        if len(given) > 1 + moves[token]:
            yield f"{token} was applied again: versions {sorted(given)}, moved {moves[token]} times"


def _out_of_order(acknowledged: list[Operation]) -> Iterator[str]:
    """What was called after another write had returned has a higher index than it."""
    by_return = sorted(acknowledged, key=lambda o: o.returned)
    highest: Operation | None = None
    position = 0
    for o in sorted(acknowledged, key=lambda o: o.called):
        if not o.index:
            yield f"the answer to {o} names no log index"
        while position < len(by_return) and by_return[position].returned < o.called:
            before = by_return[position]
            if highest is None or before.index > highest.index:
                highest = before
            position += 1
        if highest is not None and o.index <= highest.index:
            yield f"{o} came after {highest} and has no higher index"


def _reads(operations: list[Operation]) -> Iterator[str]:
    writes = [o for o in operations if o.kind != "get"]
    reads = [o for o in operations if o.kind == "get" and o.outcome == "done"]
    for missed in writes:
        if missed.outcome == "refused" and not (missed.conditional or missed.destination):
            yield from _absence(missed, writes)  # a delete that found nothing
    for read in reads:
        if read.token is None:
            yield from _absence(read, writes)
            continue
        write = _written(read, writes)
        if write is None:
            yield f"{read} found what nobody wrote"
        elif write.outcome == "refused":
            yield f"{read} found what was refused: {write}"
        elif write.called > read.returned:
            yield f"{read} found what was written only later: {write}"
        else:
            yield from _stale(read, write, writes)
    yield from _backwards(reads)


def _written(read: Operation, writes: list[Operation]) -> Operation | None:
    """What a read found: the write that has its version, or one that may have it."""
    found = [o for o in writes if o.token == read.token]
    told = [o for o in found if o.version == read.version]
    may = [o for o in found if not o.version and o.outcome == "unknown"]
    return next(iter(told or sorted(may, key=lambda o: o.called) or found), None)


def _stale(read: Operation, found: Operation, writes: list[Operation]) -> Iterator[str]:
    """Nothing that was acknowledged before the read was called may be newer than what it found."""
    for o in _before(read, writes):
        newer = o.version > read.version if o.kind == "put" else 0 < found.index < o.index
        if newer:
            yield f"{read} is stale: before it there was {o}"


def _absence(read: Operation, writes: list[Operation]) -> Iterator[str]:
    """If nothing is there, a delete must have come after the last acknowledged put."""
    puts = [o for o in _before(read, writes) if o.kind == "put"]
    if not puts:
        return
    last = max(puts, key=lambda o: o.index)
    # One entry may carry several changes: a delete of the same index may come after the put.
    deleted = any(
        o.kind == "delete"
        and o.called <= read.returned
        and (o.outcome == "unknown" or (o.outcome == "done" and o.index >= last.index))
        for o in writes
    )
    if not deleted:
        yield f"{read} found nothing, and nothing has deleted {last}"


def _before(read: Operation, writes: list[Operation]) -> Iterator[Operation]:
    return (o for o in writes if o.outcome == "done" and o.returned < read.called)


def _backwards(reads: list[Operation]) -> Iterator[str]:
    """A read finds nothing older than what a read before it has found."""
    by_return = sorted((o for o in reads if o.token), key=lambda o: o.returned)
    highest: Operation | None = None
    position = 0
    for o in sorted((o for o in reads if o.token), key=lambda o: o.called):
        while position < len(by_return) and by_return[position].returned < o.called:
            before = by_return[position]
            if highest is None or before.version > highest.version:
                highest = before
            position += 1
        if highest is not None and o.version < highest.version:
            yield f"{o} goes back behind {highest}"
