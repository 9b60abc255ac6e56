"""Files in a real cluster are had, made and removed by the module, once, or it is said why not."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from ansible_collections.pickbox.cluster.plugins.modules.file import Unusable, mode_of
from cluster import wait_until
from module_runs import failure, run
from serving import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cluster import Cluster, Node

pytestmark = pytest.mark.cluster

SETTINGS = {"max_file_size": str(4 << 20), "request_timeout": "10"}


def settings(cluster: Cluster, path: str, **changes: Any) -> dict[str, Any]:
    return {"urls": [node.client for node in cluster], "path": path, **changes}


def content_of(node: Node, path: str) -> bytes:
    answer = node.request("GET", f"/api/v1/files/{path}?consistency=linearizable")
    assert answer.status == 200, answer.data
    return answer.data


def exists(node: Node, path: str) -> bool:
    listed = node.request("GET", f"/api/v1/files?limit=1&prefix={path}").json()["entries"]
    return bool(listed) and listed[0]["path"] == path


def headers_of(node: Node, path: str) -> Any:
    return node.request("HEAD", f"/api/v1/files/{path}?consistency=linearizable").headers


def test_a_text_is_written_once_and_again_when_it_is_another(cluster: Cluster) -> None:
    path = "text/hällo wörld?.ini"
    for text in ("one\n", "two, and longer\n", ""):
        written = run("file", **settings(cluster, path, content=text))
        assert written["changed"]
        assert content_of(cluster["node3"], "text/h%C3%A4llo%20w%C3%B6rld%3F.ini") == text.encode()
        again = run("file", **settings(cluster, path, content=text))
        assert not again["changed"]
        assert again["diff"] == []
        assert (again["version"], again["digest"]) == (written["version"], written["digest"])
    cluster.wait_same()


@pytest.mark.parametrize("size", [1000, 3 << 20])
def test_a_source_is_sent_and_compared_byte_for_byte(
    cluster: Cluster, tmp_path: Path, size: int
) -> None:
    source, content = tmp_path / "source", os.urandom(size)
    source.write_bytes(content)
    asked = settings(cluster, f"sent/{size}", src=str(source))
    assert run("file", **asked)["changed"]
    assert content_of(cluster["node2"], f"sent/{size}") == content
    assert not run("file", **asked)["changed"]
    source.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    changed = run("file", **asked)
    assert changed["changed"]
    assert content_of(cluster["node2"], f"sent/{size}") == source.read_bytes()


def test_the_mode_is_set_and_kept(cluster: Cluster) -> None:
    node = cluster["node1"]
    assert run("file", **settings(cluster, "mode", content="x", mode="0640"))["changed"]
    assert headers_of(node, "mode")["X-Pickbox-Mode"] == "0640"
    assert not run("file", **settings(cluster, "mode", content="x", mode="0640"))["changed"]
    assert run("file", **settings(cluster, "mode", content="y"))["changed"]
    assert headers_of(node, "mode")["X-Pickbox-Mode"] == "0640"
    other = run("file", **settings(cluster, "mode", content="y", mode="600"))
    assert other["changed"]
    assert [(part["before"], part["after"]) for part in other["diff"]] == [
        ("kind: file\nmode: '0640'\n", "kind: file\nmode: '0600'\n")
    ]
    assert headers_of(node, "mode")["X-Pickbox-Mode"] == "0600"


def test_a_mode_without_quotes_is_what_yaml_makes_of_it() -> None:
    assert mode_of(0o644, "present") == "0644"


@pytest.mark.parametrize("mode", [644, "u=rw", "0o644", "4755"])
def test_what_is_no_mode_is_refused(cluster: Cluster, mode: Any) -> None:
    said = failure("file", **settings(cluster, "no-mode", content="x", mode=mode))
    assert f"mode: {mode!r} is none; write permission bits in quotes" in said


@pytest.mark.parametrize(
    ("state", "mode", "missing"), [("present", "0200", "0400"), ("directory", "0644", "0500")]
)
def test_a_mode_that_keeps_nodes_out_is_refused_before_anything_is_asked(
    state: str, mode: str, missing: str
) -> None:
    with pytest.raises(Unusable, match=f"add {missing} to it"):
        mode_of(mode, state)


def test_a_directory_is_made_and_its_mode_set(cluster: Cluster) -> None:
    made = run("file", **settings(cluster, "some/directory", state="directory"))
    assert (made["changed"], made["digest"]) == (True, "")
    assert exists(cluster["node1"], "some/directory")
    assert not run("file", **settings(cluster, "some/directory", state="directory"))["changed"]
    private = settings(cluster, "some/directory", state="directory", mode="0700")
    assert run("file", **private)["changed"]
    assert not run("file", **private)["changed"]
    cluster.wait_same()
    assert (cluster["node2"].files / "some/directory").stat().st_mode & 0o777 == 0o700


def test_a_file_is_removed_and_then_nothing_is_to_be_done(cluster: Cluster) -> None:
    assert cluster["node1"].put("gone", b"x\n").status == 201
    removed = run("file", **settings(cluster, "gone", state="absent"))
    assert removed["changed"]
    assert removed["diff"][-1]["before"] == "x\n"
    assert cluster["node1"].get("gone").status == 404
    again = run("file", **settings(cluster, "gone", state="absent"))
    assert (again["changed"], again["version"]) == (False, 0)


@pytest.mark.parametrize("check", [True, False])
def test_a_directory_with_entries_is_removed_only_when_told(cluster: Cluster, check: bool) -> None:
    node = cluster.leader()
    assert node.put("full/a/b", b"x").status in (200, 201)
    said = failure("file", check=check, **settings(cluster, "full", state="absent"))
    assert "full is a directory with entries: remove them first, or set recursive" in said
    deep = settings(cluster, "full", state="absent", recursive=True)
    assert run("file", check=check, **deep)["changed"]
    assert exists(node, "full") is check


def test_an_empty_directory_and_a_link_are_removed(cluster: Cluster) -> None:
    run("file", **settings(cluster, "empty", state="directory"))
    assert run("file", **settings(cluster, "empty", state="absent"))["changed"]
    (cluster["node1"].files / "link").symlink_to("nowhere")
    wait_until(lambda: exists(cluster["node1"], "link"), "the link is taken in")
    said = failure("file", **settings(cluster, "link", content="x"))
    assert "link is a symlink in the cluster, and a file is wanted: remove it first" in said
    assert run("file", **settings(cluster, "link", state="absent"))["changed"]
    assert not run("file", **settings(cluster, "link", state="absent"))["changed"]


@pytest.mark.parametrize("check", [True, False])
def test_what_is_another_kind_of_thing_is_left_alone(cluster: Cluster, check: bool) -> None:
    run("file", **settings(cluster, "kinds/directory", state="directory"))
    run("file", **settings(cluster, "kinds/file", content="x"))
    said = failure("file", check=check, **settings(cluster, "kinds/directory", content="x"))
    assert "kinds/directory is a directory in the cluster, and a file is wanted" in said
    said = failure("file", check=check, **settings(cluster, "kinds/file", state="directory"))
    assert "kinds/file is a file in the cluster, and a directory is wanted" in said


def test_check_mode_shows_the_difference_and_writes_nothing(cluster: Cluster) -> None:
    node = cluster.leader()
    new = run("file", check=True, **settings(cluster, "check", content="new\n"))
    assert new["changed"]
    assert [part["after"] for part in new["diff"]] == ["kind: file\nmode: '0644'\n", "new\n"]
    assert node.get("check").status == 404
    node.put("check", b"old\n")
    other = run("file", check=True, **settings(cluster, "check", content="new\n"))
    assert (other["changed"], len(other["diff"])) == (True, 1)
    assert (other["diff"][0]["before"], other["diff"][0]["after"]) == ("old\n", "new\n")
    assert run("file", check=True, **settings(cluster, "check", state="absent"))["changed"]
    assert not run("file", check=True, **settings(cluster, "check", content="old\n"))["changed"]
    assert content_of(node, "check") == b"old\n"


def test_content_that_is_no_text_is_not_shown(cluster: Cluster) -> None:
    cluster["node1"].put("binary", b"\0\xff")
    shown = run("file", **settings(cluster, "binary", content="text"))["diff"][-1]
    assert (shown["before"], shown["after"]) == ("(2 bytes that are not shown)\n", "text")


def test_ansible_runs_it_with_what_it_needs(cluster: Cluster) -> None:
    arguments = settings(cluster, "by-ansible", content="{{ 6 * 7 }} is it\n", mode="0600")
    command = [f"{os.path.dirname(sys.executable)}/ansible", "localhost", "--diff"]
    command += ["-m", "pickbox.cluster.file", "-a", json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "+42 is it" in done.stdout
    assert content_of(cluster["node1"], "by-ansible") == b"42 is it\n"


@contextmanager
def between(node: Node, meddle: Callable[[str], bool]) -> Iterator[str]:
    """A server that hands requests on to `node`; `meddle` sees each method before that.

    Where it says False the node's answer is lost.
    """

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            answered = meddle(self.command)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = urllib3.request(
                self.command, node.client + self.path, body=body, headers=dict(self.headers)
            )
            if not answered:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.data)

        do_GET = do_PUT = do_DELETE = handle_any  # noqa: N815 - the names of http.server

        def log_message(self, *arguments: object) -> None:
            """Keep quiet."""

    with serving(Handler) as url:
        yield url


@pytest.mark.parametrize("wanted", [{"content": "mine"}, {"state": "absent"}])
def test_what_somebody_else_writes_meanwhile_is_not_overwritten(
    cluster: Cluster, wanted: dict[str, str]
) -> None:
    node = cluster["node1"]
    assert node.put("contested", b"old").status in (200, 201)

    def meddle(method: str) -> bool:
        if method != "GET":
            theirs = node.put("contested", f"theirs {secrets.token_hex(4)}".encode())
            assert theirs.status == 200
        return True

    with between(node, meddle) as url:
        said = failure("file", **settings(cluster, "contested", urls=[url], **wanted))
    assert "answers 412 precondition-failed: the path is at version" in said
    assert said.endswith("Nothing was overwritten; run it again to go by what is there now.")
    assert content_of(node, "contested").startswith(b"theirs ")


@pytest.mark.parametrize("other", ["node1", "node2"])
def test_a_write_whose_answer_is_lost_is_done_once(cluster: Cluster, other: str) -> None:
    node, seen = cluster["node1"], list[str]()

    def meddle(method: str) -> bool:
        seen.append(method)
        return method != "PUT" or seen.count("PUT") > 1

    with between(node, meddle) as url:
        urls = [url] if other == "node1" else [url, cluster[other].client]
        written = run("file", **settings(cluster, f"lost-{other}", urls=urls, content="x"))
    assert written["changed"]
    version = headers_of(node, f"lost-{other}")["X-Pickbox-Version"]
    assert version == str(written["version"])


def test_nodes_that_are_down_or_drained_are_passed_over(cluster: Cluster) -> None:
    leader, (down, other) = cluster.roles()
    down.kill()
    assert other.admin_request("POST", "/api/v1/drain").status == 200
    urls = [down.client, other.client, leader.client]
    written = run("file", **settings(cluster, "passed-over", urls=urls, content="x"))
    assert other.admin_request("DELETE", "/api/v1/drain").status == 200
    assert (written["changed"], written["url"]) == (True, leader.client)


def test_nodes_that_are_all_down_are_named(cluster: Cluster) -> None:
    urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    said = failure("file", **settings(cluster, "x", urls=urls, content="x", timeout=1))
    assert all(f"{url}/api/v1/files/x?consistency=linearizable does not" in said for url in urls)
    assert "See that the node runs" in said


def test_without_a_majority_it_fails_in_time_in_the_words_of_the_cluster(cluster: Cluster) -> None:
    alone, *others = cluster
    for node in others:
        node.kill()
    wait_until(lambda: alone.status()["leader"] is None, "it knows that nobody leads")
    said = failure("file", **settings(cluster, "x", urls=[alone.client], content="x", timeout=25))
    assert f"{alone.client}/api/v1/files/x?consistency=linearizable answers 503 no-leader: " in said


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../escape", "answers 400 invalid-path: "),
        ("/absolute", "answers 400 invalid-path: "),
        ("a//b", "answers 400 invalid-path: "),
        (".pickbox/id", "answers 400 invalid-path: "),
        ("kinds-of/file/below", "answers 409 path-taken: 'kinds-of/file' is not a directory"),
    ],
)
def test_a_path_that_cannot_be_is_told_in_the_words_of_the_cluster(
    cluster: Cluster, path: str, said: str
) -> None:
    run("file", **settings(cluster, "kinds-of/file", content="x"))
    assert said in failure("file", **settings(cluster, path, content="x"))


def test_a_file_that_is_too_large_is_told(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(5 << 20))
    said = failure("file", **settings(cluster, "large", src=str(tmp_path / "large")))
    assert "answers 413 too-large: The body has 5242880 bytes" in said


def test_another_server_is_not_taken_for_an_empty_cluster(cluster: Cluster) -> None:
    urls = [cluster["node1"].monitor]
    said = failure("file", **settings(cluster, "x", urls=urls, state="absent"))
    assert "answers 404 not-found: Nothing is at this address" in said


def test_a_source_that_is_not_there_is_said(cluster: Cluster) -> None:
    said = failure("file", **settings(cluster, "x", src="/nowhere/to/be/found"))
    assert "src: /nowhere/to/be/found cannot be read on" in said
    assert "It is read where the task runs" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "any of the following are missing: content, template, src"),
        ({"content": "x", "src": "/x"}, "mutually exclusive"),
    ],
)
def test_what_goes_not_together_is_refused(
    cluster: Cluster, wrong: dict[str, str], said: str
) -> None:
    assert said in failure("file", **settings(cluster, "x", **wrong))
