"""Files as an application sees them: writes through the log, reads from this node's volume."""

from __future__ import annotations

import io
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from pickbox.changes import (
    ABSENT,
    ANY_VERSION,
    PRESENT,
    Delete,
    Kind,
    Move,
    OnStale,
    Outcome,
    Put,
    Status,
)
from pickbox.codec import decode_receipts
from pickbox.errors import (
    BadRequest,
    ContentPending,
    KeyReused,
    NoLeader,
    NotAFile,
    NotEmpty,
    NotFound,
    NotReady,
    PathTaken,
    PickboxError,
    PreconditionFailed,
)
from pickbox.seams import Written
from pickbox.storage.disk import naming_refusals
from pickbox.storage.paths import check_path, display

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pickbox.changes import Change, Entry, Receipt
    from pickbox.replication.content import LocalContent
    from pickbox.replication.intake import Intake
    from pickbox.replication.proposer import Proposer
    from pickbox.settings import Settings
    from pickbox.storage.catalog import Catalog

DEFAULT_FILE_MODE: Final = 0o644
DEFAULT_DIRECTORY_MODE: Final = 0o755
_LOOKS: Final = 3
_SLOWEST_STAGING: Final = 4 << 20  # bytes a second that a transfer may always take


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a write asks for: by this it knows an answer as its own, and says a refusal.

    Attributes:
        path: what it changes; for a move, the destination.
        request_id: the caller's; None if it will not be asked for again.
        conditions: the field that each path's condition came in. Where none was sent, a refusal
            says that nothing is there.
        removes: whether nothing is at `path` when it is done.
    """

    path: bytes
    request_id: str | None
    conditions: Mapping[bytes, str]
    removes: bool = False


class Barrier(Protocol):
    """Waits until this node has applied all that was committed before the call."""

    def __call__(self, timeout: float) -> None: ...


class Files:
    """Implements `pickbox.seams.FileService`.

    Args:
        bring: gets an entry's content from a peer, if one has it.
        barrier: for linearizable reads.
        accepting: why no writes are taken (draining, say); empty if they are.
        serving: why nothing is answered (the node was removed, say); empty if it is.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        content: LocalContent,
        proposer: Proposer,
        intake: Intake,
        *,
        bring: Callable[[Entry], bool],
        barrier: Barrier,
        accepting: Callable[[], str],
        serving: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._content = content
        self._proposer = proposer
        self._intake = intake
        self._bring = bring
        self._barrier = barrier
        self._accepting = accepting
        self._serving = serving

    # -- reading ----------------------------------------------------------------------------

    def entry(self, path: bytes, *, linearizable: bool = False) -> Entry:
        """The entry at `path`."""
        check_path(path)
        self._refuse_when_not_serving()
        if linearizable:
            self._barrier(self._settings.request_timeout)
        entry = self._catalog.get(path)
        if entry is None:
            raise NotFound(f"nothing is at {display(path)!r}", field="path")
        return entry

    def open(self, entry: Entry) -> BinaryIO:
        """The content of `entry`."""
        if entry.kind is not Kind.FILE:
            raise NotAFile(f"{display(entry.path)!r} is a {entry.kind.name.lower()}", field="path")
        if entry.size == 0:
            return io.BytesIO()
        # A majority has the content, this node perhaps not yet; and placement moves content from
        # staging into the folder, where a first look may miss it.
        for _ in range(_LOOKS):
            found = self._content.open(entry.digest, entry.size)
            if found is not None:
                return found
            with naming_refusals():
                self._bring(entry)
        raise ContentPending(
            f"version {entry.version} of {display(entry.path)!r} is committed, and its content is "
            "still on its way to this node: try again, or ask another node"
        )

    def page(self, prefix: bytes, after: bytes, limit: int) -> list[Entry]:
        """At most `limit` entries whose path starts with `prefix` and sorts after `after`."""
        self._refuse_when_not_serving()
        return self._catalog.page(prefix, after, limit)

    def receipt(self, request_id: str) -> Receipt:
        """What became of a request whose answer was lost."""
        self._refuse_when_not_serving()
        found = self._catalog.receipt(request_id)
        if found is None:
            raise NotFound(f"no request {request_id} has been applied here", field="request_id")
        return decode_receipts(found)[0]

    # -- writing ----------------------------------------------------------------------------

    def put(
        self,
        path: bytes,
        body: BinaryIO,
        *,
        length: int | None,
        base: int,
        mode: int | None,
        mtime_ns: int | None,
        request_id: str | None,
    ) -> Written:
        """Store what `body` yields and commit it."""
        check_path(path)
        asked = _Asked(path, request_id, {path: _header(base)})

        def write() -> Written:
            self._refuse_what_cannot_be(path, base, length)
            current = self._catalog.get(path)
            digest, size, inline = self._intake.take(body, length)
            put = Put(
                path,
                Kind.FILE,
                size,
                _file_mode(current) if mode is None else mode,
                time.time_ns() if mtime_ns is None else mtime_ns,
                digest,
                inline=inline,
                base=base,
                on_stale=OnStale.REFUSE,
            )
            timeout = self._settings.request_timeout
            put = self._proposer.stage(put, timeout=timeout + size / _SLOWEST_STAGING)
            return self._commit(put, digest, asked, created=current is None)

        return self._once(asked, write)

    def make_directory(
        self, path: bytes, *, base: int, mode: int | None, request_id: str | None
    ) -> Written:
        """Make a directory, with those above it."""
        check_path(path)
        asked = _Asked(path, request_id, {path: _header(base)})

        def write() -> Written:
            self._refuse_what_cannot_be(path, base, 0)
            current = self._catalog.get(path)
            kept = DEFAULT_DIRECTORY_MODE if current is None else current.mode
            wanted = kept if mode is None else mode
            put = Put(path, Kind.DIRECTORY, 0, wanted, 0, b"", base=base, on_stale=OnStale.REFUSE)
            return self._commit(put, b"", asked, created=current is None)

        return self._once(asked, write)

    def delete(self, path: bytes, *, base: int, recursive: bool, request_id: str | None) -> Written:
        """Remove `path`."""
        check_path(path)
        conditions = {} if base == ANY_VERSION else {path: _header(base)}
        asked = _Asked(path, request_id, conditions, removes=True)

        def write() -> Written:
            self._refuse_when_not_accepting()
            # Whether there is something is for the log to say: this node may lag behind it.
            at_least = PRESENT if base == ANY_VERSION else base
            change = Delete(path, at_least, OnStale.REFUSE, recursive)
            return self._commit(change, b"", asked, created=False)

        return self._once(asked, write)

    def move(
        self,
        path: bytes,
        destination: bytes,
        *,
        base: int,
        destination_base: int,
        request_id: str | None,
    ) -> Written:
        """Give `path`, with all that is in it, another name."""
        check_path(path)
        check_path(destination)
        conditions = {destination: "destination_base"}
        if base != ANY_VERSION:
            conditions[path] = "base"
        asked = _Asked(destination, request_id, conditions)

        def write() -> Written:
            self._refuse_when_not_accepting()
            change = Move(path, destination, base, destination_base)
            moved = self._commit(change, b"", asked, created=True)
            return replace(moved, digest=self._digest(destination, moved.version))

        return self._once(asked, write)

    # -- inside -----------------------------------------------------------------------------

    def _once(self, asked: _Asked, write: Callable[[], Written]) -> Written:
        """The answer of `write`, or of the same request if it was applied before.

        A refusal may be the work of the request itself, under way at another node a moment ago: so
        the answer is looked for again before a retry hears of it.
        """
        self._refuse_when_not_serving()
        done = self._already_done(asked)
        if done is not None:
            return done
        try:
            return write()
        except PickboxError:
            done = self._already_done(asked)
            if done is None:
                raise
            return done

    def _commit(self, change: Change, digest: bytes, asked: _Asked, *, created: bool) -> Written:
        receipt = self._proposer.propose(
            [change],
            request_id=asked.request_id or uuid.uuid4().hex,
            timeout=self._settings.request_timeout,
        )
        return _written(receipt, digest, asked, created=created)

    def _already_done(self, asked: _Asked) -> Written | None:
        """The answer to a request that was applied before, for its retry; raises its refusal."""
        found = None if asked.request_id is None else self._catalog.receipt(asked.request_id)
        if found is None:
            return None
        receipt = decode_receipts(found)[0]
        outcome = receipt.outcomes[0]
        digest = self._digest(outcome.path, outcome.version)
        return _written(receipt, digest, asked, created=False)

    def _digest(self, path: bytes, version: int) -> bytes:
        """The digest of `version`; empty if that is not the current one any more."""
        entry = self._catalog.get(path)
        return entry.digest if entry is not None and entry.version == version else b""

    def _refuse_what_cannot_be(self, path: bytes, base: int, length: int | None) -> None:
        """What is known to fail is refused before the body is read."""
        self._refuse_when_not_accepting()
        self._intake.check(length)
        self._refuse_what_is_surely_stale(path, base)

    def _refuse_what_is_surely_stale(self, path: bytes, base: int) -> None:
        """Refuse a base that cannot hold any more; the log decides about all others.

        This node may lag behind the log. But versions only grow: an older one is never the current
        one again. Whether there is something is asked of the log, before the body is sent.
        """
        version = self._version(path)
        if base == ABSENT and version != ABSENT:
            self._barrier(self._settings.request_timeout)
            version = self._version(path)
        if ABSENT <= base < version:
            raise _refusal(Outcome(Status.STALE, version, path), {path: _header(base)})

    def _version(self, path: bytes) -> int:
        entry = self._catalog.get(path)
        return ABSENT if entry is None else entry.version

    def _refuse_when_not_accepting(self) -> None:
        reason = self._accepting()
        if reason:
            raise NotReady(reason)

    def _refuse_when_not_serving(self) -> None:
        reason = self._serving()
        if reason:
            raise NotReady(reason)


def _written(receipt: Receipt, digest: bytes, asked: _Asked, *, created: bool) -> Written:
    outcome = receipt.outcomes[0]
    if outcome.status not in (Status.APPLIED, Status.UNCHANGED):
        raise _refusal(outcome, asked.conditions)
    removed = outcome.version == ABSENT
    if outcome.path != asked.path or removed != asked.removes:
        raise KeyReused(
            f"this key was used for another write of {display(outcome.path)!r} before, and nothing "
            "was done for this one: give each write a key of its own",
            field="Idempotency-Key",
        )
    return Written(
        outcome.path, outcome.version, digest, receipt.index, created, receipt.request_id
    )


def _file_mode(current: Entry | None) -> int:
    """The mode of a file that is written without one: its own, if there was a file."""
    kept = current is not None and current.kind is Kind.FILE
    return current.mode if kept and current is not None else DEFAULT_FILE_MODE


def _header(base: int) -> str:
    """The header that a write with `base` brought its condition in."""
    return "If-None-Match" if base == ABSENT else "If-Match"


def _refusal(outcome: Outcome, conditions: Mapping[bytes, str]) -> PickboxError:
    """The error that says why a change was not applied."""
    if outcome.status is Status.STALE:
        field = conditions.get(outcome.path)
        if field is None:
            return NotFound(f"nothing is at {display(outcome.path)!r}", field="path")
        if outcome.version == ABSENT:
            return PreconditionFailed("nothing is at the path now", field=field)
        return PreconditionFailed(
            f"the path is at version {outcome.version} now: read it again and decide", field=field
        )
    rule, _, sentence = outcome.reason.partition(": ")
    if rule == "directory-not-empty":
        return NotEmpty(sentence, field="path")
    if rule == "path-taken":
        return PathTaken(sentence, field="path")
    if outcome.status is Status.REFUSED:
        return BadRequest(outcome.reason, field="path")
    return NoLeader(f"unexpected outcome {outcome.status}")
