"""What people do in one node's folder is in the folders of all nodes a moment later."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from cluster import Cluster, Node, tree, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.cluster

SETTLED_AT = 1_600_000_000_123_456_789
"""A modification time in the past, with nanoseconds."""


@pytest.fixture
def nodes(cluster: Cluster) -> list[Node]:
    return list(cluster)


@pytest.fixture
def here(nodes: list[Node], request: pytest.FixtureRequest) -> Path:
    """A directory of the test's own in node 1's folder."""
    directory: Path = nodes[0].files / request.node.name[:60]
    directory.mkdir()
    return directory


def at(node: Node, path: Path) -> Path:
    """The same path in another node's folder; `path` is in any node's."""
    parts = path.parts
    return node.files.joinpath(*parts[parts.index("files") + 1 :])


def everywhere(nodes: list[Node], path: Path, content: bytes, seconds: float = 30.0) -> None:
    """Wait until `path` has `content` on all nodes."""

    def same() -> bool:
        found = [at(node, path) for node in nodes]
        return all(f.is_file() and f.read_bytes() == content for f in found)

    wait_until(same, f"{path.name} has {content[:20]!r} everywhere", seconds)


def gone(nodes: list[Node], path: Path, seconds: float = 30.0) -> None:
    """Wait until nothing is at `path` on any node."""
    wait_until(
        lambda: not any(os.path.lexists(at(node, path)) for node in nodes),
        f"{path.name} is gone everywhere",
        seconds,
    )


def test_a_file_is_created_changed_and_deleted(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    file = here / "file.txt"
    file.write_bytes(b"one")
    everywhere(nodes, file, b"one")
    at(nodes[1], file).write_bytes(b"two, longer")
    everywhere(nodes, file, b"two, longer")
    at(nodes[2], file).unlink()
    gone(nodes, file)
    cluster.wait_settled()


def test_metadata_goes_with_the_content(cluster: Cluster, nodes: list[Node], here: Path) -> None:
    script = here / "script.sh"
    script.write_bytes(b"#!/bin/sh\n")
    script.chmod(0o751)
    os.utime(script, ns=(SETTLED_AT, SETTLED_AT))
    private = here / "private"
    private.write_bytes(b"secret")
    private.chmod(0o600)
    (here / "closed").mkdir(0o700)
    cluster.wait_settled()
    for node in nodes:
        found = at(node, script).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o751, SETTLED_AT)
        assert stat.S_IMODE(at(node, private).stat().st_mode) == 0o600
        assert stat.S_IMODE(at(node, here / "closed").stat().st_mode) == 0o700


def test_a_change_of_mode_alone_arrives(cluster: Cluster, nodes: list[Node], here: Path) -> None:
    file = here / "plain"
    file.write_bytes(b"content")
    cluster.wait_settled()
    inode = at(nodes[1], file).stat().st_ino
    file.chmod(0o755)
    here.chmod(0o750)
    wait_until(lambda: at(nodes[1], file).stat().st_mode & 0o777 == 0o755, "the mode is there")
    wait_until(lambda: at(nodes[2], here).stat().st_mode & 0o777 == 0o750, "the directory's too")
    assert at(nodes[1], file).stat().st_ino == inode, "the content was placed again"
    cluster.wait_settled()


def test_empty_files_and_directories_arrive(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    (here / "empty").touch()
    (here / "a/b/c").mkdir(parents=True)
    found = cluster.wait_settled()
    base = os.fsencode(here.name)
    assert found[base + b"/empty"][0] == "file"
    assert found[base + b"/a/b/c"][0] == "directory"
    (here / "a/b/c").rmdir()
    (here / "empty").unlink()
    gone(nodes, here / "a/b/c")
    gone(nodes, here / "empty")


def test_an_empty_file_that_grows_is_whole_everywhere(nodes: list[Node], here: Path) -> None:
    file = here / "grows"
    file.touch()
    everywhere(nodes, file, b"")
    file.write_bytes(b"grown")
    everywhere(nodes, file, b"grown")
    file.write_bytes(b"")
    everywhere(nodes, file, b"")


def test_links_stay_links(cluster: Cluster, nodes: list[Node], here: Path) -> None:
    (here / "directory").mkdir()
    (here / "directory/file").write_bytes(b"x")
    targets = {
        "relative": "directory/file",
        "to-directory": "directory",
        "dangling": "nothing/here",
        "absolute": "/etc/hostname",
        "upwards": "../../../../etc/passwd",
        "itself": "itself",
    }
    for name, target in targets.items():
        (here / name).symlink_to(target)
    cluster.wait_settled()
    for node in nodes:
        assert {name: os.readlink(at(node, here / name)) for name in targets} == targets
    (here / "dangling").unlink()
    (here / "dangling").symlink_to("elsewhere")
    changed = at(nodes[2], here / "dangling")

    def leads_elsewhere() -> bool:
        with contextlib.suppress(FileNotFoundError):  # it is removed before it is made anew
            return os.readlink(changed) == "elsewhere"
        return False

    wait_until(leads_elsewhere, "the link is changed")
    (at(nodes[1], here) / "to-directory").unlink()
    gone(nodes, here / "to-directory")
    assert (here / "directory/file").read_bytes() == b"x"


def test_any_name_that_the_disk_takes_arrives(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    names = [
        b"not-utf8-\xff\xfe",
        b"new\nline",
        b"tab\tand quote\"'",
        b"-leading-dash",
        b"trailing-space ",
        b"trailing-dot.",
        b"back\\slash",
        b"100%25 per cent",
        "größe 文件 😀".encode(),
        "e\u0301 decomposed".encode(),
        "\u00e9 composed".encode(),
        b"*?[a]",
        b"n" * 255,
        b"#hash",
        b"CON",
    ]
    base = os.fsencode(here)
    for name in names:
        with open(os.path.join(base, name), "wb") as file:
            file.write(name)
    found = cluster.wait_settled()
    prefix = os.fsencode(here.name) + b"/"
    assert {path for path in found if path.startswith(prefix)} == {prefix + n for n in names}
    for name in names:
        os.unlink(os.path.join(os.fsencode(at(nodes[1], here)), name))
    wait_until(lambda: not list(here.iterdir()), "all are deleted")
    cluster.wait_settled()


def test_a_file_is_renamed(cluster: Cluster, nodes: list[Node], here: Path) -> None:
    (here / "old").write_bytes(b"content")
    everywhere(nodes, here / "old", b"content")
    (at(nodes[1], here) / "old").rename(at(nodes[1], here) / "new")
    everywhere(nodes, here / "new", b"content")
    gone(nodes, here / "old")
    cluster.wait_settled()


def test_a_directory_is_renamed_with_all_that_is_in_it(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    for number in range(30):
        file = here / f"old/{number % 3}/file{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%d" % number)
    (here / "old/empty").mkdir()
    cluster.wait_settled()
    before = {os.path.relpath(p, b"old"): v for p, v in tree(here).items() if p != b"old"}
    (at(nodes[2], here) / "old").rename(at(nodes[2], here) / "new")
    gone(nodes, here / "old")
    cluster.wait_settled()
    after = {os.path.relpath(p, b"new"): v for p, v in tree(here).items() if p != b"new"}
    assert after == before


def test_a_directory_that_is_moved_in_from_outside_is_taken_in(
    cluster: Cluster, nodes: list[Node], here: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    (outside / "deep/er").mkdir(parents=True)
    for number in range(20):
        (outside / f"deep/er/{number}").write_bytes(b"%d" % number)
    expected = tree(outside)
    outside.rename(here / "inside")
    wait_until(lambda: tree(at(nodes[1], here / "inside")) == expected, "it is on node 2")
    cluster.wait_settled()
    assert tree(at(nodes[2], here / "inside")) == expected
    (at(nodes[1], here) / "inside").rename(tmp_path / "out-again")
    gone(nodes, here / "inside")
    assert tree(tmp_path / "out-again") == expected


def test_a_file_becomes_a_directory_and_a_file_again(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    thing = here / "thing"
    thing.write_bytes(b"a file")
    everywhere(nodes, thing, b"a file")
    thing.unlink()
    thing.mkdir()
    (thing / "inside").write_bytes(b"in a directory")
    everywhere(nodes, thing / "inside", b"in a directory")
    cluster.wait_settled()
    other = at(nodes[1], thing)
    shutil.rmtree(other)
    other.write_bytes(b"a file again")
    everywhere(nodes, thing, b"a file again")
    third = at(nodes[2], thing)
    third.unlink()
    third.symlink_to("nowhere")
    wait_until(thing.is_symlink, "it is a link")
    found = cluster.wait_settled()
    assert not [path for path in found if b"sync-conflict" in path]


def test_what_an_editor_does_when_it_saves_is_one_change(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    """vim: probe 4913, a swap file, the old version to a backup, the new one written, fsync."""
    file = here / "notes.txt"
    file.write_bytes(b"draft 0")
    everywhere(nodes, file, b"draft 0")
    for number in range(1, 6):
        (here / ".notes.txt.swp").write_bytes(b"swap")
        (here / "4913").touch()
        (here / "4913").unlink()
        file.rename(here / "notes.txt~")
        with file.open("wb") as new:
            new.write(b"draft %d" % number)
            new.flush()
            os.fsync(new.fileno())
        (here / "notes.txt~").unlink()
        (here / ".notes.txt.swp").unlink()
    everywhere(nodes, file, b"draft 5")
    found = cluster.wait_settled()
    prefix = os.fsencode(here.name) + b"/"
    assert [path for path in found if path.startswith(prefix)] == [prefix + b"notes.txt"]


def test_a_file_that_is_replaced_by_rename_is_replaced_everywhere(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    file = here / "config.json"
    for number in range(10):
        draft = here / "config.json.tmp"
        draft.write_bytes(b"%d" % number)
        draft.rename(file)
    everywhere(nodes, file, b"9")
    found = cluster.wait_settled()
    assert not [path for path in found if b"sync-conflict" in path]


def test_an_open_writer_is_waited_for_and_its_file_is_whole(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    file = here / "log"
    with file.open("wb") as writer:
        for number in range(5):
            writer.write(b"line %d\n" % number)
            writer.flush()
            seen = here / f"seen-{number}"
            seen.write_bytes(b"x")
            everywhere(nodes, seen, b"x")
            assert not at(nodes[1], file).exists(), "a file that is being written was taken"
    everywhere(nodes, file, b"".join(b"line %d\n" % number for number in range(5)))
    with file.open("ab") as writer:
        writer.write(b"appended\n")
    everywhere(nodes, file, b"".join(b"line %d\n" % n for n in range(5)) + b"appended\n")


def test_a_tree_is_copied_in_and_removed_on_another_node(
    cluster: Cluster, nodes: list[Node], here: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    generate_tree(source, 800)
    expected = tree(source)
    subprocess.run(["cp", "-a", source, here / "tree"], check=True)
    for node in nodes[1:]:
        wait_until(
            lambda node=node: tree(at(node, here / "tree")) == expected,  # type: ignore[misc]
            f"the tree is whole on {node.node_id}",
            60,
        )
    cluster.wait_settled()
    subprocess.run(["rm", "-r", at(nodes[2], here / "tree")], check=True)
    gone(nodes, here / "tree", 60)
    cluster.wait_settled()


def generate_tree(root: Path, count: int) -> None:
    """About `count` paths: nested directories, files of many sizes, links, odd modes and times."""
    generator = random.Random(20)
    directories = [root]
    root.mkdir()
    for number in range(count):
        parent = generator.choice(directories)
        path = parent / f"{number}-{generator.choice(['a', 'ü', 'with space'])}"
        choice = generator.random()
        if choice < 0.15:
            path.mkdir(generator.choice([0o755, 0o750]))
            directories.append(path)
        elif choice < 0.25:
            path.symlink_to(generator.choice(["../x", "/usr/bin", f"{number}", "a/b/c"]))
        else:
            size = generator.choice([0, 1, 100, 5000, 40_000])
            path.write_bytes(generator.randbytes(size))
            path.chmod(generator.choice([0o644, 0o600, 0o755, 0o444]))
            os.utime(path, ns=(SETTLED_AT, SETTLED_AT + number))


def test_ignored_files_stay_where_they_are(cluster: Cluster, nodes: list[Node], here: Path) -> None:
    rules = nodes[0].files / ".pickboxignore"
    rules.write_bytes(b"*.log\nbuild/\n!keep.log\n")
    everywhere(nodes, rules, rules.read_bytes())
    (here / "debug.log").write_bytes(b"ignored")
    (here / "keep.log").write_bytes(b"kept")
    (here / "build").mkdir()
    (here / "build/out").write_bytes(b"ignored")
    for name in (".x.swp", "backup~", "half.tmp", ".#lock", "~$doc.docx"):
        (here / name).write_bytes(b"a built-in rule")
    everywhere(nodes, here / "keep.log", b"kept")
    last = here / "last"
    last.write_bytes(b"seen after all of them")
    everywhere(nodes, last, last.read_bytes())
    assert sorted(p.name for p in at(nodes[1], here).iterdir()) == ["keep.log", "last"]
    rules.unlink()
    everywhere(nodes, here / "debug.log", b"ignored")
    everywhere(nodes, here / "build/out", b"ignored")
    for name in (".x.swp", "backup~", "half.tmp", ".#lock", "~$doc.docx"):
        (here / name).unlink()
    cluster.wait_settled()


def test_a_large_file_arrives_and_its_rename_transfers_nothing(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    content = os.urandom(40 << 20)
    large = here / "large"
    large.write_bytes(content)
    everywhere(nodes, large, content, 60)
    cluster.wait_settled()
    before = [transferred(node) for node in nodes]
    assert sum(before) >= 2 * len(content)
    large.rename(here / "renamed")
    everywhere(nodes, here / "renamed", content, 60)
    gone(nodes, large)
    cluster.wait_settled()
    assert [transferred(node) for node in nodes] == before
    # What others wrote over before it was placed may be there still.
    staged = [node.directory / "staging" / blake3(content).hexdigest() for node in nodes]
    wait_until(lambda: not any(path.exists() for path in staged), "it is in the folders alone")


def transferred(node: Node) -> float:
    return node.metric("pickbox_bytes_transferred_total", direction="received")


def test_a_large_file_that_is_changed_while_it_spreads_ends_as_it_was_left(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    large = here / "large"
    for number in range(6):
        large.write_bytes(b"%d" % number * (4 << 20))
    everywhere(nodes, large, b"5" * (4 << 20), 60)
    found = cluster.wait_settled()
    assert not [path for path in found if b"sync-conflict" in path]


def test_hard_links_arrive_as_files_and_both_follow_a_change(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    first, second = here / "first", here / "second"
    first.write_bytes(b"shared")
    second.hardlink_to(first)
    everywhere(nodes, first, b"shared")
    everywhere(nodes, second, b"shared")
    first.unlink()
    gone(nodes, first)
    everywhere(nodes, second, b"shared")
    cluster.wait_settled()


def test_pipes_are_left_alone(cluster: Cluster, nodes: list[Node], here: Path) -> None:
    os.mkfifo(here / "pipe")
    (here / "beside").write_bytes(b"x")
    everywhere(nodes, here / "beside", b"x")
    assert not at(nodes[1], here / "pipe").exists()
    wait_until(
        lambda: nodes[0].metric("pickbox_special_files_skipped_total") >= 1, "it was skipped"
    )
    (here / "pipe").unlink()
    cluster.wait_settled()


def test_many_files_with_one_content_are_all_there(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    content = os.urandom(50_000)
    for number in range(100):
        (here / f"copy-{number}").write_bytes(content)
    for node in nodes:
        wait_until(
            lambda node=node: (  # type: ignore[misc]
                len([p for p in at(node, here).glob("copy-*") if p.read_bytes() == content]) == 100
            ),
            f"all copies are on {node.node_id}",
            60,
        )
    for number in range(99):
        (at(nodes[1], here) / f"copy-{number}").unlink()
    wait_until(lambda: len(list(here.iterdir())) == 1, "99 are deleted")
    cluster.wait_settled()
    assert (here / "copy-99").read_bytes() == content


def test_files_swap_their_names(cluster: Cluster, nodes: list[Node], here: Path) -> None:
    one, two, spare = here / "one", here / "two", here / "spare"
    one.write_bytes(b"1")
    two.write_bytes(b"22")
    cluster.wait_settled()
    one.rename(spare)
    two.rename(one)
    spare.rename(two)
    everywhere(nodes, one, b"22")
    everywhere(nodes, two, b"1")
    found = cluster.wait_settled()
    assert not [path for path in found if b"sync-conflict" in path]


def test_files_written_on_all_nodes_at_once_are_all_everywhere(
    cluster: Cluster, nodes: list[Node], here: Path
) -> None:
    wait_until(lambda: all(at(node, here).is_dir() for node in nodes), "the directory is there")
    for number in range(50):
        for node in nodes:
            (at(node, here) / f"{node.node_id}-{number}").write_bytes(b"%d" % number)
    wait_until(
        lambda: all(len(list(at(node, here).iterdir())) == 150 for node in nodes),
        "150 files are everywhere",
    )
    cluster.wait_settled()


def test_a_quiet_folder_stays_as_it_is(cluster: Cluster, nodes: list[Node], here: Path) -> None:
    """Placed files are echoes: they must cause no change of their own."""
    (here / "file").write_bytes(b"x")
    cluster.wait_settled()
    before = nodes[0].listing()
    time.sleep(2.0)  # nothing is to happen, and that takes a time to see
    assert [node.listing() for node in nodes] == [before] * 3
