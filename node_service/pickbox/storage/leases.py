"""Does anybody have a file open for writing?

A read lease (fcntl(2), F_SETLEASE) is granted only if no process has: that is the answer, at once,
without waiting for a quiet time. Leases are not to be had of another owner's file, and on some file
systems.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from typing import BinaryIO, Final

_NO_LEASES: Final = {errno.EACCES, errno.EINVAL, errno.EPERM, errno.ENOLCK, errno.EOPNOTSUPP}
_LOOK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def has_writer(file: BinaryIO) -> bool | None:
    """Whether any process has the open `file` open for writing; None if that cannot be known.

    A process that opens the file in the microseconds that the lease is held makes the kernel send
    this one a signal, SIGIO unless told otherwise, which would end it. SIGURG is asked for
    instead: its default is to be ignored, and asking works from any thread.
    """
    return _has_writer(file.fileno())


def may_be_written(path: bytes) -> bool:
    """Whether any process has what is at `path` (absolute) open for writing.

    True also if that could not be asked, for lack of descriptors, say. False where it never can be:
    we may not read the file, it is not one, or there are no leases.
    """
    try:
        descriptor = os.open(path, _LOOK)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.ELOOP)
    try:
        return _has_writer(descriptor) is True
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _has_writer(descriptor: int) -> bool | None:
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return True
        if error.errno in _NO_LEASES:
            return None
        raise
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
