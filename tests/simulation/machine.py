"""A state machine whose state is a digest of all that it was given, on a database that may lag."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from simulation.events import Applied

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from simulation.disk import SimulatedDisk
    from simulation.events import Event

_UNSYNCED = 20
"""Commands that a power cut may take back, as from SQLite's WAL with ``synchronous=NORMAL``."""


def digest(state: int, index: int, command: bytes) -> int:
    """The state after `command` at `index`: it tells every history from every other."""
    return zlib.crc32(command, zlib.crc32(index.to_bytes(8, "big"), state))


class SimulatedMachine:
    """Implements the core's `Machine`; its snapshots go to the simulated disk.

    Args:
        padding: bytes that make its snapshots longer, so that they travel in several chunks.
    """

    def __init__(
        self, node: str, disk: SimulatedDisk, record: Callable[[Event], None], padding: int
    ) -> None:
        self._node = node
        self._disk = disk
        self._record = record
        self._padding = bytes(padding)
        self._unsynced: list[tuple[int, int]] = []
        self.applied_index = 0
        self.state = 0
        self.refuses = False

    def apply(self, index: int, command: bytes) -> object:
        if self.refuses:
            raise OSError("the database cannot be written")
        self._unsynced = [*self._unsynced[1 - _UNSYNCED :], (self.applied_index, self.state)]
        self.state = digest(self.state, index, command)
        self.applied_index = index
        # With the byte before it that the log has, so that all events show the same command.
        self._record(Applied(self._node, index, b"\x00" + command))
        return index

    def lose_power(self, rng: random.Random) -> None:
        """Go back to a state between the last that is durable and now."""
        if self._unsynced and rng.random() < 0.5:
            self.applied_index, self.state = rng.choice(self._unsynced)
        self._unsynced.clear()

    def state_hash(self) -> bytes:
        return self.state.to_bytes(4, "big")

    def begin_dump(self) -> Callable[[str], None]:
        """Pin the state; what is returned writes it to a path."""
        content = self.applied_index.to_bytes(8, "big") + self.state.to_bytes(4, "big")

        def write(path: str) -> None:
            file = self._disk.open(path, create=True)
            file.write(0, content + self._padding)
            file.close()

        return write

    def load(self, path: str) -> None:
        """Replace the state, durably."""
        file = self._disk.open(path, create=False)
        content = file.read(0, 12)
        file.close()
        self.applied_index = int.from_bytes(content[:8], "big")
        self.state = int.from_bytes(content[8:], "big")
        self._unsynced.clear()
