"""Content that says which write it is of, so that a reader can tell whether it was ever written."""

from __future__ import annotations

import random


class Damaged(ValueError):
    """Content that no write can have left."""


def content_of(path: str, sequence: int, size: int) -> bytes:
    """What the write with this number puts at the path: a line that says so, and filler."""
    head = f"{path} {sequence} {size}\n".encode()
    return head + random.Random(f"{path} {sequence}").randbytes(max(0, size - len(head)))


def sequence_of(path: str, body: bytes) -> int:
    """The number of the write that left this content at the path."""
    head, _, _ = body[:256].partition(b"\n")
    try:
        named, sequence, size = head.decode().split(" ")
        number, length = int(sequence), int(size)
    except ValueError as error:
        raise Damaged(f"{len(body)} bytes that begin with {body[:40]!r}") from error
    if named != path:
        raise Damaged(f"content of {named}")
    if body != content_of(path, number, length):
        raise Damaged(f"{len(body)} bytes that are not those of write {number} ({length} bytes)")
    return number
