"""The path that a client sends is the path that is checked: nothing is merged, cleaned, decoded
twice or redirected on the way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from http_node import TOKEN, Running, raw, running

if TYPE_CHECKING:
    from collections.abc import Iterator

TRAVERSALS = {
    "../evil": "parent-reference",
    "a/../../evil": "parent-reference",
    "..": "parent-reference",
    "%2e%2e/evil": "parent-reference",
    "%2E%2E%2Fevil": "parent-reference",
    "..%2fevil": "parent-reference",
    "a%2f..%2f..%2fevil": "parent-reference",
    "..%5cevil": "parent-reference",
    "a%5c..%5c..%5cevil": "parent-reference",
    "..\\evil": "parent-reference",
    "%252e%252e%252fevil": "parent-reference",
    "%252e%252e/evil": "parent-reference",
    "..%c0%afevil": "overlong-utf8",
    "%c0%ae%c0%ae/evil": "overlong-utf8",
    "/etc/passwd": "absolute",
    "%2fetc%2fpasswd": "absolute",
    "./evil": "dot-component",
    "a/./evil": "dot-component",
    "a//evil": "empty-component",
    "a/": "empty-component",
    "": "empty",
    "a%00b": "nul",
    "C:/evil": "drive-letter",
    "C:%5cevil": "drive-letter",
    ".pickbox/id": "reserved",
    "x" * 256: "name-too-long",
    "/".join(["y" * 200] * 21): "path-too-long",
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("outer") / "node"
    directory.mkdir()
    with running(directory) as started:
        yield started


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
@pytest.mark.parametrize(("spelling", "rule"), TRAVERSALS.items(), ids=repr)
def test_a_path_that_leaves_the_folder_is_refused_by_its_rule(
    node: Running, spelling: str, rule: str, method: str
) -> None:
    refused = node.client(method, f"/api/v1/files/{spelling}", body=b"x" * (method == "PUT"))
    assert refused.status == 400
    assert refused.problem["type"] == "urn:pickbox:problem:invalid-path"
    assert (refused.problem["rule"], refused.problem["field"]) == (rule, "path")
    around = node.settings.data_dir.parent
    assert os.listdir(around) == [node.settings.data_dir.name]


@pytest.mark.parametrize("prefix", ["/api/v1/%66iles/", "/api/%76%31/files/"])
def test_another_spelling_of_the_address_leads_to_the_same_check(
    node: Running, prefix: str
) -> None:
    refused = node.client("PUT", f"{prefix}..%2fevil", body=b"x")
    assert refused.problem["rule"] == "parent-reference"


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/files/../../../etc/passwd",
        "/api/v1/../v1/files/x",
        "/api/v1/x/../files/x",
        "/static/../apps.py",
        "/static/%2e%2e/apps.py",
        "/static/..%2fapps.py",
        "/static//etc/passwd",
    ],
)
def test_nothing_outside_of_what_is_served_is_reached(node: Running, target: str) -> None:
    assert node.client("GET", target).problem["status"] in {400, 404}


@pytest.mark.parametrize(
    ("spelling", "path"),
    [
        ("plain", "plain"),
        ("with%20space", "with space"),
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("50%25", "50%"),
        ("%2541", "%41"),  # decoded once: a second time would make it A
        ("semi;colon=1", "semi;colon=1"),
        ("q%3Fx", "q?x"),
        ("h%23x", "h#x"),
        ("%C3%A9", "é"),
        ("new%0Aline", "new\nline"),
        ("tab%09s", "tab\ts"),
        ("-rf", "-rf"),
        ("...", "..."),
        ("trailing.", "trailing."),
        ("trailing%20", "trailing "),
        ("quote%22%27", "quote\"'"),
        ("back%5Cslash", "back\\slash"),
        ("a%2Fslash", "a/slash"),
        ("~root", "~root"),
    ],
)
def test_a_path_is_decoded_once_and_kept_as_it_is(node: Running, spelling: str, path: str) -> None:
    assert node.put(spelling, path.encode()).json["path"] == path
    assert node.client("GET", f"/api/v1/files/{spelling}").content == path.encode()
    node.client("DELETE", f"/api/v1/files/{spelling}")


@pytest.mark.parametrize("spelling", ["%", "a%2", "a%zz", "%%41"])
def test_a_broken_escape_is_refused_and_not_guessed(node: Running, spelling: str) -> None:
    refused = node.put(spelling, b"x")
    assert (refused.status, refused.problem["field"]) == (400, "path")


def test_a_file_is_never_redirected_to(node: Running) -> None:
    for target in ("/api/v1/files/x/", "/api//v1/files/x", "//api/v1/files/x", "/api/v1/files//"):
        assert node.client("GET", target).status in {400, 404}


def test_bytes_that_do_not_belong_in_an_address_are_refused(node: Running) -> None:
    port = node.settings.dashboard_port
    for target in (b"/api/v1/files/caf\xe9", b"http://other/api/v1/files/x", b"*", b"x"):
        answer = raw(port, b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answer


def test_the_rules_hold_for_moves_too(node: Running) -> None:
    node.put("inside", b"x")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    body = b'{"source": "inside", "destination": "../evil"}'
    refused = node.client("POST", "/api/v1/move", body=body, headers=headers)
    assert refused.problem["rule"] == "parent-reference"
