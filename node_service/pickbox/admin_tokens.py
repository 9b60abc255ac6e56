"""The admin tokens of a node: which are accepted, and the file's read anew when it changes.

While tokens are rotated the file holds two, the new one first. As with certificates, a file is
loaded once it rests, and what cannot be used leaves the former tokens in force.
"""

from __future__ import annotations

import hmac
import logging
import threading
from typing import TYPE_CHECKING, Final, TypeAlias

from pickbox.settings import SettingsError, tokens_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pickbox.settings import Settings

log = logging.getLogger(__name__)

_EVERY: Final = 1.0
"""Seconds between two looks at the file."""

_Signature: TypeAlias = tuple[int, ...] | str


class AdminTokens:
    """Thread-safe: what is in force is replaced as a whole.

    Raises:
        SettingsError: there is no token that can be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._file = None if settings.admin_token is not None else settings.admin_token_file
        self._tried = self._seen = self._signature()
        self._tokens = _encoded(settings.tokens)

    def accepts(self, given: bytes) -> bool:
        """Whether it is one of the tokens; the time that takes tells nothing of them."""
        return sum(hmac.compare_digest(given, token) for token in self._tokens) > 0

    def watch(self, stopped: threading.Event) -> None:
        """Load the file when it changes, in a thread of its own, until `stopped` is set."""
        if self._file is not None:
            watching = threading.Thread(
                target=self._watch, args=(stopped,), name="admin-tokens", daemon=True
            )
            watching.start()

    def reload_if_changed(self) -> bool:
        """Load the file again if it has changed and rests since the call before."""
        now = self._signature()
        resting, self._seen = now == self._seen, now
        if self._file is None or now == self._tried or not resting:
            return False
        self._tried = now
        try:
            self._tokens = _encoded(tokens_in(self._file))
        except SettingsError as error:
            fields = {"why": str(error), "tokens": len(self._tokens)}
            log.error("admin_tokens_not_reloaded", extra={"fields": fields})
            return False
        log.info("admin_tokens_reloaded", extra={"fields": {"tokens": len(self._tokens)}})
        return True

    def _watch(self, stopped: threading.Event) -> None:
        while not stopped.wait(_EVERY):
            self.reload_if_changed()

    def _signature(self) -> _Signature:
        if self._file is None:
            return ""
        try:
            found = self._file.stat()
        except OSError as error:
            return error.strerror or "gone"
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _encoded(tokens: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(token.encode() for token in tokens)
