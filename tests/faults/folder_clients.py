"""People who work in the folders of nodes: they make files, edit, rename and remove them.

Whatever they replace or remove they take out in the same moment (renameat2(2)), so that it is known
exactly what an edit was made on, whatever nodes do to the same name meanwhile. They sync what they
did, so that it outlasts a loss of power. After one, they leave a folder alone until its node is
ready: before, it may hold what the loss has left of files that were placed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import TYPE_CHECKING, Final

from faults.content import Damaged, content_of, token_of
from faults.record import Edit

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from cluster import Node

    from faults.nodes import IsolatedCluster
    from faults.record import Record

FOLDER: Final = "folder"
SHARED: Final = "both"
SIZES: Final = (100, 100, 4096, 40_000)
"""Bytes of a content; the last is too much to travel in the log."""
_NAMES: Final = 12
"""Of a kind that are in use at any time."""
_NO_REPLACE, _EXCHANGE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


class FolderClient:
    """A person at all nodes, one edit after the other.

    The names ``<node>-<number>.txt`` are touched on that node alone, ``both-<number>.txt`` on any.
    """

    def __init__(self, cluster: IsolatedCluster, record: Record, rng: random.Random) -> None:
        self._cluster = cluster
        self._nodes = list(cluster)
        self._record = record
        self._rng = rng
        self._count = 0
        self._names: dict[str, list[str]] = {}

    def operate(self) -> None:
        """One edit, drawn; or two of one name, on two nodes."""
        self._count += 1
        drawn = self._rng.random()
        kind = SHARED if drawn < 0.4 else self._rng.choice(self._nodes).node_id
        path = self._new_name(kind) if drawn < 0.2 or drawn > 0.8 else self._name(kind)
        nodes = self._rng.sample(self._nodes, 2) if kind == SHARED else [self._cluster[kind]]
        for node in nodes:
            if node.node_id in self._cluster.dark:
                continue
            with contextlib.suppress(OSError):  # no space, no power, no such name, or it is taken
                if drawn < 0.2 or drawn > 0.8:
                    self._make(node, path)
                elif drawn < 0.65:
                    self._edit(node, path)
                elif drawn < 0.75:
                    self._remove(node, path)
                else:
                    self._rename(node, path, self._new_name(kind))

    def _new_name(self, kind: str) -> str:
        names = self._names.setdefault(kind, [])
        names.append(f"{FOLDER}/{kind}-{self._count}.txt")
        del names[:-_NAMES]
        return names[-1]

    def _name(self, kind: str) -> str:
        return self._rng.choice(self._names.get(kind) or [self._new_name(kind)])

    # -- edits ------------------------------------------------------------------------------

    def _make(self, node: Node, path: str) -> None:
        (node.files / FOLDER).mkdir(exist_ok=True)
        with self._scratch(node) as made:
            token = self._write(node, made)
            _rename(made, node.files / path, _NO_REPLACE)
            self._done(node, (path, token, None))

    def _edit(self, node: Node, path: str) -> None:
        with self._scratch(node) as made:
            token = self._write(node, made)
            _rename(made, node.files / path, _EXCHANGE)
            self._done(node, (path, token, made))

    def _remove(self, node: Node, path: str) -> None:
        with self._scratch(node) as out:
            _rename(node.files / path, out, _NO_REPLACE)
            self._done(node, (path, None, out))

    def _rename(self, node: Node, path: str, new: str) -> None:
        _rename(node.files / path, node.files / new, _NO_REPLACE)
        token = self._read(node, node.files / new)
        self._done(node, (path, None, node.files / new), (new, token, None))

    def _done(self, node: Node, *changes: tuple[str, str | None, Path | None]) -> None:
        """Sync what was done (path, token now, file with what was there), and note it."""
        try:
            _sync(node.files / FOLDER)
            edits = [
                Edit(node.node_id, path, token, self._read(node, taken) if taken else None)
                for path, token, taken in changes
            ]
        except OSError:  # the power went: nobody knows
            edits = [Edit(node.node_id, path, token, sure=False) for path, token, _ in changes]
        self._record.edits += edits

    # -- files ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _scratch(self, node: Node) -> Iterator[Path]:
        """A name on the node's volume, outside its folder."""
        scratch = self._cluster.volume(node.node_id) / f"scratch-{self._count}"
        try:
            yield scratch
        finally:
            with contextlib.suppress(OSError):
                scratch.unlink()

    def _write(self, node: Node, file: Path) -> str:
        token = f"{node.node_id}-{self._count}"
        self._record.issued.add(token)
        file.write_bytes(content_of(token, self._rng.choice(SIZES)))
        _sync(file)
        return token

    def _read(self, node: Node, file: Path) -> str:
        try:
            return token_of(file.read_bytes())
        except Damaged as error:
            self._record.wrong.append(f"{node.node_id}: a person took out of the folder {error}")
            return "damaged"


class Reader:
    """Reads whatever is in the folders of nodes that have power: it is complete, at any moment."""

    def __init__(self, cluster: IsolatedCluster, record: Record, rng: random.Random) -> None:
        self._cluster = cluster
        self._nodes = list(cluster)
        self._record = record
        self._rng = rng

    def look(self) -> None:
        """One file, drawn."""
        node = self._rng.choice(self._nodes)
        if node.node_id in self._cluster.dark:
            return
        try:
            directory = node.files / self._rng.choice(("http", FOLDER))
            file = self._rng.choice(sorted(directory.iterdir()) or [directory])
            content = file.read_bytes()
        except OSError:
            return  # it is gone, or so is the power
        try:
            token_of(content)
        except Damaged as error:
            self._record.wrong.append(f"{node.node_id} has {file.name}: {error}")


def _rename(old: Path, new: Path, flags: int) -> None:
    if _libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
