"""A volume of 64 MiB for a node whose disk is to be full. To mount one takes root."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def small_volume(directory: Path) -> Iterator[None]:
    """Make `directory` one, which must be used by nobody any more at the end."""
    directory.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "pickbox-test", str(directory)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def fill(volume: Path, leave: int) -> Path:
    """Take all free space of a volume but `leave` bytes; returns the file that takes it."""
    ballast = volume / "ballast"
    free = os.statvfs(volume).f_bavail * os.statvfs(volume).f_frsize
    with ballast.open("ab") as file:
        if free > leave:  # the node itself may have taken the last of it
            os.posix_fallocate(file.fileno(), ballast.stat().st_size, free - leave)
    return ballast
