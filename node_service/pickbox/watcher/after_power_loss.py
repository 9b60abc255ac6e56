"""From a loss of power to a folder that can be trusted again.

What the log had committed may be ahead of what this node's catalog still knows, so a leader is
asked first, and all of it is applied. Only then do the doubts settle, and what is wrong is placed
anew. Until that is done and durable, each start begins with it again, whatever ended the last one.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Final

from pickbox.errors import PickboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pickbox.storage.power import PowerRecord
    from pickbox.storage.synced import SyncedFolder
    from pickbox.watcher.doubt import Doubts

log = logging.getLogger(__name__)

_PATIENCE: Final = 1.0
"""Seconds that a leader is waited for at a time, and between tries on a disk that refuses."""

_AWAITS_LEADER: Final = (
    "a loss of power may have changed the folder, and a leader is needed to tell what belongs in "
    "it: leave the folder alone until then"
)
_COMPARES: Final = (
    "the folder is compared with the log after a loss of power: leave it alone until that is done"
)


class AfterPowerLoss:
    """Holds the folder back until what a loss of power did to it is known.

    Args:
        barrier: returns once all is applied that was committed before; raises `PickboxError`.
        wants: whether any of these paths waits to be placed.
        open_folder: begins to place and to watch, with these paths to be placed.
    """

    def __init__(
        self,
        power: PowerRecord,
        doubts: Doubts,
        synced: SyncedFolder,
        *,
        in_doubt: bool,
        barrier: Callable[[float], None],
        wants: Callable[[Collection[bytes]], bool],
        open_folder: Callable[[Collection[bytes]], None],
    ) -> None:
        self._power = power
        self._doubts = doubts
        self._synced = synced
        self._barrier = barrier
        self._wants = wants
        self._open_folder = open_folder
        self._leader_told = threading.Event()
        self._settled = threading.Event()
        self._opened = threading.Event()
        self._stopping = threading.Event()
        self._refusal = ""
        self._wrong: Collection[bytes] = ()
        self._thread = threading.Thread(target=self._run, name="after-power-loss", daemon=True)
        if not in_doubt:
            self._settled.set()

    @property
    def in_doubt(self) -> bool:
        """Whether what is in the folder is not known yet."""
        return not self._settled.is_set()

    @property
    def reason(self) -> str:
        """Why people should not use the folder yet; empty if they may."""
        if self.in_doubt:
            return self._reason_of_doubt()
        if not self.opened:
            return "the folder is not opened yet"
        if self._wrong and self._wants(self._wrong):
            return "files that a loss of power damaged are placed again: leave the folder alone"
        self._wrong = ()
        return ""

    def _reason_of_doubt(self) -> str:
        if self._refusal:
            return (
                "the folder cannot be compared with the log after a loss of power, which is tried "
                f"again and again: {self._refusal}"
            )
        return _COMPARES if self._leader_told.is_set() else _AWAITS_LEADER

    @property
    def opened(self) -> bool:
        """Whether the folder is placed into and watched."""
        return self._opened.is_set()

    def alive(self) -> bool:
        """Whether the folder is open, or still on its way to be."""
        return self.opened or self._thread.ident is None or self._thread.is_alive()

    def start(self) -> None:
        """Open the folder; after a loss of power, on a thread of its own, when it is settled."""
        if self.in_doubt:
            log.warning("folder_in_doubt", extra={"fields": {"why": "the machine went down"}})
            self._thread.start()
        else:
            self._power.note_start()
            self._open(())

    def stop(self, timeout: float) -> None:
        """Give up. The next start begins anew if this one did not get to the end."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def wait_settled(self) -> None:
        """Wait a while until the folder is known: the log must not forget anything before.

        Who waits has the catalog pinned, and that lets SQLite's WAL grow.

        Raises:
            OSError: it is still in doubt.
        """
        if not self._settled.wait(_PATIENCE):
            raise OSError("the folder is in doubt after a loss of power")

    def _run(self) -> None:
        began = time.monotonic()
        wrong: Collection[bytes] | None = None
        while not self._stopping.is_set():
            try:
                if not self._has_heard_leader():
                    continue
                if wrong is None:  # once: it forgets what the log said
                    wrong = self._doubts.settle()
                self._synced.sync()
                self._power.note_start()
            except Exception as error:  # whatever it was, nobody else opens the folder
                self._note_refusal(error)
                self._stopping.wait(_PATIENCE)
                continue
            self._settled.set()
            seconds = round(time.monotonic() - began, 3)
            fields = {"wrong": len(wrong), "seconds": seconds}
            log.warning("folder_settled", extra={"fields": fields})
            self._open(wrong)
            return

    def _note_refusal(self, error: Exception) -> None:
        self._refusal = str(error) or repr(error)
        surprise = not isinstance(error, OSError | sqlite3.Error)
        fields = {"why": self._refusal}
        log.warning("folder_not_settled", exc_info=surprise, extra={"fields": fields})

    def _has_heard_leader(self) -> bool:
        """Whether all is applied that was committed at the start; waits for it a while."""
        if not self._leader_told.is_set():
            try:
                self._barrier(_PATIENCE)
            except PickboxError:
                return False
            self._leader_told.set()
        return True

    def _open(self, wrong: Collection[bytes]) -> None:
        self._wrong = wrong
        self._open_folder(wrong)
        self._opened.set()
