"""What people do in the folder, and what the watcher proposes for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from watcher_node import Node, wait_until

from pickbox.changes import ABSENT, Delete, Kind, OnStale, Put, Submission
from pickbox.codec import decode_command, encode_command
from pickbox.storage.digest import digest_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    with node.running():
        yield node


def another_file_goes_through(node: Node) -> None:
    """Wait for a full turn of the watcher, so that what it did not propose by then, it did not."""
    before = node.cluster.get(b"other")
    (node.files / "other").write_bytes(os.urandom(8))
    wait_until(lambda: node.cluster.get(b"other") != before)


def test_a_new_file_is_one_put_with_its_content(node: Node) -> None:
    (node.files / "a").write_bytes(b"hello")
    node.wait_for_peace()
    stat = (node.files / "a").stat()
    assert node.cluster.changes() == [
        Put(
            b"a",
            Kind.FILE,
            5,
            stat.st_mode & 0o777,
            stat.st_mtime_ns,
            digest_bytes(b"hello"),
            inline=b"hello",
            base=ABSENT,
            on_stale=OnStale.KEEP_BOTH,
        )
    ]


def test_an_edit_is_made_on_the_version_it_was_made_on(node: Node) -> None:
    (node.files / "a").write_bytes(b"1")
    node.wait_for_peace()
    (node.files / "a").write_bytes(b"2")
    node.wait_for_peace()
    assert [change.base for change in node.cluster.changes(b"a")] == [0, 1]


def test_an_empty_file_is_a_file(node: Node) -> None:
    (node.files / "empty").touch()
    node.wait_for_peace()
    [change] = node.cluster.changes()
    assert isinstance(change, Put)
    assert (change.size, change.inline, change.digest) == (0, b"", digest_bytes(b""))


def test_a_new_mode_is_a_change_and_a_new_time_is_one(node: Node) -> None:
    file = node.files / "a"
    file.write_bytes(b"1")
    node.wait_for_peace()
    file.chmod(0o700)
    wait_until(lambda: node.cluster.get(b"a").mode == 0o700)  # type: ignore[union-attr]
    os.utime(file, ns=(5, 5))
    wait_until(lambda: node.cluster.get(b"a").mtime_ns == 5)  # type: ignore[union-attr]
    node.wait_for_peace()
    assert len(node.cluster.changes(b"a")) == 3


def test_a_time_beyond_64_bits_is_replicated_as_the_last_that_fits(tmp_path: Path) -> None:
    """The log carries 64 bits; a command that no node can read stopped all changes of its node."""
    node = Node(tmp_path)
    far = 10_500_000_000 * 10**9  # in the year 2302
    node.files.mkdir(parents=True, exist_ok=True)
    (node.files / "far").write_bytes(b"x")
    os.utime(node.files / "far", ns=(far, far))
    if (node.files / "far").stat().st_mtime_ns != far:
        far = (node.files / "far").stat().st_mtime_ns  # the last that this file system can hold
    with node.running():
        node.wait_for_peace()
        put = node.cluster.changes(b"far")[0]
        assert isinstance(put, Put)
        assert put.mtime_ns == min(far, 2**63 - 1)
        assert decode_command(encode_command([Submission("id", "node1", 0, (put,))]))
        node.scan()
        assert len(node.cluster.changes(b"far")) == 1


def test_a_changed_ctime_alone_is_no_change(node: Node) -> None:
    file = node.files / "a"
    file.write_bytes(b"1")
    node.wait_for_peace()
    os.link(file, node.data / "elsewhere")
    node.watcher.mark(b"a")
    row = lambda: node.state.get(b"a")  # noqa: E731
    wait_until(lambda: row() is not None and row().matches(file.stat()))  # type: ignore[union-attr]
    assert len(node.cluster.changes(b"a")) == 1
    assert row().version == 1  # type: ignore[union-attr]


def test_a_deleted_file_is_one_delete_on_its_version(node: Node) -> None:
    (node.files / "a").write_bytes(b"1")
    node.wait_for_peace()
    (node.files / "a").unlink()
    node.wait_for_peace()
    assert node.cluster.changes(b"a")[1:] == [Delete(b"a", base=1)]
    assert node.state.get(b"a") is None


def test_a_symlink_is_its_target_and_is_never_followed(node: Node) -> None:
    (node.data / "outside").write_bytes(b"secret")
    (node.files / "link").symlink_to("../outside")
    (node.files / "loop").symlink_to(".")
    node.wait_for_peace()
    links = {change.path: change for change in node.cluster.changes()}
    assert sorted(links) == [b"link", b"loop"]
    link = links[b"link"]
    assert isinstance(link, Put)
    assert (link.kind, link.target, link.inline) == (Kind.SYMLINK, b"../outside", None)
    assert link.digest == digest_bytes(b"../outside")


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xc3\xa9",
        b"bad\xff\xfe",
        b"new\nline",
        b"tab\there",
        b"'q\"",
        b"-rf",
        b"dot.",
        b"x" * 255,
    ],
)
def test_any_name_the_disk_takes_is_replicated_byte_by_byte(node: Node, name: bytes) -> None:
    with open(os.fsencode(node.files) + b"/" + name, "wb") as file:
        file.write(name)
    wait_until(lambda: node.cluster.paths() == [name])


def test_a_name_that_breaks_a_rule_is_listed_and_does_not_keep_the_rest(node: Node) -> None:
    (node.files / "..%2fx").write_bytes(b"1")
    (node.files / "fine").write_bytes(b"2")
    wait_until(lambda: node.cluster.paths() == [b"fine"] and node.watcher.errors())
    [(path, reason)] = node.watcher.errors()
    assert path == b"..%2fx"
    assert reason.startswith("parent-reference: ")
    (node.files / "..%2fx").unlink()
    wait_until(lambda: not node.watcher.errors())


def test_a_pipe_is_skipped_and_counted(node: Node) -> None:
    os.mkfifo(node.files / "pipe")
    wait_until(lambda: node.counts.skips > 0 and node.watcher.idle())
    assert node.cluster.paths() == []


@pytest.mark.parametrize("first", ["file", "directory", "link"])
@pytest.mark.parametrize("second", ["file", "directory", "link"])
def test_a_path_may_become_another_kind_of_thing(node: Node, first: str, second: str) -> None:
    make = {
        "file": lambda path: path.write_bytes(b"content"),
        "directory": lambda path: (path.mkdir(), (path / "inner").write_bytes(b"inner")),
        "link": lambda path: path.symlink_to("target"),
    }
    make[first](node.files / "x")
    node.wait_for_peace()
    if first == "directory":
        shutil.rmtree(node.files / "x")
    else:
        (node.files / "x").unlink()
    make[second](node.files / "x")
    node.wait_for_peace()
    assert not node.counts.conflicts


def test_a_directory_that_moves_in_comes_with_all_that_is_in_it(node: Node) -> None:
    outside = node.data / "outside"
    (outside / "deep" / "deeper").mkdir(parents=True)
    (outside / "deep" / "deeper" / "file").write_bytes(b"1")
    (outside / "empty").mkdir()
    outside.rename(node.files / "inside")
    node.wait_for_peace()
    assert len(node.cluster.paths()) == 5
    assert len(node.cluster.changes()) == 5


def test_parents_come_before_what_is_in_them(node: Node) -> None:
    deep = node.files / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"1")
    node.wait_for_peace()
    proposed = [change.path for change in node.cluster.changes()]
    assert proposed == sorted(proposed)


def test_a_renamed_file_is_a_put_and_a_delete_in_one_submission(node: Node) -> None:
    (node.files / "a").write_bytes(b"1")
    node.wait_for_peace()
    (node.files / "a").rename(node.files / "b")
    node.wait_for_peace()
    put, delete = node.cluster.submissions[-1]
    assert isinstance(put, Put)
    assert (put.path, put.base) == (b"b", ABSENT)
    assert delete == Delete(b"a", base=1)


def test_a_renamed_large_file_is_not_read_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node.files / "big").write_bytes(b"x" * 200_000)
    node.wait_for_peace()
    monkeypatch.setattr("pickbox.watcher.large.read_digest", None)
    (node.files / "big").rename(node.files / "large")
    node.wait_for_peace()
    put, delete = node.cluster.submissions[-1]
    assert (put.path, delete.path) == (b"large", b"big")


def test_a_renamed_directory_keeps_each_file_in_one_submission(node: Node) -> None:
    before = node.files / "before" / "inner"
    before.mkdir(parents=True)
    for number in range(20):
        (before / f"small{number}").write_bytes(b"%d" % number)
    (before / "big").write_bytes(b"x" * 200_000)
    node.wait_for_peace()
    done = len(node.cluster.submissions)
    (node.files / "before").rename(node.files / "after")
    node.wait_for_peace()
    for submission in node.cluster.submissions[done:]:
        puts = {c.path for c in submission if isinstance(c, Put) and c.kind is Kind.FILE}
        deletes = {c.path for c in submission if isinstance(c, Delete)}
        assert {path.replace(b"after", b"before") for path in puts} <= deletes


def test_editors_that_rename_make_one_change(node: Node) -> None:
    file = node.files / "text"
    file.write_bytes(b"one\n")
    node.wait_for_peace()
    subprocess.run(["sed", "-i", "s/one/two/", str(file)], check=True)
    node.wait_for_peace()
    assert node.cluster.get(b"text").digest == digest_bytes(b"two\n")  # type: ignore[union-attr]
    assert [change.path for change in node.cluster.changes()] == [b"text", b"text"]


def test_an_editor_that_keeps_a_backup_makes_one_change(node: Node) -> None:
    """As vim does: swap file, probe 4913, rename to x~, write anew, delete the backup."""
    file, backup = node.files / "x", node.files / "x~"
    file.write_bytes(b"one")
    node.wait_for_peace()
    (node.files / ".x.swp").write_bytes(b"swap")
    (node.files / "4913").touch()
    (node.files / "4913").unlink()
    file.rename(backup)
    file.write_bytes(b"two")
    backup.unlink()
    (node.files / ".x.swp").unlink()
    node.wait_for_peace()
    assert node.cluster.get(b"x").digest == digest_bytes(b"two")  # type: ignore[union-attr]
    assert [(change.path, change.base) for change in node.cluster.changes()] == [
        (b"x", 0),
        (b"x", 1),
    ]


def test_a_file_that_is_being_written_waits_for_its_writer(node: Node) -> None:
    file = node.files / "slow"
    with file.open("wb") as writer:
        for _ in range(5):
            writer.write(b"part ")
            writer.flush()
            node.watcher.mark(b"slow")
            another_file_goes_through(node)
        assert node.cluster.changes(b"slow") == []
    node.wait_for_peace()
    [change] = node.cluster.changes(b"slow")
    assert isinstance(change, Put)
    assert change.inline == b"part " * 5


def test_truncate_then_write_never_shows_the_empty_file(node: Node) -> None:
    file = node.files / "a"
    file.write_bytes(b"before")
    node.wait_for_peace()
    with file.open("wb") as writer:
        node.watcher.mark(b"a")
        another_file_goes_through(node)
        writer.write(b"after")
    node.wait_for_peace()
    assert [c.inline for c in node.cluster.changes(b"a")] == [b"before", b"after"]  # type: ignore[union-attr]


def test_a_tree_of_many_files_makes_one_change_a_file(node: Node) -> None:
    source = node.data / "source"
    for directory in range(10):
        (source / f"d{directory}").mkdir(parents=True)
        for number in range(50):
            (source / f"d{directory}" / f"f{number}").write_bytes(b"%d" % number)
    subprocess.run(["cp", "-a", str(source), str(node.files / "copy")], check=True)
    node.wait_for_peace()
    files = [c.path for c in node.cluster.changes() if isinstance(c, Put) and c.kind is Kind.FILE]
    assert len(files) == len(set(files)) == 500
    assert max(len(submission) for submission in node.cluster.submissions) <= 500


def test_a_submission_carries_no_more_content_than_its_limit(node: Node) -> None:
    for number in range(60):
        (node.files / f"f{number}").write_bytes(os.urandom(30_000))
    node.wait_for_peace()
    sizes = [
        sum(len(c.inline or b"") for c in submission if isinstance(c, Put))
        for submission in node.cluster.submissions
    ]
    assert sum(sizes) == 60 * 30_000
    assert max(sizes) <= 512 * 1024


def test_a_submission_of_long_names_fits_in_one_piece_of_the_log(tmp_path: Path) -> None:
    """The log sends 1 MiB at once; links carry no content, but 300 of these would be more."""
    node = Node(tmp_path)
    node.files.mkdir(exist_ok=True)
    for number in range(300):
        (node.files / f"l{number}").symlink_to("x/" * 2000)
    with node.running():
        wait_until(lambda: len(node.cluster.paths()) == 300)
    for changes in node.cluster.submissions:
        submission = Submission("id", "node1", 0, tuple(changes))
        assert len(encode_command([submission])) < 1 << 20


def test_a_removed_tree_goes_at_once_and_deepest_first(node: Node) -> None:
    top = node.files / "top"
    for directory in range(5):
        (top / f"d{directory}").mkdir(parents=True)
        for number in range(60):
            (top / f"d{directory}" / f"f{number}").write_bytes(b"%d" % number)
    node.wait_for_peace()
    before = len(node.cluster.changes())
    shutil.rmtree(top)
    wait_until(lambda: not node.cluster.paths() and node.watcher.idle())
    assert node.watcher.held_deletes().count == 0
    assert len(node.cluster.changes()) - before == 306
    assert node.state.count() == 0


def test_an_idle_folder_proposes_nothing(node: Node) -> None:
    (node.files / "d").mkdir()
    (node.files / "d" / "a").write_bytes(b"1")
    (node.files / "l").symlink_to("d")
    (node.files / "big").write_bytes(b"x" * 100_000)
    node.wait_for_peace()
    done, scans = len(node.cluster.submissions), len(node.counts.scans)
    (node.files / "d" / "a").read_bytes()
    for wanted in range(scans + 1, scans + 4):
        node.scan()
        assert len(node.counts.scans) == wanted
    assert len(node.cluster.submissions) == done
    assert node.placer.paths == []


def test_what_is_half_placed_is_no_edit(node: Node) -> None:
    """The placer makes a directory before it gives it its mode; nobody wants the first mode."""
    (node.files / "d").mkdir(mode=0o755)
    node.wait_for_peace()
    before = len(node.cluster.changes(b"d"))
    node.placer.in_hand.add(b"d")
    (node.files / "d").chmod(0o700)
    wait_until(lambda: b"d" in node.placer.paths)
    another_file_goes_through(node)
    assert len(node.cluster.changes(b"d")) == before
    node.placer.in_hand.clear()
    node.watcher.mark(b"d")
    wait_until(lambda: len(node.cluster.changes(b"d")) == before + 1)
