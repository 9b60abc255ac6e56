"""Taking in what a request brings: into memory if it can travel in the log, else into staging."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from blake3 import blake3

from pickbox.errors import BadRequest, TooLarge
from pickbox.storage.disk import naming_refusals

if TYPE_CHECKING:
    from pickbox.settings import Settings
    from pickbox.storage.disk import DiskGuard
    from pickbox.storage.staging import StagedWriter, Staging

_CHUNK: Final = 1 << 20


class Intake:
    """Reads the bodies of requests. Thread-safe."""

    def __init__(self, settings: Settings, staging: Staging, disk: DiskGuard) -> None:
        self._settings = settings
        self._staging = staging
        self._disk = disk

    def check(self, length: int | None) -> None:
        """Refuse a body of `length` bytes (None: not known) that cannot be taken in.

        Raises:
            TooLarge: it is larger than a file may be.
            DiskFull, DiskFailed: there is no room for it, or nobody can tell.
        """
        if length is not None and length > self._settings.max_file_size:
            raise self._too_large()
        with naming_refusals():
            self._disk.check(length or 0)

    def take(self, body: BinaryIO, length: int | None) -> tuple[bytes, int, bytes | None]:
        """Read `body`, which has exactly `length` bytes, if that is given.

        Returns:
            Digest, size, and the content if it is small enough to travel in the log; otherwise it
            is in staging, durably.

        Raises:
            BadRequest: it has another length.
            TooLarge: it is larger than a file may be.
            DiskFull, DiskFailed: the disk refuses; nothing was stored.
        """
        start = _read_up_to(body, self._settings.inline_limit + 1)
        if len(start) <= self._settings.inline_limit:
            _check_length(len(start), length)
            return blake3(start).digest(), len(start), start
        with naming_refusals(), self._staging.writer() as staged:
            chunk = start
            while chunk:
                self._store(staged, chunk)
                chunk = body.read(_CHUNK)
            _check_length(staged.size, length)
            return staged.keep(fsync=True), staged.size, None

    def _store(self, staged: StagedWriter, chunk: bytes) -> None:
        if staged.size + len(chunk) > self._settings.max_file_size:
            raise self._too_large()
        self._disk.check(len(chunk))
        staged.write(chunk)

    def _too_large(self) -> TooLarge:
        limit = self._settings.max_file_size
        return TooLarge(f"the file is larger than max_file_size, {limit} bytes", field="body")


def _read_up_to(body: BinaryIO, count: int) -> bytes:
    parts = []
    while count > 0 and (part := body.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _check_length(found: int, expected: int | None) -> None:
    if expected is not None and found != expected:
        raise BadRequest(
            f"the body ended after {found} of {expected} bytes; nothing was stored",
            field="Content-Length",
        )
