"""Content on its way into the folder: one flat directory in the folder's volume.

A file named by the hex of its digest holds exactly that content, complete. Everything else there
is unfinished: ``<hex>.part`` is a download that can be resumed, ``incoming-…`` what a writer has
taken in so far, ``scratch-…`` whatever one thread is placing. What is about to be placed should be
taken with `Staging.claim`, which gives it a name of its own, so that a file named by a digest is
never dressed, swapped or half replaced.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat as st
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, Final

from pickbox.changes import DIGEST_BYTES
from pickbox.durable import sync_directory
from pickbox.failpoints import failpoint
from pickbox.storage.digest import Hasher, digest_bytes, digest_file, feed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_SCRATCH: Final = b"scratch-"
_INCOMING: Final = b"incoming-"
_PART: Final = b".part"
STRAY_SUFFIX: Final = b".stray"
"""End of the names of people's edits that placement had to set aside."""

STRAY_SECONDS: Final = 7 * 86400.0
"""How long those are kept, whatever a sweep is told."""

_NAMED_BY_DIGEST = re.compile(rb"([0-9a-f]{%d})(?:\.part)?" % (2 * DIGEST_BYTES))


class StagedWriter:
    """Takes content in, hashing as it goes. A context manager; see `Staging.writer`.

    Attributes:
        path: where the bytes are while it is open.
        resumable: left without `keep`, the file stays for a later `Staging.resume`.
    """

    def __init__(self, staging: Staging, path: bytes, *, resumable: bool) -> None:
        self.path = path
        self.resumable = resumable
        self._staging = staging
        self._hasher = Hasher()
        self._closed = False
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        if resumable:
            self._read_what_is_there()

    @property
    def size(self) -> int:
        """Bytes so far, those of a resumed download included: where to go on."""
        return self._hasher.size

    @property
    def digest(self) -> bytes:
        """The digest of all bytes so far."""
        return self._hasher.digest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`.

        Raises:
            OSError: the disk refuses (``ENOSPC`` when it is full).
        """
        rest = memoryview(data)
        while rest:
            written = self._file.write(rest)
            self._hasher.update(rest[:written])
            rest = rest[written:]

    def keep(self, *, fsync: bool) -> bytes:
        """Make the content available by its digest, durably with `fsync`; return the digest.

        Raises:
            OSError: the disk refuses. What could not be synced is thrown away, also where it could
                be resumed: fsync(2) tells a write error once, and the next one would succeed.
        """
        digest = self.digest
        began = time.monotonic()
        failpoint("content_before_fsync")
        if fsync:
            self._sync()
        os.rename(self.path, self._staging.path(digest))
        failpoint("content_after_rename")
        self._close()
        if fsync:
            self._staging.sync_names()
            self._staging.synced(time.monotonic() - began)
        return digest

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError:
            self.discard()
            raise

    def discard(self) -> None:
        """Throw the bytes away, those of a resumed download included. Nothing after `keep`."""
        if not self._closed:
            _unlink(self.path)
            self._close()

    def __enter__(self) -> StagedWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.resumable:
            self._close()
        else:
            self.discard()

    def _read_what_is_there(self) -> None:
        try:
            feed(self._hasher, self._file)
        except OSError:
            self._close()
            raise

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._file.close()
            self._staging.release(self.path)


class Staging:
    """The staging directory of a node. Thread-safe; made when it is missing.

    `synced` is told how many seconds it took to make a content durable, name included.

    Raises:
        OSError: the directory cannot be made or opened.
    """

    def __init__(self, directory: bytes, synced: Callable[[float], None] = lambda _: None) -> None:
        self.synced = synced
        self._directory = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._lock = threading.Lock()
        self._in_use: set[bytes] = set()

    def writer(self) -> StagedWriter:
        """A writer for new content; left without `keep`, what it took is thrown away."""
        return self._start(self._fresh(_INCOMING), resumable=False)

    def resume(self, digest: bytes) -> StagedWriter:
        """A writer that goes on where a broken download of `digest` stopped, at its `size`.

        Reads and hashes what is there first. What is there may be damaged: compare the writer's
        digest at the end, and `discard` it when it differs. While another thread is at the same
        download, this is a fresh writer that starts at 0.
        """
        path = self.path(digest) + _PART
        with self._lock:
            busy = path in self._in_use
            self._in_use.add(path)
        return self.writer() if busy else self._start(path, resumable=True)

    def touch(self, digest: bytes) -> None:
        """Have a sweep take the content for new. Nothing if it is not here."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            os.utime(self.path(digest))

    def begun(self, digest: bytes) -> int:
        """Bytes that `resume` finds of a broken download."""
        try:
            return os.lstat(self.path(digest) + _PART).st_size
        except FileNotFoundError:
            return 0

    def put(self, digest: bytes, data: bytes) -> None:
        """Have `data` here under its `digest`, not fsynced: the log makes it durable. Idempotent.

        Raises:
            ValueError: `digest` is not the digest of `data`.
            OSError: the disk refuses.
        """
        if digest_bytes(data) != digest:
            raise ValueError(f"content of {len(data)} bytes does not have digest {digest.hex()}")
        if self.has(digest, len(data)):
            return
        with self.writer() as writer:
            writer.write(data)
            writer.keep(fsync=False)

    def has(self, digest: bytes, size: int) -> bool:
        """Whether content of that digest and size (bytes) is here, complete."""
        try:
            found = os.lstat(self.path(digest))
        except FileNotFoundError:
            return False
        return st.S_ISREG(found.st_mode) and found.st_size == size

    def open(self, digest: bytes) -> BinaryIO | None:
        """The content from its first byte, or None if it is not here."""
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            return None

    def path(self, digest: bytes) -> bytes:
        """Where content of that digest is, if it is here."""
        return os.path.join(self._directory, digest.hex().encode("ascii"))

    def claim(self, digest: bytes) -> bytes | None:
        """Take the content away under a scratch path for this caller alone; None if not here."""
        mine = self.scratch()
        try:
            os.rename(self.path(digest), mine)
        except FileNotFoundError:
            return None
        return mine

    def discard(self, digest: bytes) -> None:
        """Forget the content, complete or in part. Nothing if it is not here."""
        _unlink(self.path(digest))
        part = self.path(digest) + _PART
        with self._lock:
            if part not in self._in_use:
                _unlink(part)

    def scratch(self) -> bytes:
        """A path in staging where nothing is and that nobody else is given."""
        return self._fresh(_SCRATCH)

    def recover(self, needed: Callable[[bytes], bool], *, in_doubt: bool = False) -> None:
        """At the start, before anybody works here: put right what a killed process left.

        Content that was about to be placed may be this node's only copy, and was synced under its
        digest: it gets that name back if it is `needed`. What was being taken in is thrown away.
        With `in_doubt`, after a loss of power, the catalog may not know yet what is needed, and
        what has the name of a digest may not be what was written: all is read, and told anew.
        """
        for name in os.listdir(self._directory):
            path = os.path.join(self._directory, name)
            if name.startswith(_INCOMING):
                _unlink(path)
            elif not st.S_ISREG(os.lstat(path).st_mode) or name.endswith(STRAY_SUFFIX):
                continue
            elif name.startswith(_SCRATCH):
                self._give_back(path, (lambda _: True) if in_doubt else needed)
            elif in_doubt and not name.endswith(_PART):
                self._give_back(path, lambda _: True)

    def _give_back(self, path: bytes, needed: Callable[[bytes], bool]) -> None:
        try:
            os.chmod(path, 0o600)  # it may be dressed already, in a mode that even we cannot read
        except PermissionError:
            return  # another user's file that was being replaced: we could never place it
        with open(path, "rb") as file:
            digest, _ = digest_file(file)
        if needed(digest):
            os.rename(path, self.path(digest))

    def _fresh(self, prefix: bytes) -> bytes:
        return os.path.join(self._directory, prefix + secrets.token_hex(12).encode("ascii"))

    def sweep(self, older_than_s: float, needed: Callable[[bytes], bool]) -> int:
        """Remove what has lain untouched for `older_than_s` seconds; return how many files.

        Content, complete or in part, stays while `needed` says so of its digest.
        """
        # ctime, because mtime is the user's once a file is dressed; a rename counts as a touch.
        now = time.time()
        removed = 0
        for name in os.listdir(self._directory):
            path = os.path.join(self._directory, name)
            stray = name.endswith(STRAY_SUFFIX)
            age = max(older_than_s, STRAY_SECONDS) if stray else older_than_s
            if self._is_stale(path, now - age) and not _is_needed(name, needed):
                removed += self._remove_unused(path, now - age)
        return removed

    def sync_names(self) -> None:
        """Make the names in staging durable."""
        sync_directory(self._directory)

    def release(self, path: bytes) -> None:
        """Called by a writer that is done with `path`."""
        with self._lock:
            self._in_use.discard(path)

    def _start(self, path: bytes, *, resumable: bool) -> StagedWriter:
        with self._lock:
            self._in_use.add(path)
        try:
            return StagedWriter(self, path, resumable=resumable)
        except BaseException:
            self.release(path)
            raise

    def _is_stale(self, path: bytes, limit: float) -> bool:
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return False
        return not st.S_ISDIR(found.st_mode) and found.st_ctime <= limit

    def _remove_unused(self, path: bytes, limit: float) -> bool:
        with self._lock:
            if path in self._in_use or not self._is_stale(path, limit):
                return False
            failpoint("sweep_before_delete")
            removed = _unlink(path)
            failpoint("sweep_after_delete")
            return removed


def _is_needed(name: bytes, needed: Callable[[bytes], bool]) -> bool:
    match = _NAMED_BY_DIGEST.fullmatch(name)
    return match is not None and needed(bytes.fromhex(match[1].decode("ascii")))


def _unlink(path: bytes) -> bool:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        return True
    return False
