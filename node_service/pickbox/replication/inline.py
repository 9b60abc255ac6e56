"""Content that travelled inside a command, in memory between its commit and its placement.

The log makes it durable: after a crash the command comes again. So it need not be written twice;
only before log entries are let go must what is still here be in a file (`flush`).
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from pickbox.storage.staging import Staging

MAX_BYTES: Final = 32 << 20
"""How much is kept in memory; beyond it the oldest content goes to staging."""


class InlineContent:
    """A bounded store of small contents by their digest. Thread-safe."""

    def __init__(self, staging: Staging, max_bytes: int = MAX_BYTES) -> None:
        self._staging = staging
        self._max_bytes = max_bytes
        self._contents: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def put(self, digest: bytes, data: bytes) -> None:
        """Keep `data`, whose digest has been checked.

        Raises:
            OSError: memory is full and the disk refuses.
        """
        with self._lock:
            if digest not in self._contents:
                self._contents[digest] = data
                self._size += len(data)
            while self._size > self._max_bytes:
                self._move_oldest_to_staging()

    def get(self, digest: bytes) -> bytes | None:
        """The content, None if it is not here. It stays until `forget`."""
        with self._lock:
            return self._contents.get(digest)

    def forget(self, digest: bytes) -> None:
        """The content is in a file now. Nothing if it is not here."""
        with self._lock:
            self._size -= len(self._contents.pop(digest, b""))

    def open(self, digest: bytes) -> BinaryIO | None:
        """The content from its first byte; None if it is not here."""
        data = self.get(digest)
        return None if data is None else io.BytesIO(data)

    def flush(self) -> None:
        """Write everything to staging: the log is about to forget it.

        What comes meanwhile may stay in memory. It is not kept waiting: the tick puts it.

        Raises:
            OSError: the disk refuses; what was not written is still here.
        """
        with self._lock:
            digests = list(self._contents)
        for digest in digests:
            data = self.get(digest)
            if data is not None:  # else it is in a file already
                self._staging.put(digest, data)
                self._drop(digest, data)

    def _drop(self, digest: bytes, data: bytes) -> None:
        """Forget what was written, but not what came under its digest since."""
        with self._lock:
            if self._contents.get(digest) is data:
                del self._contents[digest]
                self._size -= len(data)

    def _move_oldest_to_staging(self) -> None:
        digest, data = next(iter(self._contents.items()))
        self._staging.put(digest, data)
        del self._contents[digest]
        self._size -= len(data)
