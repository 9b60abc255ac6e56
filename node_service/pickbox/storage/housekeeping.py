"""Removes, now and then, what a node keeps for a time only: staged content and old versions."""

from __future__ import annotations

import logging
import sqlite3
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.storage.staging import Staging
    from pickbox.storage.versions import Versions

log = logging.getLogger(__name__)

_STAGING_KEPT: Final = 3600.0
_PERIOD: Final = 300.0


class Housekeeping:
    """Keeps house until `stopped` is set.

    Args:
        is_awaited: whether content in staging is still needed, by its digest.
        in_doubt: while it says so, what is needed is not known, and nothing is removed.
    """

    def __init__(
        self,
        staging: Staging,
        versions: Versions,
        is_awaited: Callable[[bytes], bool],
        in_doubt: Callable[[], bool],
        stopped: threading.Event,
    ) -> None:
        self._staging = staging
        self._versions = versions
        self._is_awaited = is_awaited
        self._in_doubt = in_doubt
        self._stopped = stopped

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="housekeeping", daemon=True).start()

    def _run(self) -> None:
        while not self._stopped.wait(_PERIOD):
            if self._in_doubt():
                continue
            try:
                self._staging.sweep(_STAGING_KEPT, self._is_awaited)
                self._versions.sweep()
            except (OSError, sqlite3.Error) as error:
                log.warning("housekeeping_failed", extra={"fields": {"why": str(error)}})
