"""The judge of folders finds what it is there for, and what people may do passes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from faults.content import Damaged, content_of, token_of
from faults.folders import tokens_in, violations
from faults.record import Edit, Record

if TYPE_CHECKING:
    from pathlib import Path

ALONE = "folder/node1-1.txt"
RENAMED = "folder/node1-9.txt"
SHARED = "folder/both-2.txt"
COPY = "folder/both-2.sync-conflict-20260101-000000-node2.txt"


def record(*more: Edit) -> Record:
    """One file that node 1 edits and then renames, and one that two nodes make at once."""
    edits = [
        Edit("node1", ALONE, "first"),
        Edit("node1", ALONE, "second", parent="first"),
        Edit("node1", ALONE, None, parent="second"),
        Edit("node1", RENAMED, "second"),
        Edit("node1", SHARED, "one"),
        Edit("node2", SHARED, "other"),
        *more,
    ]
    issued = {"c1-1", *(edit.token for edit in edits if edit.token)}
    return Record(edits=edits, issued=issued)


def good_files() -> dict[str, str]:
    return {"http/p0-0.a": "c1-1", RENAMED: "second", SHARED: "one", COPY: "other"}


def wrong(files: dict[str, str], judged: Record) -> str:
    return "\n".join(violations(files, judged))


def test_files_as_they_were_left_pass() -> None:
    assert wrong(good_files(), record()) == ""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({RENAMED: None}, "second, which node1 left at folder/node1-9.txt, is lost"),
        ({COPY: None}, "other, which node1, node2 left at folder/both-2.txt, is lost"),
        ({"http/p0-0.a": "c9-9"}, "http/p0-0.a is what nobody wrote"),
        ({RENAMED: "first"}, "was left with second by node1, and has first"),
        ({ALONE: "first"}, "was left with None by node1, and has first"),
        ({ALONE: "second"}, "is there 2 times"),
        ({"folder/both-3.txt": "other"}, "other of folder/both-2.txt is there 2 times"),
        (
            {"folder/node1-9.sync-conflict-20260101-000000-node1.txt": "first"},
            "is a copy of what was in no conflict",
        ),
        (
            {"http/p0-0.sync-conflict-20260101-000000-node1.a": "c1-1"},
            "is a copy of what was in no conflict",
        ),
    ],
    ids=[
        "lost file",
        "lost loser",
        "foreign content",
        "edit undone",
        "removal undone",
        "rename that left its source",
        "second copy",
        "copy without conflict",
        "copy of what came over HTTP",
    ],
)
def test_files_that_are_wrong_are_found(change: dict[str, str | None], sentence: str) -> None:
    files = {path: token for path, token in (good_files() | change).items() if token}
    assert sentence in wrong(files, record())


def test_an_edit_that_found_something_else_is_told() -> None:
    rolled_back = Edit("node1", RENAMED, "third", parent="first")
    assert "was left with second, and node1 found first" in wrong(
        good_files() | {RENAMED: "third"}, record(rolled_back)
    )


def test_what_was_replaced_knowingly_may_be_gone() -> None:
    edit = Edit("node2", SHARED, "merged", parent="one")
    files = good_files() | {SHARED: "merged"}
    assert wrong(files, record(edit)) == ""
    assert "other, which" in wrong(files | {COPY: "one"}, record(edit))


def test_nothing_is_asked_of_a_name_whose_edit_was_cut_off() -> None:
    unsure = Edit("node1", RENAMED, "third", sure=False)
    for left in ("second", "third"):
        assert wrong(good_files() | {RENAMED: left}, record(unsure)) == ""
    lost = good_files()
    del lost[RENAMED]
    assert wrong(lost, record(unsure)) == ""
    assert "nobody wrote" in wrong(good_files() | {RENAMED: "damaged: …"}, record(unsure))


def test_a_node_without_power_may_forget_what_an_edit_was_made_on_and_no_content() -> None:
    """Its file is then in conflict with the version before, and both are kept."""
    copy = "folder/node1-9.sync-conflict-20260101-000000-node1.txt"
    files = good_files() | {RENAMED: "first", copy: "second"}
    powerless = replace(record(), powerless={"node1"})
    assert wrong(files, powerless) == ""
    assert "is a copy of what was in no conflict" in wrong(files, record())
    del files[copy]
    assert "second, which node1 left" in wrong(files, powerless)


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_content_tells_its_token(size: int) -> None:
    assert token_of(content_of("c1-7", size)) == "c1-7"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        content_of("c1-7", 5000)[:-1],
        content_of("c1-7", 5000)[:4096] + bytes(904),
        content_of("c1-7", 5000)[:2500] + content_of("c1-8", 5000)[2500:],
    ],
    ids=["empty", "cut", "zeros at the end", "two mixed"],
)
def test_content_that_nobody_wrote_is_told(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(Damaged):
        token_of(content)
    (tmp_path / "http").mkdir()
    (tmp_path / "http" / "file").write_bytes(content)
    assert "nobody wrote" in wrong(tokens_in(tmp_path), Record())
