"""What `check_path` lets through, and what it never does."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from pickbox.errors import InvalidPath
from pickbox.storage.paths import NAME_BYTES, PATH_BYTES, check_path, display, to_json

REFUSED = [
    (b"", "empty"),
    (b"/", "absolute"),
    (b"/etc/passwd", "absolute"),
    (b"a\0b", "nul"),
    (b"\0", "nul"),
    (b"a//b", "empty-component"),
    (b"a/", "empty-component"),
    (b".", "dot-component"),
    (b"a/./b", "dot-component"),
    (b"50%/./b", "dot-component"),
    (b"..", "parent-reference"),
    (b"../x", "parent-reference"),
    (b"a/../../x", "parent-reference"),
    (b"a/..", "parent-reference"),
    (b"..\\x", "parent-reference"),
    (b"a\\..\\..\\x", "parent-reference"),
    (b"a/b\\.", "parent-reference"),
    (b"%2e%2e/x", "parent-reference"),
    (b"%2e%2e%2fx", "parent-reference"),
    (b"%2E%2E%2Fx", "parent-reference"),
    (b"..%2fx", "parent-reference"),
    (b"..%5cx", "parent-reference"),
    (b"a/%2e", "parent-reference"),
    (b".%2e/x", "parent-reference"),
    (b"\xc0\xae\xc0\xae/x", "overlong-utf8"),
    (b"..\xc0\xafx", "overlong-utf8"),
    (b"%c0%ae%c0%ae/x", "overlong-utf8"),
    (b"C:/x", "drive-letter"),
    (b"c:\\x", "drive-letter"),
    (b".pickbox", "reserved"),
    (b".pickbox/id", "reserved"),
    (b"a/.pickbox-tmp-1", "reserved"),
    (b"n" * 256, "name-too-long"),
    (b"a/" + b"n" * 256 + b"/b", "name-too-long"),
    (b"a/" * 2500 + b"a", "path-too-long"),
]

ALLOWED = [
    b"a",
    b"a/b/c.txt",
    b"...",
    b"..a",
    b"a..",
    b".hidden",
    b".pickboxignore",
    b"a/.pickbox",
    b"-rf",
    b" leading and trailing ",
    b"trailing.",
    b"new\nline",
    b"tab\tand 'quotes\"",
    b"back\\slash",
    b"100%",
    b"a%20b",
    b"C:",
    b"not utf-8 \xff\xfe",
    "ünï/cödé/日本".encode(),
    b"\xc3\x80",
    b"n" * 255,
    b"/".join([b"n" * 255] * 16),
]


@pytest.mark.parametrize(("path", "rule"), REFUSED)
def test_a_refused_path_names_the_rule_that_it_breaks(path: bytes, rule: str) -> None:
    with pytest.raises(InvalidPath) as caught:
        check_path(path)
    assert caught.value.rule == rule
    assert caught.value.field == "path"
    assert caught.value.detail.startswith("The path ")
    assert caught.value.detail.endswith(".")
    assert len(caught.value.detail) < 500


@pytest.mark.parametrize("path", ALLOWED)
def test_odd_but_harmless_names_are_allowed(path: bytes) -> None:
    check_path(path)


def test_a_path_of_exactly_the_limit_is_allowed_and_one_byte_more_is_not() -> None:
    path = b"/".join([b"n" * 240] * 17)[: PATH_BYTES - 2] + b"ab"
    assert len(path) == PATH_BYTES
    check_path(path)
    with pytest.raises(InvalidPath) as caught:
        check_path(path + b"c")
    assert caught.value.rule == "path-too-long"


PIECES = some.sampled_from(
    [b"..", b".", b"/", b"\\", b"%2e", b"%2f", b"%5C", b"%00", b"\0", b"a", b"C:", b"\xc0\xae", b""]
)


@given(some.lists(PIECES, max_size=12).map(b"".join) | some.binary(max_size=300))
@example(b"a/%2e%2e/b")
def test_an_accepted_path_never_leaves_the_folder(path: bytes) -> None:
    try:
        check_path(path)
    except InvalidPath:
        return
    root = b"/folder"
    joined = os.path.normpath(os.path.join(root, path))
    assert joined == root + b"/" + path, "what was accepted is already in its only form"
    assert all(0 < len(name) <= NAME_BYTES for name in path.split(b"/"))
    assert b"\0" not in path
    as_windows_reads_it = path.replace(b"\\", b"/").split(b"/")
    assert b".." not in as_windows_reads_it


@given(some.binary(min_size=1, max_size=40))
def test_json_carries_every_byte_of_a_path(path: bytes) -> None:
    shown = to_json(path)
    if "path_b64" in shown:
        assert base64.b64decode(shown["path_b64"]) == path
        with pytest.raises(UnicodeDecodeError):
            path.decode()
    else:
        assert shown["path"].encode() == path


def test_bytes_that_are_not_utf8_are_shown_escaped() -> None:
    assert display(b"bad\xff") == "bad\\xff"
    assert to_json(b"bad\xff") == {"path": "bad\\xff", "path_b64": "YmFk/w=="}
    assert to_json("grün".encode()) == {"path": "grün"}
