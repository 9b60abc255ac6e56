"""The trail of a change through the logs of all nodes: proposed, applied, placed.

Three events, each with the change's `path`. `change_proposed` is logged by the node that took the
change in, with the request id that its HTTP answer has too (`X-Request-Id`); `change_applied` by
every node, with request id, log index and the version that came of it; `change_placed` with that
version by every node whose folder did not have it before.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pickbox.changes import Move, Raise
from pickbox.storage.paths import display

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pickbox.changes import Change, Receipt, Submission

log = logging.getLogger(__name__)


def proposed(submission: Submission) -> None:
    """This node took in what `submission` asks for."""
    for change in submission.changes:
        _log("change_proposed", request_id=submission.request_id, **_described(change))


def applied(index: int, submissions: Sequence[Submission], receipts: Sequence[Receipt]) -> None:
    """This node's catalog has what the command at log index `index` asked for.

    A submission that was applied by an earlier entry is passed over.
    """
    for submission, receipt in zip(submissions, receipts, strict=True):
        if receipt.index != index:
            continue
        for change, outcome in zip(submission.changes, receipt.outcomes, strict=True):
            asked = _described(change)
            became = {"status": outcome.status.value, "version": outcome.version}
            if outcome.path != _path_of(change):
                became["now_at"] = display(outcome.path)
            common = {"request_id": submission.request_id, "index": index}
            _log("change_applied", **common, origin=submission.origin, **asked, **became)


def placed(path: bytes, version: int) -> None:
    """This node's folder has `version` of `path`; 0 when the path is gone."""
    _log("change_placed", path=display(path), version=version)


def _described(change: Change) -> dict[str, str]:
    described = {"change": type(change).__name__.lower(), "path": display(_path_of(change))}
    if isinstance(change, Move):
        described["from"] = display(change.path)
    return described


def _path_of(change: Change) -> bytes:
    """What `change` is about; of a move, where it goes."""
    if isinstance(change, Raise):
        return b""
    return change.destination if isinstance(change, Move) else change.path


def _log(event: str, **fields: object) -> None:
    if log.isEnabledFor(logging.INFO):
        log.info(event, extra={"fields": fields})
