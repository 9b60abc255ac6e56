"""What a person does to a file meanwhile is never lost: it is not replaced, or waited for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from placement_volume import OLD_TIME, Here

from pickbox.known import KnownState
from pickbox.replication.swaps import StillOpen, Swaps
from pickbox.storage.digest import digest_bytes
from pickbox.storage.placement import ChangedMeanwhile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_an_edit_that_nobody_has_seen_is_never_overwritten(here: Here) -> None:
    here.agree_on_file(b"f", b"first")
    here.place(b"f")
    (here.files / "f").write_bytes(b"edited")
    here.agree_on_file(b"f", b"second")
    with pytest.raises(ChangedMeanwhile):
        here.steps.place(b"f")
    assert (here.files / "f").read_bytes() == b"edited"


def test_a_file_that_nobody_has_seen_is_never_deleted(here: Here) -> None:
    (here.files / "f").write_bytes(b"new")
    with pytest.raises(ChangedMeanwhile):
        here.steps.place(b"f")
    assert (here.files / "f").read_bytes() == b"new"


def test_a_mode_that_nobody_has_seen_is_never_overwritten(here: Here) -> None:
    """A directory is made, its first mode is committed, and its owner sets another meanwhile."""
    (here.files / "d").mkdir(mode=0o755)
    here.agree_on_directory(b"d", 0o700)
    with pytest.raises(ChangedMeanwhile):
        here.steps.place(b"d")
    assert (here.files / "d").stat().st_mode & 0o777 == 0o755


def test_a_change_of_mode_alone_leaves_the_content_where_it_is(here: Here) -> None:
    here.agree_on_file(b"f", b"content", 0o600)
    here.place(b"f")
    inode = (here.files / "f").stat().st_ino
    here.agree_on_file(b"f", b"content", 0o755)
    here.place(b"f")
    stat = (here.files / "f").stat()
    assert (stat.st_ino, stat.st_mode & 0o777) == (inode, 0o755)


@pytest.mark.parametrize("call", ["look", "utime", "chmod"])
def test_an_edit_of_the_same_size_is_not_booked_with_a_change_of_metadata(
    here: Here, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person writes into the file before we look at it again, or after one of our calls."""
    here.agree_on_file(b"f", b"content", 0o600)
    here.place(b"f")
    here.agree_on_file(b"f", b"content", 0o755, OLD_TIME + 1)
    if call == "look":
        meanwhile(monkeypatch, here.tree, "set_metadata", here.edit_in_place, after=False)
    else:
        meanwhile(monkeypatch, os, call, here.edit_in_place, after=True)
    with pytest.raises(ChangedMeanwhile):
        here.steps.place(b"f")
    here.steps.flush()
    row = here.state.get(b"f")
    assert row is not None
    assert not row.matches((here.files / "f").lstat())


@pytest.mark.parametrize("time_ns", [OLD_TIME + 1, -(2**62)], ids=["fine", "early"])
def test_a_time_that_the_file_system_cannot_keep_is_no_edit(
    here: Here, time_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some keep whole seconds alone; none of them every year."""
    here.agree_on_file(b"f", b"content", 0o600)
    here.place(b"f")
    here.agree_on_file(b"f", b"content", 0o755, time_ns)
    real = os.utime

    def in_seconds(path: bytes, *, ns: tuple[int, int], **how: Any) -> None:
        real(path, ns=(ns[0], ns[1] // 10**9 * 10**9), **how)

    monkeypatch.setattr(os, "utime", in_seconds)
    here.place(b"f")
    row = here.state.get(b"f")
    assert row is not None
    assert row.matches((here.files / "f").lstat())


def meanwhile(
    monkeypatch: pytest.MonkeyPatch,
    holder: object,
    name: str,
    deed: Callable[[], None],
    *,
    after: bool,
) -> None:
    """Have a person do `deed` right before or after each call of a function."""
    real = getattr(holder, name)

    def call(*args: Any, **kwargs: Any) -> None:
        if not after:
            deed()
        real(*args, **kwargs)
        if after:
            deed()

    monkeypatch.setattr(holder, name, call)


def test_a_file_that_is_open_elsewhere_is_not_replaced(here: Here) -> None:
    here.agree_on_file(b"f", b"one")
    here.place(b"f")
    here.agree_on_file(b"f", b"two")
    with (here.files / "f").open("ab", buffering=0) as application:
        with pytest.raises(StillOpen):
            here.steps.place(b"f")
        application.write(b" and a line")
    with pytest.raises(ChangedMeanwhile):
        here.steps.place(b"f")
    assert (here.files / "f").read_bytes() == b"one and a line"


def test_a_file_that_was_open_elsewhere_is_replaced_once_it_is_closed(here: Here) -> None:
    here.agree_on_file(b"f", b"one")
    here.place(b"f")
    here.agree_on_file(b"f", b"two")
    with (here.files / "f").open("ab"), pytest.raises(StillOpen):
        here.steps.place(b"f")
    with (here.files / "f").open("rb"):  # whoever reads it is none of our business
        here.place(b"f")
    assert (here.files / "f").read_bytes() == b"two"


@pytest.mark.parametrize("content", [b"one", b""])
def test_a_file_that_is_open_elsewhere_is_not_deleted(here: Here, content: bytes) -> None:
    here.agree_on_file(b"f", content)
    here.place(b"f")
    here.agree(without=(b"f",))
    with (here.files / "f").open("ab"), pytest.raises(StillOpen):
        here.steps.place(b"f")
    assert (here.files / "f").exists()
    here.place(b"f")
    assert not (here.files / "f").exists()


def test_a_file_that_is_open_elsewhere_is_not_renamed(here: Here) -> None:
    """What is written to it meanwhile would be taken for the content that was renamed."""
    here.agree_on_file(b"old", b"one")
    here.place(b"old")
    here.agree_on_file(b"new", b"one")
    here.inline.forget(digest_bytes(b"one"))
    here.agree(without=(b"old",))
    with (here.files / "old").open("ab"), pytest.raises(StillOpen):
        here.steps.place(b"new")
    assert os.listdir(here.files.parent / "staging") == []
    here.place(b"new", b"old")
    assert (here.files / "new").read_bytes() == b"one"


def test_a_file_that_is_open_elsewhere_goes_when_nobody_has_written_it_for_long(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.agree_on_file(b"f", b"one")
    here.place(b"f")
    clock = [0.0]
    monkeypatch.setattr("pickbox.replication.swaps.time.monotonic", lambda: clock[-1])
    row = here.state.get(b"f")
    assert row is not None
    swaps = Swaps(here.tree, "node1", 30.0)
    with (here.files / "f").open("ab", buffering=0) as application:
        for now in (0.0, 29.0):
            clock.append(now)
            with pytest.raises(StillOpen):
                swaps.await_writer(row)
        application.write(b" and a line")  # which is taken in
        row = KnownState.of(b"f", (here.files / "f").stat(), b"", 2)
        for now in (31.0, 60.0):
            clock.append(now)
            with pytest.raises(StillOpen):
                swaps.await_writer(row)
        clock.append(61.0)
        assert swaps.await_writer(row)
    assert not swaps.await_writer(row)
