"""The commands about files, run for real against a node's HTTP API."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from cli_catalog import Fault, Node
from cli_node import running_node
from cli_run import pickbox_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def node() -> Iterator[Node]:
    with running_node() as node:
        yield node


def test_put_stores_the_bytes_the_mode_and_the_time(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "tool"
    file.write_bytes(b"#!/bin/sh\n")
    file.chmod(0o755)
    os.utime(file, ns=(1, 1_700_000_000_123_456_789))
    assert pickbox_command("put", file, "bin/tool", node=node).code == 0
    stored = node.entries[b"bin/tool"]
    assert stored.content == b"#!/bin/sh\n"
    assert (stored.mode, stored.mtime_ns) == (0o755, 1_700_000_000_123_456_789)


def test_put_answers_in_json_with_the_version_and_the_digest(node: Node, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    answer = pickbox_command("put", "--json", tmp_path / "a", "a", node=node).json
    assert answer["path"] == "a"
    assert answer["version"] == 1
    assert answer["digest"] == f"blake3:{blake3(b'hello').hexdigest()}"


def test_put_to_a_path_that_ends_in_a_slash_keeps_the_name(node: Node, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x")
    pickbox_command("put", tmp_path / "a.txt", "docs/", node=node)
    assert list(node.entries) == [b"docs/a.txt"]


def test_put_reads_stdin(node: Node) -> None:
    content = os.urandom(3 << 20)
    assert pickbox_command("put", "-", "dump", node=node, stdin=content).code == 0
    assert node.entries[b"dump"].content == content


def test_an_empty_file_is_stored(node: Node, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert pickbox_command("put", tmp_path / "empty", "empty", node=node).code == 0
    assert node.entries[b"empty"].content == b""


@pytest.mark.parametrize(
    "name", [b"with space", b"100%", b"a?b#c", "größe".encode(), b"\xff\xfe", b"new\nline", b"-x"]
)
def test_any_file_name_comes_back_as_it_went(node: Node, tmp_path: Path, name: bytes) -> None:
    (tmp_path / "local").write_bytes(b"content")
    target = os.fsencode(tmp_path / "back")
    assert pickbox_command("put", tmp_path / "local", b"d/" + name, node=node).code == 0
    assert list(node.entries) == [b"d/" + name]
    assert pickbox_command("get", b"d/" + name, target, node=node).code == 0
    assert (tmp_path / "back").read_bytes() == b"content"
    assert pickbox_command("ls", node=node).stdout == b"d/" + name + b"\n"


def test_a_path_with_dots_reaches_the_node_and_is_refused(node: Node, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    refused = pickbox_command("put", tmp_path / "a", "x/../../cluster", node=node)
    assert refused.code == 1
    assert "'..'" in refused.stderr
    assert node.entries == {}


def test_if_absent_fails_with_4_when_something_is_there(node: Node, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    assert pickbox_command("put", "--if-absent", tmp_path / "a", "a", node=node).code == 0
    refused = pickbox_command("put", "--if-absent", tmp_path / "a", "a", node=node)
    assert refused.code == 4
    assert "Another version is there." in refused.stderr


def test_if_version_fails_with_4_on_another_version(node: Node, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    node.store(b"a", b"one")
    node.store(b"a", b"two")
    assert pickbox_command("put", "--if-version", "1", tmp_path / "a", "a", node=node).code == 4
    assert node.entries[b"a"].content == b"two"
    assert pickbox_command("put", "--if-version", "2", tmp_path / "a", "a", node=node).code == 0
    assert node.entries[b"a"].content == b"new"


def test_a_refusal_is_heard_although_the_upload_was_not_read(node: Node, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(64 << 20))
    detail = "The file is larger than the node takes."
    node.faults.append(Fault("PUT", 413, "too-large", detail, refuse_unread=True))
    refused = pickbox_command("put", tmp_path / "large", "large", node=node)
    assert refused.code == 1
    assert detail in refused.stderr
    assert len(node.requests("PUT")) == 1


def test_a_local_file_that_is_missing_is_named(node: Node, tmp_path: Path) -> None:
    failed = pickbox_command("put", tmp_path / "nowhere", "a", node=node)
    assert failed.code == 1
    assert f"{tmp_path}/nowhere: No such file or directory" in failed.stderr


def test_put_says_so_when_the_node_stored_other_bytes(node: Node, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    node.faults.append(Fault("PUT", other_bytes=True))
    failed = pickbox_command("put", tmp_path / "a", "a", node=node)
    assert failed.code == 1
    assert "other bytes than were sent" in failed.stderr


def test_get_keeps_mode_and_time(node: Node, tmp_path: Path) -> None:
    node.store(b"bin/tool", b"x", mode=0o750, mtime_ns=1_600_000_000_000_000_001)
    assert pickbox_command("get", "bin/tool", node=node, cwd=tmp_path).code == 0
    status = (tmp_path / "tool").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o750, 1_600_000_000_000_000_001)


def test_get_into_a_directory_keeps_the_name(node: Node, tmp_path: Path) -> None:
    node.store(b"docs/a.txt", b"x")
    assert pickbox_command("get", "docs/a.txt", tmp_path, node=node).code == 0
    assert (tmp_path / "a.txt").read_bytes() == b"x"


def test_get_writes_to_stdout(node: Node) -> None:
    content = os.urandom(3 << 20)
    node.store(b"dump", content)
    assert pickbox_command("get", "dump", "-", node=node).stdout == content


def test_get_asks_for_a_linearizable_read(node: Node) -> None:
    node.store(b"a", b"x")
    pickbox_command("get", "--linearizable", "a", "-", node=node)
    assert node.seen[0].path == "/api/v1/files/a?consistency=linearizable"


def test_get_detects_wrong_bytes_and_keeps_what_was_there(node: Node, tmp_path: Path) -> None:
    node.store(b"a", b"right")
    (tmp_path / "a").write_bytes(b"before")
    node.faults.append(Fault("GET", other_bytes=True))
    failed = pickbox_command("get", "a", node=node, cwd=tmp_path)
    assert failed.code == 1
    assert "does not match its digest" in failed.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"before"


def test_get_goes_on_where_the_connection_was_lost(node: Node, tmp_path: Path) -> None:
    content = os.urandom(4 << 20)
    node.store(b"a", content)
    node.faults += [Fault("GET", cut_after=3 << 20), Fault("GET", cut_after=1)]
    assert pickbox_command("get", "a", node=node, cwd=tmp_path).code == 0
    assert (tmp_path / "a").read_bytes() == content
    ranges = [seen.headers.get("Range") for seen in node.requests("GET")]
    assert ranges == [None, f"bytes={3 << 20}-", f"bytes={(3 << 20) + 1}-"]


def test_get_of_nothing_exits_with_3_and_leaves_nothing(node: Node, tmp_path: Path) -> None:
    assert pickbox_command("get", "nowhere", node=node, cwd=tmp_path).code == 3
    assert list(tmp_path.iterdir()) == []


def test_ls_follows_cursors_to_the_end(node: Node) -> None:
    node.page_limit = 3
    names = [f"d/{n:02}".encode() for n in range(10)]
    for name in [*names, b"other"]:
        node.store(name, b"x")
    assert pickbox_command("ls", "d/", node=node).stdout.split() == names
    assert len(node.requests("GET")) == 4
    assert pickbox_command("ls", "d/", "--limit", "4", node=node).stdout.split() == names[:4]


def test_ls_gives_entries_in_json(node: Node) -> None:
    node.store(b"\xff", b"hello")
    (entry,) = pickbox_command("ls", "--json", node=node).json["entries"]
    assert (entry["path"], entry["path_b64"]) == ("\\xff", "/w==")
    assert (entry["size"], entry["version"], entry["kind"]) == (5, 1, "file")


def test_ls_long_shows_mode_size_and_version(node: Node) -> None:
    node.store(b"a", b"hello", mode=0o640)
    line = pickbox_command("ls", "-l", node=node).stdout.decode().split()
    assert (line[0], line[1], line[-2], line[-1]) == ("-rw-r-----", "5", "1", "a")


def test_rm_removes_and_needs_r_for_what_is_not_empty(node: Node) -> None:
    node.store(b"d", b"", kind="directory")
    node.store(b"d/a", b"x")
    refused = pickbox_command("rm", "d", node=node)
    assert refused.code == 4
    assert "Add -r" in refused.stderr
    assert pickbox_command("rm", "-r", "d", node=node).code == 0
    assert node.entries == {}
    assert pickbox_command("rm", "d", node=node).code == 3


def test_mv_renames_and_never_overwrites(node: Node) -> None:
    node.store(b"a\xff", b"x")
    node.store(b"taken", b"y")
    assert pickbox_command("mv", b"a\xff", "taken", node=node).code == 4
    assert pickbox_command("mv", b"a\xff", "b", node=node).code == 0
    assert sorted(node.entries) == [b"b", b"taken"]


def test_mkdir_makes_a_directory(node: Node) -> None:
    assert pickbox_command("mkdir", "d/e/", node=node).code == 0
    assert node.entries[b"d/e"].kind == "directory"


def _tree(root: Path) -> None:
    (root / "sub/empty").mkdir(parents=True)
    for number in range(20):
        (root / f"sub/{number}").write_bytes(b"%d" % number)
    (root / "tool").write_bytes(b"x")
    (root / "tool").chmod(0o755)


def test_a_directory_comes_back_as_it_went(node: Node, tmp_path: Path) -> None:
    _tree(tmp_path / "in")
    stored = pickbox_command("put", "-r", "--json", tmp_path / "in", "top", node=node)
    assert (stored.code, stored.json["done"], stored.json["failed"]) == (0, 23, [])
    fetched = pickbox_command("get", "-r", "top", tmp_path / "out", node=node)
    assert fetched.code == 0
    assert _contents(tmp_path / "out") == _contents(tmp_path / "in")


def _contents(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (
            path.stat().st_mode,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in root.rglob("*")
    }


def test_put_r_tells_what_it_left_out_and_stores_the_rest(node: Node, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a").write_bytes(b"x")
    os.symlink("a", tmp_path / "in/link")
    ran = pickbox_command("put", "-r", "--json", tmp_path / "in", "top", node=node)
    assert ran.code == 1
    assert [failed["path"] for failed in ran.json["failed"]] == ["top/link"]
    assert list(node.entries) == [b"top/a"]


def test_get_r_makes_links_last_and_as_links(node: Node, tmp_path: Path) -> None:
    node.store(b"top/a", b"x")
    node.store(b"top/link", b"", kind="symlink", target="a")
    assert pickbox_command("get", "-r", "top", tmp_path / "out", node=node).code == 0
    assert os.readlink(tmp_path / "out/link") == "a"
    assert stat.S_ISREG((tmp_path / "out/a").lstat().st_mode)


def test_get_r_refuses_a_path_that_leads_out(node: Node, tmp_path: Path) -> None:
    node.store(b"top/../../escaped", b"x")
    ran = pickbox_command("get", "-r", "top", tmp_path / "in/out", node=node)
    assert ran.code == 1
    assert not (tmp_path / "escaped").exists()


def test_get_r_of_a_file_and_of_nothing(node: Node, tmp_path: Path) -> None:
    node.store(b"a", b"x")
    assert pickbox_command("get", "-r", "a", tmp_path / "out", node=node).code == 4
    assert pickbox_command("get", "-r", "nowhere", tmp_path / "out", node=node).code == 3
