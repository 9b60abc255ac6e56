"""Which files changed, counted on the tick thread and summed up for people on another one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from pickbox.observability.events import FILES_CHANGED, Finding
from pickbox.replication.conflicts import is_conflict_copy
from pickbox.storage.paths import display

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pickbox.changes import Entry

_EXAMPLES: Final = 3
_CONFLICTS: Final = 10


class FileChanges:
    """Gathers the paths that log entries touched until somebody asks for a summary.

    Args:
        look_up: what is at a path now.
    """

    def __init__(self, look_up: Callable[[bytes], Entry | None]) -> None:
        self._look_up = look_up
        self._lock = threading.Lock()
        self._clear()

    def note(self, paths: Sequence[bytes]) -> None:
        """A log entry touched `paths`. For the tick thread: it only counts."""
        with self._lock:
            self._count += len(paths)
            for path in paths:
                if len(self._examples) > _EXAMPLES:
                    break
                self._examples[path] = None
            room = _CONFLICTS - len(self._conflicts)
            if room:
                self._conflicts += [path for path in paths if is_conflict_copy(path)][:room]

    def findings(self) -> list[Finding]:
        """What was noted since the last call."""
        with self._lock:
            count, examples, conflicts = self._count, self._examples, self._conflicts
            self._clear()
        found = list(self._new_copies(conflicts))
        if count:
            what = "1 change" if count == 1 else f"{count} changes"
            rest = ", these and others:" if len(examples) > _EXAMPLES else "."
            shown = tuple(display(path) for path in list(examples)[:_EXAMPLES])
            found.append(Finding(FILES_CHANGED, f"{what} in the folder{rest}", paths=shown))
        return found

    def _new_copies(self, paths: list[bytes]) -> Iterator[Finding]:
        """The conflict copies that are there: others of `paths` were deleted."""
        for path in paths:
            entry = self._look_up(path)
            if entry is not None:
                name = display(path)
                text = f"An edit of {entry.origin} lost, and was kept as a conflict copy."
                yield Finding("conflict", text, entry.origin, (name,))

    def _clear(self) -> None:
        self._count = 0
        self._examples: dict[bytes, None] = {}  # each once, one more than told
        self._conflicts: list[bytes] = []
