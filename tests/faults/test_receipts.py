"""A change of what clients wrote that no client asked for is found."""

from __future__ import annotations

import pytest

from faults.receipts import watchers_violations
from pickbox.changes import Outcome, Status


@pytest.mark.parametrize(
    ("request_id", "path", "wrong"),
    [("c1-7", b"http/p0-0", 0), ("5f" * 16, b"folder/x", 0), ("5f" * 16, b"http/p0-0", 1)],
    ids=["a client's", "a person's file", "a placed file"],
)
def test_what_a_watcher_proposes_of_what_clients_write_is_found(
    request_id: str, path: bytes, wrong: int
) -> None:
    outcome = Outcome(Status.APPLIED, 0, path)
    assert len(list(watchers_violations([(request_id, 9, outcome)]))) == wrong
