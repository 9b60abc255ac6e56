"""Placement: one rename, and no edit of anybody is ever lost to it."""

from __future__ import annotations

import ctypes
import errno
import os
import stat as st
import subprocess
import threading
from typing import TYPE_CHECKING, BinaryIO

import pytest
from privileges import without_privileges

from pickbox.changes import Kind
from pickbox.known import KnownState, kind_of
from pickbox.storage import placement
from pickbox.storage.placement import ChangedMeanwhile, dress, install, take_out
from pickbox.storage.staging import STRAY_SUFFIX, Staging
from pickbox.storage.tree import FileTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Folder:
    """A folder with its staging, and what a person does there."""

    def __init__(self, base: Path) -> None:
        self.root = base / "files"
        self.root.mkdir()
        self.tree = FileTree(os.fsencode(self.root))
        self.staging = Staging(os.fsencode(base / "staging"))

    def ready(self, content: bytes, mode: int = 0o644) -> bytes:
        path = self.staging.scratch()
        with open(path, "xb") as file:
            file.write(content)
        dress(path, Kind.FILE, mode, 1_500_000_000_123_456_789)
        return path

    def known(self, path: str) -> KnownState:
        stat = os.lstat(self.root / path)
        kind = kind_of(stat)
        assert kind is not None
        return KnownState(
            os.fsencode(path),
            kind,
            stat.st_size,
            stat.st_mode & 0o777,
            stat.st_mtime_ns,
            stat.st_ctime_ns,
            stat.st_ino,
            b"",
            1,
        )

    def staged(self) -> list[bytes]:
        return sorted(
            (self.root.parent / "staging" / name).read_bytes()
            for name in os.listdir(self.root.parent / "staging")
        )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    it = Folder(tmp_path)
    yield it
    it.tree.close()


def meanwhile(monkeypatch: pytest.MonkeyPatch, *deeds: Callable[[], object]) -> None:
    """Have a person do `deeds`, each right before one of the next renames."""
    waiting = list(deeds)
    real = placement._rename

    def rename(*arguments: object) -> None:
        if waiting:
            waiting.pop(0)()
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(placement, "_rename", rename)


def test_a_new_file_appears_whole_with_its_mode_and_time(folder: Folder) -> None:
    (folder.root / "d").mkdir()
    staged = folder.ready(b"content", mode=0o751)
    stat = install(folder.tree, staged, b"d/new", None)
    assert stat == os.lstat(folder.root / "d" / "new")
    assert (folder.root / "d" / "new").read_bytes() == b"content"
    assert st.S_IMODE(stat.st_mode) == 0o751
    assert stat.st_mtime_ns == 1_500_000_000_123_456_789
    assert folder.staged() == []


def test_a_replaced_file_is_left_in_staging(folder: Folder) -> None:
    (folder.root / "f").write_bytes(b"old")
    staged = folder.ready(b"new")
    stat = install(folder.tree, staged, b"f", folder.known("f"))
    assert stat == os.lstat(folder.root / "f")
    assert (folder.root / "f").read_bytes() == b"new"
    with open(staged, "rb") as file:
        assert file.read() == b"old"


def test_a_reader_keeps_the_file_that_it_has_open(folder: Folder) -> None:
    (folder.root / "f").write_bytes(b"old")
    with (folder.root / "f").open("rb") as reader:
        install(folder.tree, folder.ready(b"new"), b"f", folder.known("f"))
        assert reader.read() == b"old"


def test_a_symlink_is_installed_as_a_link_and_may_replace_a_file(folder: Folder) -> None:
    (folder.root / "f").write_bytes(b"old")
    staged = folder.staging.scratch()
    os.symlink(b"/somewhere/else", staged)
    dress(staged, Kind.SYMLINK, 0o777, 1_000_000_007)
    install(folder.tree, staged, b"f", folder.known("f"))
    assert os.readlink(folder.root / "f") == "/somewhere/else"
    assert os.lstat(folder.root / "f").st_mtime_ns == 1_000_000_007
    assert folder.staged() == [b"old"]
    install(folder.tree, folder.ready(b"again"), b"f", folder.known("f"))
    assert (folder.root / "f").read_bytes() == b"again"


def test_a_file_that_turned_up_is_not_replaced(folder: Folder) -> None:
    (folder.root / "f").write_bytes(b"theirs")
    staged = folder.ready(b"ours")
    with pytest.raises(ChangedMeanwhile, match="f is there already"):
        install(folder.tree, staged, b"f", None)
    assert (folder.root / "f").read_bytes() == b"theirs"
    assert folder.staged() == [b"ours"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda path: path.write_bytes(b"longer than before"),
        lambda path: os.utime(path, ns=(5, 5)),
        lambda path: (path.rename(path.parent / "moved"), path.write_bytes(b"old")),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to("elsewhere")),
    ],
)
def test_an_edit_right_before_the_swap_survives_it(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Path], object]
) -> None:
    path = folder.root / "f"
    path.write_bytes(b"old")
    known = folder.known("f")
    staged = folder.ready(b"ours")
    meanwhile(monkeypatch, lambda: edit(path))
    with pytest.raises(ChangedMeanwhile, match="before it could be replaced") as caught:
        install(folder.tree, staged, b"f", known)
    assert caught.value.stray is None
    assert not folder.known("f").matches(os.stat(staged))
    assert folder.known("f") != known
    assert folder.staged() == [b"ours"]


def test_a_file_that_is_opened_right_before_the_swap_stays(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written to it later would be in no folder."""
    path = folder.root / "f"
    path.write_bytes(b"old")
    known = folder.known("f")
    staged = folder.ready(b"ours")
    writers: list[BinaryIO] = []
    meanwhile(monkeypatch, lambda: writers.append(path.open("ab")))
    with pytest.raises(ChangedMeanwhile, match="before it could be replaced"):
        install(folder.tree, staged, b"f", known)
    with writers.pop() as writer:
        writer.write(b" and new")
    assert path.read_bytes() == b"old and new"
    assert folder.staged() == [b"ours"]


def test_a_file_that_is_opened_right_before_it_is_taken_out_stays(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.root / "f"
    path.write_bytes(b"old")
    known = folder.known("f")
    writers: list[BinaryIO] = []
    meanwhile(monkeypatch, lambda: writers.append(path.open("ab")))
    with pytest.raises(ChangedMeanwhile, match="before it could be taken out"):
        take_out(folder.tree, b"f", known, folder.staging.scratch())
    writers.pop().close()
    assert path.read_bytes() == b"old"
    assert folder.staged() == []


def test_a_file_that_may_be_open_goes_despite_its_writer(folder: Folder) -> None:
    (folder.root / "f").write_bytes(b"old")
    with (folder.root / "f").open("ab"):
        staged = folder.ready(b"ours")
        install(folder.tree, staged, b"f", folder.known("f"), despite_writer=True)
    assert folder.staged() == [b"old"]
    with (folder.root / "f").open("ab"):
        out = folder.staging.scratch()
        take_out(folder.tree, b"f", folder.known("f"), out, despite_writer=True)
    assert folder.staged() == [b"old", b"ours"]


def test_a_file_of_which_nobody_can_say_who_writes_it_is_not_replaced(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor is left, say; and after the swap it is too late for an error."""
    (folder.root / "f").write_bytes(b"old")
    folder.tree.lstat(b"")  # the tree has its root open

    def refuse(path: bytes, flags: int, *args: object, **kwargs: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files", path)

    staged = folder.ready(b"ours")
    with monkeypatch.context() as used_up:
        used_up.setattr(os, "open", refuse)
        with pytest.raises(ChangedMeanwhile):
            install(folder.tree, staged, b"f", folder.known("f"))
    assert (folder.root / "f").read_bytes() == b"old"


def test_a_file_that_went_away_is_not_brought_back(folder: Folder) -> None:
    (folder.root / "f").write_bytes(b"old")
    known = folder.known("f")
    (folder.root / "f").unlink()
    with pytest.raises(ChangedMeanwhile, match="f is gone"):
        install(folder.tree, folder.ready(b"ours"), b"f", known)
    assert not (folder.root / "f").exists()
    assert folder.staged() == [b"ours"]


def replace_by_rename(path: Path, content: bytes) -> Callable[[], object]:
    """A person's editor saving `content` by rename."""

    def save() -> None:
        temporary = path.with_name("editor-temporary")
        temporary.write_bytes(content)
        temporary.rename(path)

    return save


@pytest.mark.parametrize("edits", [2, 3, 4])
def test_of_several_edits_during_the_swap_the_last_is_there_and_none_is_ours(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, edits: int
) -> None:
    path = folder.root / "f"
    path.write_bytes(b"old")
    known = folder.known("f")
    contents = [b"edit %d" % number for number in range(edits)]
    meanwhile(monkeypatch, *(replace_by_rename(path, content) for content in contents))
    with pytest.raises(ChangedMeanwhile, match="changed twice") as caught:
        install(folder.tree, folder.ready(b"ours"), b"f", known)
    assert path.read_bytes() == contents[-1]
    stray = caught.value.stray
    assert stray is not None
    assert stray.endswith(STRAY_SUFFIX)
    assert folder.staging.sweep(-1, lambda _: False) == 0, "an edit is not swept at once"
    assert folder.staged() == [contents[-2]]


def test_an_edit_into_the_very_file_that_was_just_placed_survives(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.root / "f"
    path.write_bytes(b"old")
    known = folder.known("f")
    meanwhile(
        monkeypatch, lambda: path.write_bytes(b"first edit"), lambda: path.write_bytes(b"second")
    )
    with pytest.raises(ChangedMeanwhile):
        install(folder.tree, folder.ready(b"ours"), b"f", known)
    assert path.read_bytes() == b"second"
    assert folder.staged() == [b"first edit"]


def test_somebody_who_never_stops_writing_does_not_stop_us_for_ever(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.root / "f"
    path.write_bytes(b"old")
    known = folder.known("f")
    contents = [b"edit %d" % number for number in range(1000)]
    meanwhile(monkeypatch, *(replace_by_rename(path, content) for content in contents))
    with pytest.raises(ChangedMeanwhile):
        install(folder.tree, folder.ready(b"ours"), b"f", known)
    assert {path.read_bytes(), *folder.staged()} < set(contents)


def test_an_edit_is_put_back_where_our_file_was_removed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.root / "f"
    path.write_bytes(b"old")
    known = folder.known("f")
    meanwhile(monkeypatch, lambda: path.write_bytes(b"an edit"), path.unlink)
    with pytest.raises(ChangedMeanwhile, match="changed and removed") as caught:
        install(folder.tree, folder.ready(b"ours"), b"f", known)
    assert caught.value.stray is None
    assert path.read_bytes() == b"an edit"


def test_an_edit_right_after_the_rename_is_not_taken_for_ours(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = placement._rename

    def rename_then_edit(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        (folder.root / "f").write_bytes(b"edited at once")

    monkeypatch.setattr(placement, "_rename", rename_then_edit)
    stat = install(folder.tree, folder.ready(b"ours"), b"f", None)
    assert stat.st_size == 4
    assert stat.st_mtime_ns != os.lstat(folder.root / "f").st_mtime_ns


def test_a_missing_or_linked_parent_is_an_error_and_nothing_is_made(folder: Folder) -> None:
    staged = folder.ready(b"ours")
    with pytest.raises(FileNotFoundError):
        install(folder.tree, staged, b"no/f", None)
    (folder.root.parent / "outside").mkdir()
    (folder.root / "link").symlink_to("../outside")
    (folder.root / "file").write_bytes(b"")
    for parent in (b"link", b"file"):
        with pytest.raises(NotADirectoryError):
            install(folder.tree, staged, parent + b"/f", None)
    assert os.listdir(folder.root.parent / "outside") == []
    assert sorted(os.listdir(folder.root)) == ["file", "link"]


def test_a_missing_staged_file_is_an_error_and_the_path_stays(folder: Folder) -> None:
    (folder.root / "f").write_bytes(b"old")
    for expected in (None, folder.known("f")):
        with pytest.raises(FileNotFoundError):
            install(folder.tree, folder.staging.scratch(), b"f", expected)
    assert (folder.root / "f").read_bytes() == b"old"


def test_what_is_taken_out_is_at_its_destination(folder: Folder) -> None:
    (folder.root / "f").write_bytes(b"old")
    out = folder.staging.scratch()
    stat = take_out(folder.tree, b"f", folder.known("f"), out)
    assert stat == os.lstat(out)
    assert os.listdir(folder.root) == []
    with pytest.raises(FileNotFoundError):
        take_out(folder.tree, b"f", None, out)


def test_a_directory_is_taken_out_with_all_in_it(folder: Folder) -> None:
    (folder.root / "d" / "e").mkdir(parents=True)
    out = folder.staging.scratch()
    take_out(folder.tree, b"d", folder.known("d"), out)
    assert os.listdir(out) == [b"e"]


def test_an_edited_file_is_not_taken_out(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder.root / "f"
    path.write_bytes(b"old")
    known = folder.known("f")
    meanwhile(monkeypatch, lambda: path.write_bytes(b"an edit"))
    with pytest.raises(ChangedMeanwhile, match="before it could be taken out") as caught:
        take_out(folder.tree, b"f", known, folder.staging.scratch())
    assert caught.value.stray is None
    assert path.read_bytes() == b"an edit"
    assert folder.staged() == []


def test_an_edit_that_cannot_be_put_back_is_set_aside(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.root / "f"
    path.write_bytes(b"old")
    known = folder.known("f")
    meanwhile(
        monkeypatch, lambda: path.write_bytes(b"an edit"), lambda: path.write_bytes(b"another")
    )
    with pytest.raises(ChangedMeanwhile) as caught:
        take_out(folder.tree, b"f", known, folder.staging.scratch())
    assert path.read_bytes() == b"another"
    assert caught.value.stray is not None
    assert folder.staged() == [b"an edit"]


def test_nothing_is_ever_taken_out_onto_something(folder: Folder) -> None:
    (folder.root / "f").write_bytes(b"old")
    taken = folder.ready(b"in the way")
    with pytest.raises(FileExistsError):
        take_out(folder.tree, b"f", None, taken)
    assert (folder.root / "f").read_bytes() == b"old"
    assert folder.staged() == [b"in the way"]


def test_files_in_a_read_only_directory_are_placed_and_it_stays_read_only(folder: Folder) -> None:
    (folder.root / "d").mkdir()
    (folder.root / "d" / "old").write_bytes(b"old")
    (folder.root / "d" / "gone").write_bytes(b"gone")
    (folder.root / "d").chmod(0o555)

    def work() -> None:
        install(folder.tree, folder.ready(b"new"), b"d/new", None)
        install(folder.tree, folder.ready(b"newer"), b"d/old", folder.known("d/old"))
        out = folder.staging.scratch()
        take_out(folder.tree, b"d/gone", folder.known("d/gone"), out)

    without_privileges(work)
    assert sorted(os.listdir(folder.root / "d")) == ["new", "old"]
    assert (folder.root / "d" / "old").read_bytes() == b"newer"
    assert st.S_IMODE(os.lstat(folder.root / "d").st_mode) == 0o555


def test_a_file_without_permissions_can_be_dressed_anew(folder: Folder) -> None:
    def work() -> None:
        staged = folder.ready(b"x", mode=0)
        dress(staged, Kind.FILE, 0o640, 3)
        assert st.S_IMODE(os.lstat(staged).st_mode) == 0o640
        assert os.lstat(staged).st_mtime_ns == 3
        with pytest.raises(OSError, match="not a directory"):
            dress(staged, Kind.DIRECTORY, 0o755, 0)

    without_privileges(work)


def test_no_edit_is_lost_while_many_are_placed(folder: Folder) -> None:
    """An editor saves a file over and over while we replace it over and over.

    The person's saves are in order, so whatever we swap out after knowing it, and whatever is
    there in the end, must never be older than what was seen before.
    """
    path = folder.root / "f"
    path.write_bytes(b"edit 0")
    done = threading.Event()
    saved = [0]

    def person() -> None:
        while not done.is_set():
            saved[0] += 1
            replace_by_rename(path, b"edit %d" % saved[0])()

    replaced = refused = 0
    typist = threading.Thread(target=person)
    typist.start()
    try:
        while replaced < 20 or refused < 20:
            known = folder.known("f")
            content = path.read_bytes()
            if not known.matches(os.lstat(path)):
                continue
            staged = folder.ready(b"ours")
            try:
                install(folder.tree, staged, b"f", known)
            except ChangedMeanwhile:
                refused += 1
            else:
                replaced += 1
                with open(staged, "rb") as file:
                    assert file.read() == content, "what was replaced is what was known"
    finally:
        done.set()
        typist.join()
    assert path.read_bytes() in (b"edit %d" % saved[0], b"ours")


def test_a_second_volume_is_named_as_the_reason(folder: Folder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(other)], check=False
        ).returncode
        == 0
    )
    staged = os.fsencode((other if mounted else _another_volume()) / f"pickbox-{os.getpid()}")
    try:
        with open(staged, "xb"):
            pass
        with pytest.raises(OSError, match="on different volumes") as caught:
            install(folder.tree, staged, b"f", None)
        assert caught.value.errno == errno.EXDEV
    finally:
        os.unlink(staged)
        if mounted:
            subprocess.run(["umount", str(other)], check=True)


def _another_volume() -> Path:
    from pathlib import Path

    return Path("/dev/shm")


def test_a_file_system_without_exchange_is_named_as_the_reason(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OldFileSystem:
        @staticmethod
        def renameat2(*_: object) -> int:
            ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(placement, "_libc", OldFileSystem)
    with pytest.raises(OSError, match="PICKBOX_DATA_DIR must be on one that can, such as ext4"):
        install(folder.tree, folder.ready(b"x"), b"f", None)
    assert os.listdir(folder.root) == []
