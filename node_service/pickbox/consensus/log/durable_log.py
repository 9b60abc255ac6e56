"""`DurableLog`: what Raft must not forget, in segments, made durable once a tick."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from pickbox.consensus.log.records import (
    BATCH_HEADER,
    LONGEST_PAYLOAD,
    RecordType,
    encode_compacted,
    encode_entry,
    encode_number,
    encode_record,
    encode_vote,
)
from pickbox.consensus.log.recovery import HardState, Place, recover
from pickbox.consensus.log.segment import Segment, segment_name
from pickbox.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pickbox.consensus.log.disk import Disk, DiskFile
    from pickbox.consensus.log.recovery import Recovered

log = logging.getLogger(__name__)

LogEntry: TypeAlias = tuple[bytes, int, int]
"""Command, index, term."""

SEGMENT_BYTES: Final = 64 << 20
CACHE_BYTES: Final = 64 << 20
_UNWRITTEN: Final = Place(0, 0, 0)
_SEAL_ROOM: Final = 64
_PREAMBLE_ROOM: Final = 4096


class LogStopped(Exception):
    """The disk refused the log. What was written since the last sync may be there or not.

    A failed sync is not tried again: the kernel may have dropped the very pages that it could not
    write, and say yes the second time (Rebello et al., "Can Applications Recover from fsync
    Failures?", USENIX ATC 2020). A restart writes the last batch anew.
    """


def _no_observer(seconds: float) -> None: ...


class DurableLog:
    """The log of one node. Used by one thread; `open` makes it.

    `add`, `truncate_from`, `set_hard_state` and their like change what is seen at once and nothing
    on the disk; `sync` makes all of it durable with one write and one ``fdatasync``. Positions, as
    `__getitem__` takes them, count from `first_index`.
    """

    def __init__(
        self,
        disk: Disk,
        directory: str,
        lock: DiskFile,
        found: Recovered,
        *,
        segment_bytes: int,
        cache_bytes: int,
        on_sync: Callable[[float], None],
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._cache_bytes = cache_bytes
        self._on_sync = on_sync
        self._state = found.state
        self._segments = found.segments
        self._sequence = found.sequence
        self._commands: dict[int, bytes] = {}
        self._cached: deque[int] = deque()
        self._cached_bytes = 0
        self._pending: list[bytes] = []
        self._waiting: list[tuple[int, int, int]] = []
        self._pending_bytes = 0
        self._voted = False
        self._hinted = found.state.commit
        self._droppable = 0
        self._stopped = ""
        self._lock = lock
        self.synced_index = found.state.last_index
        self.bytes_written = 0
        """Bytes of records that were written since the log was opened."""

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        cache_bytes: int = CACHE_BYTES,
        on_sync: Callable[[float], None] = _no_observer,
    ) -> DurableLog:
        """Recover the log in `directory`, or begin one.

        Args:
            segment_bytes: size of a segment; a larger batch gets one of its own.
            cache_bytes: commands kept in memory; older ones are read from the disk.
            on_sync: hears the seconds that each sync took.

        Raises:
            LogDamaged, LogTooNew: the log cannot be used.
            LogStopped: the disk refuses.
            BlockingIOError: another process has it open.
        """
        with contextlib.ExitStack() as undo:
            try:
                disk.make_directory(directory)
                # First of all: who still has the log open adds to what would be read before.
                lock = disk.lock(directory)
                undo.callback(lock.close)
                found = recover(disk, directory)
                opened = cls(
                    disk,
                    directory,
                    lock,
                    found,
                    segment_bytes=segment_bytes,
                    cache_bytes=cache_bytes,
                    on_sync=on_sync,
                )
                opened._make_writable(found)
            except BlockingIOError:
                raise
            except OSError as error:
                raise LogStopped(f"the log in {directory} cannot be opened: {error}") from error
            undo.pop_all()
        return opened

    # -- what it holds -----------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._state.entries)

    def __getitem__(self, position: Any) -> Any:
        """The entry at a position, or the list of those in a slice.

        Raises:
            IndexError: there is none.
            LogDamaged: the disk has something else there than what was written.
        """
        if isinstance(position, slice):
            return self._read(range(*position.indices(len(self))))
        at = position + len(self) if position < 0 else position
        if not 0 <= at < len(self):
            raise IndexError(f"position {position} in a log of {len(self)} entries")
        return self._read([at])[0]

    @property
    def first_index(self) -> int:
        """Index of the oldest entry that is still here."""
        return self._state.first_index

    @property
    def last_index(self) -> int:
        """Index of the newest entry; `first_index` - 1 if there is none."""
        return self._state.last_index

    @property
    def hard_state(self) -> HardState:
        """Term and vote."""
        return self._state.hard_state

    @property
    def compacted(self) -> tuple[int, int]:
        """Index and term up to which a snapshot holds everything."""
        return self._state.compacted

    @property
    def dirty(self) -> bool:
        """Whether `sync` has something to do."""
        return bool(self._pending)

    @property
    def bytes_on_disk(self) -> int:
        """Bytes written to the segments that are there."""
        return sum(segment.end for segment in self._segments.values())

    def term_at(self, index: int) -> int:
        """Term of entry `index`, which must be here."""
        return self._state.entries[index - self._state.first_index][0]

    def getRaftCommitIndex(self) -> int:  # noqa: N802 - pysyncobj's name
        """The last commit index that reached the disk: a hint, never above `last_index`."""
        return min(self._state.commit, self.last_index)

    # -- changing it -------------------------------------------------------------------------

    def add(self, command: bytes, index: int, term: int) -> None:
        """Append an entry.

        Raises:
            ValueError: `index` does not follow, or `command` is longer than a record may be.
            LogStopped: the disk has refused before.
        """
        self._refuse_if_stopped()
        if len(command) > LONGEST_PAYLOAD - 16:
            raise ValueError(f"a command of {len(command)} bytes is too long for the log")
        state = self._state
        if not state.entries and index != state.compacted[0] + 1 and index != 1:
            raise ValueError(f"entry {index} after a snapshot of {state.compacted[0]}")
        state.add(index, term, _UNWRITTEN)
        self._remember(index, command)
        record = encode_entry(index, term, command)
        self._waiting.append((index, self._pending_bytes, len(record)))
        self._write_later(record)

    def truncate_from(self, index: int) -> None:
        """Drop the entries from `index` on."""
        self._refuse_if_stopped()
        if index > self.last_index:
            return
        failpoint("truncate_before")
        self._state.truncate_from(index)
        self._forget_from(index)
        self.synced_index = min(self.synced_index, index - 1)
        self._write_later(encode_number(RecordType.TRUNCATE, index))

    def set_hard_state(self, term: int, voted_for: str | None) -> None:
        """Change term and vote."""
        self._refuse_if_stopped()
        if HardState(term, voted_for) != self._state.hard_state:
            self._state.hard_state = HardState(term, voted_for)
            self._write_later(encode_vote(term, voted_for))

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802 - pysyncobj's name
        """Note the commit index; it goes to the disk with whatever is written next."""
        self._state.commit = index

    def compact_to(self, index: int, term: int, *, keep_trailing: int) -> None:
        """A durable snapshot holds everything up to entry `index` of `term`.

        Entries older than `keep_trailing` before it go, as whole segments, at the next sync. If the
        log has another entry there, or ends before, it becomes empty and goes on after `index`.
        """
        self._refuse_if_stopped()
        self._state.compact_to(index, term)
        if not self._state.entries:
            self._forget_from(0)
            self.synced_index = index
            # In the oldest segment that is left, entries of the old past may begin after `index`:
            # without those before them, the snapshot does not say that they went.
            self._write_later(encode_number(RecordType.TRUNCATE, index + 1))
        self._write_later(encode_compacted(index, term))
        self._droppable = index - keep_trailing

    # -- the disk ----------------------------------------------------------------------------

    def sync(self) -> None:
        """Make everything durable; nothing if nothing has changed.

        Raises:
            LogStopped: the disk refuses, now or before. The log takes nothing any more.
        """
        self._refuse_if_stopped()
        if not self._pending:
            return
        began = time.monotonic()
        try:
            self._write_pending()
            self._drop_segments()
        except OSError as error:
            self._stopped = f"the disk refused the log in {self._directory}: {error}"
            log.critical("log_stopped", extra={"fields": {"why": self._stopped}})
            raise LogStopped(self._stopped) from error
        self._on_sync(time.monotonic() - began)

    def close(self) -> None:
        """Close the files; what was not synced is lost."""
        self._stopped = self._stopped or "the log is closed"
        for segment in self._segments.values():
            segment.close()
        self._lock.close()

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise LogStopped(self._stopped)

    def _write_later(self, record: bytes) -> None:
        self._pending.append(record)
        self._pending_bytes += len(record)

    def _write_pending(self) -> None:
        if self._state.commit > self._hinted:
            self._hinted = min(self._state.commit, self.last_index)
            self._pending.append(encode_number(RecordType.COMMIT, self._hinted))
        records = b"".join(self._pending)
        segment = self._segment_with_room(len(records))
        self._write_batch(segment, records)
        failpoint("append_before_sync")
        segment.sync()
        failpoint("append_after_sync")
        self.synced_index = self.last_index

    def _write_batch(self, segment: Segment, records: bytes) -> None:
        self._sequence += 1
        start = segment.write(self._sequence, records)
        self.bytes_written += len(records)
        self._note_places(segment.number, start)
        self._pending, self._waiting, self._pending_bytes = [], [], 0

    def _note_places(self, number: int, start: int) -> None:
        """Where the entries of the batch are; one that was truncated meanwhile has no place."""
        entries, first = self._state.entries, self._state.first_index
        count = len(entries)
        for index, offset, length in self._waiting:
            at = index - first
            if 0 <= at < count:
                entries[at] = (entries[at][0], Place(number, start + offset, length))

    def _segment_with_room(self, size: int) -> Segment:
        current = self._segments[max(self._segments)]
        if current.end + BATCH_HEADER + size <= self._segment_bytes - _SEAL_ROOM:
            return current
        self._sequence += 1
        current.write(self._sequence, encode_record(RecordType.SEAL, b""))
        current.sync()
        return self._begin_segment(current.number + 1, BATCH_HEADER + size)

    def _begin_segment(self, number: int, room: int) -> Segment:
        """Make a segment with room for a batch."""
        size = max(self._segment_bytes, room + _PREAMBLE_ROOM)
        salt = os.urandom(8)
        segment = Segment.create(self._disk, self._directory, number, salt, size)
        self._segments[number] = segment
        self._write_preamble(segment)
        return segment

    def _write_preamble(self, segment: Segment) -> None:
        """Repeat in its first batch what older segments say beside their entries: they may go."""
        state = self._state
        vote = state.hard_state
        preamble = encode_vote(vote.term, vote.voted_for)
        preamble += encode_compacted(*state.compacted)
        self._sequence += 1
        segment.write(self._sequence, preamble)
        segment.sync()

    def _make_writable(self, found: Recovered) -> None:
        """Cut what a crash has torn, make the rest durable, and have a segment to write to.

        A process that was killed before its sync has left its last batch to the kernel.
        """
        if found.unfinished is not None:
            path = os.path.join(self._directory, segment_name(found.unfinished))
            self._disk.remove(path)
            self._disk.sync_directory(self._directory)
        result = found.newest
        if result is None:
            self._begin_segment(1, 0)
            return
        number = max(self._segments)
        last = self._segments[number]
        if result.torn:
            fields = {"path": last.path, "offset": result.end, "why": result.reason}
            log.warning("torn_tail_cut", extra={"fields": fields})
            last.cut(result.end, self._segment_bytes)
        last.assure(result.last)
        self._disk.sync_directory(self._directory)
        if not result.records:  # a crash came before its preamble
            self._write_preamble(last)
        if result.sealed:
            self._begin_segment(number + 1, 0)

    def _drop_segments(self) -> None:
        """Remove segments of which a snapshot holds every entry, the oldest first."""
        limit, self._droppable = self._droppable, 0
        while limit > 0 and len(self._segments) > 1:
            number = min(self._segments)
            kept = next((i for i, place in self._places() if place.segment > number), None)
            end = self.last_index + 1 if kept is None else kept
            if end - 1 > limit:
                return
            segment = self._segments.pop(number)
            segment.close()
            self._disk.remove(segment.path)
            self._disk.sync_directory(self._directory)
            self._forget_before(end)

    def _places(self) -> Iterator[tuple[int, Place]]:
        first = self._state.first_index
        return ((first + at, place) for at, (_, place) in enumerate(self._state.entries))

    # -- commands in memory --------------------------------------------------------------------

    def _read(self, positions: Iterable[int]) -> list[LogEntry]:
        found: list[LogEntry] = []
        first, entries, commands = self._state.first_index, self._state.entries, self._commands
        for at in positions:
            term, place = entries[at]
            command = commands.get(first + at)
            if command is None:
                command = self._segments[place.segment].read(place.offset, place.length).command
            found.append((command, first + at, term))
        return found

    def _remember(self, index: int, command: bytes) -> None:
        self._commands[index] = command
        self._cached.append(index)
        self._cached_bytes += len(command)
        while self._cached_bytes > self._cache_bytes and self._cached[0] <= self.synced_index:
            oldest = self._cached.popleft()
            self._cached_bytes -= len(self._commands.pop(oldest))

    def _forget_from(self, index: int) -> None:
        while self._cached and self._cached[-1] >= index:
            self._cached_bytes -= len(self._commands.pop(self._cached.pop()))

    def _forget_before(self, index: int) -> None:
        self._state.drop_before(index)
        while self._cached and self._cached[0] < index:
            self._cached_bytes -= len(self._commands.pop(self._cached.popleft()))
