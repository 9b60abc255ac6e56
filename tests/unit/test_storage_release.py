"""Which release may run on a data directory and its catalog; what a level adds to one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pickbox.changes import Entry, Kind
from pickbox.levels import LEVEL, LEVELS, Level, WrongRelease
from pickbox.storage import catalog as catalogs
from pickbox.storage import release
from pickbox.storage.catalog import Catalog
from pickbox.storage.catalog_rows import hash_of

if TYPE_CHECKING:
    from pathlib import Path

NEWER = LEVEL + 1
ENTRY = Entry(b"f", Kind.FILE, 1, 0o644, 1, b"d" * 32, b"", 1, "node1")
COLUMN = Level(NEWER, "9.9.0", ("ALTER TABLE entries ADD COLUMN label TEXT",))


def run_as(version: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have a release look at the directory as at its start; the newest that is noted then."""
    monkeypatch.setattr(release, "__version__", version)
    release.claim_release(data_dir)
    noted = json.loads((data_dir / release.FILE).read_text())
    assert noted["release"] == version
    return str(noted["newest"])


def test_releases_of_one_major_number_run_on_each_others_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_as("1.2.0", tmp_path, monkeypatch) == "1.2.0"
    assert run_as("1.10.0", tmp_path, monkeypatch) == "1.10.0"
    assert run_as("1.2.0", tmp_path, monkeypatch) == "1.10.0", "the newest is not forgotten"
    assert run_as("2.0.0rc1", tmp_path, monkeypatch) == "2.0.0rc1"


def test_a_release_leaves_the_data_of_a_newer_major_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_as("1.3.0", tmp_path, monkeypatch)
    run_as("2.0.1", tmp_path, monkeypatch)
    before = (tmp_path / release.FILE).read_bytes()
    monkeypatch.setattr(release, "__version__", "1.3.0")
    for look in (release.claim_release, release.refuse_newer_major):
        with pytest.raises(WrongRelease) as refused:
            look(tmp_path)
        assert str(refused.value) == (
            f"{tmp_path} was written by release 2.0.1, and this is 1.3.0, which cannot read what a "
            "release 2 writes: start 2.0.1 or a later one again, or restore a backup that release "
            "1 made"
        )
    assert (tmp_path / release.FILE).read_bytes() == before


def test_a_directory_is_only_looked_at_before_it_is_claimed(tmp_path: Path) -> None:
    release.refuse_newer_major(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"release": "?", "newest": "new"}'])
def test_a_damaged_statement_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / release.FILE).write_text(content)
    with pytest.raises(WrongRelease, match=r"release\.json is damaged .* remove the file"):
        release.claim_release(tmp_path)


def later_catalog(path: Path, name: str, value: int | str) -> str:
    """A catalog as a later release leaves it."""
    Catalog(str(path)).close()
    with closing(sqlite3.connect(path)) as db:
        statement = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
        db.executemany(statement, [(name, value), ("level_release", "9.9.0")])
        db.commit()
    return str(path)


def contents(path: str) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("level", r"at level 99, since the upgrade to release 9\.9\.0 .* start release 9\.9\.0 or"),
        ("schema", "written by a newer major release .* start that release again"),
    ],
)
def test_a_catalog_of_a_later_level_is_not_opened_and_not_taken_in(
    tmp_path: Path, name: str, told: str
) -> None:
    path = later_catalog(tmp_path / "later.db", name, 99)
    before = contents(path)
    with pytest.raises(WrongRelease, match=told):
        Catalog(path)
    assert contents(path) == before
    own = Catalog(str(tmp_path / "catalog.db"))
    with own.transaction(7) as txn:
        txn.put(ENTRY)
    with pytest.raises(WrongRelease, match=f"the snapshot at {path} .*{told}"):
        own.load(path)
    assert (own.applied_index, own.get(b"f"), own.level) == (7, ENTRY, LEVEL)


def test_the_hash_at_the_first_level_is_that_of_releases_that_know_no_levels(
    tmp_path: Path,
) -> None:
    catalog = Catalog(str(tmp_path / "catalog.db"))
    with catalog.transaction(1) as txn:
        assert txn.next_version() == 1
        txn.put(ENTRY)
    assert catalog.state_hash == hash_of(ENTRY).to_bytes(32) + (1).to_bytes(8)


def raise_and_fail(catalog: Catalog) -> None:
    """Raise the level in an entry of which something else fails."""
    with catalog.transaction(2) as txn:
        txn.raise_level(NEWER, "9.9.0")
        with txn.revising(b"f") as db:
            db.execute("UPDATE entries SET nonsense = 1")


def test_a_level_adds_its_columns_for_good_and_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "LEVELS", (*LEVELS, COLUMN))
    catalog = Catalog(str(tmp_path / "catalog.db"))
    with catalog.transaction(1) as txn:
        txn.put(ENTRY)
    before = catalog.state_hash
    with pytest.raises(sqlite3.OperationalError):
        raise_and_fail(catalog)
    assert (catalog.level, catalog.state_hash) == (LEVEL, before)
    with catalog.transaction(2) as txn:
        txn.raise_level(NEWER, "9.9.0")
    assert catalog.level == NEWER
    assert catalog.state_hash[:32] == before[:32], "a column without a value changes no entry"
    assert catalog.state_hash != before, "who is at another level has other state"


def test_a_value_in_a_column_that_a_level_added_counts_until_the_entry_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogs, "LEVELS", (*LEVELS, COLUMN))
    catalog = Catalog(str(tmp_path / "catalog.db"))
    with catalog.transaction(1) as txn:
        txn.put(ENTRY)
        txn.put(ENTRY)
        txn.raise_level(NEWER, "9.9.0")
    plain = catalog.state_hash
    hashes = []
    for label in ("a", "b", None):
        with catalog.transaction(2) as txn, txn.revising(b"f") as db:
            db.execute("UPDATE entries SET label = ?", (label,))
        hashes.append(catalog.state_hash)
    assert hashes[2] == plain
    assert len({*hashes}) == 3
    with catalog.transaction(3) as txn:
        with txn.revising(b"f") as db:
            db.execute("UPDATE entries SET label = 'c'")
        txn.put(ENTRY)
    assert catalog.state_hash == plain, "a new version has no label"
