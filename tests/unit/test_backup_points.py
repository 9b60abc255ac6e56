"""A point has the folder as it was at one index: every content by its digest, or there is none."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from typing import TYPE_CHECKING, BinaryIO

import pytest
from blake3 import blake3

from pickbox.backup import Origin, PointMaker, clone
from pickbox.backup.manifest import (
    LONGEST_IN_TREE,
    PointDamaged,
    place_of,
    read_entries,
    read_manifest,
)
from pickbox.backup.point import remove_tree
from pickbox.changes import Entry, Kind
from pickbox.errors import ContentPending, DiskFailed, DiskFull, NotReady
from pickbox.storage.catalog import Catalog
from pickbox.storage.digest import READ_BYTES
from pickbox.storage.disk import DiskGuard
from pickbox.storage.tree import FileTree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MTIME = 1_600_000_000_123_456_789


class Contents:
    """ContentSource and ContentFetcher: what is here, and what peers have."""

    def __init__(self) -> None:
        self.here: dict[bytes, bytes] = {}
        self.peers: dict[bytes, bytes] = {}
        self.before_open: Callable[[bytes], None] = lambda digest: None

    def open(self, digest: bytes, size: int) -> BinaryIO | None:
        self.before_open(digest)
        found = self.here.get(digest)
        return None if found is None else io.BytesIO(found)

    def fetch(self, digest: bytes, size: int, sources: Sequence[str]) -> bool:
        if digest in self.peers:
            self.here[digest] = self.peers[digest]
        return digest in self.peers


class World:
    """A catalog, contents, and a maker of points."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.catalog = Catalog(str(directory / "catalog.db"))
        self.contents = Contents()
        self.stopping = threading.Event()
        self.disk = DiskGuard(os.fsencode(directory), 0)
        self._index = 0

    def commit(self, *entries: Entry, gone: Sequence[bytes] = ()) -> None:
        self._index += 1
        with self.catalog.transaction(self._index) as txn:
            for path in gone:
                txn.remove(path)
            for entry in entries:
                txn.next_version()
                txn.put(entry)

    def file(self, path: bytes, content: bytes, mode: int = 0o640, *, here: bool = True) -> Entry:
        digest = blake3(content).digest()
        if here:
            self.contents.here[digest] = content
        return Entry(path, Kind.FILE, len(content), mode, MTIME, digest, b"", 1, "node1")

    def make(self, wait: float = 5.0, name: str = "point") -> Path:
        point = self.directory / name
        point.mkdir()
        maker = PointMaker(
            Origin("test", "node1"),
            self.catalog,
            self.contents,
            self.contents,
            self.disk,
            lambda entry: (),
            self.stopping,
        )
        maker.make(os.fsencode(point), wait, lambda done: None)
        return point


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def folder(path: bytes, mode: int = 0o750) -> Entry:
    return Entry(path, Kind.DIRECTORY, 0, mode, 0, b"", b"", 1, "node1")


def link(path: bytes, target: bytes) -> Entry:
    digest = blake3(target).digest()
    return Entry(path, Kind.SYMLINK, len(target), 0o777, MTIME, digest, target, 1, "node2")


def test_a_point_has_files_folders_and_links_as_the_catalog_says(world: World) -> None:
    odd = b"d\xff\n"
    world.commit(
        folder(odd, 0o555),
        folder(b"empty"),
        world.file(odd + b"/a", b"content"),
        world.file(b"nothing", b""),
        world.file(b"hidden", b"secret", 0o000),
        link(b"to", b"/outside/\xfe"),
    )
    point = os.fsencode(world.make())
    files = point + b"/files/"
    with open(files + odd + b"/a", "rb") as file:
        assert file.read() == b"content"
    found = os.lstat(files + odd + b"/a")
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o640, MTIME)
    assert os.readlink(files + b"to") == b"/outside/\xfe"
    assert os.lstat(files + b"to").st_mtime_ns == MTIME
    assert os.listdir(files + b"empty") == []
    # Who makes the backup can read all of it; the exact modes are in the list.
    assert stat.S_IMODE(os.lstat(files + odd).st_mode) == 0o755
    assert stat.S_IMODE(os.lstat(files + b"hidden").st_mode) == 0o400
    assert list(read_entries(point)) == list(world.catalog.under(b""))

    manifest = read_manifest(point)
    assert (manifest.index, manifest.cluster, manifest.node) == (1, "test", "node1")
    assert (manifest.files, manifest.directories, manifest.symlinks) == (3, 2, 1)
    assert manifest.bytes == len(b"contentsecret")
    assert sorted(os.listdir(point)) == [
        b"by-digest",
        b"entries.jsonl",
        b"files",
        b"manifest.json",
    ]


def test_content_that_was_changed_in_place_is_taken_from_a_peer(world: World) -> None:
    entry = world.file(b"a", b"as committed")
    world.commit(entry)
    world.contents.here[entry.digest] = b"as somebody is writing it"
    world.contents.peers[entry.digest] = b"as committed"
    assert (world.make() / "files/a").read_bytes() == b"as committed"


def test_content_that_nobody_has_any_more_is_replaced_by_what_was_committed_since(
    world: World,
) -> None:
    """As on a single node, whose people overwrite a file that no other node has."""
    lost = world.file(b"d/a", b"first", here=False)
    world.commit(folder(b"d"), folder(b"e"), lost, world.file(b"e/b", b"kept"), link(b"l", b"x"))

    def commit_meanwhile(digest: bytes) -> None:
        if digest == lost.digest and world.catalog.applied_index == 1:
            world.commit(
                world.file(b"d/a", b"second"),
                folder(b"l"),
                world.file(b"l/c", b"third"),
                world.file(b"e", b"a file now"),
                gone=[b"e/b"],
            )

    world.contents.before_open = commit_meanwhile
    point = world.make()
    assert read_manifest(os.fsencode(point)).index == 2
    assert (point / "files/d/a").read_bytes() == b"second"
    assert (point / "files/l/c").read_bytes() == b"third"
    assert (point / "files/e").read_bytes() == b"a file now"
    assert {entry.path for entry in read_entries(os.fsencode(point))} == {
        *(b"d", b"d/a", b"e", b"l", b"l/c")
    }


def test_content_that_does_not_come_in_time_is_named_and_there_is_no_point(world: World) -> None:
    world.commit(world.file(b"a", b"on its way", here=False), world.file(b"b", b"here"))
    with pytest.raises(ContentPending, match=r"The content of 1 files .* 'a'"):
        world.make(wait=0)
    with pytest.raises(PointDamaged):
        read_manifest(os.fsencode(world.directory / "point"))


def test_content_that_comes_in_time_is_waited_for(world: World) -> None:
    late = world.file(b"a", b"late", here=False)
    world.commit(late)
    asked: list[bytes] = []

    def come_late(digest: bytes) -> None:
        asked.append(digest)
        if len(asked) == 3:
            world.contents.here[digest] = b"late"

    world.contents.before_open = come_late
    assert (world.make() / "files/a").read_bytes() == b"late"


def test_a_path_that_a_backup_program_could_not_open_has_its_content_beside(world: World) -> None:
    deep = b"/".join([b"x" * 250] * 13)
    assert LONGEST_IN_TREE < len(deep) < 4096
    entry = world.file(deep, b"deep")
    parents = [folder(deep[: 251 * count - 1]) for count in range(1, 13)]
    world.commit(*parents, entry, world.file(deep[:-1] + b"y", b"deep"))
    point = os.fsencode(world.make())
    assert place_of(entry) == b"by-digest/" + entry.digest.hex().encode()
    with open(os.path.join(point, place_of(entry)), "rb") as file:
        assert file.read() == b"deep"
    assert [found.path for found in read_entries(point)][-2] == deep
    remove_tree(point)
    assert not os.path.exists(point)


def test_what_does_not_fit_is_refused_before_anything_is_copied(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pickbox.backup.point.shares_blocks", lambda directory: False)
    huge = world.file(b"a", b"x")
    world.commit(Entry(b"a", Kind.FILE, 1 << 60, 0o644, MTIME, huge.digest, b"", 1, "node1"))
    with pytest.raises(DiskFull, match="1152921504606846976 more are wanted"):
        world.make()


def test_a_copy_ends_where_the_reserve_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written beside a backup takes of the same room."""
    asked: list[int] = []

    def check(extra: int) -> None:
        asked.append(extra)
        if len(asked) > 3:
            raise DiskFull("no room")

    monkeypatch.setattr("pickbox.backup.point.shares_blocks", lambda directory: False)
    monkeypatch.setattr("fcntl.ioctl", refuse_to_share)
    monkeypatch.setattr(world.disk, "check", check)
    world.commit(world.file(b"a", bytes(3 * READ_BYTES)))
    with pytest.raises(DiskFull):
        world.make()
    assert asked == [3 * READ_BYTES, *[READ_BYTES] * 3]
    assert os.listdir(world.directory / "point/files") == []


def refuse_to_share(descriptor: int, request: int, source: int) -> int:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EIO, DiskFailed)])
def test_what_the_disk_refuses_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def refuse(source: object, target: object, check_room: object) -> bool:
        raise OSError(number, os.strerror(number))

    world.commit(world.file(b"a", b"x"))
    monkeypatch.setattr("pickbox.backup.point.shares_blocks", lambda directory: True)
    monkeypatch.setattr("pickbox.backup.clone._copy", refuse)
    with pytest.raises(error):
        world.make()


def test_a_node_that_stops_gives_up(world: World) -> None:
    world.commit(world.file(b"a", b"x"))
    world.stopping.set()
    with pytest.raises(NotReady):
        world.make()


def test_shared_blocks_are_believed_only_after_their_content_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the file system shares may be an edit that came a moment before."""

    def share(descriptor: int, request: int, source: int) -> int:
        assert request == clone.FICLONE
        os.pwrite(descriptor, os.pread(source, 100, 0), 0)
        return 0

    monkeypatch.setattr("fcntl.ioctl", share)
    (tmp_path / "source").write_bytes(b"as it is now")
    tree, room = FileTree(os.fsencode(tmp_path)), DiskGuard(os.fsencode(tmp_path), 0)
    for content, taken in ((b"as it is now", True), (b"as it was", False)):
        with open(tmp_path / "source", "rb") as source, tree.locate(b"target") as location:
            digest = blake3(content).digest()
            assert clone.take(source, location, digest, len(content), room.check) is taken
        assert (tmp_path / "target").exists() is taken
        (tmp_path / "target").unlink(missing_ok=True)
    assert clone.shares_blocks(os.fsencode(tmp_path))
    assert os.listdir(tmp_path) == ["source"]


def test_a_point_that_is_not_what_it_says_is_refused(world: World) -> None:
    world.commit(world.file(b"a", b"x"))
    point = world.make()
    entries = point / "entries.jsonl"
    entries.write_text(entries.read_text().replace('"a"', '"b"'))
    with pytest.raises(PointDamaged, match=r"entries\.jsonl is not the one"):
        read_manifest(os.fsencode(point))
    manifest = point / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(PointDamaged, match="restore it with release"):
        read_manifest(os.fsencode(point))


@pytest.mark.parametrize(
    "line",
    [b"{", b"{}", b'{"path":"../x","kind":"file"}', b"[]"],
)
def test_a_line_that_cannot_be_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "entries.jsonl").write_bytes(line + b"\n")
    with pytest.raises(PointDamaged, match=r"Line 1 of entries\.jsonl"):
        list(read_entries(os.fsencode(tmp_path)))
