"""Proposes changes, and remembers of each path what the answer means for it."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pickbox.changes import ABSENT, Delete, Put, Status
from pickbox.errors import OutcomeUnknown, PickboxError
from pickbox.known import Revision
from pickbox.storage.paths import display
from pickbox.watcher.dirty import Dirty
from pickbox.watcher.failures import backoff
from pickbox.watcher.reconcile import Proposal, replicated_time, says_the_same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pickbox.changes import Outcome
    from pickbox.seams import CatalogReader, ChangeProposer, Placer, StateManager
    from pickbox.storage.disk import DiskGuard
    from pickbox.storage.tree import FileTree
    from pickbox.watcher.dirty import DirtySet
    from pickbox.watcher.failures import Failures
    from pickbox.watcher.guard import DeleteGuard
    from pickbox.watcher.metrics import WatcherMetrics

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
BROKEN_PAUSE: Final = 1.0
"""Seconds between tries while the folder is not what it should be."""


class Submissions:
    """Submits proposals, several to a submission. Thread-safe."""

    def __init__(
        self,
        tree: FileTree,
        state: StateManager,
        catalog: CatalogReader,
        proposer: ChangeProposer,
        placer: Placer,
        disk: DiskGuard,
        dirty: DirtySet,
        failures: Failures,
        guard: DeleteGuard,
        metrics: WatcherMetrics,
    ) -> None:
        self._tree = tree
        self._state = state
        self._catalog = catalog
        self._proposer = proposer
        self._placer = placer
        self._disk = disk
        self._dirty = dirty
        self._failures = failures
        self._guard = guard
        self._metrics = metrics
        self._refusals = 0
        self._unanswered: dict[str, list[Revision]] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.disk_full = False

    def submit(self, proposals: Sequence[Proposal], timeout: float) -> float:
        """Propose, and book the answers. Return 0, or seconds after which to try it all again.

        Changes whose answer was lost may be committed yet, in the log of a node that is down, say.
        They are asked for under the same request id until it is known: an edit made meanwhile
        would otherwise be proposed on the version before them, and be in conflict with them.
        """
        proposals = self._without_content_if_disk_is_full(proposals)
        if not proposals:
            return 0.0
        if not self._folder_is_intact(proposals):
            return BROKEN_PAUSE
        changes = [proposal.change for proposal in proposals]
        request_id, maybe_committed = uuid.uuid4().hex, False
        self._state.propose(request_id, [_noted(proposal) for proposal in proposals])
        while True:
            try:
                receipt = self._proposer.propose(changes, request_id=request_id, timeout=timeout)
                break
            except PickboxError as error:
                maybe_committed |= isinstance(error, OutcomeUnknown)
                pause = self.pause_after(error, len(changes))
            if not maybe_committed:
                self._state.answered(request_id, ())
                return pause
            if self._stopping.wait(pause):
                return pause
        with self._lock:
            self._refusals = 0
        self._book(request_id, proposals, receipt.outcomes)
        return 0.0

    def settle_unanswered(self, timeout: float) -> float:
        """Book what was proposed before the node was killed. Return 0, or seconds to wait first.

        Each request is asked for again under its id, with nothing to change: it is answered as it
        was when it was applied. If it never was, this empty one takes its id, and the first one is
        not applied any more, wherever it may be under way. One thread, before all submissions.
        """
        if self._unanswered is None:
            self._unanswered = self._state.proposed()
        for request_id, noted in list(self._unanswered.items()):
            try:
                receipt = self._proposer.propose([], request_id=request_id, timeout=timeout)
            except PickboxError as error:
                return self.pause_after(error, len(noted))
            known = [_proposal(revision) for revision in noted] if receipt.outcomes else []
            self._book(request_id, known, receipt.outcomes)
            fields = {"request_id": request_id, "changes": len(noted), "applied": len(known)}
            log.info("lost_answer_found", extra={"fields": fields})
            del self._unanswered[request_id]
        return 0.0

    def stop(self) -> None:
        """Ask no longer for answers that were lost."""
        self._stopping.set()

    def pause_after(self, error: PickboxError, changes: int) -> float:
        """Seconds to leave the cluster alone for after `error`: growing, and jittered."""
        with self._lock:
            self._refusals += 1
            pause = backoff(self._refusals, FIRST_PAUSE, LONGEST_PAUSE)
        self._metrics.failed(error.type)
        fields = {"changes": changes, "why": error.detail, "again_in": round(pause, 3)}
        log.warning("changes_not_taken", extra={"fields": fields})
        return pause

    def _without_content_if_disk_is_full(self, proposals: Sequence[Proposal]) -> Sequence[Proposal]:
        """Deletes free space; new content waits until there is some."""
        full = not self._disk.ok()
        if full != self.disk_full:
            log.warning("disk_full" if full else "disk_has_room_again", extra={"fields": {}})
            self.disk_full = full
        if not full:
            return proposals
        self._metrics.failed("disk-full")
        held = [p for p in proposals if isinstance(p.change, Put)]
        for proposal in held:
            self._dirty.put_back(proposal.item, LONGEST_PAUSE)
        return [p for p in proposals if isinstance(p.change, Delete)]

    def _folder_is_intact(self, proposals: Sequence[Proposal]) -> bool:
        """The last look before a delete leaves this node: is this still the folder?"""
        if not any(isinstance(p.change, Delete) for p in proposals):
            return True
        broken = self._tree.intact()
        if broken:
            self._metrics.failed("folder-not-intact")
            log.error("deletes_not_proposed", extra={"fields": {"why": broken}})
        return not broken

    def _book(
        self, request_id: str, proposals: Sequence[Proposal], outcomes: Sequence[Outcome]
    ) -> None:
        revisions: list[Revision] = []
        to_place: list[bytes] = []
        for proposal, outcome in zip(proposals, outcomes, strict=True):
            seconds = time.monotonic() - proposal.item.since
            self._metrics.change_settled(outcome.status.value, seconds)
            if isinstance(proposal.change, Delete):
                self._book_delete(proposal, outcome, revisions, to_place)
            else:
                self._book_put(proposal, outcome, revisions, to_place)
        to_place += self._state.answered(request_id, revisions)  # placed since, and looked at again
        forgotten = [revision.path for revision in revisions if revision.row is None]
        if forgotten:
            self._guard.settle(forgotten)
        if to_place:
            self._placer.request(to_place)

    def _book_put(
        self,
        proposal: Proposal,
        outcome: Outcome,
        revisions: list[Revision],
        to_place: list[bytes],
    ) -> None:
        row, path = proposal.row, proposal.change.path
        assert row is not None
        match outcome.status:
            case Status.APPLIED:
                version = outcome.version
            case Status.UNCHANGED | Status.CONFLICT:
                entry = self._catalog.get(path)
                if entry is not None and says_the_same(entry, row):
                    version = entry.version
                else:
                    # A version that is not the catalog's tells the placer to replace what is on
                    # the disk, which is safe elsewhere. The base may be the catalog's: a file put
                    # over a directory that still has entries is a conflict all the same.
                    version = ABSENT
                    to_place += [path, outcome.path]
                if outcome.status is Status.CONFLICT:
                    self._tell_conflict(path, outcome)
            case _:
                self._refused(proposal, outcome)
                return
        revisions.append(Revision(path, row.version, replace(row, version=version)))
        self._failures.clear(path)

    def _book_delete(
        self,
        proposal: Proposal,
        outcome: Outcome,
        revisions: list[Revision],
        to_place: list[bytes],
    ) -> None:
        path = proposal.change.path
        match outcome.status:
            case Status.APPLIED | Status.UNCHANGED:
                pass
            case Status.DROPPED:
                fields = {"path": display(path), "why": outcome.reason or "changed elsewhere"}
                log.warning("delete_dropped", extra={"fields": fields})
                to_place.append(path)
            case _:
                self._refused(proposal, outcome)
                return
        revisions.append(_noted(proposal))
        self._failures.clear(path)

    def _refused(self, proposal: Proposal, outcome: Outcome) -> None:
        path = proposal.change.path
        reason = outcome.reason or f"{outcome.status.value}: version {outcome.version} is current"
        self._metrics.failed(outcome.status.value)
        log.error("change_refused", extra={"fields": {"path": display(path), "why": reason}})
        self._dirty.put_back(proposal.item, self._failures.record(path, reason))

    def _tell_conflict(self, path: bytes, outcome: Outcome) -> None:
        self._metrics.conflict_taken()
        fields = {"path": display(path), "copy": display(outcome.path)}
        log.warning("conflict", extra={"fields": fields})


def _noted(proposal: Proposal) -> Revision:
    """What the answer to `proposal` completes: a delete's row goes."""
    change = proposal.change
    return Revision(change.path, change.base, proposal.row if isinstance(change, Put) else None)


def _proposal(noted: Revision) -> Proposal:
    """What was proposed when `noted` was written, as far as booking its answer needs it."""
    now, path, row = time.monotonic(), noted.path, noted.row
    item = Dirty(path, now, now, explained=True)
    if row is None:
        return Proposal(Delete(path, noted.base), item)
    time_ns = replicated_time(row.mtime_ns)
    put = Put(path, row.kind, row.size, row.mode, time_ns, row.digest, base=row.version)
    return Proposal(put, item, row)
