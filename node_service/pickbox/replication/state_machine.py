"""What the log drives: one function, `StateMachine.apply`, the same on every node.

It is deterministic (no clock, no randomness, no order of sets) and never raises for what a command
says: a change that is not allowed gets a `REFUSED` outcome. It raises only when this node's disk
refuses; then nothing was applied, and the log hands it the same command again. And when the
command is one that only a newer release understands: then the node goes no further. If SQLite does
not take a command's values, that is a defect, but the same on every node: none waits for it.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from pickbox import __version__
from pickbox.changes import Put, Receipt, Submission
from pickbox.codec import (
    DecodeError,
    LevelUnknown,
    decode_command,
    decode_receipts,
    encode_receipts,
)
from pickbox.failpoints import failpoint
from pickbox.levels import WrongRelease
from pickbox.replication import trail
from pickbox.replication.rules import apply_change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pickbox.replication.inline import InlineContent
    from pickbox.storage.catalog import Catalog, CatalogTransaction

log = logging.getLogger(__name__)

REMEMBERED_ENTRIES: Final = 100_000
"""How many log entries back the answer to a request is remembered."""


class CommandFaulty(Exception):
    """No node's catalog takes what a command says; nothing was applied."""


class StateMachine:
    """Applies commands to the catalog; implements `pickbox.seams.StateMachine`.

    Args:
        inline: where content that travelled inside a command waits for its placement.
        in_folder: whether this node's folder holds a put's content at its path already, as it does
            where the change came from; then it is not kept a second time.
        on_applied: called after each command with its log index and the paths it touched.
        on_loaded: called after a snapshot replaced the catalog.
        before_snapshot: makes durable what the log's entries placed, before it forgets them.
        on_recalled: called at the start with each entry's log index and what it asked for.
        on_recalled_from: called before with the path of the snapshot that has all entries before,
            and the log index of its last.
    """

    def __init__(
        self,
        catalog: Catalog,
        inline: InlineContent,
        *,
        in_folder: Callable[[Submission, Put], bool],
        on_applied: Callable[[int, Sequence[bytes], Sequence[Submission]], None],
        on_loaded: Callable[[], None],
        before_snapshot: Callable[[], None],
        on_recalled: Callable[[int, Sequence[Submission]], None],
        on_recalled_from: Callable[[str, int], None] | None = None,
    ) -> None:
        self._catalog = catalog
        self._inline = inline
        self._in_folder = in_folder
        self._on_applied = on_applied
        self._on_loaded = on_loaded
        self._before_snapshot = before_snapshot
        self._on_recalled = on_recalled
        self._on_recalled_from = on_recalled_from

    @property
    def applied_index(self) -> int:
        """Log index of the last command that is in the catalog."""
        return self._catalog.applied_index

    def apply(self, index: int, command: bytes) -> list[Receipt]:
        """Apply the command at log index `index`; return one receipt a submission.

        Raises:
            OSError, MemoryError, sqlite3.Error: this node's disk refuses, or its catalog is
                damaged; nothing was applied.
            CommandFaulty: the same on every node; nothing was applied.
            WrongRelease: it takes a newer release to understand it; nothing was applied.
        """
        submissions = _submissions(index, command)
        self._keep(submissions)
        try:
            with self._catalog.transaction(index) as txn:
                receipts = [_apply_submission(txn, submission) for submission in submissions]
                failpoint("apply_mid")
                txn.forget_receipts(index - REMEMBERED_ENTRIES)
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            raise CommandFaulty(f"log entry {index}: {error}") from error
        trail.applied(index, submissions, receipts)
        self._on_applied(index, txn.touched, submissions)
        return receipts

    def recall_from(self, path: str, index: int) -> None:
        """After a restart: the snapshot at `path` has all entries up to `index`."""
        if self._on_recalled_from is not None:
            self._on_recalled_from(path, index)

    def recall(self, index: int, command: bytes) -> None:
        """After a restart: see a command since the last snapshot again, before any is applied.

        The catalog may know a file that a crash kept from being placed.
        """
        submissions = _submissions(index, command)
        self._on_recalled(index, submissions)
        if index > self._catalog.applied_index:
            return
        for submission, put in _inline_puts(submissions):
            if not put.inline or not self._catalog.has_content(put.digest):
                continue
            if not self._in_folder(submission, put):
                self._inline.put(put.digest, put.inline)

    def state_hash(self) -> bytes:
        """A hash of the catalog, equal on nodes that applied the same commands."""
        return self._catalog.state_hash

    def begin_dump(self) -> Callable[[str], None]:
        """Pin the catalog as it is now; what is returned writes it to a path, on any thread.

        The folder is made durable first: the log will forget what it placed there.
        """
        return self._catalog.begin_dump(self._before_snapshot)

    def load(self, path: str) -> None:
        """Replace the catalog by the copy at `path`."""
        self._catalog.load(path)
        self._on_loaded()

    def _keep(self, submissions: Sequence[Submission]) -> None:
        """Put content that travelled inline where placement finds it, before it can be needed."""
        for submission, put in _inline_puts(submissions):
            if put.inline and not self._in_folder(submission, put):
                self._inline.put(put.digest, put.inline)


def _submissions(index: int, command: bytes) -> list[Submission]:
    try:
        return decode_command(command)
    except LevelUnknown as error:
        raise WrongRelease(
            f"log entry {index} is {error}, which is {__version__}: start the newer release here "
            "that the cluster was upgraded to"
        ) from error
    except DecodeError as error:
        log.error("command_undecodable", extra={"fields": {"index": index, "why": str(error)}})
        return []


def _apply_submission(txn: CatalogTransaction, submission: Submission) -> Receipt:
    remembered = txn.receipt(submission.request_id)
    if remembered is not None:
        return decode_receipts(remembered)[0]
    outcomes = tuple(apply_change(txn, submission, change) for change in submission.changes)
    receipt = Receipt(submission.request_id, txn.index, outcomes)
    txn.remember(submission.request_id, encode_receipts([receipt]))
    return receipt


def _inline_puts(submissions: Sequence[Submission]) -> Iterator[tuple[Submission, Put]]:
    """The puts whose content is inside, and is what their digest says."""
    for submission in submissions:
        for change in submission.changes:
            carried = change.inline if isinstance(change, Put) else None
            if carried and isinstance(change, Put) and blake3(carried).digest() == change.digest:
                yield submission, change
