"""The volume: how much room is left, and getting everything onto it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import time
from typing import TYPE_CHECKING, Final

from pickbox.errors import DiskFailed, DiskFull
from pickbox.storage.paths import display

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_SHARE: Final = 0.05
"""The reserve is never more than this share of the volume, so that small volumes are usable."""

FRESH_SECONDS: Final = 0.2
"""How long one look at the volume is good for."""

_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT}

_libc = ctypes.CDLL(None, use_errno=True)


class DiskGuard:
    """Refuses writes while the volume of `path` has less free space than the reserve.

    Args:
        path: any directory of the volume.
        reserve_bytes: free bytes to keep; at most 5 % of the volume.
    """

    def __init__(self, path: bytes, reserve_bytes: int) -> None:
        self._path = path
        self._reserve_bytes = reserve_bytes
        # One tuple, replaced whole, so that threads need no lock: (looked at, free, reserve, size).
        self._seen: tuple[float, int, int, int] = (float("-inf"), 0, 0, 0)

    def check(self, extra: int = 0) -> None:
        """Make sure that `extra` more bytes fit above the reserve.

        Raises:
            DiskFull: they do not.
            OSError: the volume cannot be asked.
        """
        free, reserve, _ = self._look()
        if free - extra < reserve:
            wanted = f" and {extra} more are wanted" if extra else ""
            raise DiskFull(
                f"The volume of {display(self._path)} has {free} bytes free{wanted}, but this node "
                f"keeps {reserve} in reserve; free some space or lower PICKBOX_DISK_RESERVE."
            )

    def ok(self) -> bool:
        """Whether there is more free than the reserve."""
        free, reserve, _ = self._look()
        return free >= reserve

    def free(self) -> int:
        """Free bytes that this user may write, at most `FRESH_SECONDS` old."""
        return self._look()[0]

    def reserve(self) -> int:
        """Free bytes below which writes are refused."""
        return self._look()[1]

    def size(self) -> int:
        """Bytes of the volume that this user may have, those in use included."""
        return self._look()[2]

    def _look(self) -> tuple[int, int, int]:
        looked_at, free, reserve, size = self._seen
        now = time.monotonic()
        if now - looked_at >= FRESH_SECONDS:
            volume = os.statvfs(self._path)
            free = volume.f_bavail * volume.f_frsize
            largest = int(volume.f_blocks * volume.f_frsize * LARGEST_SHARE)
            reserve = min(self._reserve_bytes, largest)
            size = (volume.f_blocks - volume.f_bfree + volume.f_bavail) * volume.f_frsize
            self._seen = (now, free, reserve, size)
        return free, reserve, size


@contextlib.contextmanager
def naming_refusals() -> Iterator[None]:
    """Turn what the disk refuses within into an error that says what happened.

    Raises:
        DiskFull: no space, or no quota, is left.
        DiskFailed: anything else: the disk reports an error, is mounted read-only, …
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in _NO_ROOM:
            raise DiskFull(f"The volume took no more ({reason}); free some space.") from error
        raise DiskFailed(
            f"The disk of this node refused ({reason}): nothing was stored. Try another node, and "
            "look at this one's disk."
        ) from error


def sync_filesystem(path: bytes) -> None:
    """Make everything written so far to the volume of `path` durable (``syncfs``).

    Raises:
        OSError: the volume reported a write error, or `path` cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(descriptor)
