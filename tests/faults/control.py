"""Disturbs the calls of a node for the disk and the clock: `shim.c` stands between, as told."""

from __future__ import annotations

import mmap
import struct
import subprocess
from dataclasses import astuple, dataclass
from pathlib import Path

_SHIM = Path(__file__).with_name("shim.c")
_TOLD = struct.Struct("4q")
_DONE = struct.Struct("4q")
_FULL = struct.Struct("64s")
_REBOOTS = struct.Struct("q")


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What disturbs a node, all at once; nothing, if nothing is said.

    Attributes:
        fsync_microseconds: longer that each fsync takes.
        fsync_errno: what the next `fsync_failures` calls fail with.
        clock_nanoseconds: that its wall clock is ahead.
        full: writes to files whose path contains this find no space.
    """

    fsync_microseconds: int = 0
    fsync_errno: int = 0
    fsync_failures: int = 0
    clock_nanoseconds: int = 0
    full: str = ""


@dataclass(frozen=True, slots=True)
class Disturbed:
    """How often something was disturbed."""

    fsyncs_delayed: int
    fsyncs_failed: int
    writes_refused: int
    clocks_shifted: int


class Control:
    """The shared memory of one node and this process."""

    def __init__(self, file: Path, shim: Path) -> None:
        self._file = file
        self._shim = shim
        self._reboots = 0
        size = _TOLD.size + _DONE.size + _FULL.size + _REBOOTS.size
        file.write_bytes(bytes(size))
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), size)

    def environment(self) -> dict[str, str]:
        """What makes a process of it one that can be disturbed."""
        return {"LD_PRELOAD": str(self._shim), "PICKBOX_TEST_CONTROL": str(self._file)}

    def disturb(self, disturbance: Disturbance) -> None:
        """Disturb as said, and in no other way, from now on."""
        *numbers, full = astuple(disturbance)
        _FULL.pack_into(self._memory, _TOLD.size + _DONE.size, full.encode())
        _TOLD.pack_into(self._memory, 0, *numbers)

    def reboot(self) -> None:
        """From now on the machine is in another boot, as it is after a loss of power."""
        self._reboots += 1
        _REBOOTS.pack_into(self._memory, _TOLD.size + _DONE.size + _FULL.size, self._reboots)

    def disturbed(self) -> Disturbed:
        """What was disturbed so far."""
        return Disturbed(*_DONE.unpack_from(self._memory, _TOLD.size))


def build_shim(directory: Path) -> Path:
    """Compile the library that stands between."""
    library = directory / "shim.so"
    options = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *options, "-o", library, _SHIM, "-ldl"], check=True)
    return library
