"""A file system that loses what was not synced when its power is cut.

``python -m faults.lossy DISK MOUNTPOINT SECONDS`` shows the directory DISK/tree at MOUNTPOINT,
through FUSE. All goes on in memory or wherever DISK is; what no sync has made durable can be undone
(`faults.unsynced`), and is by a cut. It is told what to do by extended attributes of any file:
``user.lossy.cut`` ("<one of CUTS> <seed>") cuts the power, after which nothing works any more
until the next mount, and ``user.lossy.syncfs`` stands for syncfs(2), of which the kernel does not
tell a file system in user space (`shim.c` sets it). As kernels do, it writes everything back by
itself, after SECONDS.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import json
import os
import random
import resource
import shutil
import sys
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from mfusepy import FUSE, Operations  # type: ignore[import-untyped]

from faults.unsynced import COUNTS, CUT, SYNCFS, NameChange, Unsynced, discard

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_NO_REPLACE, _EXCHANGE = 1, 2
_NOW, _OMIT = (1 << 30) - 1, (1 << 30) - 2
_NOT_OURS = os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_APPEND | os.O_ACCMODE | os.O_NOFOLLOW
_STAT = [f"st_{n}" for n in ("mode", "ino", "nlink", "uid", "gid", "size", "blocks", "blksize")]
_STATFS = [f"f_{n}" for n in ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree")]
_libc = ctypes.CDLL(None, use_errno=True)


class Directory:
    """A directory whose names can be changed, whatever its own becomes."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
        self.inode = os.fstat(self._descriptor).st_ino
        weakref.finalize(self, os.close, self._descriptor)

    def unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self._descriptor)

    def rmdir(self, name: str) -> None:
        os.rmdir(name, dir_fd=self._descriptor)

    def take(self, path: str, name: str) -> None:
        os.rename(path, name, dst_dir_fd=self._descriptor)

    def rename(self, name: str, target: Directory, new: str, flags: int = 0) -> None:
        names = os.fsencode(name), os.fsencode(new)
        if _libc.renameat2(self._descriptor, names[0], target._descriptor, names[1], flags):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


class Names:
    """Changes names below a directory in a way that can be undone."""

    def __init__(self, gone: str, unsynced: Unsynced) -> None:
        self._gone = gone
        self._unsynced = unsynced
        self._numbers = itertools.count()
        self._directories: weakref.WeakValueDictionary[int, Directory] = (
            weakref.WeakValueDictionary()
        )
        self.kept: dict[int, int] = {}
        """Inode -> names that were removed, and are kept to be undone."""

    def made(self, path: str, *, directory: bool = False) -> None:
        """`path` is new."""
        parent, name = self._place(path)
        makes: list[Hashable] = [("exists", os.lstat(path).st_ino)] if directory else []
        undo = partial(parent.rmdir if directory else parent.unlink, name)
        self._change([(parent, name)], undo, makes=makes)

    def remove(self, path: str) -> None:
        """Remove a file or an empty directory."""
        parent, name = self._place(path)
        needs, gone, forget = self._take_away(path)
        self._change([(parent, name)], partial(parent.take, gone, name), forget, needs)

    def rename(self, old: str, new: str, flags: int) -> None:
        """renameat2(2)."""
        (source, name), (target, new_name) = places = [self._place(old), self._place(new)]
        back = partial(target.rename, new_name, source, name)
        if flags & _EXCHANGE or not os.path.lexists(new):
            source.rename(name, target, new_name, flags)
            self._change(places, partial(back, flags & _EXCHANGE))
        elif flags & _NO_REPLACE:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        elif os.lstat(old).st_ino != os.lstat(new).st_ino:  # else there is nothing to do

            def undo() -> None:
                back()
                target.take(gone, new_name)

            needs, gone, forget = self._take_away(new)
            source.rename(name, target, new_name)
            self._change(places, undo, forget, needs)

    def _place(self, path: str) -> tuple[Directory, str]:
        parent, name = os.path.split(path)
        number = os.stat(parent).st_ino
        directory = self._directories.get(number)
        if directory is None:
            directory = self._directories[number] = Directory(parent)
        return directory, name

    def _take_away(self, path: str) -> tuple[list[Hashable], str, Callable[[], None]]:
        inode = os.lstat(path).st_ino
        needs: list[Hashable] = []
        if os.path.isdir(path) and not os.path.islink(path):
            if os.listdir(path):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
            needs.append(("in", inode))  # that it is empty
        gone = os.path.join(self._gone, str(next(self._numbers)))
        os.rename(path, gone)
        self.kept[inode] = self.kept.get(inode, 0) + 1

        def forget() -> None:
            self.kept[inode] -= 1
            if not self.kept[inode]:
                del self.kept[inode]
            discard(gone)

        return needs, gone, forget

    def _change(
        self,
        places: list[tuple[Directory, str]],
        undo: Callable[[], object],
        forget: Callable[[], object] = lambda: None,
        needs: list[Hashable] | None = None,
        makes: list[Hashable] | None = None,
    ) -> None:
        directories = frozenset(directory.inode for directory, _ in places)
        names = {(directory.inode, name) for directory, name in places}
        inside = {("in", number) for number in directories}
        exist = {("exists", number) for number in directories}
        self._unsynced.renamed(
            NameChange(
                directories,
                frozenset(names | inside | set(makes or ())),
                frozenset(names | exist | set(needs or ())),
                undo,
                forget,
            )
        )


class Lossy(Operations):  # type: ignore[misc]  # untyped
    """What the kernel asks for; a path is as seen from the root, None if only `fh` is known."""

    use_ns = True
    flag_nopath = 1
    flag_nullpath_ok = 1

    def __init__(self, disk: str, write_back_seconds: float) -> None:
        self._write_back_seconds = write_back_seconds
        self.powered = True
        self._disk = disk
        self._tree = os.path.join(disk, "tree")
        gone = os.path.join(disk, "gone")
        shutil.rmtree(gone, ignore_errors=True)
        for directory in (self._tree, gone):
            os.makedirs(directory, exist_ok=True)
        self._unsynced = Unsynced()
        self._names = Names(gone, self._unsynced)
        self._written_back = time.monotonic()

    def write_back(self) -> None:
        """Make everything durable if the last time is long ago."""
        if time.monotonic() - self._written_back >= self._write_back_seconds:
            self._unsynced.sync()
            self._written_back = time.monotonic()

    def _real(self, path: str | None, fh: int | None = None) -> str:
        return f"{self._tree}{path}" if path is not None else f"/proc/self/fd/{fh}"

    # -- looking ----------------------------------------------------------------------------

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self._real(path)) if path is not None else os.fstat(fh or 0)
        attributes = {name: getattr(found, name) for name in _STAT}
        attributes["st_nlink"] -= self._names.kept.get(found.st_ino, 0)
        times = {
            f"st_{name}": getattr(found, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")
        }
        return attributes | times

    def opendir(self, path: str) -> int:
        return os.open(self._real(path), os.O_RDONLY | os.O_DIRECTORY)

    def readdir(self, path: str | None, fh: int) -> list[tuple[str, dict[str, int], int]]:
        here = os.fstat(fh)
        found = [
            (name, {"st_ino": here.st_ino, "st_mode": here.st_mode}, 0) for name in (".", "..")
        ]
        for name in os.listdir(fh):
            stat = os.lstat(name, dir_fd=fh)
            found.append((name, {"st_ino": stat.st_ino, "st_mode": stat.st_mode}, 0))
        return found

    def releasedir(self, path: str | None, fh: int) -> None:
        os.close(fh)

    def readlink(self, path: str) -> str:
        return os.readlink(self._real(path))

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._tree)
        return {name: getattr(found, name) for name in _STATFS}

    # -- contents ---------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        if flags & os.O_TRUNC:
            self.truncate(path, 0)
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        return os.open(self._real(path), flags & ~_NOT_OURS | (os.O_RDWR if writes else 0))

    def create(self, path: str, mode: int, flags: int) -> int:
        made = flags & ~_NOT_OURS | os.O_RDWR | os.O_CREAT | os.O_EXCL
        descriptor = os.open(self._real(path), made, mode & 0o7777)
        self._names.made(self._real(path))
        return descriptor

    def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
        self._unsynced.write(fh, offset, len(data))
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> None:
        descriptor = os.open(self._real(path, fh), os.O_RDWR)
        try:
            self._unsynced.resize(descriptor, length)
            os.ftruncate(descriptor, length)
        finally:
            os.close(descriptor)

    def fallocate(self, path: str | None, mode: int, offset: int, size: int, fh: int) -> None:
        if mode:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        if offset + size > os.fstat(fh).st_size:
            self._unsynced.resize(fh, offset + size)
        os.posix_fallocate(fh, offset, size)

    def release(self, path: str | None, fh: int) -> None:
        os.close(fh)

    # -- attributes -------------------------------------------------------------------------

    def chmod(self, path: str | None, mode: int, fh: int | None = None) -> None:
        self._unsynced.attributes(self._real(path, fh))
        os.chmod(self._real(path, fh), mode & 0o7777)

    def utimens(
        self, path: str | None, times: list[tuple[int, int]], fh: int | None = None
    ) -> None:
        real = self._real(path, fh)
        self._unsynced.attributes(real)
        link = path is not None
        now, found = time.time_ns(), os.stat(real, follow_symlinks=not link)
        olds = (found.st_atime_ns, found.st_mtime_ns)
        wanted = [
            {_NOW: now, _OMIT: old}.get(rest, seconds * 10**9 + rest)
            for (seconds, rest), old in zip(times, olds, strict=True)
        ]
        os.utime(real, ns=(wanted[0], wanted[1]), follow_symlinks=not link)

    # -- names ------------------------------------------------------------------------------

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._real(path), mode)
        self._names.made(self._real(path), directory=True)

    def symlink(self, target: str, source: str) -> None:
        os.symlink(source, self._real(target))
        self._names.made(self._real(target))

    def link(self, target: str, source: str) -> None:
        os.link(self._real(source), self._real(target))
        self._names.made(self._real(target))

    def unlink(self, path: str) -> None:
        self._names.remove(self._real(path))

    def rmdir(self, path: str) -> None:
        self._names.remove(self._real(path))

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        self._names.rename(self._real(old), self._real(new), flags)

    # -- what is durable --------------------------------------------------------------------

    def fsync(self, path: str | None, datasync: int, fh: int) -> None:
        self._unsynced.sync_inode(os.fstat(fh).st_ino)

    def fsyncdir(self, path: str | None, datasync: int, fh: int) -> None:
        self._unsynced.sync_directory(os.fstat(fh).st_ino)

    def setxattr(self, path: str, name: str, value: bytes, options: int) -> None:
        if name == SYNCFS:
            self._unsynced.sync()
        elif name == CUT:
            cut, _, seed = value.decode().partition(" ")
            self.powered = False
            counts = self._unsynced.lose(cut, random.Random(seed))
            with open(os.path.join(self._disk, COUNTS), "w") as file:
                json.dump(counts, file)
        else:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


class Mount(FUSE):  # type: ignore[misc]  # untyped
    """Hands over what the library leaves out: flags of a rename, exact times, open files."""

    def _wrapper(self, func: Callable[..., int], *args: Any, **options: Any) -> int:
        if not self.operations.powered:
            return -errno.EIO
        self.operations.write_back()
        done: int = super()._wrapper(func, *args, **options)
        return done

    def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> None:
        self.operations.rename(os.fsdecode(old), os.fsdecode(new), flags)

    def truncate_fuse_3(self, path: bytes | None, length: int, fip: Any) -> None:
        self.operations.truncate(*_which(path, length, fip))

    def chmod_fuse_3(self, path: bytes | None, mode: int, fip: Any) -> None:
        self.operations.chmod(*_which(path, mode, fip))

    def utimens_fuse_3(self, path: bytes | None, buf: Any, fip: Any) -> None:
        times = (buf.contents.actime, buf.contents.modtime)
        self.operations.utimens(*_which(path, [(t.tv_sec, t.tv_nsec) for t in times], fip))


def _which(path: bytes | None, what: Any, fip: Any) -> tuple[str | None, Any, int | None]:
    named = None if path is None else os.fsdecode(path)
    return named, what, fip.contents.fh if fip else None


def main() -> None:
    """Serve until unmounted."""
    disk, mountpoint, seconds = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0)
    # All goes through this mount, so what the kernel remembers is right. Threads would only wait
    # for each other.
    remembers = {"kernel_cache": True, "attr_timeout": 60, "entry_timeout": 60}
    runs = {"foreground": True, "nothreads": True, "use_ino": True, "hard_remove": True}
    Mount(Lossy(disk, float(seconds)), mountpoint, fsname="lossy", **remembers, **runs)


if __name__ == "__main__":
    main()
