"""BLAKE3 digests of bytes and of files (https://github.com/BLAKE3-team/BLAKE3-specs)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from blake3 import blake3

if TYPE_CHECKING:
    from io import BufferedIOBase
    from typing import BinaryIO

READ_BYTES: Final = 1 << 20
"""How much of a file is read at once."""


class Hasher:
    """A digest that grows with the bytes it is fed. `size` counts them."""

    __slots__ = ("_hash", "size")

    def __init__(self) -> None:
        self._hash = blake3()
        self.size = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._hash.update(data)
        self.size += len(data)

    def digest(self) -> bytes:
        """The digest of all bytes so far, `pickbox.changes.DIGEST_BYTES` long."""
        return self._hash.digest()


def digest_bytes(data: bytes) -> bytes:
    """The digest of `data`."""
    return blake3(data).digest()


def digest_file(file: BinaryIO) -> tuple[bytes, int]:
    """The digest of `file` from where it stands to its end, and how many bytes that were.

    Reads into one buffer and never maps the file, so that memory in use does not grow with it.

    Raises:
        OSError: reading failed.
    """
    hasher = Hasher()
    feed(hasher, file)
    return hasher.digest(), hasher.size


def feed(hasher: Hasher, file: BinaryIO) -> None:
    """Feed `hasher` all of `file` from where it stands.

    Raises:
        OSError: reading failed.
    """
    # typing.BinaryIO lacks readinto, which every binary file of the standard library has.
    source = cast("BufferedIOBase", file)
    buffer = bytearray(READ_BYTES)
    view = memoryview(buffer)
    while count := source.readinto(buffer):
        hasher.update(view[:count])
