"""One process at a time has a data directory (flock(2))."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class InUse(OSError):
    """Another process has the data directory; the text says what to do."""


def hold(data_dir: Path) -> int:
    """Keep all other processes that ask so out of `data_dir`.

    What one has read there, the other would go on changing: a node that ends works for a moment
    longer than its ports are taken.

    Returns:
        A descriptor. Until it is closed, at the end of the process at the latest, nobody else gets
        one.

    Raises:
        InUse: another process has it.
        OSError: there is no such directory, or its file system has no locks.
    """
    descriptor = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    why = (
        f"{data_dir} is in use by another process: stop it, or give this node another "
        "PICKBOX_DATA_DIR"
    )
    return lock_or_refuse(descriptor, InUse(why))


def lock_or_refuse(descriptor: int, refusal: OSError) -> int:
    """Lock an open file or directory for this process, and return its descriptor.

    If another process has it, close the descriptor and raise `refusal`.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise refusal from None
    return descriptor
