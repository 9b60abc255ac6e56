"""Taking content into a file of its own, and proving that it is what its digest says.

Where the file system shares blocks (Btrfs, XFS, ...) that costs no room and no writing; else the
bytes are copied. In both cases they are hashed as they are in the new file, which nobody else has
ever opened: what somebody writes to the source at that moment, or later, cannot get in unseen.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING, BinaryIO, Final

from pickbox.errors import DiskFull
from pickbox.storage.digest import READ_BYTES, Hasher, digest_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.storage.tree import Location

FICLONE: Final = 0x40049409
"""ioctl_ficlone(2): have a file share all blocks of another."""

_CANNOT: Final = {
    errno.EOPNOTSUPP,
    errno.ENOTTY,
    errno.EINVAL,
    errno.EXDEV,
    errno.EPERM,
    errno.ENOSYS,
    errno.ETXTBSY,
}
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def shares_blocks(directory: bytes) -> bool:
    """Whether files of `directory` can share blocks. Leaves nothing behind.

    Raises:
        OSError: nothing can be written there.
    """
    paths = [os.path.join(directory, name) for name in (b".probe", b".probe-clone")]
    try:
        with open(paths[0], "w+b") as source:
            source.write(b"\0" * 4096)
            source.flush()
            with open(paths[1], "wb") as clone:
                return _clone(source, clone)
    finally:
        for path in paths:
            if os.path.lexists(path):
                os.unlink(path)


def take(
    source: BinaryIO,
    location: Location,
    digest: bytes,
    size: int,
    check_room: Callable[[int], None],
) -> bool:
    """Have the content of `source` at `location`, where nothing is, if it has `digest`.

    Args:
        check_room: raises `DiskFull` if so many bytes more do not fit; asked as they are copied.

    Returns:
        False if it is another content; then nothing is at `location`.

    Raises:
        OSError, DiskFull: the disk refuses; then nothing is at `location` either.
    """
    descriptor = os.open(location.name, _NEW, 0o600, dir_fd=location.directory)
    try:
        with os.fdopen(descriptor, "w+b") as target:
            cloned = _clone(source, target)
            found = digest_file(target) if cloned else _copy(source, target, check_room)
        if found == (digest, size):
            return True
    except (OSError, DiskFull):
        os.unlink(location.name, dir_fd=location.directory)
        raise
    os.unlink(location.name, dir_fd=location.directory)
    return False


def _clone(source: BinaryIO, target: BinaryIO) -> bool:
    """Share the blocks of `source`; False where that cannot be."""
    try:
        fcntl.ioctl(target.fileno(), FICLONE, source.fileno())
    except OSError as error:  # a buffer in memory has no descriptor, and says so by this too
        if error.errno in _CANNOT or error.errno is None:
            return False
        raise
    return True


def _copy(
    source: BinaryIO, target: BinaryIO, check_room: Callable[[int], None]
) -> tuple[bytes, int]:
    """Copy to the end; the digest and the size of what was written."""
    hasher = Hasher()
    while chunk := source.read(READ_BYTES):
        check_room(len(chunk))
        hasher.update(chunk)
        target.write(chunk)
    target.flush()  # here it is still said if the disk is full
    return hasher.digest(), hasher.size
