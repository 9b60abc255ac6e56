"""A client of the balancer as clients are: it keeps its connection and waits a limited time."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


class NoAnswer(Exception):
    """The request failed before its answer was complete."""


@dataclass(frozen=True)
class Reply:
    """A complete answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    resent: bool = False


class Client:
    """Sends one request at a time. Not for more than one thread."""

    def __init__(self, url: str, timeout: float, ca: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url} is no address of a server")
        self._base = parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=ca)
            self._connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(
                parts.hostname, parts.port, timeout=timeout
            )
        self._answered = False
        """Whether the connection that is open has carried an answer already."""

    def send(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Reply:
        """Send, and once more if a kept connection had ended: a server may end one at any time.

        Clients of HTTP do so with requests that can be repeated (RFC 9112, section 9.3.1), and all
        of these can: writes have a key under which they are done once.
        """
        kept = self._answered
        try:
            return self._send(method, target, body, headers, resent=False)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self.close()
            if not kept:
                raise NoAnswer(f"{type(error).__name__}: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        try:
            return self._send(method, target, body, headers, resent=True)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswer(f"{type(error).__name__}: {error}") from error

    def _send(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str], *, resent: bool
    ) -> Reply:
        self._connection.request(method, self._base + target, body, headers)
        response = self._connection.getresponse()
        try:
            content = response.read()
        except ConnectionResetError as error:
            # Part of the answer came, so this is no idle connection that ended.
            raise http.client.IncompleteRead(b"") from error
        self._answered = not response.will_close
        lowered = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, lowered, content, resent)

    def close(self) -> None:
        self._connection.close()
        self._answered = False
