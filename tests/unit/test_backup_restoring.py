"""A restored point becomes ordinary changes: all of it or a path, each content proved before."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from blake3 import blake3

from pickbox.backup import Restorer
from pickbox.backup.manifest import Manifest, PointDamaged, write_entries, write_manifest
from pickbox.changes import ANY_VERSION, Entry, Kind, OnStale, Outcome, Put, Receipt, Status
from pickbox.errors import InvalidPath, NotFound, NotReady, OutcomeUnknown, PathTaken
from pickbox.replication.conflicts import conflict_name
from pickbox.storage.catalog import Catalog
from pickbox.storage.disk import DiskGuard
from pickbox.storage.paths import check_path
from pickbox.storage.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MTIME = 1_600_000_000_123_456_789
INLINE = 100


class Log:
    """Proposer: has every change applied, but those of `refused`; some answers may be lost."""

    def __init__(self) -> None:
        self.puts: list[Put] = []
        self.request_ids: list[str] = []
        self.refused: set[bytes] = set()
        self.unchanged: set[bytes] = set()
        self.answers_lost = 0
        self._lock = threading.Lock()

    def stage_all(self, puts: Sequence[Put], *, timeout: float) -> list[Put]:
        return [replace(put, holders=("node1",)) for put in puts]

    def propose(self, puts: Sequence[Put], *, request_id: str, timeout: float) -> Receipt:
        with self._lock:
            self.request_ids.append(request_id)
            if self.answers_lost:
                self.answers_lost -= 1
                raise OutcomeUnknown("the answer was lost")
            self.puts += puts
            outcomes = tuple(
                Outcome(Status.REFUSED, 3, put.path, "directory-not-empty: no")
                if put.path in self.refused
                else Outcome(
                    Status.UNCHANGED if put.path in self.unchanged else Status.APPLIED, 1, put.path
                )
                for put in puts
            )
        return Receipt(request_id, 1, outcomes)


class World:
    """A point with all kinds of entries, and what takes it in."""

    def __init__(self, directory: Path) -> None:
        self.log = Log()
        self.stopping = threading.Event()
        self.placed: set[bytes] = set()
        self.point = directory / "point"
        self.staging = Staging(os.fsencode(directory / "staging"))
        self.catalog = Catalog(str(directory / "catalog.db"))
        self.contents = {b"docs/a": b"small", b"docs/large": os.urandom(300), b"docsx": b""}
        (self.point / "files/docs").mkdir(parents=True)
        entries = [Entry(b"docs", Kind.DIRECTORY, 0, 0o700, 0, b"", b"", 1, "n")]
        for path, content in self.contents.items():
            (self.point / "files" / os.fsdecode(path)).write_bytes(content)
            digest = blake3(content).digest()
            entries.append(
                Entry(path, Kind.FILE, len(content), 0o640, MTIME, digest, b"", 2, "node9")
            )
        target = blake3(b"to").digest()
        entries.append(Entry(b"link", Kind.SYMLINK, 2, 0o777, MTIME, target, b"to", 3, "node9"))
        self.write_list(entries)
        self._restorer = Restorer(
            self.catalog,
            self.log,  # type: ignore[arg-type]
            self.staging,
            DiskGuard(os.fsencode(directory), 0),
            self.placed.__contains__,
            lambda timeout: None,
            INLINE,
            self.stopping,
        )

    def write_list(self, entries: Sequence[Entry]) -> None:
        """Have the point list `entries`."""
        self.entries = entries
        point = os.fsencode(self.point)
        for name in ("entries.jsonl", "manifest.json"):
            (self.point / name).unlink(missing_ok=True)
        listed = write_entries(point, entries)
        write_manifest(point, Manifest(1, "old", "n", "0.1.0", "then", 41, 7, 3, 1, 1, 305, listed))

    def restore(self, folder: bytes = b"", *, over: bool = False) -> dict[str, Any]:
        return self._restorer.restore(
            os.fsencode(self.point), folder, over=over, done=lambda count: None
        )

    def commit(self, path: bytes) -> None:
        with self.catalog.transaction(1) as txn:
            txn.put(Entry(path, Kind.DIRECTORY, 0, 0o755, 0, b"", b"", 1, "node1"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_everything_comes_back_directories_first_and_content_durable(world: World) -> None:
    done = world.restore()
    assert (done["applied"], done["refused"], done["index"]) == (5, 0, 41)
    assert done["bytes"] == 305 + 2
    assert world.log.puts[0].path == b"docs"
    by_path = {put.path: put for put in world.log.puts}
    assert by_path.keys() == {*world.contents, b"docs", b"link"}
    for put in by_path.values():
        assert (put.base, put.on_stale) == (ANY_VERSION, OnStale.REFUSE)
    assert by_path[b"docs/a"].inline == b"small"
    assert by_path[b"docsx"].inline == b""
    assert (by_path[b"link"].target, by_path[b"link"].mtime_ns) == (b"to", MTIME)
    large = by_path[b"docs/large"]
    assert (large.inline, large.mode, large.mtime_ns) == (None, 0o640, MTIME)
    staged = world.staging.open(large.digest)
    assert staged is not None
    with staged:
        assert staged.read() == world.contents[b"docs/large"]


@pytest.mark.parametrize(
    ("unchanged", "placed", "stays"),
    [(True, True, False), (True, False, True), (False, True, True)],
)
def test_content_that_was_there_already_is_not_kept_twice(
    world: World, *, unchanged: bool, placed: bool, stays: bool
) -> None:
    """It stays while it is to be placed: on this node, or at a path that is new."""
    content = world.contents[b"docs/large"]
    digest = blake3(content).digest()
    world.log.unchanged = {b"docs/large"} if unchanged else set()
    world.placed |= {digest} if placed else set()
    world.restore()
    assert world.staging.has(digest, len(content)) is stays


def test_a_folder_comes_back_and_nothing_whose_name_only_begins_like_it(world: World) -> None:
    world.commit(b"something")
    assert world.restore(b"docs")["applied"] == 3
    assert {put.path for put in world.log.puts} == {b"docs", b"docs/a", b"docs/large"}


def test_a_path_that_the_backup_does_not_have_is_said(world: World) -> None:
    with pytest.raises(NotFound, match="has nothing at 'doc'"):
        world.restore(b"doc")


def test_everything_comes_back_over_what_is_there_only_if_told(world: World) -> None:
    world.commit(b"precious")
    with pytest.raises(PathTaken, match="The cluster is not empty: it has 'precious'"):
        world.restore()
    assert world.log.puts == []
    assert world.restore(over=True)["applied"] == 5


@pytest.mark.parametrize("path", ["docs/a", "docs/large"])
def test_content_that_is_not_as_listed_is_never_proposed(world: World, path: str) -> None:
    file = world.point / "files" / path
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(PointDamaged, match=f"The content of '{path}' is not what"):
        world.restore()
    assert os.fsencode(path) not in {put.path for put in world.log.puts}
    file.unlink()
    with pytest.raises(PointDamaged, match=f"The content of '{path}' is missing"):
        world.restore()


def test_a_link_in_place_of_a_file_is_not_followed(world: World) -> None:
    (world.point / "files/docs/a").unlink()
    (world.point / "files/docs/a").symlink_to("/etc/hostname")
    with pytest.raises(PointDamaged, match="The content of 'docs/a' is missing"):
        world.restore()


def test_what_is_refused_is_named_and_the_rest_restored(world: World) -> None:
    world.log.refused = {b"docs/a"}
    done = world.restore()
    assert (done["applied"], done["refused"]) == (4, 1)
    assert done["refusals"] == [{"path": "docs/a", "reason": "directory-not-empty: no"}]


def test_a_conflict_copy_whose_path_is_too_long_keeps_nothing_else_from_being_restored(
    world: World,
) -> None:
    path = b"/".join([b"d" * 250] * 16) + b"/" + b"n" * 60
    check_path(path)
    copy = conflict_name(path, 1_764_421_200_000, "node1")
    digest = blake3(b"lost").digest()
    (world.point / "by-digest").mkdir()
    (world.point / "by-digest" / digest.hex()).write_bytes(b"lost")
    lost = Entry(copy, Kind.FILE, 4, 0o640, MTIME, digest, b"", 9, "node1")
    world.write_list([*world.entries, lost])
    world.log.refused = {copy}  # as `rules` does
    with pytest.raises(InvalidPath, match="4096"):
        check_path(copy)
    done = world.restore()
    assert (done["applied"], done["refused"]) == (5, 1)
    assert done["refusals"][0]["path"] == os.fsdecode(copy)


def test_a_change_whose_answer_was_lost_is_sent_again_under_its_id(world: World) -> None:
    world.log.answers_lost = 1
    assert world.restore()["applied"] == 5
    first, second, *_ = world.log.request_ids
    assert first == second


def test_a_node_that_stops_gives_up(world: World) -> None:
    world.stopping.set()
    with pytest.raises(NotReady):
        world.restore()
