"""The HTTP client: one API at one or more addresses, with retries that never apply twice.

A request that changes something carries an ``Idempotency-Key`` that stays the same for all its
attempts, whichever node they go to, so a lost answer is asked for again and not done again.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import json
import random
import time
import uuid
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from pickbox import __version__
from pickbox.cli import failures
from pickbox.cli.failures import ExitCode, Failure
from pickbox.cli.trust import tls_error, untrusted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from urllib3 import BaseHTTPResponse

    from pickbox.cli.trust import Trust

CONNECT_TIMEOUT: Final = 5.0
"""Seconds after which an address that does not even accept a connection is given up."""

_BLOCK_BYTES: Final = 1 << 18
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class Persist(enum.Enum):
    """How long to go on with a request. Every address is tried once in any case."""

    ONCE = enum.auto()
    """What a person waits for: one round."""
    WHILE_BUSY = enum.auto()
    """Reads: go on while a node answers that it is not ready."""
    ALWAYS = enum.auto()
    """Writes: go on through lost connections too."""


class Body(Protocol):
    """A request body that can be sent again from its start."""

    size: int

    def open(self) -> Any:
        """A new reader, from the first byte; urllib3 calls its ``read(n)``."""


class _HttpConnection(HTTPConnection):
    def send(self, data: Any) -> None:
        with _answer_may_be_there():
            super().send(data)


class _HttpsConnection(HTTPSConnection):
    def send(self, data: Any) -> None:
        with _answer_may_be_there():
            super().send(data)


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


@contextlib.contextmanager
def _answer_may_be_there() -> Iterator[None]:
    """Have the answer read although the upload was cut off.

    A node that refuses an upload answers at once and closes; sending then ends in a reset, with the
    answer already here. urllib3 goes on to read it after a broken pipe, and only then.
    """
    try:
        yield
    except ConnectionResetError as error:
        raise BrokenPipeError(errno.EPIPE, error.strerror) from error


class Endpoint:
    """One API of the node. `timeout` (seconds) bounds a silence, and the time spent on retries."""

    def __init__(
        self,
        urls: Sequence[str],
        timeout: float,
        *,
        token: str | None = None,
        trust: Trust | None = None,
    ) -> None:
        self._urls = list(urls)
        self._timeout = timeout
        self._headers = {"User-Agent": f"pickbox/{__version__}", "Accept": "application/json, */*"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        limits = urllib3.Timeout(connect=min(timeout, CONNECT_TIMEOUT), read=timeout)
        self._pool = urllib3.PoolManager(
            timeout=limits,
            retries=False,
            maxsize=16,
            blocksize=_BLOCK_BYTES,
            ssl_context=trust.context() if trust else None,
        )
        self._pool.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    @property
    def url(self) -> str:
        """The address in use now."""
        return self._urls[0]

    def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        persist: Persist = Persist.ONCE,
        stream: bool = False,
    ) -> BaseHTTPResponse:
        """Send a request until it is answered; with `stream`, the content is left to be read.

        Raises:
            Failure: it was refused, or nobody answered in time.
        """
        retry = _Retry(self._timeout, persist)
        while True:
            if body is None:
                retry.start()
            for url in list(self._urls):
                try:
                    response = self._send(
                        method, url, path, headers=headers or {}, body=body, stream=stream
                    )
                except Failure as failure:
                    retry.failed(failure)
                else:
                    self._prefer(url)
                    return response
            retry.pause_or_raise()

    def json(self, method: str, path: str, document: Any = None, **options: Any) -> Any:
        """Send a request, with `document` as its JSON body if given; return the JSON answer.

        Raises:
            Failure: as `call`; or the answer is not JSON.
        """
        headers = dict(options.pop("headers", {}))
        if document is not None:
            headers["Content-Type"] = "application/json"
            options["body"] = JsonBody(document)
        response = self.call(method, path, headers=headers, **options)
        content = response.data
        if not content:
            return {}
        try:
            return json.loads(content)
        except ValueError:
            raise failures.from_response(response.status, b"", self.url) from None

    def _send(
        self,
        method: str,
        url: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: Body | None,
        stream: bool,
    ) -> BaseHTTPResponse:
        everything = {**self._headers, **headers}
        if body is not None:
            everything["Content-Length"] = str(body.size)
        try:
            response = self._pool.request(
                method,
                url + path,
                headers=everything,
                body=None if body is None else body.open(),
                preload_content=not stream,
                redirect=False,
            )
            if response.status >= 300:
                raise failures.from_response(response.status, response.data, url)
        except (urllib3.exceptions.ReadTimeoutError, TimeoutError) as error:
            raise failures.no_answer(url, self._timeout) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if (refused := tls_error(error)) is not None:
                raise untrusted(url, refused) from error
            raise failures.unreachable(url, reason_of(error)) from error
        return response

    def _prefer(self, url: str) -> None:
        """Begin with the address that answered: the others cost a failed attempt each."""
        self._urls.sort(key=lambda other: other != url)


class JsonBody:
    """A small JSON document as a request body."""

    def __init__(self, document: Any) -> None:
        self._content = json.dumps(document).encode()
        self.size = len(self._content)

    def open(self) -> bytes:
        """The bytes themselves."""
        return self._content


class _Retry:
    """When to try again: with growing pauses, until `timeout` seconds are over.

    The time that an upload takes does not count: its seconds begin with the first failure.
    """

    def __init__(self, timeout: float, persist: Persist) -> None:
        self._timeout = timeout
        self._persist = persist
        self._deadline: float | None = None
        self._pause = _FIRST_PAUSE
        self._failure: Failure | None = None
        self._random = random.SystemRandom()

    def start(self) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._timeout

    def failed(self, failure: Failure) -> None:
        """Note a failed attempt; raise it when another would end the same."""
        self.start()
        if failure.exit_code not in {ExitCode.TRY_AGAIN, ExitCode.UNREACHABLE}:
            raise failure
        if self._failure is None or _worth(failure) >= _worth(self._failure):
            self._failure = failure

    def pause_or_raise(self) -> None:
        failure, self._failure = self._failure, None
        if failure is None or self._deadline is None:
            raise AssertionError("a round ended with neither an answer nor a failure")
        answered = "status" in failure.problem
        wanted = self._persist is Persist.ALWAYS or (
            self._persist is Persist.WHILE_BUSY and answered
        )
        pause = self._pause * self._random.uniform(0.5, 1.0)
        if not wanted or time.monotonic() + pause >= self._deadline:
            raise failure
        time.sleep(pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)


def _worth(failure: Failure) -> int:
    """How much a failure tells: a node's reason, that it was there but silent, or nothing."""
    if "status" in failure.problem:
        return 2
    return 1 if failure.exit_code is ExitCode.TRY_AGAIN else 0


def new_key() -> str:
    """A fresh ``Idempotency-Key``."""
    return uuid.uuid4().hex


def file_url(path: bytes) -> str:
    """The resource of a file. Bytes are percent-encoded.

    The dots of ``.`` and ``..`` components are encoded too: an HTTP library would resolve them, and
    it is for the node to refuse such a path, not for a library to change it into another.
    """
    quoted = [quote(part, safe="") for part in path.split(b"/")]
    dots = [part.replace(".", "%2E") if part in {".", ".."} else part for part in quoted]
    return "/api/v1/files/" + "/".join(dots)


def query(**parameters: str | bytes | int | None) -> str:
    """A query string, ``?`` included; parameters that are None are left out."""
    given = [
        f"{name}={quote(value if isinstance(value, bytes) else str(value), safe='')}"
        for name, value in parameters.items()
        if value is not None
    ]
    return "?" + "&".join(given) if given else ""


def reason_of(error: Exception) -> str:
    """Why a connection failed, without the library's own words around it."""
    for cause in (error, error.__cause__, error.__context__, *error.args):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror[0].lower() + cause.strerror[1:]
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return "the connection was not accepted in time"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "it did not answer in time"
    return "the connection was lost"
