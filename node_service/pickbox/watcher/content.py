"""Reading content so that it is known which state of the file was read."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import BinaryIO, Final

from pickbox.storage.digest import digest_bytes, digest_file

_NOT_THERE: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP))


class ChangedWhileRead(Exception):
    """The file was written while it was read; what was read is worth nothing."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a file held, and its state at that time. `inline` is the bytes, if they were kept."""

    stat: os.stat_result
    digest: bytes
    inline: bytes | None = None


def read_inline(file: BinaryIO) -> Content:
    """All bytes of a small `file`, with their digest.

    Raises:
        ChangedWhileRead: somebody wrote to it meanwhile.
    """
    before = os.fstat(file.fileno())
    file.seek(0)
    data = file.read(before.st_size + 1)
    after = os.fstat(file.fileno())
    if not same_state(before, after) or len(data) != before.st_size:
        raise ChangedWhileRead
    return Content(after, digest_bytes(data), data)


def read_digest(file: BinaryIO) -> Content:
    """The digest of `file`, of any size, in constant memory.

    Raises:
        ChangedWhileRead: somebody wrote to it meanwhile.
    """
    before = os.fstat(file.fileno())
    file.seek(0)
    digest, size = digest_file(file)
    after = os.fstat(file.fileno())
    if not same_state(before, after) or size != before.st_size:
        raise ChangedWhileRead
    return Content(after, digest)


def same_state(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether nothing was written, and no metadata set, between two looks at one file."""
    return (
        one.st_size == other.st_size
        and one.st_mtime_ns == other.st_mtime_ns
        and one.st_ctime_ns == other.st_ctime_ns
        and one.st_ino == other.st_ino
    )


def is_gone(error: OSError) -> bool:
    """Whether `error` only says that something else, or nothing, is at the path by now."""
    return error.errno in _NOT_THERE
