"""Backup points and restores over the admin API: named, made once, removed, refused in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from http_node import Answer, Running, running
from transport_nodes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as node:
        yield node


def send(node: Running, method: str, target: str, **body: Any) -> Answer:
    headers = {"Content-Type": "application/json"}
    return node.admin(method, f"/api/v1/{target}", body=json.dumps(body), headers=headers)


def test_a_point_is_made_once_listed_shown_and_removed(node: Running) -> None:
    made = send(node, "POST", "backups", name="first")
    assert (made.status, made.json["state"], made.json["index"]) == (201, "ready", 41)
    directory = node.settings.data_dir / "backups/first"
    assert made.json["directory"] == str(directory)
    assert directory.is_dir()
    assert send(node, "POST", "backups", name="first").json == made.json

    listed = node.admin("GET", "/api/v1/backups").json
    assert listed == {"directory": str(directory.parent), "backups": [made.json]}
    assert node.admin("GET", "/api/v1/backups/first").json == made.json

    assert node.admin("DELETE", "/api/v1/backups/first").json["state"] == "absent"
    assert not directory.exists()
    for method in ("GET", "DELETE"):
        gone = node.admin(method, "/api/v1/backups/first")
        assert (gone.status, gone.problem["type"]) == (404, "urn:pickbox:problem:not-found")


def test_a_full_disk_is_said_and_leaves_nothing_and_the_name_can_be_used_again(
    node: Running,
) -> None:
    full = send(node, "POST", "backups", name="first", wait=0)
    assert (full.status, full.problem["type"]) == (507, "urn:pickbox:problem:disk-full")
    assert list((node.settings.data_dir / "backups").iterdir()) == []
    assert node.admin("GET", "/api/v1/backups/first").status == 507
    assert node.admin("GET", "/api/v1/backups").json["backups"] == []
    assert send(node, "POST", "backups", name="first").status == 201


def test_a_name_or_a_wait_that_is_none_is_refused(node: Running) -> None:
    for name in ("", "..", ".hidden", "a/b", "x" * 65, 7, None):
        for target in ("backups", "restores"):
            refused = send(node, "POST", target, name=name)
            assert (refused.status, refused.problem["field"]) == (400, "name")
    for wait in (-1, 3601, "soon", True):
        refused = send(node, "POST", "backups", name="first", wait=wait)
        assert (refused.status, refused.problem["field"]) == (400, "wait")


def test_a_node_whose_folder_is_in_doubt_makes_no_point(node: Running) -> None:
    node.control.not_now = "The power failed: wait."
    refused = send(node, "POST", "backups", name="first")
    assert (refused.status, refused.problem["detail"]) == (503, "The power failed: wait.")


def test_a_restore_takes_in_what_is_in_its_directory(node: Running) -> None:
    told = node.admin("GET", "/api/v1/restores").json
    assert told == {"directory": str(node.settings.data_dir / "restores"), "restores": []}
    missing = send(node, "POST", "restores", name="back")
    assert (missing.status, missing.problem["field"]) == (404, "name")

    (node.settings.data_dir / "restores/back").mkdir()
    done = send(node, "POST", "restores", name="back", path="docs/", over=True)
    assert (done.status, done.json["folder"], done.json["over"]) == (201, "docs", True)
    assert node.admin("GET", "/api/v1/restores/back").json["state"] == "ready"
    assert node.admin("DELETE", "/api/v1/restores/back").status == 200
    assert list((node.settings.data_dir / "restores").iterdir()) == []


@pytest.mark.parametrize("kind", ["backups", "restores"])
def test_what_is_removed_while_it_is_made_is_gone_when_that_ends(
    node: Running, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """So that a command that is interrupted leaves no copy of the folder behind."""
    monkeypatch.setattr("pickbox.http.backups._ANSWER_SECONDS", 0)
    directory = node.settings.data_dir / kind
    (node.settings.data_dir / "restores/one").mkdir()
    node.points.may_end.clear()
    assert send(node, "POST", kind, name="one").status == 202
    removed = node.admin("DELETE", f"/api/v1/{kind}/one")
    assert (removed.status, removed.json["state"]) == (202, "running")
    assert node.admin("GET", f"/api/v1/{kind}/one").json["state"] == "running"
    node.points.may_end.set()
    eventually(lambda: node.admin("GET", f"/api/v1/{kind}/one").status == 404)
    assert not (directory / "one").exists()


def test_what_is_asked_for_again_while_it_is_made_is_kept(
    node: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pickbox.http.backups._ANSWER_SECONDS", 0)
    node.points.may_end.clear()
    assert send(node, "POST", "backups", name="one").status == 202
    assert node.admin("DELETE", "/api/v1/backups/one").status == 202
    assert send(node, "POST", "backups", name="one").status == 202
    node.points.may_end.set()
    eventually(lambda: node.admin("GET", "/api/v1/backups/one").json["state"] == "ready")
    assert (node.settings.data_dir / "backups/one").is_dir()


def test_a_directory_that_was_never_taken_in_can_be_removed(node: Running) -> None:
    (node.settings.data_dir / "restores/back").mkdir()
    assert node.admin("DELETE", "/api/v1/restores/back").status == 200
    assert node.admin("DELETE", "/api/v1/restores/back").status == 404


def test_what_a_restore_cannot_take_is_refused(node: Running) -> None:
    (node.settings.data_dir / "restores/back").mkdir()
    for member, value in (("path", "../x"), ("path", ""), ("path", "\ud800"), ("over", "yes")):
        refused = send(node, "POST", "restores", **{"name": "back", member: value})
        assert (refused.status, refused.problem["field"]) == (400, member)


def test_what_an_earlier_process_left_is_removed_at_the_start(tmp_path: Path) -> None:
    for left in ("backups/.making-a/files", "backups/b", "restores/c", ".stale-d"):
        (tmp_path / left).mkdir(parents=True)
    with running(tmp_path) as node:
        assert node.admin("GET", "/api/v1/backups").json["backups"] == []
        for name in ("backups", "restores"):
            assert list((tmp_path / name).iterdir()) == []


def test_they_want_the_token(node: Running) -> None:
    for target in ("backups", "restores"):
        answer = node.admin("GET", f"/api/v1/{target}", headers={"Authorization": "Bearer no"})
        assert answer.status == 401
