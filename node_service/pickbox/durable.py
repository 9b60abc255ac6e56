"""Files that are replaced as a whole, and names that outlast a loss of power."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, which takes the place of what is at `path` when the context ends well.

    Durably: whatever happens, what was there before is at `path`, or all of the new one.

    Raises:
        OSError: the disk refuses.
    """
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with part.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path | str | bytes) -> None:
    """Make the names in a directory durable (``fsync(2)``).

    Raises:
        OSError: the disk refuses.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
