"""What a disk may still lose: each change since it was made durable, with what was there before.

The files themselves always have the newest state; what is kept here takes them back to a state in
which a loss of power may leave them. It is what POSIX allows, and file systems do:

- Contents are lost by sectors, each on its own. A file that grew ends after the last of its new
  sectors that was written; new ones before that may be missing, and are zeros.
- Names (made, removed, renamed) are durable once a directory of theirs is synced, and not by an
  fsync of the file. Of several changes that build on each other, no later one is there without the
  earlier ones; a rename is there as a whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat as st
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

SECTOR: Final = 512
"""Bytes that a disk writes as a whole or not at all."""

CUTS: Final = ("clear-cache", "torn-op", "torn-seq")
"""What is there of all that was not synced: nothing; everything, but of the last write only its
first sectors; or any of it, drawn."""

CUT: Final = "user.lossy.cut"
SYNCFS: Final = "user.lossy.syncfs"
"""Attributes by which `faults.lossy` is told what to do."""
COUNTS: Final = "lost.json"
"""In the directory of the disk: what the last cut lost."""

WRITE_BACK_SECONDS: Final = 5.0
"""After that, everything is durable by itself."""

Keep = Callable[[Hashable], bool]


@dataclass(frozen=True, eq=False)
class NameChange:
    """A change of names in directories.

    Attributes:
        directories: inodes of those that it changed: a sync of one makes it durable.
        makes: what later changes may build on.
        needs: what it builds on itself, if an earlier change has made that.
        undo: takes it back.
        forget: lets go of what `undo` would need.
    """

    directories: frozenset[int]
    makes: frozenset[Hashable]
    needs: frozenset[Hashable]
    undo: Callable[[], object]
    forget: Callable[[], object]


@dataclass
class OldInode:
    """What a file or directory was when it was last durable.

    Attributes:
        descriptor: of the inode (``O_PATH``), whatever its name is by now.
        sectors: what was in those that were written since; empty beyond the old end.
        set_size: the size that it was set to since, which is no growth by writing.
        shrunk_to: where the smallest of these sizes cut something off.
    """

    descriptor: int
    stat: os.stat_result
    sectors: dict[int, bytes] = field(default_factory=dict)
    set_size: int | None = None
    shrunk_to: int = 1 << 62

    def before_write(self, offset: int, length: int) -> range:
        """Remember what a write is going to replace; return the sectors' numbers."""
        numbers = range(offset // SECTOR, -(-(offset + length) // SECTOR))
        if any(number not in self.sectors for number in numbers):
            start, old = numbers.start * SECTOR, b""
            if start < self.stat.st_size:
                with self._opened(os.O_RDONLY) as descriptor:
                    old = os.pread(descriptor, len(numbers) * SECTOR, start)
            for place, number in enumerate(numbers):
                self.sectors.setdefault(number, old[place * SECTOR : (place + 1) * SECTOR])
        return numbers

    def before_resize(self, now: int, size: int) -> None:
        """Remember what goes when the size is no longer `now` but `size`."""
        if size < now:
            self.before_write(size, now - size)
            self.shrunk_to = min(self.shrunk_to, size)
        self.set_size = size

    def lose(self, inode: int, keep: Keep) -> int:
        """Become what a loss of power leaves; return how many sectors were lost."""
        here = f"/proc/self/fd/{self.descriptor}"
        now = os.stat(here)
        resized = self.set_size is not None and keep((inode, "size"))
        # What was written after a cut of the size is in other places than what was there before.
        behind = 1 << 62 if resized else self.shrunk_to // SECTOR
        lost = [n for n in self.sectors if n >= behind or not keep((inode, n))]
        if st.S_ISREG(now.st_mode):
            self._restore(now.st_size, lost, resized=resized)
        kept = now if keep((inode, "attributes")) else self.stat
        os.chmod(here, kept.st_mode & 0o7777)
        os.utime(here, ns=(kept.st_atime_ns, kept.st_mtime_ns))
        return len(lost)

    def _restore(self, size: int, lost: list[int], *, resized: bool) -> None:
        end, cut = self.stat.st_size, 1 << 62
        if resized and self.set_size is not None:
            end, cut = self.set_size, self.shrunk_to
        for number in self.sectors.keys() - set(lost):
            end = max(end, min((number + 1) * SECTOR, size))
        with self._opened(os.O_RDWR) as descriptor:
            for number in lost:
                place = number * SECTOR
                old = self.sectors[number][: max(0, cut - place)]
                os.pwrite(descriptor, old.ljust(SECTOR, b"\0"), place)
            os.ftruncate(descriptor, end)

    @contextlib.contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        descriptor = os.open(f"/proc/self/fd/{self.descriptor}", flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


class Unsynced:
    """All that is not durable yet of the files in one directory. For one thread."""

    def __init__(self) -> None:
        self._inodes: dict[int, OldInode] = {}
        self._names: list[NameChange] = []
        self._last_write: tuple[int, range] | None = None

    def write(self, descriptor: int, offset: int, length: int) -> None:
        """`length` bytes of an open file are about to be written."""
        old = self._inode(descriptor)
        self._last_write = old.stat.st_ino, old.before_write(offset, length)

    def resize(self, descriptor: int, size: int) -> None:
        """The size of an open file is about to be set."""
        self._inode(descriptor).before_resize(os.fstat(descriptor).st_size, size)

    def attributes(self, path: str) -> None:
        """Mode or times of what `path` names are about to be set."""
        if not os.path.islink(path) or path.startswith("/proc/"):
            descriptor = os.open(path, os.O_PATH)
            try:
                self._inode(descriptor)
            finally:
                os.close(descriptor)

    def _inode(self, descriptor: int) -> OldInode:
        number = os.fstat(descriptor).st_ino
        if number not in self._inodes:
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_PATH)
            self._inodes[number] = OldInode(own, os.fstat(own))
        return self._inodes[number]

    def renamed(self, change: NameChange) -> None:
        """Names were changed."""
        self._names.append(change)

    def sync_inode(self, number: int) -> None:
        """Content and attributes of a file or directory are durable, its names are not."""
        old = self._inodes.pop(number, None)
        if old is not None:
            os.close(old.descriptor)

    def sync_directory(self, number: int) -> None:
        """So are the names in a directory, and all that these build on."""
        self.sync_inode(number)
        durable = self._fixed(lambda change: number in change.directories)
        for change in self._names:
            if change in durable:
                change.forget()
        self._names = [change for change in self._names if change not in durable]

    def sync(self) -> None:
        """Everything is durable."""
        for number in list(self._inodes):
            self.sync_inode(number)
        for change in self._names:
            change.forget()
        self._names.clear()

    def lose(self, cut: str, rng: random.Random) -> dict[str, int]:
        """Lose power: `cut` is one of `CUTS`. What is there now is durable.

        Returns:
            How much was lost of how much that was not synced.
        """
        keep = self._keep(cut, rng)
        kept = self._fixed(keep)
        counts = {
            "names": len(self._names),
            "sectors": sum(len(old.sectors) for old in self._inodes.values()),
            "lost_names": len(self._names) - len(kept),
            "lost_sectors": sum(old.lose(number, keep) for number, old in self._inodes.items()),
        }
        for change in reversed(self._names):
            (change.forget if change in kept else change.undo)()
        self._names.clear()
        self.sync()
        return counts

    def _keep(self, cut: str, rng: random.Random) -> Keep:
        if cut == "clear-cache":
            return lambda _: False
        if cut == "torn-seq":
            share = rng.random()
            return lambda _: rng.random() < share
        if cut != "torn-op":
            raise ValueError(f"{cut} is no cut; {', '.join(CUTS)} are")
        torn: set[Hashable] = set()
        if self._last_write is not None:
            inode, sectors = self._last_write
            torn = {(inode, number) for number in sectors[rng.randrange(len(sectors)) :]}
        return lambda what: what not in torn

    def _fixed(self, chosen: Callable[[NameChange], bool]) -> set[NameChange]:
        """The changes that are chosen, with those that they build on."""
        found: set[NameChange] = set()
        needed: set[Hashable] = set()
        for change in reversed(self._names):
            if chosen(change) or change.makes & needed:
                found.add(change)
                needed |= change.needs
        return found


def discard(path: str) -> None:
    """Remove what was kept for an undo."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
