"""The folder's marker and lock: whose folder it is, and that one node alone uses it.

Both are in ``.pickbox`` in the folder's root. The marker tells the folder from the empty place that
its volume is mounted on; without it nothing that is missing may be taken for deleted.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from pickbox.storage.hold import lock_or_refuse
from pickbox.storage.paths import RESERVED_NAME, display

MARKER: Final = b"id"
LOCK: Final = b"lock"

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FolderError(OSError):
    """The folder cannot be used by this node; the sentence says why."""


def take_lock(root_fd: int, root: bytes) -> int:
    """Lock the folder for this process; return the descriptor that holds the lock.

    Raises:
        FolderError: another process holds it.
        OSError: the lock cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(RESERVED_NAME, 0o700, dir_fd=root_fd)
    directory = os.open(RESERVED_NAME, _DIRECTORY, dir_fd=root_fd)
    try:
        descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | _FILE, 0o600, dir_fd=directory)
    finally:
        os.close(directory)
    why = (
        f"The folder {display(root)} is in use by another running node; "
        "give each node a folder of its own."
    )
    return lock_or_refuse(descriptor, FolderError(why))


def read_marker(root_fd: int) -> bytes | None:
    """What the marker says; None when there is none.

    Raises:
        OSError: it cannot be read.
    """
    try:
        directory = os.open(RESERVED_NAME, _DIRECTORY, dir_fd=root_fd)
    except FileNotFoundError:
        return None
    try:
        descriptor = os.open(MARKER, os.O_RDONLY | _FILE, dir_fd=directory)
    except FileNotFoundError:
        return None
    finally:
        os.close(directory)
    try:
        return os.read(descriptor, 4096).strip()
    finally:
        os.close(descriptor)


def write_marker(root_fd: int, identity: bytes) -> None:
    """Write the marker, whole and durably.

    Raises:
        OSError: the disk refuses.
    """
    directory = os.open(RESERVED_NAME, _DIRECTORY, dir_fd=root_fd)
    try:
        unfinished = MARKER + b".new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FILE
        with os.fdopen(os.open(unfinished, flags, 0o600, dir_fd=directory), "wb") as file:
            file.write(identity + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(unfinished, MARKER, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    finally:
        os.close(directory)
