"""Content between its commit and its placement."""

from __future__ import annotations

import errno
import os
import threading
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


class SlowStaging(Staging):
    """Takes the first content only when a test says so."""

    def __init__(self, directory: bytes) -> None:
        super().__init__(directory)
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def put(self, digest: bytes, data: bytes) -> None:
        self.begun.set()
        assert self.go_on.wait(20.0)
        super().put(digest, data)


def test_what_comes_during_a_flush_does_not_wait_for_it(tmp_path: Path) -> None:
    """The tick puts it: a leader that waited would lose its office."""
    staging = SlowStaging(bytes(tmp_path / "staging"))
    inline = InlineContent(staging)
    first, second, new = (digest_bytes(content) for content in (b"1", b"2", b"new"))
    inline.put(first, b"1")
    inline.put(second, b"2")
    flush = threading.Thread(target=inline.flush)
    flush.start()
    assert staging.begun.wait(20.0)
    comes = threading.Thread(target=inline.put, args=(new, b"new"))
    comes.start()
    comes.join(5.0)
    waited = comes.is_alive()
    inline.forget(second)  # it was placed meanwhile
    staging.go_on.set()
    for thread in (flush, comes):
        thread.join(20.0)
    assert not waited
    assert staging.has(first, 1)
    assert (inline.get(first), inline.get(second), inline.get(new)) == (None, None, b"new")


def test_what_the_disk_refused_to_take_stays_in_memory(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    inline = InlineContent(staging)
    digest = digest_bytes(b"content")
    inline.put(digest, b"content")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(staging, "put", refuse)
        with pytest.raises(OSError, match="No space"):
            inline.flush()
    assert inline.get(digest) == b"content"
    inline.flush()
    assert staging.has(digest, 7)


def test_content_that_came_again_during_a_flush_is_kept(tmp_path: Path) -> None:
    """What was written of the first may have been placed by then."""
    staging = SlowStaging(bytes(tmp_path / "staging"))
    inline = InlineContent(staging)
    digest = digest_bytes(b"content")
    inline.put(digest, b"content")
    flush = threading.Thread(target=inline.flush)
    flush.start()
    assert staging.begun.wait(20.0)
    inline.forget(digest)
    inline.put(digest, bytes(bytearray(b"content")))  # another object, as the log reads it
    staging.go_on.set()
    flush.join(20.0)
    assert inline.get(digest) == b"content"


def test_the_same_content_twice_counts_once(staging: Staging) -> None:
    inline = InlineContent(staging, max_bytes=10)
    for _ in range(5):
        inline.put(digest_bytes(b"sixsix"), b"sixsix")
    assert inline.get(digest_bytes(b"sixsix")) == b"sixsix"
