"""The watcher: events and scans say where to look, rounds look, submissions propose."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Final

from pickbox.storage.paths import display
from pickbox.watcher.dirty import DirtySet
from pickbox.watcher.events import Events
from pickbox.watcher.failures import Failures
from pickbox.watcher.guard import DeleteGuard
from pickbox.watcher.ignore import IgnoreRules
from pickbox.watcher.large import LargeFiles
from pickbox.watcher.reconcile import Reconciler
from pickbox.watcher.rounds import Rounds
from pickbox.watcher.scan import Scanner
from pickbox.watcher.settle import Settling
from pickbox.watcher.submissions import Submissions
from pickbox.watcher.watch_limit import WatchLimit

if TYPE_CHECKING:
    from pickbox.seams import CatalogReader, ChangeProposer, Placer, StateManager
    from pickbox.settings import Settings
    from pickbox.status import HeldDeletes
    from pickbox.storage.disk import DiskGuard
    from pickbox.storage.staging import Staging
    from pickbox.storage.tree import FileTree
    from pickbox.watcher.metrics import WatcherMetrics

log = logging.getLogger(__name__)

CHECK_INTERVAL: Final = 1.0
"""Seconds between two looks at the folder's marker and at the threads."""

DEAF_INTERVAL: Final = 10.0
"""Seconds between full scans while not every directory can be watched."""

COUNT_INTERVAL: Final = 10.0
"""Seconds between two counts of directories while new ones are being made."""

STOP_SECONDS: Final = 3.0
"""How long `stop` waits for a submission under way."""


class Watcher:
    """Sees what people do in the folder and proposes it; implements `pickbox.seams.DirtyPaths`.

    Everything is thread-safe. Started and stopped once.
    """

    def __init__(
        self,
        settings: Settings,
        tree: FileTree,
        state: StateManager,
        catalog: CatalogReader,
        proposer: ChangeProposer,
        placer: Placer,
        staging: Staging,
        disk: DiskGuard,
        metrics: WatcherMetrics,
    ) -> None:
        self._settings = settings
        self._tree = tree
        self._state = state
        self._placer = placer
        self._metrics = metrics
        self._root = tree.root
        self._rules = IgnoreRules()
        self._dirty = DirtySet()
        self._failures = Failures()
        self._guard = DeleteGuard()
        self._settling = Settling(settings.settle_seconds, settings.settle_limit)
        reconciler = Reconciler(
            tree,
            state,
            catalog,
            placer,
            self._rules,
            self._settling,
            metrics,
            inline_limit=settings.inline_limit,
            max_file_size=settings.max_file_size,
        )
        self._submissions = Submissions(
            tree,
            state,
            catalog,
            proposer,
            placer,
            disk,
            self._dirty,
            self._failures,
            self._guard,
            metrics,
        )
        self._large = LargeFiles(
            tree,
            staging,
            disk,
            proposer,
            self._dirty,
            reconciler,
            self._submissions,
            self._failures,
            metrics,
            timeout=settings.request_timeout,
        )
        self._rounds = Rounds(
            tree,
            state,
            self._dirty,
            reconciler,
            self._submissions,
            self._large,
            self._guard,
            self._failures,
            metrics,
            rescan=self.rescan,
            timeout=settings.request_timeout,
        )
        self._scanner = Scanner(self._root, state, catalog, self._rules, self._guard, self._dirty)
        self._limit = WatchLimit(self._root)
        self._events: Events | None = None
        self._events_lost = threading.Event()
        self._deaf = ""
        self._broken = ""
        self._scan_reason = ""
        self._scanning = False
        self._next_scan = 0.0
        self._next_watch = 0.0
        self._next_count = 0.0
        self._new_directories = threading.Event()
        self._stopping = threading.Event()
        self._called = threading.Event()
        self._scan_done = False
        self._threads: list[threading.Thread] = []

    # What the node asks for.

    def start(self) -> None:
        """Begin to watch, then scan. Returns once events are seen; the scan goes on behind."""
        self._broken = self._tree.intact()
        if not self._broken:
            self._rules.refresh(self._tree)
            self._watch()
        self.rescan("start")
        for name, work in (("reconcile", self._reconcile), ("scan", self._supervise)):
            thread = threading.Thread(target=work, name=f"pickbox-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop looking. A submission under way is waited for a few seconds, not longer."""
        self._stopping.set()
        self._submissions.stop()
        self._called.set()
        self._unwatch()
        self._large.stop()
        self._dirty.wake()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def mark(self, path: bytes, *, delay: float = 0.0) -> None:
        """Have `path` looked at after `delay` seconds."""
        self._dirty.mark(path, delay=delay)

    def rescan(self, reason: str) -> None:
        """Have the whole folder scanned soon; `reason` names why, in logs and metrics."""
        self._scan_reason = self._scan_reason or reason
        self._called.set()

    @property
    def scan_done(self) -> bool:
        """Whether what changed while the node was down has been found."""
        return self._scan_done

    def idle(self) -> bool:
        """Whether nothing waits or is under way, but for paths that fail or are kept open."""
        stuck = [*self._failures.paths(), *self._settling.busy()]
        scanning = self._scanning or bool(self._scan_reason) or self._events_lost.is_set()
        return not scanning and self._dirty.idle(stuck)

    def alive(self) -> bool:
        """Whether the watcher's threads run."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def offered(self, digest: bytes) -> bytes | None:
        """The path in the folder that holds this content while peers fetch it, or None."""
        return self._large.offered(digest)

    def intact(self) -> bool:
        """Whether the folder was itself when last looked at, within a second or so."""
        return not self._broken

    # What operators ask for.

    def alarms(self) -> list[str]:
        """One sentence for everything that somebody has to see to."""
        held = self._guard.held()
        sentences = [self._broken, self._deaf, self._limit.reason]
        if held.count:
            sentences.append(
                f"{held.count} of {held.known} paths vanished while nobody was watching (such as "
                f"{held.examples[0]!r}): their deletes are held. Approve them or restore the files."
            )
        if self._submissions.disk_full:
            sentences.append("The disk is full: new and changed files are not taken in.")
        return [sentence for sentence in sentences if sentence]

    def busy(self) -> list[bytes]:
        """Paths that somebody has kept open for writing, and kept changing, for long."""
        return self._settling.busy()

    def errors(self) -> list[tuple[bytes, str]]:
        """Paths that could not be taken in, and why."""
        return self._failures.list()

    def held_deletes(self) -> HeldDeletes:
        """Deletes that wait for somebody to approve or undo them."""
        return self._guard.held()

    def approve_deletes(self) -> int:
        """Propose the held deletes after all; return how many."""
        paths = self._guard.approve()
        log.warning("deletes_approved", extra={"fields": {"paths": len(paths)}})
        for path in paths:
            self._dirty.mark(path)
        return len(paths)

    def restore_deletes(self) -> int:
        """Have the files whose deletes are held placed again; return how many."""
        paths = self._guard.drop()
        log.warning("deletes_restored", extra={"fields": {"paths": len(paths)}})
        self._state.forget(filter(None, map(self._state.get, paths)))
        self._placer.request(paths)
        return len(paths)

    # The threads.

    def _reconcile(self) -> None:
        while not self._stopping.is_set():
            if self._broken:
                self._stopping.wait(CHECK_INTERVAL / 4)
                continue
            self._dirty.wait(CHECK_INTERVAL)
            if not self._stopping.is_set() and not self._broken:
                self._rounds.run()

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            try:
                self._check_folder()
                if not self._broken:
                    self._scan_if_wanted()
                    self._check_watches()
            except (OSError, sqlite3.Error) as error:
                self._metrics.failed("scan")
                log.error("scan_failed", extra={"fields": {"why": str(error)}})
                self.rescan("retry")
                self._stopping.wait(CHECK_INTERVAL)
            if not self._scan_reason or self._broken:
                self._called.wait(CHECK_INTERVAL)
                self._called.clear()

    def _check_folder(self) -> None:
        """Is it still the folder that it was, and is it watched?"""
        broken = self._tree.intact()
        if broken and not self._broken:
            self._metrics.failed("folder-not-intact")
            log.error("folder_not_intact", extra={"fields": {"why": broken}})
            self._unwatch()
        if self._broken and not broken:
            log.warning("folder_intact_again", extra={"fields": {"path": display(self._root)}})
            self.rescan("folder-intact-again")
        self._broken = broken
        if broken:
            return
        if self._events_lost.is_set():
            self._watch_anew("overflow")
        elif not self._is_watched() and time.monotonic() >= self._next_watch:
            self._watch_anew("watching-anew")

    def _watch_anew(self, reason: str) -> None:
        """Replace the watches, and find by a scan what happened while there were none."""
        self._unwatch()
        self._events_lost.clear()
        self._watch()
        self.rescan(reason)

    def _is_watched(self) -> bool:
        return self._events is not None and self._events.alive()

    def _scan_if_wanted(self) -> None:
        reason = self._scan_reason
        if not reason:
            if time.monotonic() < self._next_scan:
                return
            reason = "interval"
        self._scanning, self._scan_reason = True, ""
        try:
            self._scan(reason)
        finally:
            self._scanning = False

    def _scan(self, reason: str) -> None:
        began = time.monotonic()
        self._rules.refresh(self._tree)
        result = self._scanner.scan()
        seconds = time.monotonic() - began
        self._metrics.scanned(reason, seconds)
        fields = {
            "reason": reason,
            "seconds": round(seconds, 3),
            "marked": result.marked,
            "held": result.held,
        }
        log.info("scan_ended", extra={"fields": fields})
        self._scan_done = True
        interval = self._settings.scan_interval * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
        if self._limit.check(result.directories):
            self._new_directories.set()
        if self._deaf or self._limit.reason:
            interval = min(interval, DEAF_INTERVAL)
        self._next_scan = time.monotonic() + interval

    def _check_watches(self) -> None:
        """New directories may have gone beyond the limit of watches."""
        now = time.monotonic()
        if not self._new_directories.is_set() or self._limit.reason or now < self._next_count:
            return
        self._new_directories.clear()
        again = self._limit.check()
        self._next_count = now + (CHECK_INTERVAL if again else COUNT_INTERVAL)
        if again:
            self._new_directories.set()
        if self._limit.reason:
            self._metrics.failed("watch-limit")
            log.error("watch_limit_reached", extra={"fields": {"why": self._limit.reason}})
            self.rescan("watch-limit")

    def _watch(self) -> None:
        try:
            events = Events(
                self._root,
                self._dirty,
                self._metrics,
                settle_seconds=self._settings.settle_seconds,
                on_overflow=self._overflowed,
                on_new_directory=self._new_directories.set,
            )
            events.start()
        except OSError as error:
            if not self._deaf:
                log.error("cannot_watch", extra={"fields": {"why": str(error)}})
            self._deaf = (
                f"The folder cannot be watched ({os.strerror(error.errno or 0)}): raise "
                f"fs.inotify.max_user_watches and max_user_instances. Until then it is scanned "
                f"every few seconds."
            )
            self._next_watch = time.monotonic() + DEAF_INTERVAL
            return
        self._events, self._deaf = events, ""

    def _unwatch(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            events.stop()

    def _overflowed(self) -> None:
        self._metrics.overflowed()
        log.warning("events_lost", extra={"fields": {"path": display(self._root)}})
        self._events_lost.set()
        self._called.set()
