"""One round: all paths that are due are looked at, and what is found goes out in submissions.

Within a round deletes go first, deepest first, then puts, parents first, then the deletes of
directories that something was moved out of. A file that was renamed is one `Put` and one `Delete`
in the same submission.
"""

from __future__ import annotations

import logging
import stat as st
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pickbox.changes import Kind
from pickbox.storage.paths import display
from pickbox.watcher.content import is_gone
from pickbox.watcher.dirty import Dirty
from pickbox.watcher.large import LargeFile
from pickbox.watcher.reconcile import CHANGING, Failed, Large, Proposal, Wait

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Sequence

    from pickbox.known import KnownState
    from pickbox.seams import StateManager
    from pickbox.storage.tree import FileTree
    from pickbox.watcher.dirty import DirtySet
    from pickbox.watcher.failures import Failures
    from pickbox.watcher.guard import DeleteGuard
    from pickbox.watcher.large import LargeFiles
    from pickbox.watcher.metrics import WatcherMetrics
    from pickbox.watcher.reconcile import Reconciler
    from pickbox.watcher.submissions import Submissions

log = logging.getLogger(__name__)

MAX_CHANGES: Final = 500
MAX_BYTES: Final = 512 * 1024
"""Limits of one submission: changes, and the bytes that they take in a command."""

DIRECTORY_WAIT: Final = 0.2
"""Seconds until a vanished directory is looked at again whose files are still being moved."""

EVENT_PATIENCE: Final = 0.5
"""Seconds for the event of a delete to arrive, where something else saw first that it is gone."""


@dataclass(slots=True)
class _Present:
    """A path of this round that is on the disk.

    Attributes:
        row: what was known of it.
        renamed: the row of the file's former name, where nothing is any more.
    """

    item: Dirty
    stat: os.stat_result
    row: KnownState | None
    renamed: KnownState | None = None

    @property
    def is_new_directory(self) -> bool:
        return self.row is None and st.S_ISDIR(self.stat.st_mode)

    @property
    def was_directory(self) -> bool:
        """There was a directory, and now there is something else."""
        known = self.row is not None and self.row.kind is Kind.DIRECTORY
        return known and not st.S_ISDIR(self.stat.st_mode)


@dataclass(slots=True)
class _Batch:
    """What goes into the next submission."""

    proposals: list[Proposal] = field(default_factory=list)
    size: int = 0

    def has_room_for(self, group: Sequence[Proposal]) -> bool:
        more = _size(group)
        return not self.proposals or (
            len(self.proposals) + len(group) <= MAX_CHANGES and self.size + more <= MAX_BYTES
        )

    def add(self, group: Sequence[Proposal]) -> None:
        self.proposals += group
        self.size += _size(group)


class Rounds:
    """Runs rounds; one thread."""

    def __init__(
        self,
        tree: FileTree,
        state: StateManager,
        dirty: DirtySet,
        reconciler: Reconciler,
        submissions: Submissions,
        large: LargeFiles,
        guard: DeleteGuard,
        failures: Failures,
        metrics: WatcherMetrics,
        *,
        rescan: Callable[[str], None],
        timeout: float,
    ) -> None:
        self._tree = tree
        self._state = state
        self._dirty = dirty
        self._reconciler = reconciler
        self._submissions = submissions
        self._large = large
        self._guard = guard
        self._failures = failures
        self._metrics = metrics
        self._rescan = rescan
        self._timeout = timeout
        # New name -> former name of renamed files that are not settled: both go together, later.
        self._renaming: dict[bytes, bytes] = {}

    def run(self) -> None:
        """Look at all that is due, at most one submission's worth of paths."""
        items = self._dirty.take(MAX_CHANGES)
        if not items:
            return
        kept: set[bytes] = set()  # in the hands of `LargeFiles` when the round ends
        try:
            pause = self._run(items, kept)
        except Exception:
            # Whatever it was, the paths stay dirty: nothing is lost, and the thread goes on.
            self._metrics.failed("internal")
            log.exception("round_failed", extra={"fields": {"paths": len(items)}})
            pause = 1.0
        if pause:
            for item in items:
                self._dirty.put_back(item, pause)
        self._dirty.release(item.path for item in items if item.path not in kept)

    def _run(self, items: Sequence[Dirty], kept: set[bytes]) -> float:
        """Return 0, or seconds after which all `items` want a look again."""
        if pause := self._submissions.settle_unanswered(self._timeout):
            return pause
        present, missing = self._on_the_disk(items)
        claimed = self._find_renames(present)
        early, late = self._deletes(missing, claimed)
        deleting = {delete.change.path for delete in early}
        at_hand = {place.item.path for place in present}
        batch = _Batch()
        large: list[LargeFile] = []
        for group in (
            *([delete] for delete in early),
            *(self._look(place, deleting, at_hand, large) for place in present),
            *([delete] for delete in late),
        ):
            if not batch.has_room_for(group) and (pause := self._flush(batch)):
                return pause
            batch.add(group)
        if pause := self._flush(batch):
            return pause
        kept |= self._large.take(large)
        return 0.0

    def _on_the_disk(self, items: Sequence[Dirty]) -> tuple[list[_Present], list[Dirty]]:
        """Part what is there, parents first, from what is not."""
        present: list[_Present] = []
        missing: list[Dirty] = []
        for item in sorted(items, key=lambda item: item.path):
            self._renaming.pop(item.path, None)
            if self._reconciler.refresh_rules(item.path):
                self._rescan("ignore-rules")
            try:
                stat = self._tree.lstat(item.path)
            except OSError as error:
                self._failed(item, Failed("unreadable", str(error)))
                continue
            if stat is None:
                missing.append(item)
            else:
                self._guard.settle([item.path])
                place = _Present(item, stat, self._state.get(item.path))
                present.append(place)
                missing += self._lost_children(place)
        return present, missing

    def _lost_children(self, place: _Present) -> list[Dirty]:
        """A file where a directory was: what was in the directory has to go first."""
        if not place.was_directory:
            return []
        item = place.item
        below = (row.path for row in self._state.under(item.path) if row.path != item.path)
        return [Dirty(path, item.due, item.since, item.explained) for path in below]

    def _find_renames(self, present: Sequence[_Present]) -> dict[bytes, KnownState]:
        """Note at each new path the row of its former name; return those rows by their path."""
        claimed: dict[bytes, KnownState] = {}
        for place in present:
            if place.row is not None or place.stat.st_nlink > 1:
                continue  # known under this name, a directory, or a file of several names
            for row in self._reconciler.renamed_from(place.stat):
                if row.path not in claimed and self._tree.lstat(row.path) is None:
                    place.renamed = claimed[row.path] = row
                    break
        return claimed

    def _deletes(
        self, missing: Sequence[Dirty], claimed: dict[bytes, KnownState]
    ) -> tuple[list[Proposal], list[Proposal]]:
        """Deletes to propose before the puts, and those that have to wait for them."""
        items: dict[bytes, Dirty] = {}
        for item in missing:
            explained = item.explained or self._dirty.explains(item.path)
            for row in self._state.under(item.path):
                items.setdefault(row.path, Dirty(row.path, item.due, item.since, explained))
            items.setdefault(item.path, item).explained |= explained
        early: list[Proposal] = []
        late: list[Proposal] = []
        for path in sorted(items, reverse=True):
            if path in claimed:
                continue
            delete = self._reconciler.look_at_nothing(items[path])
            if delete is None:
                self._failures.clear(path)
            elif self._may_propose(delete):
                waits = any(name.startswith(path + b"/") for name in claimed)
                (late if waits else early).append(delete)
        return early, late

    def _may_propose(self, delete: Proposal) -> bool:
        path = delete.change.path
        if self._large.busy_below(path) or path in self._renaming.values():
            self._dirty.put_back(delete.item, DIRECTORY_WAIT)
            return False
        if self._guard.allows(path, explained=delete.item.explained):
            return True
        if self._guard.holds(path):
            return False
        if time.monotonic() - delete.item.since < EVENT_PATIENCE:
            self._dirty.put_back(delete.item, EVENT_PATIENCE)
        else:
            self._rescan("missing")  # its verdict is needed; it marks the path again
        return False

    def _look(
        self,
        place: _Present,
        deleting: Collection[bytes],
        at_hand: Collection[bytes],
        large: list[LargeFile],
    ) -> list[Proposal]:
        """What to propose for a path that is there, together with its former name's delete."""
        item = place.item
        if place.was_directory and not self._children_go(item.path, deleting):
            self._dirty.put_back(item, DIRECTORY_WAIT)
            return []
        try:
            found = self._reconciler.look(item, place.stat, place.row, place.renamed)
            if place.is_new_directory and not self._reconciler.ignores(item.path, place.stat):
                self._mark_children(item.path, at_hand)
        except OSError as error:
            found = Wait(CHANGING) if is_gone(error) else Failed("unreadable", str(error))
        if isinstance(found, Proposal | Large):
            self._failures.clear(item.path)
            delete = self._delete_of_former_name(place)
            if isinstance(found, Proposal):
                return [found, delete] if delete else [found]
            large.append(LargeFile(found, delete))
            return []
        if place.renamed is not None:
            former = Dirty(place.renamed.path, item.due, item.since, explained=True)
            self._dirty.put_back(former, found.seconds if isinstance(found, Wait) else CHANGING)
        if isinstance(found, Wait):
            if place.renamed is not None:
                self._renaming[item.path] = place.renamed.path
            self._dirty.put_back(item, found.seconds)
        elif isinstance(found, Failed):
            self._failed(item, found)
        else:
            self._failures.clear(item.path)
        return []

    def _delete_of_former_name(self, place: _Present) -> Proposal | None:
        if place.renamed is None:
            return None
        item = Dirty(place.renamed.path, place.item.due, place.item.since, explained=True)
        return self._reconciler.look_at_nothing(item)

    def _children_go(self, path: bytes, deleting: Collection[bytes]) -> bool:
        """Whether all that was in the directory which was at `path` is being deleted."""
        return all(row.path in deleting for row in self._state.under(path) if row.path != path)

    def _mark_children(self, directory: bytes, at_hand: Collection[bytes]) -> None:
        """A directory that is new here may have been moved in with all that is in it."""
        for name in self._tree.names(directory):
            path = directory + b"/" + name
            if path not in at_hand:
                self._dirty.mark(path)

    def _failed(self, item: Dirty, failed: Failed) -> None:
        delay = self._failures.record(item.path, failed.reason)
        self._metrics.failed(failed.cause)
        fields = {"path": display(item.path), "why": failed.reason}
        log.warning("path_not_taken", extra={"fields": fields})
        if failed.again:
            self._dirty.put_back(item, delay)

    def _flush(self, batch: _Batch) -> float:
        proposals, batch.proposals, batch.size = batch.proposals, [], 0
        return self._submissions.submit(proposals, self._timeout) if proposals else 0.0


def _size(group: Sequence[Proposal]) -> int:
    return sum(proposal.change.bytes_in_command for proposal in group)
