"""Whether the machine may have gone down under a running node, with what was not synced.

Files are placed without a sync each: the log has what they hold, and syncs the volume before it
forgets. So after a loss of power, and only then, the folder may be behind what this node knows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pickbox.durable import replacing

_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"  # random(4)
_CLEAN: Final = b"clean"


class PowerRecord:
    """A small file that names the boot of the machine in which the node runs, or says ``clean``."""

    def __init__(self, path: bytes) -> None:
        self._path = path

    def may_have_failed(self, *, used: bool = True) -> bool:
        """Whether the node neither stopped cleanly nor died in this boot of the machine.

        Args:
            used: whether there is anything from a start before. If not, and no file says so either,
                this is the first one: the file is written before anything is placed.
        """
        try:
            with open(self._path, "rb") as file:
                return file.read() not in (_CLEAN, _boot_id())
        except FileNotFoundError:
            return used

    def note_start(self) -> None:
        """From here on, writes that are not synced depend on the machine."""
        self._write(_boot_id())

    def note_clean_stop(self) -> None:
        """Everything is synced."""
        self._write(_CLEAN)

    def _write(self, content: bytes) -> None:
        with replacing(Path(os.fsdecode(self._path))) as file:
            file.write(content)


def _boot_id() -> bytes:
    with open(_BOOT_ID, "rb") as file:
        return file.read().strip()
