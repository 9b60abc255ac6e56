"""Contents that say who wrote them: a mix, a cut or a foreign content is told from its bytes."""

from __future__ import annotations


class Damaged(Exception):
    """Bytes that nobody wrote: empty, cut, mixed."""


def content_of(token: str, size: int) -> bytes:
    """`size` bytes (at least the first line) that carry `token` from the first to the last."""
    head = f"{token} {size}\n".encode()
    return (head * (size // len(head) + 1))[: max(size, len(head))]


def token_of(content: bytes) -> str:
    """The token of a content.

    Raises:
        Damaged: no `content_of` is these bytes.
    """
    token, _, size = content.partition(b"\n")[0].decode(errors="replace").partition(" ")
    if not size.isdecimal() or content_of(token, int(size)) != content:
        raise Damaged(f"{len(content)} bytes that nobody wrote: {content[:40]!r}…")
    return token
