"""The releases on a machine have an order, and those that are not kept are removed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from module_runs import failure, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Four releases, d the newest; a node runs b."""
    for age, name in enumerate("dcba"):
        directory = tmp_path / "releases" / name
        directory.mkdir(parents=True)
        (directory / ".complete").touch()
        os.utime(directory / ".complete", (1e9 - age, 1e9 - age))
        (tmp_path / "wheels" / f"pickbox-{name}-cpython").mkdir(parents=True)
    (tmp_path / "nodes/node1").mkdir(parents=True)
    (tmp_path / "nodes/node1/current").symlink_to("../../releases/b")
    return tmp_path


def releases(home: Path, **parameters: Any) -> dict[str, Any]:
    return run("releases", home=str(home), links=[f"{home}/nodes/*/current"], **parameters)


def names(answer: dict[str, Any]) -> list[str]:
    return [release["name"] for release in answer["releases"]]


def test_the_newest_comes_first_and_what_is_in_use_is_told(home: Path) -> None:
    found = releases(home)
    assert names(found) == ["d", "c", "b", "a"]
    assert [release["name"] for release in found["releases"] if release["in_use"]] == ["b"]
    assert not found["changed"]


def test_what_was_not_installed_completely_is_no_release(home: Path) -> None:
    (home / "releases/d/.complete").unlink()
    assert names(releases(home)) == ["c", "b", "a"]


def test_what_was_deployed_becomes_the_newest_once(home: Path) -> None:
    first = releases(home, deployed="a")
    assert (first["changed"], names(first)) == (True, ["a", "d", "c", "b"])
    assert not releases(home, deployed="a")["changed"]


def test_what_is_deployed_after_all_has_not_failed(home: Path) -> None:
    (home / "releases/d/.failed").write_text("node1: it never became ready\n")
    assert releases(home)["releases"][0]["failed"] == "node1: it never became ready"
    assert releases(home, deployed="d")["releases"][0]["failed"] == ""


def test_what_is_not_kept_is_removed_with_its_wheels(home: Path) -> None:
    done = releases(home, keep=1)
    assert (done["changed"], done["removed"], names(done)) == (True, ["c", "a"], ["d", "b"])
    assert sorted(path.name for path in (home / "releases").iterdir()) == ["b", "d"]
    assert len(list((home / "wheels").iterdir())) == 2
    assert not releases(home, keep=1)["changed"]


def test_what_failed_is_kept_for_whoever_looks_why(home: Path) -> None:
    (home / "releases/a/.failed").touch()
    assert releases(home, keep=1)["removed"] == ["c"]


def test_check_mode_tells_and_removes_nothing(home: Path) -> None:
    told = releases(home, keep=1, deployed="a", check=True)
    assert (told["changed"], told["removed"]) == (True, ["d", "c"])
    assert names(releases(home)) == ["d", "c", "b", "a"]


def test_a_machine_without_releases_has_none(tmp_path: Path) -> None:
    assert names(releases(tmp_path, keep=3)) == []


def test_keeping_none_is_refused(home: Path) -> None:
    assert "at least 1" in failure("releases", home=str(home), links=[], keep=0)
