"""What the state machine makes of a catalog that is damaged, and of one that may not be copied."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from pickbox.changes import Kind, Put, Submission
from pickbox.codec import encode_command
from pickbox.consensus.assembly import REFUSALS
from pickbox.replication.inline import InlineContent
from pickbox.replication.state_machine import StateMachine
from pickbox.storage.catalog import Catalog, CatalogTransaction
from pickbox.storage.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def open_machine(
    directory: Path, before_snapshot: Callable[[], None] = lambda: None
) -> tuple[StateMachine, Catalog]:
    catalog = Catalog(str(directory / "catalog.db"))
    machine = StateMachine(
        catalog,
        InlineContent(Staging(bytes(directory / "staging"))),
        in_folder=lambda submission, put: True,
        on_applied=lambda index, touched, submissions: None,
        on_loaded=lambda: None,
        before_snapshot=before_snapshot,
        on_recalled=lambda index, submissions: None,
    )
    return machine, catalog


def put(index: int) -> bytes:
    digest = blake3(b"x").digest()
    change = Put(b"f%06d" % index, Kind.FILE, 1, 0o644, 0, digest, inline=b"x")
    return encode_command([Submission(f"r{index}", "node1", 0, (change,))])


def damage(catalog: Path) -> None:
    """Destroy the pages of the entries and of the answers; what is read at the start is whole."""
    with sqlite3.connect(catalog) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
        query = "SELECT rootpage FROM sqlite_schema WHERE name IN ('entries', 'requests')"
        pages = [row[0] for row in db.execute(query)]
    db.close()
    with catalog.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)


def test_a_command_that_a_damaged_catalog_does_not_take_is_refused_by_this_node_alone(
    tmp_path: Path,
) -> None:
    machine, catalog = open_machine(tmp_path)
    for index in range(2, 50):
        machine.apply(index, put(index))
    catalog.close()
    damage(tmp_path / "catalog.db")
    machine, catalog = open_machine(tmp_path)
    for _ in range(2):  # it comes again
        with pytest.raises(REFUSALS, match="malformed"):
            machine.apply(50, put(50))
    assert machine.applied_index == 49


def test_what_no_catalog_takes_keeps_no_node_from_going_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, _ = open_machine(tmp_path)

    def remember_without_id(txn: CatalogTransaction, request_id: str, receipt: bytes) -> None:
        txn._db.execute("INSERT INTO requests VALUES (NULL, NULL, ?)", (receipt,))

    monkeypatch.setattr(CatalogTransaction, "remember", remember_without_id)
    with pytest.raises(Exception, match="NOT NULL") as raised:
        machine.apply(2, put(2))
    assert not isinstance(raised.value, REFUSALS)
    assert machine.applied_index == 0


def test_a_snapshot_that_may_not_be_made_does_not_pin_the_catalog(tmp_path: Path) -> None:
    """Else SQLite's WAL would grow with each entry."""
    machine, catalog = open_machine(tmp_path, before_snapshot=refuse)
    machine.apply(2, put(2))
    try:
        machine.begin_dump()(str(tmp_path / "copy"))
    except OSError as error:
        refused = error  # as the log keeps it, to tell
    machine.apply(3, put(3))
    busy, _, _ = catalog._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert not busy
    assert refused
    assert not (tmp_path / "copy").exists()


def refuse() -> None:
    raise OSError("the folder is in doubt")
