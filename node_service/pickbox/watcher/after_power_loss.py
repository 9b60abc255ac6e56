"""From a loss of power to a folder that can be trusted again.

What the log had committed may be ahead of what this node's catalog still knows, so a leader is
asked first, and all of it is applied. Only then do the doubts settle, and what is wrong is placed
anew. Until that is done and durable, each start begins with it again, whatever ended the last one.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
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
        self._settled = threading.Event()
        self._opened = threading.Event()
        self._stopping = threading.Event()
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
            return "the folder is compared with the log after a loss of power: a leader is needed"
        if not self._opened.is_set():
            return "the folder is not opened yet"
        if self._wrong and self._wants(self._wrong):
            return "files that a loss of power damaged are being placed again"
        self._wrong = ()
        return ""

    def start(self) -> None:
        """Open the folder; after a loss of power, on a thread of its own, when it is settled."""
        if self.in_doubt:
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
        """Wait until the folder is known: the log must not forget anything before.

        Raises:
            OSError: the node stops before.
        """
        while not self._settled.wait(_PATIENCE):
            if self._stopping.is_set():
                raise OSError("the node stops, and its folder is in doubt")

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._barrier(_PATIENCE)
                wrong = self._doubts.settle()
                self._synced.sync()
                self._power.note_start()
            except PickboxError:
                continue  # it has waited
            except (OSError, sqlite3.Error) as error:
                log.warning("folder_not_settled", extra={"fields": {"why": str(error)}})
                self._stopping.wait(_PATIENCE)
                continue
            self._settled.set()
            self._open(wrong)
            return

    def _open(self, wrong: Collection[bytes]) -> None:
        self._wrong = wrong
        self._open_folder(wrong)
        self._opened.set()
