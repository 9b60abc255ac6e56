"""The folder's tree: no access leaves it, and permissions are as they should be."""

from __future__ import annotations

import errno
import os
import socket
import stat as st
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from privileges import without_privileges

from pickbox.changes import Kind
from pickbox.storage.marker import FolderError
from pickbox.storage.tree import FileTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def tree(root: Path) -> Iterator[FileTree]:
    it = FileTree(os.fsencode(root))
    yield it
    it.close()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    place = tmp_path / "outside"
    (place / "inner").mkdir(parents=True)
    (place / "secret").write_bytes(b"secret")
    return place


def test_what_is_there_is_seen_as_it_is(tree: FileTree, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "f").write_bytes(b"12345")
    (root / "link").symlink_to("d")
    for path in (b"d", b"d/f", b"link"):
        assert tree.lstat(path) == os.lstat(os.path.join(os.fsencode(root), path))
    assert tree.read_link(b"link") == b"d"
    assert sorted(tree.names(b"")) == [b"d", b"link"]
    assert tree.names(b"d") == [b"f"]
    with tree.open_file(b"d/f") as file:
        assert file.read() == b"12345"


def test_what_is_not_there_or_not_below_a_directory_is_none(tree: FileTree, root: Path) -> None:
    (root / "f").write_bytes(b"")
    (root / "d").mkdir()
    (root / "link").symlink_to("d")
    (root / "loop").symlink_to("loop")
    for path in (b"no", b"no/no", b"f/x", b"link/x", b"loop/x", b"d/no/x"):
        assert tree.lstat(path) is None
    assert tree.lstat(b"loop") is not None


@pytest.mark.parametrize("link", [b"link", b"d/link", b"d/chain"])
def test_a_link_among_the_parents_is_never_followed(
    tree: FileTree, root: Path, outside: Path, link: bytes
) -> None:
    (root / "d").mkdir()
    (root / "link").symlink_to(outside)
    (root / "d" / "link").symlink_to(outside)
    (root / "d" / "chain").symlink_to("../link")
    for attempt in (
        lambda: tree.open_file(link + b"/secret"),
        lambda: tree.make_directory(link + b"/new", 0o755),
        lambda: tree.remove_directory(link + b"/inner"),
        lambda: tree.set_metadata(link + b"/secret", Kind.FILE, 0, 0),
        lambda: tree.names(link),
        lambda: tree.names(link + b"/inner"),
        lambda: tree.fsync(link + b"/secret"),
        lambda: tree.read_link(link + b"/secret"),
    ):
        with pytest.raises(NotADirectoryError):
            attempt()
    assert tree.lstat(link + b"/secret") is None
    assert sorted(os.listdir(outside)) == ["inner", "secret"]


def test_a_link_is_not_opened_and_its_target_not_touched(
    tree: FileTree, root: Path, outside: Path
) -> None:
    (root / "link").symlink_to(outside / "secret")
    before = os.lstat(outside / "secret")
    with pytest.raises(OSError, match="symbolic link"):
        tree.open_file(b"link")
    tree.set_metadata(b"link", Kind.SYMLINK, 0o777, 1_000_000_001)
    assert os.lstat(root / "link").st_mtime_ns == 1_000_000_001
    assert os.lstat(outside / "secret") == before
    with pytest.raises(OSError, match="no longer a file"):
        tree.set_metadata(b"link", Kind.FILE, 0o600, 0)


@pytest.mark.parametrize(
    "path", [b"..", b".", b"../outside", b"d/../../outside", b"d//f", b"/etc", b"d/", b"a\0b"]
)
def test_a_path_that_is_none_is_refused_here_too(
    tree: FileTree, root: Path, outside: Path, path: bytes
) -> None:
    (root / "d").mkdir()
    with pytest.raises(OSError, match="not a path inside") as caught:
        tree.lstat(path)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="not a path inside"):
        tree.make_directory(path, 0o755)


@given(path=some.lists(some.sampled_from([b"..", b".", b"", b"up", b"d"]), min_size=1))
@settings(max_examples=200)
def test_no_path_leads_to_a_file_outside(
    tmp_path_factory: pytest.TempPathFactory, path: list[bytes]
) -> None:
    place = tmp_path_factory.mktemp("place")
    root = place / "files"
    (root / "d").mkdir(parents=True)
    (root / "up").symlink_to("..")
    (root / "d" / "up").symlink_to(place)
    (place / "secret").write_bytes(b"")
    tree = FileTree(os.fsencode(root))
    with pytest.raises(OSError) as caught:  # noqa: PT011 - which error depends on the path
        tree.open_file(b"/".join([*path, b"secret"]))
    assert caught.value.errno in (errno.EINVAL, errno.ENOTDIR, errno.ENOENT)
    tree.close()


def test_only_regular_files_are_opened_and_nothing_blocks(tree: FileTree, root: Path) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(root, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    (root / "d").mkdir()
    for path in (b"pipe", b"socket"):
        with pytest.raises(OSError, match="not a regular file"):
            tree.open_file(path)
    with pytest.raises(IsADirectoryError):
        tree.open_file(b"d")
    with pytest.raises(FileNotFoundError):
        tree.open_file(b"d/missing")


def test_every_name_that_the_disk_takes_works(tree: FileTree) -> None:
    names = [b"bad\xff", b"new\nline", b"-rf", b" ", b"trailing. ", b"n" * 255, "é".encode()]
    for name in names:
        tree.make_directory(name, 0o755)
        tree.make_directory(name + b"/" + name, 0o755)
        assert tree.names(name) == [name]
    assert sorted(tree.names(b"")) == sorted(names)


def test_a_path_of_4096_bytes_can_be_made_and_removed(tree: FileTree) -> None:
    names = [b"n" * 240] * 17
    for depth in range(1, len(names) + 1):
        tree.make_directory(b"/".join(names[:depth]), 0o755)
    path = b"/".join(names)
    assert len(path) == 4096
    assert tree.lstat(path) is not None
    for depth in range(len(names), 0, -1):
        tree.remove_directory(b"/".join(names[:depth]))
    assert tree.names(b"") == []


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o555, 0o700, 0o000])
def test_permissions_are_exactly_those_asked_for(tree: FileTree, root: Path, mode: int) -> None:
    (root / "f").write_bytes(b"")
    old = os.umask(0o077)
    try:
        tree.make_directory(b"d", mode)
    finally:
        os.umask(old)
    tree.set_metadata(b"f", Kind.FILE, mode, 1_234_567_890_123_456_789)
    assert st.S_IMODE(os.lstat(root / "d").st_mode) == mode
    found = os.lstat(root / "f")
    assert (st.S_IMODE(found.st_mode), found.st_mtime_ns) == (mode, 1_234_567_890_123_456_789)
    with pytest.raises(FileExistsError):
        tree.make_directory(b"d", mode)


def test_metadata_of_another_kind_is_refused(tree: FileTree, root: Path) -> None:
    (root / "d").mkdir(mode=0o755)
    with pytest.raises(OSError, match="no longer a file") as caught:
        tree.set_metadata(b"d", Kind.FILE, 0o600, 0)
    assert caught.value.errno == errno.ESTALE
    assert st.S_IMODE(os.lstat(root / "d").st_mode) == 0o755


def test_a_directory_with_something_in_it_is_not_removed(tree: FileTree, root: Path) -> None:
    (root / "d" / "e").mkdir(parents=True)
    with pytest.raises(OSError, match="not empty"):
        tree.remove_directory(b"d")
    tree.remove_directory(b"d/e")
    tree.remove_directory(b"d")
    assert not (root / "d").exists()


def test_files_and_directories_can_be_synced(tree: FileTree, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "f").write_bytes(b"x")
    for path in (b"", b"d", b"d/f"):
        tree.fsync(path)
    with pytest.raises(FileNotFoundError):
        tree.fsync(b"missing")


def test_a_read_only_directory_of_ones_own_is_changed_and_stays_read_only(
    tree: FileTree, root: Path
) -> None:
    (root / "d" / "old").mkdir(parents=True)
    (root / "d").chmod(0o555)

    def work() -> None:
        with pytest.raises(PermissionError):
            (root / "d" / "proof").mkdir()
        tree.make_directory(b"d/new", 0o555)
        tree.make_directory(b"d/new/inner", 0o755)
        tree.remove_directory(b"d/old")
        with pytest.raises(FileNotFoundError):
            tree.remove_directory(b"d/old")

    without_privileges(work)
    assert os.listdir(root / "d") == ["new"]
    assert st.S_IMODE(os.lstat(root / "d").st_mode) == 0o555
    assert st.S_IMODE(os.lstat(root / "d" / "new").st_mode) == 0o555


def test_nobody_is_shown_the_permissions_that_we_only_borrow(tree: FileTree, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d").chmod(0o555)
    seen: set[int] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            found = tree.lstat(b"d")
            assert found is not None
            seen.add(st.S_IMODE(found.st_mode))

    looker = threading.Thread(target=look)
    looker.start()

    def work() -> None:
        for number in range(300):
            tree.make_directory(b"d/%d" % number, 0o755)

    without_privileges(work)
    done.set()
    looker.join()
    assert seen == {0o555}
    assert len(os.listdir(root / "d")) == 300


def test_many_threads_walk_at_once_and_leave_no_descriptor_open(tree: FileTree, root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "f").write_bytes(b"x")
    tree.lstat(b"a")
    before = len(os.listdir("/proc/self/fd"))
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(100):
                path = b"a/b/%d-%d" % (number, turn)
                tree.make_directory(path, 0o755)
                assert tree.lstat(path) is not None
                assert tree.lstat(path + b"/no/no") is None
                with tree.open_file(b"a/b/f") as file:
                    assert file.read() == b"x"
                tree.remove_directory(path)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_look_at_a_shallow_path_takes_microseconds(tree: FileTree, root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    started = time.perf_counter()
    for _ in range(1000):
        tree.lstat(b"a/b")
    each = (time.perf_counter() - started) / 1000
    assert each < 500e-6, f"{each * 1e6:.0f} µs, where about 10 are usual"


def test_a_prepared_folder_is_made_marked_and_intact(tmp_path: Path) -> None:
    tree = FileTree(os.fsencode(tmp_path / "new" / "files"))
    assert tree.prepare("node1")
    assert tree.intact() == ""
    assert tree.names(b"") == []
    assert (tmp_path / "new" / "files" / ".pickbox" / "id").read_text() == "node1\n"
    tree.close()
    again = FileTree(os.fsencode(tmp_path / "new" / "files"))
    assert not again.prepare("node1", expect_marker=True)
    again.close()


def test_two_nodes_cannot_share_a_folder(root: Path) -> None:
    first, second = (FileTree(os.fsencode(root)) for _ in range(2))
    first.prepare("node1")
    with pytest.raises(FolderError, match="in use by another running node"):
        second.prepare("node1")
    first.close()
    with pytest.raises(FolderError, match="belongs to node1, not to node2"):
        second.prepare("node2")
    second.close()


def test_a_folder_that_lost_its_marker_is_not_intact(tree: FileTree, root: Path) -> None:
    tree.prepare("node1")
    (root / ".pickbox" / "id").unlink()
    assert "lacks its marker .pickbox/id: its volume may not be mounted." in tree.intact()
    (root / ".pickbox" / "id").write_text("node7\n")
    assert "has the marker of node7" in tree.intact()


def test_a_folder_that_should_have_a_marker_is_refused_without(tree: FileTree, root: Path) -> None:
    with pytest.raises(FolderError, match="Mount it, or restore the marker"):
        tree.prepare("node1", expect_marker=True)
    assert os.listdir(root) == []


def test_a_replaced_or_missing_root_is_noticed(tree: FileTree, root: Path) -> None:
    tree.prepare("node1")
    root.rename(root.parent / "elsewhere")
    assert "cannot be reached: No such file or directory" in tree.intact()
    root.mkdir()
    assert "was replaced by another directory" in tree.intact()
    root.rmdir()
    (root.parent / "elsewhere").rename(root)
    assert tree.intact() == ""
