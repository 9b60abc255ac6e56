"""The folder itself: every access walks from its root without following a symlink.

A path is walked component by component with ``openat(O_NOFOLLOW | O_DIRECTORY)`` from a
descriptor of the root, so no link that somebody puts into the folder, at any moment, leads an
access out of it.
"""

from __future__ import annotations

import errno
import os
import stat as st
import threading
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from pickbox.changes import Kind
from pickbox.known import kind_of
from pickbox.storage.marker import MARKER, FolderError, read_marker, take_lock, write_marker
from pickbox.storage.paths import RESERVED_NAME, display

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pickbox.known import KnownState

T = TypeVar("T")

MODE_WHILE_MADE: Final = 0o700
"""Permissions of a directory until it gets its own, as far as the umask allows."""

_ENTER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HOLD: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NOT_NAMES: Final = frozenset((b"", b".", b".."))
_NO_WAY: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_OWNER_MAY_CHANGE: Final = st.S_IWUSR | st.S_IXUSR


class Location:
    """A name in an open directory: where a path is. A context manager that closes the directory.

    Attributes:
        directory: descriptor (``O_PATH``) of the parent directory.
        name: the last component.
    """

    __slots__ = ("_tree", "directory", "name")

    def __init__(self, tree: FileTree, directory: int, name: bytes) -> None:
        self._tree = tree
        self.directory = directory
        self.name = name

    def __enter__(self) -> Location:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tree.leave(self.directory)

    def lstat(self) -> os.stat_result:
        """What is there; raises `FileNotFoundError` if nothing is."""
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def change(self, operation: Callable[[], T]) -> T:
        """Run `operation`, which makes, removes or renames `name`; see `FileTree.change`."""
        return self._tree.change(self.directory, operation)


class FileTree:
    """Files, directories and links under `root`, by their paths. Thread-safe.

    Every method takes paths relative to the root (``b""`` is the root itself where that makes
    sense) and raises `OSError` subclasses: `FileNotFoundError` also when a parent is missing,
    `NotADirectoryError` when a parent is not a directory or is a symlink.
    """

    def __init__(self, root: bytes) -> None:
        self.root = root
        self._opening = threading.Lock()
        self._root_fd = -1
        self._lock_fd = -1
        self._identity = b""
        self._relaxing = threading.RLock()
        # Odd while a directory has more permissions than it should; see `change`.
        self._relaxations = 0

    # -- the folder as a whole

    def prepare(self, identity: str, *, expect_marker: bool = False) -> bool:
        """Make the folder this node's: its root, its marker and a lock held until `close`.

        Args:
            identity: what the marker says; a folder marked otherwise is refused.
            expect_marker: refuse a folder that lacks its marker, because it had one before.

        Returns:
            Whether the marker was made now, so that the folder is new to this node.

        Raises:
            FolderError: another node uses it, it has another's marker, or it lacks its own.
            OSError: it cannot be made or read.
        """
        os.makedirs(self.root, exist_ok=True)
        root = self._root()
        self._identity = os.fsencode(identity)
        found = read_marker(root)
        if found is None and expect_marker:
            raise FolderError(f"{self._missing_marker()} Mount it, or restore the marker.")
        if self._lock_fd < 0:
            self._lock_fd = take_lock(root, self.root)
        if found is None:
            write_marker(root, self._identity)
            self.fsync(b"")
        elif found != self._identity:
            raise FolderError(
                f"The folder {display(self.root)} belongs to {display(found)}, not to {identity}; "
                "give each node a folder of its own."
            )
        return found is None

    def intact(self) -> str:
        """Empty while the folder is the one that was prepared, else a sentence that says why not.

        Quick enough to be asked every second and before each batch of writes.
        """
        held = os.fstat(self._root())
        try:
            now = os.stat(self.root)
        except OSError as error:
            return f"The folder {display(self.root)} cannot be reached: {error.strerror}."
        if (held.st_dev, held.st_ino) != (now.st_dev, now.st_ino):
            return f"The folder {display(self.root)} was replaced by another directory."
        try:
            found = read_marker(self._root())
        except OSError as error:
            return f"The marker of {display(self.root)} cannot be read: {error.strerror}."
        if found is None:
            return self._missing_marker()
        if found != self._identity:
            return f"The folder {display(self.root)} has the marker of {display(found)}."
        return ""

    def close(self) -> None:
        """Give the folder up, and its lock; the tree must not be used afterwards."""
        with self._opening:
            for descriptor in (self._root_fd, self._lock_fd):
                if descriptor >= 0:
                    os.close(descriptor)
            self._root_fd = self._lock_fd = -1

    # -- looking

    def lstat(self, path: bytes) -> os.stat_result | None:
        """What is at `path`; None when nothing is, or a parent is not a (real) directory."""
        try:
            if not path:
                return os.fstat(self._root())
            before = self._relaxations
            with self.locate(path) as location:
                found = location.lstat()
                if st.S_ISDIR(found.st_mode) and (before & 1 or before != self._relaxations):
                    with self._relaxing:  # what we saw may have been our own passing permissions
                        found = location.lstat()
                return found
        except OSError as error:
            if error.errno in _NO_WAY:
                return None
            raise

    def read_link(self, path: bytes) -> bytes:
        """The target of the symlink at `path`."""
        with self.locate(path) as location:
            return os.readlink(location.name, dir_fd=location.directory)

    def open_file(self, path: bytes) -> BinaryIO:
        """The regular file at `path` for reading. Never blocks, never opens anything else."""
        with self.locate(path) as location:
            _require_file(location.lstat(), path)
            descriptor = os.open(location.name, _READ, dir_fd=location.directory)
        try:
            _require_file(os.fstat(descriptor), path)
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise

    def names(self, directory: bytes) -> list[bytes]:
        """What is in `directory`, in no order; the root's own ``.pickbox`` is left out."""
        descriptor = self._open_directory(directory)
        try:
            names = [os.fsencode(name) for name in os.listdir(descriptor)]
        finally:
            os.close(descriptor)
        if not directory:
            names = [name for name in names if name != RESERVED_NAME]
        return names

    # -- changing

    def make_directory(self, path: bytes, mode: int) -> None:
        """Make one directory with exactly the permissions `mode`, whatever the umask.

        Raises:
            FileExistsError: something is there already, a directory or not.
        """
        with self.locate(path) as location:
            location.change(
                lambda: os.mkdir(location.name, MODE_WHILE_MADE, dir_fd=location.directory)
            )
            self._set_mode(location, Kind.DIRECTORY, mode)

    def remove_directory(self, path: bytes) -> None:
        """Remove the empty directory at `path`; raises `OSError` (``ENOTEMPTY``) if it is not."""
        with self.locate(path) as location:
            location.change(lambda: os.rmdir(location.name, dir_fd=location.directory))

    def set_metadata(
        self,
        path: bytes,
        kind: Kind,
        mode: int,
        mtime_ns: int,
        known: KnownState | None = None,
    ) -> None:
        """Set permissions and modification time of what is at `path`, which must be of `kind`.

        A directory's time is left alone, and so are a symlink's permissions.

        With `known`, only what is as that says gets them. An edit in place that leaves the size
        as it is, between this look and the next call of the kernel, loses its time to ours, and
        does not show; one that comes later has a time of its own.

        Raises:
            OSError: also (``ESTALE``) when something of another kind is there, or not what is
                `known`.
        """
        with self.locate(path) as location:
            found = location.lstat()
            if kind_of(found) is not kind:
                raise OSError(errno.ESTALE, f"no longer a {kind.name.lower()}", path)
            if known is not None and not known.matches(found):
                raise OSError(errno.ESTALE, "no longer what is known", path)
            if kind is not Kind.DIRECTORY and found.st_mtime_ns != mtime_ns:
                os.utime(
                    location.name,
                    ns=(found.st_atime_ns, mtime_ns),
                    dir_fd=location.directory,
                    follow_symlinks=False,
                )
            if kind is not Kind.SYMLINK:
                self._set_mode(location, kind, mode)

    def fsync(self, path: bytes) -> None:
        """Make the file or directory at `path` durable; ``b""`` is the root."""
        if path:
            with self.locate(path) as location:
                descriptor = os.open(location.name, _READ, dir_fd=location.directory)
        else:
            descriptor = self._open_directory(path)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    # -- for placement

    def locate(self, path: bytes) -> Location:
        """Where `path` is: its parent directory, opened, and its name. Use it as a context manager.

        Raises:
            OSError: a parent is missing or not a real directory, or (``EINVAL``) `path` is no path.
        """
        root = self._root()
        if b"/" not in path and b"\0" not in path and path not in _NOT_NAMES:
            return Location(self, root, path)
        components = path.split(b"/")
        if b"\0" in path or not _NOT_NAMES.isdisjoint(components):
            raise OSError(errno.EINVAL, "not a path inside the folder", path)
        name = components.pop()
        return Location(self, self._enter(root, components), name)

    def leave(self, directory: int) -> None:
        """Close a directory that `locate` opened."""
        if directory != self._root_fd:
            os.close(directory)

    def change(self, directory: int, operation: Callable[[], T]) -> T:
        """Run `operation`, which changes names in `directory`; make that possible if need be.

        A directory that its owner may not write (``cp -a`` copies many such) gets the permission
        for a moment when the operation was refused for lack of it. `operation` is then run a
        second time, so it must change nothing when it raises `PermissionError`.
        """
        try:
            return operation()
        except PermissionError as error:
            if error.errno != errno.EACCES:
                raise
            with self._relaxing:
                return self._with_permission(directory, operation)

    # -- inside

    def _root(self) -> int:
        if self._root_fd < 0:
            with self._opening:
                if self._root_fd < 0:
                    self._root_fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._root_fd

    def _enter(self, directory: int, components: list[bytes]) -> int:
        root = directory
        try:
            for component in components:
                inner = os.open(component, _ENTER, dir_fd=directory)
                if directory != root:
                    os.close(directory)
                directory = inner
        except OSError:
            if directory != root:
                os.close(directory)
            raise
        return directory

    def _open_directory(self, path: bytes) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        if not path:
            return os.open(b".", flags, dir_fd=self._root())
        with self.locate(path) as location:
            return os.open(location.name, flags, dir_fd=location.directory)

    def _set_mode(self, location: Location, kind: Kind, mode: int) -> None:
        # fchmod does not take an O_PATH descriptor, and any other needs permission to read.
        descriptor = os.open(location.name, _HOLD, dir_fd=location.directory)
        try:
            with self._relaxing:
                found = os.fstat(descriptor)
                if kind_of(found) is not kind:
                    raise OSError(errno.ESTALE, f"no longer a {kind.name.lower()}", location.name)
                if found.st_mode & 0o7777 != mode:
                    _chmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def _with_permission(self, directory: int, operation: Callable[[], T]) -> T:
        mode = os.fstat(directory).st_mode & 0o7777
        relaxed = mode | _OWNER_MAY_CHANGE
        if relaxed == mode:
            return operation()
        self._relaxations += 1
        try:
            _chmod(directory, relaxed)
            return operation()
        finally:
            # Only our own permission is taken back, not what a user set meanwhile.
            if os.fstat(directory).st_mode & 0o7777 == relaxed:
                _chmod(directory, mode)
            self._relaxations += 1

    def _missing_marker(self) -> str:
        marker = display(RESERVED_NAME + b"/" + MARKER)
        return (
            f"The folder {display(self.root)} lacks its marker {marker}: "
            "its volume may not be mounted."
        )


def _require_file(found: os.stat_result, path: bytes) -> None:
    if st.S_ISREG(found.st_mode):
        return
    if st.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if st.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, "a symbolic link, which is not followed", path)
    raise OSError(errno.EINVAL, "not a regular file", path)


def _chmod(descriptor: int, mode: int) -> None:
    os.chmod(b"/proc/self/fd/%d" % descriptor, mode)
