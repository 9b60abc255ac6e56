"""File events, as hints where to look.

watchdog reads inotify(7) here. Handlers do nothing but mark paths: work in a handler is what makes
the kernel's queue overflow. After an overflow the watcher throws its `Events` away, starts new ones
and only then scans, so that nothing happens unseen between the two.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Final

from watchdog.events import (
    DirAttribEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyEmitter
from watchdog.observers.inotify_c import InotifyFD

from pickbox.storage.paths import RESERVED_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.events import FileSystemEvent
    from watchdog.observers.inotify_c import InotifyEvent

    from pickbox.watcher.dirty import DirtySet
    from pickbox.watcher.metrics import WatcherMetrics

RENAME_HOLD: Final = 0.1
"""Seconds that a delete waits, so that it meets the other half of a rename or a replacement."""

CREATED_WAIT: Final = 0.05
"""Seconds for a new file to be closed, which makes it due at once. Links and renames in from
outside are never closed, and so are looked at after this time."""

_WANTED: Final[list[type[FileSystemEvent]]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirAttribEvent,
    DirMovedEvent,
    DirDeletedEvent,
]
"""Not wanted: opens and reads, our own above all, and the changed times of directories."""

# watchdog sets a watch twice where a directory is made while its parent is read, and warns of it on
# standard error each time. It is harmless: the same watch is written again.
warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)

# watchdog calls it an error when an event arrives while it is stopped. The next start scans.
logging.getLogger("watchdog.observers.inotify").addFilter(
    lambda record: "called when the thread is inactive" not in record.getMessage()
)


class _Marker(FileSystemEventHandler):
    """Marks the paths that events name."""

    def __init__(
        self,
        root: bytes,
        dirty: DirtySet,
        metrics: WatcherMetrics,
        settle_seconds: float,
        on_new_directory: Callable[[], None],
    ) -> None:
        self._prefix = root + b"/"
        self._dirty = dirty
        self._metrics = metrics
        self._on_new_directory = on_new_directory
        self._delays: dict[type[FileSystemEvent], float] = {
            FileCreatedEvent: CREATED_WAIT,
            FileModifiedEvent: settle_seconds,
            FileAttribEvent: CREATED_WAIT,
            DirAttribEvent: CREATED_WAIT,
        }

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called on watchdog's thread for every event."""
        self._metrics.event_seen()
        kind = type(event)
        if kind in (FileDeletedEvent, DirDeletedEvent):
            self._mark(event.src_path, RENAME_HOLD, explained=True)
        elif kind in (FileMovedEvent, DirMovedEvent):
            self._mark(event.src_path, RENAME_HOLD, explained=True)
            self._mark(event.dest_path, 0.0)
        else:
            self._mark(event.src_path, self._delays.get(kind, 0.0))
        if kind in (DirCreatedEvent, DirMovedEvent):
            self._on_new_directory()

    def _mark(self, name: bytes | str, delay: float, *, explained: bool = False) -> None:
        path = os.fsencode(name)
        if not path.startswith(self._prefix):
            return  # the folder itself: the check of its marker sees to that
        path = path[len(self._prefix) :]
        if path != RESERVED_NAME and not path.startswith(RESERVED_NAME + b"/"):
            self._dirty.mark(path, delay=delay, explained=explained)


class Inotify(InotifyFD):
    """Reads events; tells when the kernel has dropped some."""

    def __init__(self, on_overflow: Callable[[], None]) -> None:
        super().__init__()
        self._on_overflow = on_overflow

    def handle_event(self, event: InotifyEvent) -> None:
        """Called for every event the kernel hands out.

        watchdog's own answer to an overflow is not used: it removes all watches, each of which puts
        one more event into the same queue, so with more directories than the queue has room for
        every overflow would cause the next.
        """
        if not event.is_queue_overflow:
            super().handle_event(event)
        elif self.should_keep_running():
            self._on_overflow()


class Events:
    """Watches the folder from `start` to `stop`; started once.

    Raises:
        OSError: no inotify instance is to be had (``fs.inotify.max_user_instances``).
    """

    def __init__(
        self,
        root: bytes,
        dirty: DirtySet,
        metrics: WatcherMetrics,
        *,
        settle_seconds: float,
        on_overflow: Callable[[], None],
        on_new_directory: Callable[[], None],
    ) -> None:
        self.inotify = Inotify(on_overflow)
        self._observer = BaseObserver(InotifyEmitter, inotify_fd=self.inotify)
        marker = _Marker(root, dirty, metrics, settle_seconds, on_new_directory)
        self._observer.schedule(marker, os.fsdecode(root), recursive=True, event_filter=_WANTED)

    def start(self) -> None:
        """Set the watches, all of them before this returns.

        Raises:
            OSError: the folder itself cannot be watched (the watch limit, or it is not there).
        """
        self.inotify.start()
        try:
            self._observer.start()
        except BaseException:
            self.inotify.stop()
            raise

    def stop(self) -> None:
        """Stop watching; nothing is marked after this returns."""
        # In this order, so that an overflow caused by the removal of the watches is not told.
        self.inotify.stop()
        if self.inotify.is_alive():
            self.inotify.join()
        self._observer.stop()
        if self._observer.is_alive():
            self._observer.join()

    def alive(self) -> bool:
        """Whether all threads that an event passes through still run."""
        emitters = self._observer.emitters
        return (
            self.inotify.is_alive()
            and self._observer.is_alive()
            and bool(emitters)
            and all(emitter.is_alive() for emitter in emitters)
        )
