"""Files over HTTP: what is stored, what is read back, and under which conditions."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from http_node import Running, running

from pickbox.changes import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = "/api/v1/files/"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("node")) as started:
        yield started


def move(node: Running, **members: object) -> object:
    headers = {"Content-Type": "application/json"}
    return node.client("POST", "/api/v1/move", body=json.dumps(members), headers=headers)


def test_a_stored_file_is_read_back_with_all_that_is_known_of_it(node: Running) -> None:
    stored = node.put(
        "docs/plan.txt", b"one", X_Pickbox_Mode="0640", X_Pickbox_Mtime="1700000000123456789"
    )
    assert stored.status == 201
    digest = f"blake3:{blake3(b'one').hexdigest()}"
    answer = stored.json
    assert (answer["path"], answer["digest"]) == ("docs/plan.txt", digest)
    assert stored.headers["ETag"] == f'"{answer["version"]}"'
    assert answer["request_id"] == stored.headers["X-Request-Id"]

    read = node.client("GET", f"{FILES}docs/plan.txt")
    assert (read.status, read.content) == (200, b"one")
    expected = {
        "ETag": stored.headers["ETag"],
        "Content-Length": "3",
        "Content-Type": "text/plain",
        "Accept-Ranges": "bytes",
        "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT",
        "X-Pickbox-Version": str(answer["version"]),
        "X-Pickbox-Digest": digest,
        "X-Pickbox-Mode": "0640",
        "X-Pickbox-Mtime": "1700000000123456789",
    }
    assert {name: read.headers[name] for name in expected} == expected


def test_replacing_a_file_answers_200_with_a_newer_version(node: Running) -> None:
    first, second = node.put("again", b"1"), node.put("again", b"2")
    assert (first.status, second.status) == (201, 200)
    assert second.json["version"] > first.json["version"]


def test_an_empty_file_is_a_file(node: Running) -> None:
    assert node.put("empty", b"").status == 201
    read = node.client("GET", f"{FILES}empty")
    assert (read.status, read.content, read.headers["Content-Length"]) == (200, b"", "0")


def test_head_gives_the_headers_of_get_and_no_content(node: Running) -> None:
    node.put("head", b"12345")
    head = node.client("HEAD", f"{FILES}head", headers={"Range": "bytes=0-1"})
    assert (head.status, head.content, head.headers["Content-Length"]) == (200, b"", "5")


def test_content_from_the_folder_cannot_run_as_a_page_of_ours(node: Running) -> None:
    node.put("evil.html", b"<script>alert(1)</script>")
    headers = node.client("GET", f"{FILES}evil.html").headers
    assert headers["Content-Security-Policy"] == "sandbox"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("asked", "content", "told"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=7-100", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-100", b"0123456789", "bytes 0-9/10"),
        ("BYTES=1-1", b"1", "bytes 1-1/10"),
    ],
)
def test_a_range_is_answered_with_its_bytes(
    node: Running, asked: str, content: bytes, told: str
) -> None:
    node.put("digits", b"0123456789")
    part = node.client("GET", f"{FILES}digits", headers={"Range": asked})
    assert (part.status, part.content, part.headers["Content-Range"]) == (206, content, told)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_range_outside_of_the_file_is_not_satisfiable(node: Running, asked: str) -> None:
    node.put("digits", b"0123456789")
    refused = node.client("GET", f"{FILES}digits", headers={"Range": asked})
    assert refused.status == 416
    assert refused.problem["type"] == "urn:pickbox:problem:range-not-satisfiable"
    assert refused.headers["Content-Range"] == "bytes */10"


def test_an_empty_file_has_no_range(node: Running) -> None:
    node.put("none", b"")
    assert node.client("GET", f"{FILES}none", headers={"Range": "bytes=0-"}).status == 416


@pytest.mark.parametrize(
    "asked", ["bytes=4-2", "bytes=-", "bytes=", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "x"]
)
def test_a_range_that_means_nothing_to_us_is_answered_with_the_whole_file(
    node: Running, asked: str
) -> None:
    node.put("digits", b"0123456789")
    whole = node.client("GET", f"{FILES}digits", headers={"Range": asked})
    assert (whole.status, whole.content) == (200, b"0123456789")


def test_if_range_gives_the_whole_file_when_it_changed(node: Running) -> None:
    old = node.put("resumed", b"aaaa").headers["ETag"]
    asked = {"Range": "bytes=2-", "If-Range": old}
    assert node.client("GET", f"{FILES}resumed", headers=asked).status == 206
    node.put("resumed", b"bbbb")
    changed = node.client("GET", f"{FILES}resumed", headers=asked)
    assert (changed.status, changed.content) == (200, b"bbbb")


def test_a_reader_who_has_the_version_gets_304(node: Running) -> None:
    etag = node.put("known", b"x").headers["ETag"]
    for tag in (etag, f"W/{etag}", f'"0", {etag}', "*"):
        answer = node.client("GET", f"{FILES}known", headers={"If-None-Match": tag})
        assert (answer.status, answer.content, answer.headers["ETag"]) == (304, b"", etag)
    assert node.client("GET", f"{FILES}known", headers={"If-None-Match": '"0"'}).status == 200


def test_a_reader_who_wants_another_version_gets_412(node: Running) -> None:
    etag = node.put("wanted", b"x").headers["ETag"]
    assert node.client("GET", f"{FILES}wanted", headers={"If-Match": etag}).status == 200
    refused = node.client("GET", f"{FILES}wanted", headers={"If-Match": '"999999"'})
    assert (refused.status, refused.problem["field"]) == (412, "If-Match")


def test_conditions_on_time_are_honoured(node: Running) -> None:
    node.put("timed", b"x", X_Pickbox_Mtime="1700000000000000000")
    same = {"If-Modified-Since": "Tue, 14 Nov 2023 22:13:20 GMT"}
    older = {"If-Modified-Since": "Tue, 14 Nov 2023 22:13:19 GMT"}
    assert node.client("GET", f"{FILES}timed", headers=same).status == 304
    assert node.client("GET", f"{FILES}timed", headers=older).status == 200
    since = {"If-Unmodified-Since": "Mon, 13 Nov 2023 00:00:00 GMT"}
    assert node.client("GET", f"{FILES}timed", headers=since).status == 412


def test_a_write_on_an_old_version_is_refused(node: Running) -> None:
    old = node.put("contended", b"1").headers["ETag"]
    assert node.put("contended", b"2", If_Match=old).status == 200
    refused = node.put("contended", b"3", If_Match=old)
    assert refused.status == 412
    assert refused.problem["type"] == "urn:pickbox:problem:precondition-failed"
    assert node.client("GET", f"{FILES}contended").content == b"2"


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_write_with_a_condition_on_time_is_refused(node: Running, method: str) -> None:
    etag = node.put("dated", b"1").headers["ETag"]
    since = {"If-Unmodified-Since": "Mon, 13 Nov 2000 00:00:00 GMT"}
    refused = node.client(method, f"{FILES}dated", headers=since)
    assert (refused.status, refused.problem["field"]) == (400, "If-Unmodified-Since")
    assert "If-Match" in refused.problem["detail"]
    assert node.client("GET", f"{FILES}dated").content == b"1"
    with_version = {**since, "If-Match": etag}  # then time is ignored (RFC 9110, 13.1.4)
    assert node.client(method, f"{FILES}dated", headers=with_version).status == 200


def test_a_part_of_a_file_never_replaces_the_whole(node: Running) -> None:
    """Such as what ``curl -C`` sends."""
    node.put("whole", b"0123456789")
    refused = node.put("whole", b"789", Content_Range="bytes 7-9/10")
    assert (refused.status, refused.problem["field"]) == (400, "Content-Range")
    assert node.client("GET", f"{FILES}whole").content == b"0123456789"


def test_if_none_match_star_creates_and_never_replaces(node: Running) -> None:
    assert node.put("once", b"1", If_None_Match="*").status == 201
    assert node.put("once", b"2", If_None_Match="*").status == 412


def test_if_match_star_replaces_and_never_creates(node: Running) -> None:
    assert node.put("must-be", b"1", If_Match="*").status == 412
    node.put("must-be", b"1")
    assert node.put("must-be", b"2", If_Match="*").status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If_Match": '"0"'}, 412),  # the version of what is absent is no version to match
        ({"If_Match": 'W/"1"'}, 412),
        ({"If_Match": '"abc"'}, 412),
        ({"If_Match": '"99999999999999999999"'}, 412),
        ({"If_Match": "1"}, 400),
        ({"If_Match": '"1", "2"'}, 400),
        ({"If_None_Match": '"1"'}, 400),
        ({"If_Match": '"1"', "If_None_Match": "*"}, 400),
        ({"X_Pickbox_Mode": "644x"}, 400),
        ({"X_Pickbox_Mode": "4755"}, 400),
        ({"X_Pickbox_Mtime": "yesterday"}, 400),
        ({"X_Pickbox_Mtime": "9223372036854775808"}, 400),
        ({"Idempotency_Key": "a b"}, 400),
        ({"Idempotency_Key": "x" * 65}, 400),
    ],
)
def test_a_header_that_makes_no_sense_stores_nothing(
    node: Running, headers: dict[str, str], status: int
) -> None:
    refused = node.put("untouched", b"x", **headers)
    assert (refused.status, refused.problem["status"]) == (status, status)
    assert refused.json["field"] in {name.replace("_", "-") for name in headers}
    assert node.client("GET", f"{FILES}untouched").status == 404


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_no_node_could_read_is_refused(node: Running, kind: str) -> None:
    url = f"{FILES}unreadable-{kind}?kind={kind}"
    refused = node.client("PUT", url, headers={"X-Pickbox-Mode": "0220"})
    assert (refused.status, refused.problem["field"]) == (400, "X-Pickbox-Mode")
    assert "Add 0400" in refused.problem["detail"]
    assert node.client("PUT", url, headers={"X-Pickbox-Mode": "0500"}).status == 201


def test_a_directory_that_no_node_could_enter_is_refused(node: Running) -> None:
    url = f"{FILES}shut?kind=directory"
    refused = node.client("PUT", url, headers={"X-Pickbox-Mode": "0644"})
    assert (refused.status, refused.problem["field"]) == (400, "kind")
    assert "add 0100 to its X-Pickbox-Mode" in refused.problem["detail"]


def test_a_directory_is_made_and_cannot_be_read_as_a_file(node: Running) -> None:
    made = node.client("PUT", f"{FILES}photos?kind=directory", headers={"X-Pickbox-Mode": "0750"})
    assert (made.status, made.json["digest"]) == (201, "")
    refused = node.client("GET", f"{FILES}photos")
    assert (refused.status, refused.problem["kind"]) == (409, "directory")
    assert refused.problem["type"] == "urn:pickbox:problem:not-a-file"
    assert "?prefix=" in refused.problem["detail"]


def test_a_directory_takes_no_content_and_no_time(node: Running) -> None:
    assert node.client("PUT", f"{FILES}d?kind=directory", body=b"x").status == 400
    refused = node.client("PUT", f"{FILES}d?kind=directory", headers={"X-Pickbox-Mtime": "1"})
    assert refused.problem["field"] == "X-Pickbox-Mtime"


def test_a_symlink_is_told_and_never_followed(node: Running) -> None:
    node.files.symlink(b"link", b"/etc/passwd")
    node.files.symlink(b"odd-link", b"caf\xe9")
    refused = node.client("GET", f"{FILES}link")
    assert refused.status == 409
    assert (refused.problem["kind"], refused.problem["target"]) == ("symlink", "/etc/passwd")
    odd = node.client("GET", f"{FILES}odd-link").problem
    assert base64.b64decode(odd["target_b64"]) == b"caf\xe9"


def test_a_deleted_file_is_gone(node: Running) -> None:
    node.put("brief", b"x")
    deleted = node.client("DELETE", f"{FILES}brief")
    assert (deleted.status, deleted.json["version"]) == (200, 0)
    assert "ETag" not in deleted.headers
    missing = node.client("GET", f"{FILES}brief")
    assert missing.problem["type"] == "urn:pickbox:problem:not-found"
    assert node.client("DELETE", f"{FILES}brief").status == 404


def test_a_delete_honours_if_match(node: Running) -> None:
    old = node.put("guarded", b"1").headers["ETag"]
    node.put("guarded", b"2")
    assert node.client("DELETE", f"{FILES}guarded", headers={"If-Match": old}).status == 412
    nonsense = node.client("DELETE", f"{FILES}guarded", headers={"If-None-Match": "*"})
    assert nonsense.status == 400
    assert node.client("GET", f"{FILES}guarded").status == 200


def test_a_full_directory_goes_only_when_asked_to(node: Running) -> None:
    node.put("full/inside", b"x")
    refused = node.client("DELETE", f"{FILES}full")
    assert (refused.status, refused.problem["title"]) == (409, "Directory not empty")
    assert node.client("DELETE", f"{FILES}full?recursive=true").status == 200
    assert node.client("GET", f"{FILES}full/inside").status == 404


def test_a_move_takes_a_directory_with_all_that_is_in_it(node: Running) -> None:
    node.put("from/here/file", b"moved")
    moved = move(node, source="from", destination="to/there")
    assert (moved.status, moved.json["path"]) == (200, "to/there")
    assert node.client("GET", f"{FILES}to/there/here/file").content == b"moved"
    assert node.client("GET", f"{FILES}from/here/file").status == 404


def test_a_move_replaces_only_what_the_caller_expects(node: Running) -> None:
    node.put("m/a", b"a")
    there = node.put("m/b", b"b").json["version"]
    assert move(node, source="m/a", destination="m/b").status == 412
    assert move(node, source="m/a", destination="m/b", base=1).status == 412
    assert move(node, source="m/a", destination="m/b", destination_base=there).status == 200
    assert move(node, source="m/b", destination="m/c", base="any").status == 200


def test_paths_that_are_not_utf8_move_in_base64(node: Running) -> None:
    odd = b"caf\xe9"
    node.put("plain", b"x")
    encoded = base64.b64encode(odd).decode()
    moved = move(node, source="plain", destination="caf\\xe9", destination_b64=encoded)
    assert base64.b64decode(moved.json["path_b64"]) == odd
    assert node.client("GET", f"{FILES}caf%E9").content == b"x"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "source"),
        ({"source": "a"}, "destination"),
        ({"source": 1, "destination": "b"}, "source"),
        ({"source": "a", "destination_b64": "%%"}, "destination_b64"),
        ({"source": "a", "destination_b64": 7}, "destination_b64"),
        ({"source": "\ud800", "destination": "b"}, "source"),
        ({"source": "a", "destination": "b", "base": 0}, "base"),
        ({"source": "a", "destination": "b", "base": True}, "base"),
        ({"source": "a", "destination": "b", "destination_base": -1}, "destination_base"),
        ({"source": "a", "destination": "b", "extra": 1}, "extra"),
    ],
)
def test_a_malformed_move_names_what_is_wrong(
    node: Running, body: dict[str, object], field: str
) -> None:
    refused = move(node, **body)
    assert (refused.status, refused.problem["field"]) == (400, field)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 60000])
def test_a_move_that_is_not_a_json_object_is_refused(node: Running, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    refused = node.client("POST", "/api/v1/move", body=body, headers=headers)
    assert refused.problem["status"] == 400


def test_json_must_say_that_it_is_json_and_be_small(node: Running) -> None:
    assert node.client("POST", "/api/v1/move", body=b"{}").problem["status"] == 415
    big = {"Content-Type": "application/json"}
    refused = node.client("POST", "/api/v1/move", body=b" " * 70_000, headers=big)
    assert refused.problem["status"] == 413


def test_a_retry_under_the_same_key_is_applied_once(node: Running) -> None:
    first = node.put("retried", b"x", Idempotency_Key="job-1")
    second = node.put("retried", b"x", Idempotency_Key="job-1")
    assert first.json["request_id"] == "job-1"
    assert first.json["version"] == second.json["version"]


def test_what_became_of_a_request_can_be_asked_for(node: Running) -> None:
    version = node.put("asked", b"x", Idempotency_Key="job-2").json["version"]
    receipt = node.client("GET", "/api/v1/requests/job-2").json
    assert receipt["request_id"] == "job-2"
    outcome = {"status": "applied", "path": "asked", "version": version, "reason": ""}
    assert receipt["outcomes"] == [outcome]
    assert node.client("GET", "/api/v1/requests/never").problem["field"] == "request_id"
    assert node.client("GET", "/api/v1/requests/not%20an%20id").status == 404


def test_a_linearizable_read_goes_through_the_leader(node: Running) -> None:
    node.put("exact", b"x")
    before = node.files.barriers
    assert node.client("GET", f"{FILES}exact?consistency=linearizable").status == 200
    assert node.client("GET", f"{FILES}exact?consistency=local").status == 200
    assert node.files.barriers == before + 1
    assert node.client("GET", f"{FILES}exact?consistency=magic").problem["field"] == "consistency"


def test_a_listing_gives_every_entry_once_page_by_page(node: Running) -> None:
    names = [f"list/{number:03}" for number in range(25)]
    for name in names:
        node.put(name, b"x")
    found, cursor, pages = [], "", 0
    while cursor is not None:
        where = f"?prefix=list/&limit=10&cursor={cursor}"
        page = node.client("GET", f"/api/v1/files{where}").json
        found += [entry["path"] for entry in page["entries"]]
        cursor, pages = page["cursor"], pages + 1
    assert (found, pages) == (names, 3)


def test_an_entry_of_a_listing_tells_all_that_is_known(node: Running) -> None:
    node.put("told/file", b"abc", X_Pickbox_Mode="0600", X_Pickbox_Mtime="5")
    node.files.symlink(b"told/link", b"file")
    node.put("told/caf%E9", b"")
    odd, file, link = node.client("GET", "/api/v1/files?prefix=told/").json["entries"]
    assert base64.b64decode(odd["path_b64"]) == b"told/caf\xe9"
    version = file.pop("version")
    assert version > 0
    assert file == {
        "path": "told/file",
        "kind": "file",
        "size": 3,
        "mode": "0600",
        "mtime_ns": 5,
        "digest": f"blake3:{blake3(b'abc').hexdigest()}",
        "origin": "node1",
    }
    assert (link["kind"], link["target"]) == (Kind.SYMLINK.name.lower(), "file")


def test_a_prefix_is_bytes(node: Running) -> None:
    node.put("pre%E9/a", b"")
    found = node.client("GET", "/api/v1/files?prefix=pre%E9").json["entries"]
    assert [entry["kind"] for entry in found] == ["directory", "file"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=%21%21", "cursor"),
        ("cursor=YQ==", "cursor"),
        ("cursor=YR", "cursor"),
        ("cursor=YQ&prefix=b", "cursor"),
        ("prefx=a", "prefx"),
    ],
)
def test_a_listing_says_which_parameter_is_wrong(node: Running, query: str, field: str) -> None:
    refused = node.client("GET", f"/api/v1/files?{query}")
    assert (refused.status, refused.problem["field"]) == (400, field)


def test_a_misspelt_parameter_never_means_another_request(node: Running) -> None:
    node.put("kept/file", b"x")
    assert node.client("DELETE", f"{FILES}kept?recursve=true").status == 400
    assert node.client("DELETE", f"{FILES}kept?recursive=yes").status == 400
    assert node.client("GET", f"{FILES}kept/file").status == 200


def children(node: Running, query: str) -> list[str]:
    """What is directly there, by pages of two."""
    found: list[str] = []
    cursor = ""
    while True:
        page = node.client("GET", f"/api/v1/files?recursive=false&limit=2{query}{cursor}").json
        found += [entry["path"] for entry in page["entries"]]
        if page["cursor"] is None:
            return found
        cursor = f"&cursor={page['cursor']}"


def test_a_directory_is_listed_without_what_is_below_it(node: Running) -> None:
    for path in ("a/1", "a/b/2", "a/b/c/3", "a-b", "a0", "z"):
        assert node.put(f"tree/{path}", b"x").status == 201
    for number in range(120):
        node.put(f"tree/a/b/many-{number}", b"")
    assert children(node, "&prefix=tree/") == ["tree/a", "tree/a-b", "tree/a0", "tree/z"]
    assert children(node, "&prefix=tree/a/") == ["tree/a/1", "tree/a/b"]
    assert children(node, "&prefix=nothing/") == []
    assert children(node, "&prefix=tree/a") == ["tree/a", "tree/a-b", "tree/a0"]
    assert children(node, "&prefix=tree/a/b/many-11") == [
        f"tree/a/b/many-{number}" for number in (11, *range(110, 120))
    ]
    assert {"tree"} <= set(children(node, ""))
    assert "tree/a" not in children(node, "")
