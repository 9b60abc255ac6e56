"""What one change does to the catalog: base versions, conflicts, directories, names.

The rules, in the order in which people meet them:

- A change made on the current version is applied.
- A folder edit made on an older version loses: the committed version stays, the edit's content
  becomes a conflict copy beside it (none if the bytes are equal, none of a conflict copy).
- An edit beats a concurrent delete; a delete beats nothing newer.
- A directory beats a file at the same path; the file moves to a conflict name.
- A conditional request (``OnStale.REFUSE``) is refused instead of any of these.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from blake3 import blake3

from pickbox.changes import (
    ABSENT,
    Delete,
    Entry,
    Kind,
    Move,
    OnStale,
    Outcome,
    Put,
    Raise,
    Status,
    base_holds,
)
from pickbox.errors import InvalidPath
from pickbox.replication.conflicts import (
    MAX_COPIES,
    conflict_name,
    copies_prefix,
    is_conflict_copy,
    is_copy_of,
)
from pickbox.storage.paths import check_path

if TYPE_CHECKING:
    from pickbox.changes import Change, Submission
    from pickbox.storage.catalog import CatalogTransaction

NEW_DIRECTORY_MODE = 0o755
"""Mode of a directory that exists because something was put below it."""


def apply_change(txn: CatalogTransaction, submission: Submission, change: Change) -> Outcome:
    """Do one change of `submission` and say what became of it. Never raises for its contents."""
    if isinstance(change, Raise):
        return _raise(txn, change)
    if change.level > txn.level:
        too_early = f"it needs level {change.level}, and the cluster is at {txn.level}"
        return Outcome(Status.REFUSED, 0, change.path, too_early)
    try:
        check_path(change.path)
        if isinstance(change, Move):
            check_path(change.destination)
    except InvalidPath as error:
        return Outcome(Status.REFUSED, 0, change.path, f"{error.rule}: {error.detail}")
    match change:
        case Put():
            return _put(txn, submission, change)
        case Delete():
            return _delete(txn, change)
        case Move():
            return _move(txn, submission, change)


def _raise(txn: CatalogTransaction, change: Raise) -> Outcome:
    if change.level <= txn.level:
        return Outcome(Status.UNCHANGED, txn.level, b"")
    txn.raise_level(change.level, change.release)
    return Outcome(Status.APPLIED, txn.level, b"")


def _put(txn: CatalogTransaction, submission: Submission, put: Put) -> Outcome:
    wrong = _wrong_inline(put)
    if wrong:
        return Outcome(Status.REFUSED, 0, put.path, wrong)
    current = txn.get(put.path)
    if current is not None and put.base == ABSENT and put.on_stale is OnStale.REFUSE:
        # Also if it says the same: of two who make a file, one has to learn that it did not.
        return Outcome(Status.STALE, current.version, put.path)
    if current is not None and _says_the_same(current, put):
        return Outcome(Status.UNCHANGED, current.version, put.path)
    if not base_holds(put.base, _version(current)):
        return _stale_put(txn, submission, put, current)
    return _accept(txn, submission, put, current)


def _stale_put(
    txn: CatalogTransaction, submission: Submission, put: Put, current: Entry | None
) -> Outcome:
    """A put that was made on another version than the current one."""
    if put.on_stale is OnStale.REFUSE:
        return Outcome(Status.STALE, _version(current), put.path)
    if current is None or is_conflict_copy(put.path):
        return _accept(txn, submission, put, current)
    if put.kind is Kind.DIRECTORY and put.base == ABSENT and _is_implied(current):
        return _accept(txn, submission, put, current)
    if current.same_content(put):
        return Outcome(Status.UNCHANGED, current.version, put.path)
    if put.kind is Kind.DIRECTORY:
        return _accept(txn, submission, put, current)
    return _keep_both(txn, submission, put, current)


def _accept(
    txn: CatalogTransaction, submission: Submission, put: Put, current: Entry | None
) -> Outcome:
    """Make `put` the current version, with the directories above it."""
    if current is not None and current.kind is not put.kind:
        refusal = _make_way(txn, submission, put, current)
        if refusal is not None:
            return refusal
    refusal = _ensure_parents(txn, submission, put.path, put.on_stale)
    if refusal is not None:
        return refusal
    version = txn.next_version()
    txn.put(_entry_of(put, put.path, version, submission.origin))
    return Outcome(Status.APPLIED, version, put.path)


def _make_way(
    txn: CatalogTransaction, submission: Submission, put: Put, current: Entry
) -> Outcome | None:
    """Another kind of thing is at the path: clear it, or say why not."""
    if current.kind is Kind.DIRECTORY and txn.has_children(put.path):
        if put.on_stale is OnStale.KEEP_BOTH:
            return _keep_both(txn, submission, put, current)
        return Outcome(
            Status.REFUSED,
            current.version,
            put.path,
            "directory-not-empty: the path is a directory with entries; delete them first",
        )
    if put.kind is Kind.DIRECTORY:
        if put.on_stale is OnStale.REFUSE:
            return Outcome(
                Status.REFUSED,
                current.version,
                put.path,
                "path-taken: the path is not a directory; delete it or choose another name",
            )
        if put.base != current.version:
            _set_aside(txn, submission, current)
    return None


def _keep_both(
    txn: CatalogTransaction, submission: Submission, put: Put, current: Entry
) -> Outcome:
    """Keep the committed version; add the losing content as a conflict copy."""
    existing = _copies(txn, put.path)
    for copy in existing:
        if copy.same_content(put):
            return Outcome(Status.CONFLICT, current.version, copy.path)
    for oldest in sorted(existing, key=lambda copy: copy.version)[: -(MAX_COPIES - 1)]:
        txn.remove(oldest.path)
    name = _free_name(txn, put.path, submission)
    txn.put(_entry_of(put, name, txn.next_version(), submission.origin))
    return Outcome(Status.CONFLICT, current.version, name)


def _set_aside(txn: CatalogTransaction, submission: Submission, entry: Entry) -> None:
    """Move an entry that a directory must replace to a conflict name."""
    name = _free_name(txn, entry.path, submission)
    txn.remove(entry.path)
    txn.put(replace(entry, path=name, version=txn.next_version()))


def _ensure_parents(
    txn: CatalogTransaction, submission: Submission, path: bytes, on_stale: OnStale
) -> Outcome | None:
    """Make the directories above `path` that are missing; a refusal if something is in the way."""
    parts = path.split(b"/")
    for depth in range(1, len(parts)):
        parent = b"/".join(parts[:depth])
        current = txn.get(parent)
        if current is not None and current.kind is Kind.DIRECTORY:
            continue
        if current is not None:
            if on_stale is OnStale.REFUSE:
                shown = parent.decode(errors="backslashreplace")
                return Outcome(
                    Status.REFUSED,
                    0,
                    path,
                    f"path-taken: {shown!r} is not a directory; delete it or choose another path",
                )
            _set_aside(txn, submission, current)
        txn.put(_implied_directory(parent, txn.next_version()))
    return None


def _delete(txn: CatalogTransaction, delete: Delete) -> Outcome:
    current = txn.get(delete.path)
    if current is None:
        stale = delete.on_stale is OnStale.REFUSE and not base_holds(delete.base, ABSENT)
        return Outcome(Status.STALE if stale else Status.UNCHANGED, 0, delete.path)
    if not base_holds(delete.base, current.version):
        lost = Status.STALE if delete.on_stale is OnStale.REFUSE else Status.DROPPED
        return Outcome(lost, current.version, delete.path)
    if current.kind is Kind.DIRECTORY and not delete.recursive and txn.has_children(delete.path):
        refused = Status.REFUSED if delete.on_stale is OnStale.REFUSE else Status.DROPPED
        return Outcome(
            refused,
            current.version,
            delete.path,
            "directory-not-empty: the directory has entries; delete them first, or recursively",
        )
    for entry in txn.under(delete.path):
        txn.remove(entry.path)
    return Outcome(Status.APPLIED, 0, delete.path)


def _move(txn: CatalogTransaction, submission: Submission, move: Move) -> Outcome:
    source, target = txn.get(move.path), txn.get(move.destination)
    refusal = _refuse_move(txn, move, source, target)
    if refusal is not None or source is None:
        return refusal or Outcome(Status.STALE, 0, move.path)
    if move.path == move.destination:
        return Outcome(Status.UNCHANGED, source.version, move.path)
    entries = txn.under(move.path)
    for entry in entries:
        try:
            check_path(move.destination + entry.path[len(move.path) :])
        except InvalidPath as error:
            return Outcome(Status.REFUSED, 0, entry.path, f"{error.rule}: {error.detail}")
    refusal = _ensure_parents(txn, submission, move.destination, OnStale.REFUSE)
    if refusal is not None:
        return refusal
    if target is not None:
        txn.remove(target.path)
    first = 0
    for entry in entries:
        txn.remove(entry.path)
    for entry in entries:
        version = txn.next_version()
        first = first or version
        path = move.destination + entry.path[len(move.path) :]
        txn.put(replace(entry, path=path, version=version))
    return Outcome(Status.APPLIED, first, move.destination)


def _refuse_move(
    txn: CatalogTransaction, move: Move, source: Entry | None, target: Entry | None
) -> Outcome | None:
    if source is None or not base_holds(move.base, source.version):
        return Outcome(Status.STALE, _version(source), move.path)
    if move.destination.startswith(move.path + b"/"):
        why = "path-taken: a directory cannot be moved into itself"
        return Outcome(Status.REFUSED, source.version, move.path, why)
    if move.path == move.destination:
        return None
    if not base_holds(move.destination_base, _version(target)):
        return Outcome(Status.STALE, _version(target), move.destination)
    if target is not None and target.kind is Kind.DIRECTORY:
        if source.kind is not Kind.DIRECTORY or txn.has_children(target.path):
            why = "path-taken: the destination is a directory; name a path inside it"
            return Outcome(Status.REFUSED, target.version, move.destination, why)
    elif target is not None and source.kind is Kind.DIRECTORY:
        why = "path-taken: the destination is not a directory; delete it or choose another name"
        return Outcome(Status.REFUSED, target.version, move.destination, why)
    return None


def _copies(txn: CatalogTransaction, path: bytes) -> list[Entry]:
    return [e for e in txn.starting_with(copies_prefix(path)) if is_copy_of(e.path, path)]


def _free_name(txn: CatalogTransaction, path: bytes, submission: Submission) -> bytes:
    attempt = 0
    while True:
        name = conflict_name(path, submission.taken_at, submission.origin, attempt)
        if txn.get(name) is None:
            return name
        attempt += 1


def _entry_of(put: Put, path: bytes, version: int, origin: str) -> Entry:
    return Entry(
        path,
        put.kind,
        put.size if put.kind is Kind.FILE else len(put.target),
        put.mode,
        0 if put.kind is Kind.DIRECTORY else put.mtime_ns,
        put.digest,
        put.target,
        version,
        origin,
    )


def _implied_directory(path: bytes, version: int) -> Entry:
    """A directory that nobody has made; whoever does decides on its mode."""
    return Entry(path, Kind.DIRECTORY, 0, NEW_DIRECTORY_MODE, 0, b"", b"", version, origin="")


def _is_implied(entry: Entry) -> bool:
    return entry.kind is Kind.DIRECTORY and not entry.origin


def _says_the_same(entry: Entry, put: Put) -> bool:
    same = entry.same_content(put)
    if entry.kind is Kind.SYMLINK:  # a link's own mode means nothing on Linux
        return same and entry.mtime_ns == put.mtime_ns
    if entry.kind is Kind.DIRECTORY:
        return same and entry.mode == put.mode
    return same and entry.mode == put.mode and entry.mtime_ns == put.mtime_ns


def _wrong_inline(put: Put) -> str:
    if put.kind is Kind.SYMLINK and blake3(put.target).digest() != put.digest:
        return "digest-mismatch: the digest is not the target's"
    if put.inline is None:
        return ""
    if len(put.inline) != put.size or blake3(put.inline).digest() != put.digest:
        return "digest-mismatch: the content is not what the digest says"
    return ""


def _version(entry: Entry | None) -> int:
    return ABSENT if entry is None else entry.version
