"""What must be in the folders at the end, by what people did in them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from faults.content import Damaged, token_of
from faults.folder_clients import FOLDER, SHARED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.record import Edit, Record

MARK = ".sync-conflict-"
DIRECTORIES = ("http", FOLDER)


def tokens_in(root: Path) -> dict[str, str]:
    """Path -> token of every file in a folder; what is damaged has the reason instead."""
    found = {}
    for directory in DIRECTORIES:
        for file in (root / directory).glob("*"):
            try:
                found[f"{directory}/{file.name}"] = token_of(file.read_bytes())
            except Damaged as error:
                found[f"{directory}/{file.name}"] = f"damaged: {error}"
    return found


def violations(tokens: dict[str, str], record: Record) -> Iterator[str]:
    """What is wrong with the files (path -> token) that a node has in the end."""
    for path, token in tokens.items():
        if token not in record.issued:
            yield f"{path} is what nobody wrote: {token}"
    for path, edits in edits_by_path(record.edits).items():
        if all(edit.sure for edit in edits):
            yield from _wrong_name(path, edits, tokens, record.powerless)
    yield from _wrong_copies(tokens, record)


def edits_by_path(edits: list[Edit]) -> dict[str, list[Edit]]:
    """In the order in which they were made."""
    found: dict[str, list[Edit]] = defaultdict(list)
    for edit in edits:
        found[edit.path].append(edit)
    return found


def leaves(edits: list[Edit]) -> list[str]:
    """Contents of one name that nobody has replaced or removed: none of them may be lost."""
    replaced = Counter(edit.parent for edit in edits)
    written = (edit.token for edit in edits if edit.token is not None)
    return [token for token in written if not replaced[token]]


def _wrong_name(
    path: str, edits: list[Edit], tokens: dict[str, str], powerless: set[str]
) -> Iterator[str]:
    held = Counter(token for other, token in tokens.items() if other.startswith(FOLDER))
    for token in leaves(edits):
        if not held[token]:
            yield f"{token}, which {_who(edits)} left at {path}, is lost"
    for edit in edits:
        if edit.token is not None and held[edit.token] > 1:
            yield f"{edit.token} of {path} is there {held[edit.token]} times"
    if _is_of_one_node(path) and edits[0].node_id not in powerless:
        yield from _not_as_left(path, edits, tokens)


def _not_as_left(path: str, edits: list[Edit], tokens: dict[str, str]) -> Iterator[str]:
    """Only one node has touched the name: what it did last is what is there."""
    before: str | None = None
    for edit in edits:
        if edit.parent != before:
            yield f"{path} was left with {before}, and {_who([edit])} found {edit.parent} there"
        before = edit.token
    if tokens.get(path) != before:
        yield f"{path} was left with {before} by {_who(edits)}, and has {tokens.get(path)}"


def _wrong_copies(tokens: dict[str, str], record: Record) -> Iterator[str]:
    """Conflict copies are of names that several nodes have touched, and of no others."""
    edits = edits_by_path(record.edits)
    for path in tokens:
        stem, mark, rest = path.partition(MARK)
        original = f"{stem}.{rest.rpartition('.')[2]}"
        nodes = {edit.node_id for edit in edits[original]}
        if mark and len(nodes) < 2 and not nodes & record.powerless:
            yield f"{path} is a copy of what was in no conflict"


def _is_of_one_node(path: str) -> bool:
    return not path.startswith(f"{FOLDER}/{SHARED}-")


def _who(edits: list[Edit]) -> str:
    return ", ".join(sorted({edit.node_id for edit in edits}))
