"""A disk in memory that forgets: a power cut keeps any part of what was not synced.

It keeps 512-byte sectors of unsynced writes, changed sizes, and names made, removed or moved since
their directory was synced, each or not, as chance has it. A sync that fails is what it is on Linux
("Can Applications Recover from fsync Failures?", Rebello et al., USENIX ATC 2020): some of the
writes are on the platters, the others are seen until the power goes, and no later sync writes them.
Implements `pickbox.consensus.log.Disk`.
"""

from __future__ import annotations

import errno
import os
import random
from dataclasses import dataclass, field

SECTOR = 512


class PowerCut(BaseException):
    """The machine is off: no operation of this life comes after it."""


@dataclass(frozen=True, slots=True)
class Write:
    offset: int
    data: bytes

    def to(self, content: bytearray) -> None:
        end = self.offset + len(self.data)
        content.extend(bytes(max(0, end - len(content))))
        content[self.offset : end] = self.data

    def survivors(self, rng: random.Random) -> list[Write]:
        """The parts that are in sectors which chance has written."""
        end = self.offset + len(self.data)
        parts = []
        for sector in range(self.offset - self.offset % SECTOR, end, SECTOR):
            first, last = max(self.offset, sector), min(end, sector + SECTOR)
            if rng.random() < 0.5:
                parts.append(Write(first, self.data[first - self.offset : last - self.offset]))
        return parts


@dataclass(frozen=True, slots=True)
class Resize:
    size: int

    def to(self, content: bytearray) -> None:
        del content[self.size :]
        content.extend(bytes(self.size - len(content)))

    def survivors(self, rng: random.Random) -> list[Resize]:
        return [self] if rng.random() < 0.5 else []


@dataclass(slots=True)
class Inode:
    """A file's bytes: as programs see them, as the platters have them, and what lies between."""

    seen: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[Write | Resize] = field(default_factory=list)
    haunted: bool = False
    """A sync has failed: what is seen may never reach the platters."""

    def change(self, how: Write | Resize) -> None:
        how.to(self.seen)
        self.unsynced.append(how)

    def sync(self) -> None:
        for change in self.unsynced:
            change.to(self.durable)
        self.unsynced.clear()

    def fail_to_sync(self, rng: random.Random) -> None:
        self._write_some(rng)
        self.haunted = True

    def lose(self, rng: random.Random) -> None:
        self._write_some(rng)
        self.seen[:] = self.durable
        self.haunted = False

    def _write_some(self, rng: random.Random) -> None:
        for change in self.unsynced:
            for part in change.survivors(rng):
                part.to(self.durable)
        self.unsynced.clear()

    @property
    def settled(self) -> bool:
        """Whether what is seen is what a power cut would leave, but for zeros at the end."""
        if self.haunted:
            self.haunted = self.seen.rstrip(b"\0") != self.durable.rstrip(b"\0")
        return not self.unsynced and not self.haunted


@dataclass(frozen=True, slots=True)
class Renaming:
    """A name made (no `source`), moved, or removed (no `target`)."""

    source: str | None
    target: str | None
    inode: Inode

    def to(self, names: dict[str, Inode]) -> None:
        if self.source is not None:
            names.pop(self.source, None)
        if self.target is not None:
            names[self.target] = self.inode

    @property
    def directory(self) -> str:
        return os.path.dirname(self.target or self.source or "")


class SimulatedDisk:
    """One machine's disk over all of its lives.

    Attributes:
        operations: how many writing operations there were.
        fails_at: number of the operation that fails with `error`; all after it do too.
        cut_at: number of the operation that the power cut comes before.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self.operations = 0
        self.fails_at = 0
        self.error = errno.EIO
        self.cut_at = 0
        self._rng = rng or random.Random(0)
        self._seen: dict[str, Inode] = {}
        self._durable: dict[str, Inode] = {}
        self._renamings: list[Renaming] = []
        self._locked = False

    def step(self) -> None:
        """Count an operation; fail, or go dark, if it is time."""
        self.operations += 1
        if self.cut_at and self.operations >= self.cut_at:
            raise PowerCut
        if self.refuses:
            raise OSError(self.error, os.strerror(self.error))

    @property
    def refuses(self) -> bool:
        return bool(self.fails_at and self.operations >= self.fails_at)

    def power_up(self, rng: random.Random) -> None:
        """What is left after the power cut."""
        for renaming in self._renamings:
            if rng.random() < 0.5:
                renaming.to(self._durable)
        self._renamings.clear()
        for name in sorted(self._durable):
            self._durable[name].lose(rng)
        self._seen = dict(self._durable)
        self.cut_at = self.fails_at = 0
        self._locked = False

    def end_process(self) -> None:
        """The process was killed: all that it has written is seen, and the lock is free."""
        self.cut_at = 0
        self._locked = False

    def settled(self, directory: str) -> bool:
        """Whether a power cut would leave `directory` as it is."""
        return not any(renaming.directory == directory for renaming in self._renamings) and all(
            inode.settled
            for name, inode in self._seen.items()
            if os.path.dirname(name) == directory
        )

    def content(self, name: str) -> bytearray:
        """The bytes of a file, to be looked at or damaged."""
        inode = self._seen[name]
        inode.durable = inode.seen
        return inode.seen

    def make_directory(self, path: str) -> None: ...

    def names(self, directory: str) -> list[str]:
        return sorted(
            os.path.basename(name) for name in self._seen if os.path.dirname(name) == directory
        )

    def open(self, path: str, *, create: bool) -> SimulatedFile:
        if create:
            self.step()
            assert path not in self._seen
            self._rename(Renaming(None, path, Inode()))
        return SimulatedFile(self, self._find(path))

    def remove(self, path: str) -> None:
        inode = self._find(path)
        self.step()
        self._rename(Renaming(path, None, inode))

    def rename(self, source: str, target: str) -> None:
        inode = self._find(source)
        self.step()
        self._rename(Renaming(source, target, inode))

    def _find(self, path: str) -> Inode:
        if path not in self._seen:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._seen[path]

    def _rename(self, renaming: Renaming) -> None:
        renaming.to(self._seen)
        self._renamings.append(renaming)

    def sync_directory(self, directory: str) -> None:
        self.step()
        for renaming in self._renamings:
            if renaming.directory == directory:
                renaming.to(self._durable)
        self._renamings = [r for r in self._renamings if r.directory != directory]

    def lock(self, directory: str) -> SimulatedFile:
        if self._locked:
            raise BlockingIOError(errno.EAGAIN, "locked")
        self._locked = True
        return SimulatedFile(self, Inode(), unlocks=True)

    def unlock(self) -> None:
        self._locked = False

    def sync(self, inode: Inode) -> None:
        try:
            self.step()
        except OSError:
            inode.fail_to_sync(self._rng)
            raise
        inode.sync()


class SimulatedFile:
    """An open file of a `SimulatedDisk`."""

    def __init__(self, disk: SimulatedDisk, inode: Inode, *, unlocks: bool = False) -> None:
        self._disk = disk
        self._inode = inode
        self._unlocks = unlocks

    def size(self) -> int:
        return len(self._inode.seen)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._inode.seen[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        self._disk.step()
        self._inode.change(Write(offset, bytes(data)))

    def allocate(self, size: int) -> None:
        self._disk.step()
        self._inode.change(Resize(max(size, self.size())))

    def truncate(self, size: int) -> None:
        self._disk.step()
        self._inode.change(Resize(size))

    def sync(self) -> None:
        self._disk.sync(self._inode)

    def close(self) -> None:
        if self._unlocks:
            self._disk.unlock()
