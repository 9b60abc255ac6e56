"""One file's content over HTTP, checked end to end by its BLAKE3 digest."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import urllib3
from blake3 import blake3

from pickbox.cli import failures
from pickbox.cli.api import Persist, file_url, query, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3 import BaseHTTPResponse

    from pickbox.cli.api import Endpoint
    from pickbox.cli.progress import Bar

CHUNK_BYTES: Final = 1 << 20

RESUME_PAUSE: Final = 0.2
"""Seconds before a download is resumed that brought nothing the last time."""


class FileBody:
    """A local file as a request body: exactly `size` bytes, hashed as they leave."""

    def __init__(self, file: BinaryIO, size: int, name: bytes, bar: Bar) -> None:
        self.size = size
        self._file = file
        self._name = name
        self._bar = bar
        self._sent = 0
        self._hash = blake3()

    def open(self) -> FileBody:
        """Start over."""
        self._file.seek(0)
        self._bar.advance(-self._sent)
        self._sent = 0
        self._hash = blake3()
        return self

    def read(self, count: int) -> bytes:
        """The next bytes; ``b""`` after `size` of them.

        Raises:
            Failure: the file has become shorter, or cannot be read.
        """
        wanted = min(count, self.size - self._sent)
        if not wanted:
            return b""
        try:
            chunk = self._file.read(wanted)
        except OSError as error:
            raise failures.local(f"{os.fsdecode(self._name)}: {error.strerror}.") from error
        if not chunk:
            raise failures.local(
                f"{os.fsdecode(self._name)} became shorter while it was sent.",
                "Try again when nothing writes to it.",
            )
        self._sent += len(chunk)
        self._hash.update(chunk)
        self._bar.advance(len(chunk))
        return chunk

    def digest(self) -> str:
        """Digest of all `size` bytes, also when the node answered before it had read them."""
        while self.read(CHUNK_BYTES):
            pass
        return f"blake3:{self._hash.hexdigest()}"


def upload(
    endpoint: Endpoint, remote: bytes, body: FileBody, headers: Mapping[str, str]
) -> dict[str, Any]:
    """Store `body` at `remote`; return what the node answered.

    Raises:
        Failure: it was refused, nobody answered in time, or other bytes arrived than were sent.
    """
    answer: dict[str, Any] = endpoint.json(
        "PUT", file_url(remote), headers=headers, persist=Persist.ALWAYS, body=body
    )
    stored = answer["digest"]  # empty if a try before was done, and another write came since
    if stored and stored != body.digest():
        raise failures.local(
            f"The node stored other bytes than were sent (it says {stored}).",
            "Send it again; if that does not help, check the memory and network of both machines.",
        )
    return answer


@dataclass(frozen=True, slots=True)
class Received:
    """What came with a file's content. `mode` and `mtime_ns` are None if the node did not say."""

    size: int
    version: int
    digest: str
    mode: int | None
    mtime_ns: int | None

    @classmethod
    def read(cls, headers: Mapping[str, str], size: int) -> Received:
        """Read the headers of an answer."""
        mode, mtime = headers.get("X-Pickbox-Mode"), headers.get("X-Pickbox-Mtime")
        return cls(
            size=size,
            version=int(headers.get("ETag", "0").removeprefix("W/").strip('"')),
            digest=headers.get("X-Pickbox-Digest", ""),
            mode=int(mode, 8) if mode else None,
            mtime_ns=int(mtime) if mtime else None,
        )


class Sink:
    """Where content goes. `restartable` says whether it can be taken back and begun again."""

    def __init__(self, file: BinaryIO, bar: Bar, *, restartable: bool) -> None:
        self.received = 0
        self._file = file
        self._bar = bar
        self._restartable = restartable
        self._hash = blake3()

    def expect(self, size: int) -> None:
        """Say how much is to come."""
        self._bar.expect(size)

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._hash.update(chunk)
        self.received += len(chunk)
        self._bar.advance(len(chunk))

    def restart(self) -> None:
        """Forget what came so far.

        Raises:
            Failure: it has left already.
        """
        if not self.received:
            return
        if not self._restartable:
            raise failures.local(
                "The file changed while it was read, and its first part has already been written.",
                "Read into a file instead of stdout.",
            )
        self._file.seek(0)
        self._file.truncate()
        self._bar.advance(-self.received)
        self.received = 0
        self._hash = blake3()

    def verify(self, expected: str) -> None:
        """Compare with the digest that the node gave.

        Raises:
            Failure: it is another one, or none.
        """
        found = f"blake3:{self._hash.hexdigest()}"
        if found != expected:
            raise failures.local(
                f"The content does not match its digest: expected {expected or 'one'}, "
                f"received {found}.",
                "Nothing was kept. Try again, or another node with --url.",
            )


def download(
    endpoint: Endpoint, remote: bytes, sink: Sink, *, linearizable: bool, timeout: float
) -> Received:
    """Fetch `remote` into `sink`, going on where a lost connection left off.

    Raises:
        Failure: it is not there, nobody answered within `timeout` seconds, or the bytes are wrong.
    """
    url = file_url(remote) + query(consistency="linearizable" if linearizable else None)
    etag, deadline = "", time.monotonic() + timeout
    while True:
        resume = {"Range": f"bytes={sink.received}-", "If-Range": etag} if sink.received else {}
        response = endpoint.call(
            "GET", url, headers=resume, persist=Persist.WHILE_BUSY, stream=True
        )
        if response.status != 206:
            sink.restart()
            etag = response.headers.get("ETag", "")
            sink.expect(int(response.headers.get("Content-Length", 0)))
        before = sink.received
        lost = _copy(response, sink)
        if lost is None:
            break
        if sink.received > before:
            deadline = time.monotonic() + timeout
        elif time.monotonic() > deadline:
            raise failures.unreachable(endpoint.url, reason_of(lost)) from lost
        else:
            time.sleep(RESUME_PAUSE)
    received = Received.read(response.headers, sink.received)
    sink.verify(received.digest)
    return received


def _copy(response: BaseHTTPResponse, sink: Sink) -> Exception | None:
    """Copy the content; return the error that cut it off, or None if all of it came."""
    chunks = response.stream(CHUNK_BYTES, decode_content=False)
    while True:
        try:
            chunk = next(chunks, None)
        except urllib3.exceptions.HTTPError as error:
            response.close()
            return error
        if chunk is None:
            return None
        sink.write(chunk)


def download_to_file(
    endpoint: Endpoint,
    remote: bytes,
    local: bytes,
    bar: Bar,
    *,
    linearizable: bool,
    timeout: float,
) -> Received:
    """Fetch `remote` beside `local` and rename it there: never half a file under that name.

    Raises:
        Failure: as `download`.
    """
    directory, name = os.path.split(local)
    descriptor, temporary = tempfile.mkstemp(dir=directory or b".", prefix=b".pickbox-get-")
    try:
        with open(descriptor, "wb") as file:
            sink = Sink(file, bar, restartable=True)
            received = download(endpoint, remote, sink, linearizable=linearizable, timeout=timeout)
            file.flush()
            os.fchmod(file.fileno(), 0o644 if received.mode is None else received.mode)
            if received.mtime_ns is not None:
                os.utime(file.fileno(), ns=(received.mtime_ns, received.mtime_ns))
        os.replace(temporary, os.path.join(directory, name))
    except BaseException:
        os.unlink(temporary)
        raise
    return received


def spool(source: BinaryIO, copy: BinaryIO) -> int:
    """Copy a pipe to `copy`, so that it can be sent again; return the number of bytes."""
    shutil.copyfileobj(source, copy, CHUNK_BYTES)
    return copy.tell()
