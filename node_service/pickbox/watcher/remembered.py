"""What was put where before the power went, as far as the log and the last snapshot tell."""

from __future__ import annotations

import logging
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from pickbox.changes import Delete, Move, Put, Raise, Status
from pickbox.codec import decode_receipts
from pickbox.storage.catalog import CatalogCopy
from pickbox.watcher.former_names import FormerNames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pickbox.changes import Change, Entry, Outcome, Submission

log = logging.getLogger(__name__)

SECTOR: Final = 512
"""Bytes that a disk writes as a whole or not at all."""


@dataclass(slots=True)
class Puts:
    """What was put at one path.

    Attributes:
        decided: digests of what the cluster has decided on, whichever way.
        proposed: digests of what it never heard of: it may be there, and is somebody's edit.
        times: modification times of all of it.
    """

    decided: set[bytes] = field(default_factory=set)
    proposed: set[bytes] = field(default_factory=set)
    times: set[int] = field(default_factory=set)

    def add(self, entry: Entry | None) -> None:
        """This was there too."""
        if entry is not None:
            self.decided.add(entry.digest)
            self.times.add(entry.mtime_ns)

    def add_all(self, other: Puts) -> None:
        """All of that may be there too."""
        self.decided |= other.decided
        self.proposed |= other.proposed
        self.times |= other.times


class Remembered:
    """The log's entries since the last snapshot, that snapshot, and what they say of a path.

    Args:
        receipt: the encoded answer to a request that was applied, by its id.
    """

    def __init__(self, receipt: Callable[[str], bytes | None]) -> None:
        self._receipt = receipt
        self._submissions: list[Submission] = []
        self._puts: dict[bytes, Puts] = {}
        self._contents: dict[bytes, bytes] = {}
        self._former_names = FormerNames()
        self._before: CatalogCopy | None = None
        self.paths: set[bytes] = set()
        """Those that the entries touched, as far as they name them."""
        self.directories: set[bytes] = set()
        """Those of which all that is in them was touched."""
        self.begins_at = 0
        """Log index of the last entry that is in the snapshot; 0 without one."""
        self.last_index = 0
        """Log index of the last entry."""

    def note_snapshot(self, path: str, index: int) -> None:
        """The snapshot at `path` has all entries up to `index`."""
        self.begins_at = self.last_index = index
        try:
            self._before = CatalogCopy(path)
        except sqlite3.Error as error:  # less is known then
            log.warning("snapshot_not_read", extra={"fields": {"path": path, "why": str(error)}})

    def note(self, index: int, submissions: Sequence[Submission]) -> None:
        """The entry at `index` asked for this."""
        self.last_index = index
        self._submissions += submissions

    def resolve(self) -> None:
        """All entries that were committed are applied: look up what became of the changes."""
        puts: defaultdict[bytes, Puts] = defaultdict(Puts)
        for submission in self._submissions:
            changes, encoded = submission.changes, self._receipt(submission.request_id)
            outcomes = decode_receipts(encoded)[0].outcomes if encoded is not None else ()
            for change, outcome in zip_longest(changes, outcomes[: len(changes)]):
                self._learn(puts, change, outcome)
        self._puts = dict(puts)

    def _learn(
        self, puts: defaultdict[bytes, Puts], change: Change, outcome: Outcome | None
    ) -> None:
        """`outcome` is None if the cluster never heard of the change."""
        if isinstance(change, Raise):
            return
        self.paths.update((change.path,) if outcome is None else (change.path, outcome.path))
        if isinstance(change, Move):
            self.directories.update((change.path, change.destination))
            if outcome is not None and outcome.status is Status.APPLIED:
                self._former_names.note(change.path, change.destination)
        elif isinstance(change, Delete):
            if change.recursive:
                self.directories.add(change.path)
        elif isinstance(change, Put):
            self._learn_put(puts, change, outcome)

    def _learn_put(self, puts: defaultdict[bytes, Puts], put: Put, outcome: Outcome | None) -> None:
        if put.inline:
            self._contents[put.digest] = put.inline
        for path in {put.path, put.path if outcome is None else outcome.path}:
            (puts[path].proposed if outcome is None else puts[path].decided).add(put.digest)
            puts[path].times.add(put.mtime_ns)

    def names(self, path: bytes) -> set[bytes]:
        """The names that what is at `path` may have had since the snapshot; `path` is one."""
        return self._former_names.of(path)

    def puts(self, path: bytes) -> Puts:
        """What was at `path` at the snapshot, was put there since, or was moved there."""
        found = Puts()
        for name in self.names(path):
            found.add_all(self._puts.get(name, Puts()))
            if self._before is not None:
                found.add(self._before.get(name))
        return found

    def content(self, digest: bytes) -> bytes | None:
        """The content, if an entry carried it."""
        return self._contents.get(digest)

    def forget(self) -> None:
        """It is not needed any more."""
        if self._before is not None:
            self._before.close()
        self._submissions, self._puts, self._contents, self._before = [], {}, {}, None
        self._former_names = FormerNames()
        self.paths, self.directories = set(), set()


def is_damage(found: bytes, written: Iterable[bytes]) -> bool:
    """Whether a loss of power may have left `found` of what was written.

    Each sector is that of one of the contents, or zeros where it was never written; the end may be
    missing. So is an empty file of any content.
    """
    contents = list(written)
    if len(found) > max(map(len, contents), default=0):
        return False
    return all(_is_of(sector, start, contents) for start, sector in _sectors(found))


def is_blank(found: bytes) -> bool:
    """Whether nothing of what was written is there."""
    return not found.strip(b"\0")


def _sectors(content: bytes) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(content), SECTOR):
        yield start, content[start : start + SECTOR]


def _is_of(sector: bytes, start: int, contents: list[bytes]) -> bool:
    return is_blank(sector) or any(
        content[start : start + len(sector)].ljust(len(sector), b"\0") == sector
        for content in contents
    )
