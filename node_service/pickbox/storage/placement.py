"""Putting a ready file where people see it, and taking one out, in one rename.

A user may edit the path at any moment, so what is swapped out is looked at after the swap: if it
is not what this node knew, or somebody has it open for writing, the swap is undone and the caller
takes that edit in first. Nothing that somebody wrote is ever unlinked here.
"""

from __future__ import annotations

import ctypes
import errno
import os
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from pickbox.changes import Kind
from pickbox.failpoints import failpoint
from pickbox.known import kind_of
from pickbox.storage.leases import may_be_written
from pickbox.storage.paths import display
from pickbox.storage.staging import STRAY_SUFFIX

if TYPE_CHECKING:
    from pickbox.known import KnownState
    from pickbox.storage.tree import FileTree, Location

_AT_FDCWD: Final = -100
_NOREPLACE: Final = 1
_EXCHANGE: Final = 2
_CAP_FOWNER: Final = 3
"""Its number (capabilities(7)): who has it may change the metadata of any file."""

_SWAPS: Final = 100
"""How often an edit is swapped back while somebody goes on writing the same path."""

_libc = ctypes.CDLL(None, use_errno=True)


class ChangedMeanwhile(Exception):
    """The path is not as this node knew it: somebody changed it in the meantime.

    The disk is then as if nothing had been tried, and `staged` or `destination` as before.

    Attributes:
        path: which.
        stray: None nearly always. When the path was changed again and again at that very moment,
            where one of those edits lies: an earlier one, or the one that could not be put back.
            What was at `staged` is then gone.
    """

    def __init__(
        self, path: bytes, what: str = "was changed meanwhile", stray: bytes | None = None
    ) -> None:
        super().__init__(f"{display(path)} {what}")
        self.path = path
        self.stray = stray


def install(
    tree: FileTree,
    staged: bytes,
    path: bytes,
    expected: KnownState | None,
    *,
    despite_writer: bool = False,
) -> os.stat_result:
    """Put the file or symlink at `staged` at `path`, atomically.

    `staged` is absolute, in the folder's volume, dressed (see `dress`), and the caller's alone.
    With `expected`, what was at `path` is at `staged` afterwards, for the caller to keep or
    unlink; without, nothing may be at `path`. `despite_writer` says that it may go even if somebody
    has it open for writing, and may write to it later.

    Returns:
        What was put there, as ``lstat`` would tell unless somebody has changed it since.

    Raises:
        ChangedMeanwhile: `path` is not as expected (or there is something, or nothing), or somebody
            has it open for writing.
        FileNotFoundError: the parent directory, or `staged`, is missing.
        NotADirectoryError: a parent is not a directory, or a symlink.
        OSError: the disk refuses, or the file system cannot do this.
    """
    ready = os.lstat(staged)
    with tree.locate(path) as location:
        failpoint("place_before_rename")
        if expected is None:
            _put_where_nothing_is(staged, location, path)
        else:
            _swap_in(staged, location, path, expected, ready, despite_writer)
        return _seen_or(ready, location)


def take_out(
    tree: FileTree,
    path: bytes,
    expected: KnownState | None,
    destination: bytes,
    *,
    despite_writer: bool = False,
) -> os.stat_result:
    """Rename what is at `path` out of the folder to `destination`, where nothing may be.

    Args:
        tree: the folder.
        path: what to take out.
        expected: what it has to be; None takes whatever is there. Of a directory, only the kind
            is looked at.
        destination: absolute, in the folder's volume.
        despite_writer: also what is expected and somebody has open for writing.

    Returns:
        What was taken out, looked at after it was.

    Raises:
        ChangedMeanwhile: it is something else, or open for writing; it was put back.
        FileNotFoundError: nothing is there.
        OSError: the disk refuses, or the file system cannot do this.
    """
    with tree.locate(path) as location:
        location.change(
            partial(_rename, location.directory, location.name, _AT_FDCWD, destination, _NOREPLACE)
        )
        in_use = expected is not None and not despite_writer and may_be_written(destination)
        taken = os.lstat(destination)
        if expected is not None and (in_use or not _is(taken, expected)):
            _put_back(destination, location, path)
            raise ChangedMeanwhile(path, "was changed before it could be taken out")
        return taken


def may_dress(stat: os.stat_result) -> bool:
    """Whether this thread may `dress` what `stat` is of: its owner may, and CAP_FOWNER."""
    if stat.st_uid == os.geteuid():
        return True
    with open("/proc/thread-self/status", encoding="ascii") as status:
        (effective,) = (line.split()[1] for line in status if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_FOWNER & 1)


def dress(staged: bytes, kind: Kind, mode: int, mtime_ns: int) -> None:
    """Give what is at `staged` its permissions and modification time, before it is installed.

    A symlink has no permissions of its own; a directory's time is not kept.

    Raises:
        OSError: it is missing or of another kind, or the disk refuses.
    """
    if kind is Kind.SYMLINK:
        os.utime(staged, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
        return
    # O_PATH needs no permission on the file, which an earlier dressing may have taken away.
    descriptor = os.open(staged, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if kind_of(os.fstat(descriptor)) is not kind:
            raise OSError(errno.ESTALE, f"not a {kind.name.lower()}", staged)
        opened = b"/proc/self/fd/%d" % descriptor
        os.chmod(opened, mode)
        if kind is Kind.FILE:
            os.utime(opened, ns=(mtime_ns, mtime_ns))
    finally:
        os.close(descriptor)


def _put_where_nothing_is(staged: bytes, location: Location, path: bytes) -> None:
    try:
        _rename_in(staged, location, _NOREPLACE)
    except FileExistsError:
        raise ChangedMeanwhile(path, "is there already") from None


def _swap_in(
    staged: bytes,
    location: Location,
    path: bytes,
    expected: KnownState,
    ready: os.stat_result,
    despite_writer: bool,
) -> None:
    try:
        _rename_in(staged, location, _EXCHANGE)
    except FileNotFoundError:
        if not os.path.lexists(staged):
            raise
        raise ChangedMeanwhile(path, "is gone") from None
    # In this order: what a writer has done that is gone by now shows in the look.
    in_use = not despite_writer and may_be_written(staged)
    edit = os.lstat(staged)
    if in_use or not _is(edit, expected):
        _swap_back(staged, location, path, edit, ready)


def _swap_back(
    staged: bytes, location: Location, path: bytes, edit: os.stat_result, ready: os.stat_result
) -> NoReturn:
    """Bring the edit that was swapped out back to `path`, or a later one that came meanwhile."""
    put, held = ready, edit
    for _ in range(_SWAPS):
        try:
            _rename_in(staged, location, _EXCHANGE)
        except FileNotFoundError:  # what we had put there was removed
            _put_back(staged, location, path)
            raise ChangedMeanwhile(path, "was changed and removed while being replaced") from None
        returned = os.lstat(staged)
        if _same_file(returned, put):
            break
        # Somebody wrote the path over what we had put there. That is later than what we put
        # there just now, so it has to go back.
        put, held = held, returned
    if put is ready:
        raise ChangedMeanwhile(path, "was changed before it could be replaced")
    raise ChangedMeanwhile(path, "was changed twice while being replaced", _set_aside(staged))


def _put_back(source: bytes, location: Location, path: bytes) -> None:
    try:
        _rename_in(source, location, _NOREPLACE)
    except OSError as error:
        raise ChangedMeanwhile(path, "was changed twice meanwhile", _set_aside(source)) from error


def _set_aside(source: bytes) -> bytes:
    """Give content that is not ours a name that callers do not clean up after a failure."""
    stray = source + STRAY_SUFFIX
    os.rename(source, stray)
    return stray


def _is(found: os.stat_result, expected: KnownState) -> bool:
    """Whether `found`, after a rename (which sets the ctime), is what was known."""
    if kind_of(found) is not expected.kind:
        return False
    return expected.kind is Kind.DIRECTORY or (
        found.st_ino == expected.inode
        and found.st_mtime_ns == expected.mtime_ns
        and found.st_size == expected.size
    )


def _same_file(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) == (
        other.st_dev,
        other.st_ino,
        other.st_size,
        other.st_mtime_ns,
    )


def _seen_or(ready: os.stat_result, location: Location) -> os.stat_result:
    """What is there now if it is still what was `ready`; else that, so that the edit shows."""
    try:
        now = location.lstat()
    except OSError:
        return ready
    return now if _same_file(now, ready) else ready


def _rename_in(staged: bytes, location: Location, flags: int) -> None:
    location.change(partial(_rename, _AT_FDCWD, staged, location.directory, location.name, flags))


def _rename(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int) -> None:
    """``renameat2`` (see its manual page, renameat2(2))."""
    if _libc.renameat2(old_fd, old, new_fd, new, flags) == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS):
        raise OSError(
            errno.EOPNOTSUPP,
            "the file system cannot exchange files or rename without replacing (renameat2); "
            "PICKBOX_DATA_DIR must be on one that can, such as ext4, XFS, Btrfs or tmpfs",
            new,
        )
    if code == errno.EXDEV:
        raise OSError(
            code,
            "the folder and its staging directory are on different volumes; "
            "all of PICKBOX_DATA_DIR must be one",
            new,
        )
    raise OSError(code, os.strerror(code), old, None, new)
