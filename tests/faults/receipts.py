"""What a node's catalog remembers of every change, and what must not be in it."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from typing import TYPE_CHECKING

from pickbox.codec import decode_receipts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pickbox.changes import Outcome

_CLIENTS_KEY = re.compile(r"c\d+-\d+")


def answers(catalog: Path) -> Iterator[tuple[str, int, Outcome]]:
    """Request id, log index, and what became of it, in the order of the log."""
    with contextlib.closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT id, receipt FROM requests ORDER BY log_index").fetchall()
    for request_id, encoded in rows:
        for receipt in decode_receipts(encoded):
            yield from ((request_id, receipt.index, outcome) for outcome in receipt.outcomes)


def watchers_violations(found: Iterable[tuple[str, int, Outcome]]) -> Iterator[str]:
    """What only clients write over HTTP and a watcher proposed: it took a placement for an edit."""
    for request_id, index, outcome in found:
        if outcome.path.startswith(b"http") and not _CLIENTS_KEY.fullmatch(request_id):
            yield f"a watcher proposed a change of what is placed: {outcome}, index {index}"
