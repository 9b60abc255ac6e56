"""Who was refused: counted by cause, and logged once a minute for each source and cause."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Final

log = logging.getLogger(__name__)

_QUIET_SECONDS: Final = 60.0
_SOURCES: Final = 256
_EVENTS_A_MINUTE: Final = 20


class Refused(Exception):
    """A peer that is not let in.

    Attributes:
        cause: one word, the label of the counter.
        source: node id if a certificate of the CA names one, else the address.
    """

    def __init__(self, cause: str, source: str, why: str = "") -> None:
        super().__init__(f"{source}: {cause} {why}".rstrip())
        self.cause = cause
        self.source = source
        self.why = why


class Refusals:
    """Counts and logs. For one thread; the counter may be read by any."""

    def __init__(self) -> None:
        self.by_cause: Counter[str] = Counter()
        self._last: dict[tuple[str, str, str], float] = {}
        self._suppressed = 0
        self._window = 0.0
        self._in_window = 0

    def add(self, event: str, refused: Refused, address: str) -> None:
        """Count `refused`; log it as `event` unless the same was logged less than a minute ago."""
        self.by_cause[refused.cause] += 1
        if not self._may_log((event, refused.cause, refused.source)):
            self._suppressed += 1
            return
        fields = {"cause": refused.cause, "peer": refused.source, "address": address}
        if refused.why:
            fields["why"] = refused.why
        suppressed, self._suppressed = self._suppressed, 0
        log.warning(event, extra={"fields": {**fields, "suppressed": suppressed}})

    def _may_log(self, key: tuple[str, str, str]) -> bool:
        now = time.monotonic()
        if now - self._last.get(key, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return False
        if now - self._window >= _QUIET_SECONDS:
            self._window, self._in_window = now, 0
        self._in_window += 1
        if self._in_window > _EVENTS_A_MINUTE:
            return False
        self._last.pop(key, None)
        self._last[key] = now
        if len(self._last) > _SOURCES:
            del self._last[next(iter(self._last))]
        return True
