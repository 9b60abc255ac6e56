"""The placer: what comes first, what is tried again, and how long something has waited."""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import pytest
from placement_volume import Here
from transport_nodes import eventually

from pickbox.replication.placer import Placer
from pickbox.replication.transfer import Fetcher
from pickbox.storage.digest import digest_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pickbox.changes import Entry


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


class Marks:
    """Where the placer says that a person changed something."""

    def __init__(self) -> None:
        self.paths: list[bytes] = []
        self.arrived = threading.Event()

    def mark(self, path: bytes, *, delay: float = 0.0) -> None:
        self.paths.append(path)
        self.arrived.set()


class NoCounts:
    def placed(self, kind: str, size: int) -> None: ...

    def replication_error(self, cause: str) -> None: ...

    def transferred(self, direction: str, peer: str, count: int) -> None: ...


def placer_of(here: Here, sources: Callable[[Entry], Sequence[str]] = lambda _: ()) -> Placer:
    """A placer that has no peer to ask for content."""
    return Placer(
        here.steps,
        here.catalog,
        Fetcher({}, here.staging, here.content, here.disk, NoCounts()),
        sources=sources,
        blocked=lambda: "",
        metrics=NoCounts(),
    )


def test_a_directory_that_somebody_removed_is_looked_at_and_not_what_was_to_go_into_it(
    here: Here,
) -> None:
    """The watcher would find nothing at the file, and ask for it again at once and for ever."""
    here.agree_on_directory(b"d")
    here.place(b"d")
    (here.files / "d").rmdir()
    here.agree_on_file(b"d/f", b"content")
    placer = placer_of(here)
    marks = Marks()
    placer.start(marks)
    try:
        placer.request([b"d/f"])
        assert marks.arrived.wait(5.0)
    finally:
        placer.stop()
    assert set(marks.paths) == {b"d"}


def test_the_longest_wait_is_that_of_the_file_whose_content_is_missing_longest(here: Here) -> None:
    placer = placer_of(here)
    placer.start(Marks())
    try:
        assert (placer.pending, placer.pending_seconds) == (0, 0)
        for path in (b"first", b"second"):
            here.agree_on_file_without_content(path)
            asked = time.monotonic()
            placer.request([path])
            eventually(lambda: placer.pending == here.index - 1)
        eventually(lambda: placer.pending_seconds > 0.2)  # through some tries
        since_the_second = time.monotonic() - asked
        assert placer.pending_seconds > since_the_second

        here.inline.put(digest_bytes(b"first"), b"first")
        eventually(lambda: placer.pending == 1)
        assert 0 < placer.pending_seconds <= time.monotonic() - asked

        here.inline.put(digest_bytes(b"second"), b"second")
        eventually(lambda: placer.pending == 0)
        assert placer.pending_seconds == 0
    finally:
        placer.stop()


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), ValueError("odd")])
def test_content_that_could_not_be_asked_for_is_asked_for_again(
    here: Here, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    asked: list[bytes] = []

    def ask(entry: Entry) -> Sequence[str]:
        asked.append(entry.path)
        if len(asked) == 1:
            raise error
        return ()

    placer = placer_of(here, ask)
    placer.start(Marks())
    try:
        here.agree_on_file_without_content(b"f")
        placer.request([b"f"])
        eventually(lambda: len(asked) > 1)
    finally:
        placer.stop()
    assert "fetch_refused" in {record.getMessage() for record in caplog.records}
