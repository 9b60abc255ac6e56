"""Log and snapshots reach the disk through `Disk`, so that a simulated disk can stand in."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import NoReturn, Protocol

from pickbox.durable import sync_directory


class DiskFile(Protocol):
    """An open file. Nothing written is durable before `sync`."""

    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on."""

    def write(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`."""

    def allocate(self, size: int) -> None:
        """Take room for `size` bytes; what was not written reads as zeros."""

    def truncate(self, size: int) -> None: ...

    def sync(self) -> None:
        """Make content and size durable (``fdatasync``)."""

    def close(self) -> None: ...


class Disk(Protocol):
    """A directory tree. Names made or removed are durable after `sync_directory`."""

    def make_directory(self, path: str) -> None: ...

    def names(self, directory: str) -> list[str]: ...

    def open(self, path: str, *, create: bool) -> DiskFile:
        """Open the file at `path`; with `create` it is made, and must not be there yet."""

    def remove(self, path: str) -> None: ...

    def rename(self, source: str, target: str) -> None:
        """Give the file at `source` the name `target`, whole or not at all; one there is gone."""

    def sync_directory(self, directory: str) -> None: ...

    def lock(self, directory: str) -> DiskFile:
        """Keep other processes out of `directory` until the returned file is closed.

        Raises:
            BlockingIOError: another process is in.
        """


class RealFile:
    """A file of the operating system, open as `flags` say; implements `DiskFile`."""

    def __init__(self, path: str, flags: int) -> None:
        self._descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)

    def size(self) -> int:
        """Length in bytes."""
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on."""
        parts = []
        while length > 0 and (part := os.pread(self._descriptor, length, offset)):
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            offset, view = offset + written, view[written:]

    def allocate(self, size: int) -> None:
        """Take room for `size` bytes, so that a full volume is met before anything is promised."""
        os.posix_fallocate(self._descriptor, 0, size)

    def truncate(self, size: int) -> None:
        """Make the file `size` bytes long."""
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """``fdatasync(2)``, which makes a changed size durable too."""
        os.fdatasync(self._descriptor)

    def lock(self) -> None:
        """``flock(2)``, exclusive; raises `BlockingIOError` if somebody has it."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


class RealDisk:
    """The operating system's files; implements `Disk`."""

    def make_directory(self, path: str) -> None:
        """Make `path` and what is missing above it; fine if it is there."""
        os.makedirs(path, mode=0o700, exist_ok=True)
        self.sync_directory(os.path.dirname(os.path.abspath(path)))

    def names(self, directory: str) -> list[str]:
        """The names in `directory`, sorted."""
        return sorted(os.listdir(directory))

    def open(self, path: str, *, create: bool) -> RealFile:
        """Open the file at `path`, or make it."""
        return RealFile(path, os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0))

    def remove(self, path: str) -> None:
        """Remove the file at `path`."""
        os.unlink(path)

    def rename(self, source: str, target: str) -> None:
        """``rename(2)``."""
        os.rename(source, target)

    def sync_directory(self, directory: str) -> None:
        """``fsync(2)`` of the directory."""
        sync_directory(directory)

    def lock(self, directory: str) -> RealFile:
        """Lock ``directory/lock``, which the kernel lets go of when the process ends."""
        file = RealFile(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT)
        try:
            file.lock()
        except BaseException:
            with contextlib.suppress(OSError):
                file.close()
            raise
        return file


class ReadOnlyDisk:
    """The operating system's files, of which nothing is changed; implements `Disk`.

    It takes no lock, so it neither waits for a node that runs nor keeps one from starting.
    """

    def names(self, directory: str) -> list[str]:
        """The names in `directory`, sorted."""
        return sorted(os.listdir(directory))

    def open(self, path: str, *, create: bool) -> RealFile:
        """Open the file at `path` for reading."""
        if create:
            self._refuse(path)
        return RealFile(path, os.O_RDONLY)

    def rename(self, source: str, target: str) -> None:
        self._refuse(source)

    def _refuse(self, path: str) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    make_directory = remove = sync_directory = lock = _refuse
