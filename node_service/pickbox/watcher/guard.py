"""Deletes that nobody was seen making are believed only in small numbers.

A disk that is not mounted, a restore that went wrong, a folder emptied while the node was down:
all look like "everything was deleted". A delete is *explained* if its event was seen live, for the
path or a directory above it. One that is not explained needs the verdict of a full scan; too many
of them are held until a person approves or undoes them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from pickbox.status import HeldDeletes
from pickbox.storage.paths import display

if TYPE_CHECKING:
    from collections.abc import Collection

MASS: Final = 100
"""So many unexplained deletes, or fewer, are always believed."""

SHARE: Final = 0.5
"""More than `MASS` are believed up to this share of all known paths."""

_EXAMPLES: Final = 10


class DeleteGuard:
    """Keeps the verdicts; thread-safe."""

    def __init__(self) -> None:
        self._cleared: set[bytes] = set()
        self._approved: set[bytes] = set()
        self._held: set[bytes] = set()
        self._known = 0
        self._lock = threading.Lock()

    def judge(
        self, missing: Collection[bytes], *, renamed: Collection[bytes], known: int
    ) -> set[bytes]:
        """A full scan's verdict: return which of the `missing` paths may be deleted.

        Args:
            missing: paths that vanished unseen.
            renamed: those of them whose file was found under another name.
            known: how many paths the node knows.
        """
        suspicious = set(missing) - set(renamed)
        with self._lock:
            self._known = known
            self._held &= suspicious
            self._approved &= suspicious
            suspicious -= self._approved
            if len(suspicious) > MASS and len(suspicious) > SHARE * known:
                self._held |= suspicious
            self._cleared = set(missing) - self._held
            return set(self._cleared)

    def allows(self, path: bytes, *, explained: bool) -> bool:
        """Whether the delete of `path` may be proposed; False: held, or not judged yet."""
        with self._lock:
            if explained:
                self._held.discard(path)
            return explained or path in self._cleared or path in self._approved

    def holds(self, path: bytes) -> bool:
        """Whether `path` is held."""
        with self._lock:
            return path in self._held

    def settle(self, paths: Collection[bytes]) -> None:
        """The deletes of `paths` are done, or the paths are there again."""
        with self._lock:
            for verdicts in (self._held, self._cleared, self._approved):
                verdicts.difference_update(paths)

    def held(self) -> HeldDeletes:
        """What is held, with a few examples in path order."""
        with self._lock:
            examples = tuple(display(path) for path in sorted(self._held)[:_EXAMPLES])
            return HeldDeletes(len(self._held), self._known, examples)

    def approve(self) -> set[bytes]:
        """Let go of all that is held, to be deleted; return the paths."""
        with self._lock:
            released, self._held = self._held, set()
            self._approved |= released
            return released

    def drop(self) -> set[bytes]:
        """Let go of all that is held, not to be deleted; return the paths."""
        with self._lock:
            released, self._held = self._held, set()
            return released
