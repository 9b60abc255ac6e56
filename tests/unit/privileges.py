"""Running a piece of a test as a user to whom permissions apply, also when root runs the tests."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_CAPABILITY_VERSION_3 = 0x20080522
_SOMEBODY_ELSE = 65534
_DAC_OVERRIDE_AND_READ_SEARCH_AND_FOWNER = 0b1110

_libc = ctypes.CDLL(None, use_errno=True)


def without_privileges(work: Callable[[], None]) -> None:
    """Run `work` in a thread that file permissions bind (capabilities belong to threads)."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            if os.geteuid() == 0:
                _drop_capabilities()
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _drop_capabilities() -> None:
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)
    if _libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    words = list(struct.unpack("6I", sets.raw))
    words[0] &= ~_DAC_OVERRIDE_AND_READ_SEARCH_AND_FOWNER  # the effective set alone
    if _libc.capset(header, struct.pack("6I", *words)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def give_away(path: bytes) -> None:
    """Make the file or link at `path` another user's, which takes root."""
    if os.geteuid() != 0:
        pytest.skip("to give a file away takes root")
    os.chown(path, _SOMEBODY_ELSE, -1, follow_symlinks=False)
