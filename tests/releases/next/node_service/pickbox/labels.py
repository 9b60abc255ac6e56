"""What the next release brings, in a test: a label of an entry's current version.

It is a column of the catalog and a kind of change, so it has a level. A new version of the entry
has no label.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flask import Blueprint

from pickbox.changes import Outcome, Status
from pickbox.levels import LEVEL

if TYPE_CHECKING:
    from pickbox.control import Control
    from pickbox.storage.catalog import CatalogTransaction

TAG = 250
"""Far from those that real kinds of changes get."""


@dataclass(frozen=True, slots=True)
class Label:
    """Write `label` on the current version of what is at `path`."""

    level: ClassVar[int] = LEVEL
    path: bytes
    label: str

    @property
    def bytes_in_command(self) -> int:
        return 64 + len(self.path) + len(self.label)


def pack_label(label: Label) -> list[Any]:
    return [label.path, label.label]


def unpack_label(fields: list[Any]) -> Label:
    path, label = fields
    return Label(bytes(path), str(label))


def apply_label(txn: CatalogTransaction, change: Label) -> Outcome:
    entry = txn.get(change.path)
    if entry is None:
        return Outcome(Status.DROPPED, 0, change.path, "nothing is there")
    with txn.revising(change.path) as db:
        db.execute("UPDATE entries SET label = ? WHERE path = ?", (change.label, change.path))
    return Outcome(Status.APPLIED, entry.version, change.path)


def labels_blueprint(control: Control) -> Blueprint:
    blueprint = Blueprint("labels", __name__, url_prefix="/api/v1/labels")

    @blueprint.get("/<path:path>")
    def get(path: str) -> dict[str, Any]:
        try:
            row = (
                control._catalog._reader()
                .execute("SELECT label FROM entries WHERE path = ?", (path.encode(),))
                .fetchone()
            )
        except sqlite3.OperationalError:  # there is no such column yet
            row = None
        return {"label": row and row[0]}

    @blueprint.put("/<path:path>/<label>")
    def put(path: str, label: str) -> dict[str, Any]:
        receipt = control._proposer.propose([Label(path.encode(), label)], timeout=10.0)
        return {"status": receipt.outcomes[0].status.value}

    return blueprint
