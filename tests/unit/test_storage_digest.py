"""Digests of bytes and files."""

from __future__ import annotations

import io
import resource
from typing import TYPE_CHECKING

from pickbox.changes import DIGEST_BYTES
from pickbox.storage.digest import READ_BYTES, Hasher, digest_bytes, digest_file

if TYPE_CHECKING:
    from pathlib import Path


def test_the_digest_is_blake3() -> None:
    # The empty input's digest as published with the reference implementation's test vectors.
    expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest_bytes(b"").hex() == expected
    assert len(digest_bytes(b"x")) == DIGEST_BYTES


def test_a_file_has_the_digest_of_its_bytes_whatever_its_length() -> None:
    for size in (0, 1, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES + 7):
        data = bytes(range(256)) * (size // 256 + 1)
        assert digest_file(io.BytesIO(data[:size])) == (digest_bytes(data[:size]), size)


def test_a_hasher_fed_in_pieces_agrees_with_the_whole() -> None:
    hasher = Hasher()
    for piece in (b"ab", bytearray(b"cd"), memoryview(b"ef")):
        hasher.update(piece)
    assert (hasher.digest(), hasher.size) == (digest_bytes(b"abcdef"), 6)


def test_hashing_a_large_file_does_not_take_memory_for_it(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(512 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with large.open("rb") as file:
        assert digest_file(file)[1] == 512 << 20
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 32 << 10
