"""Content between its commit and its placement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pickbox.replication.inline import InlineContent
from pickbox.storage.digest import digest_bytes
from pickbox.storage.staging import Staging

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    return Staging(bytes(tmp_path / "staging"))


def test_content_is_read_until_it_is_in_a_file(staging: Staging) -> None:
    inline = InlineContent(staging)
    digest = digest_bytes(b"content")
    inline.put(digest, b"content")
    opened = inline.open(digest)
    assert opened is not None
    assert opened.read() == b"content"
    assert inline.get(digest) == b"content"
    inline.forget(digest)
    assert inline.get(digest) is None
    assert inline.open(digest) is None


def test_the_oldest_goes_to_staging_when_memory_is_full(staging: Staging) -> None:
    inline = InlineContent(staging, max_bytes=10)
    contents = [b"first!", b"second", b"third!"]
    for content in contents:
        inline.put(digest_bytes(content), content)
    assert staging.has(digest_bytes(b"first!"), 6)
    assert staging.has(digest_bytes(b"second"), 6)
    assert inline.get(digest_bytes(b"third!")) == b"third!"


def test_nothing_is_left_in_memory_alone_when_the_log_forgets(staging: Staging) -> None:
    inline = InlineContent(staging)
    for content in (b"a", b"b"):
        inline.put(digest_bytes(content), content)
    inline.flush()
    for content in (b"a", b"b"):
        assert staging.has(digest_bytes(content), 1)
        assert inline.get(digest_bytes(content)) is None


def test_the_same_content_twice_counts_once(staging: Staging) -> None:
    inline = InlineContent(staging, max_bytes=10)
    for _ in range(5):
        inline.put(digest_bytes(b"sixsix"), b"sixsix")
    assert inline.get(digest_bytes(b"sixsix")) == b"sixsix"
