"""A volume whose catalog tests write: what is agreed on there is placed step by step."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from privileges import give_away

from pickbox.changes import Entry, Kind
from pickbox.known import KnownState
from pickbox.replication.content import LocalContent
from pickbox.replication.inline import InlineContent
from pickbox.replication.placement_steps import PlacementSteps
from pickbox.replication.swaps import Swaps
from pickbox.storage.catalog import Catalog
from pickbox.storage.digest import digest_bytes
from pickbox.storage.disk import DiskGuard
from pickbox.storage.staging import Staging
from pickbox.storage.state import StateDatabase
from pickbox.storage.tree import FileTree
from pickbox.storage.versions import Versions

if TYPE_CHECKING:
    from pathlib import Path

OLD_TIME = 1_600_000_000_123_456_789


class Here:
    """One node's volume, with a catalog that tests write."""

    def __init__(self, directory: Path) -> None:
        base = bytes(directory)
        self.files = directory / "files"
        self.catalog = Catalog(str(directory / "catalog.db"))
        self.state = StateDatabase(base + b"/state.db")
        self.tree = FileTree(base + b"/files")
        self.tree.prepare("node1")
        self.staging = Staging(base + b"/staging")
        self.inline = InlineContent(self.staging)
        self.versions = Versions(base + b"/versions", self.state, 3600.0)
        self.content = LocalContent(
            self.tree,
            self.inline,
            self.staging,
            self.state,
            self.versions,
            lambda digest: None,
            "node1",
        )
        self.disk = DiskGuard(base, 0)
        self.steps = self.begin_again()
        self.index = 1

    def begin_again(self, settle_limit: float = 30.0) -> PlacementSteps:
        """The steps as a restart makes them: they know what is on the disk."""
        return PlacementSteps(
            self.tree,
            self.inline,
            self.staging,
            self.state,
            self.versions,
            self.catalog,
            self.content,
            self.disk,
            Swaps(self.tree, "node1", settle_limit),
        )

    def agree(self, *entries: Entry, without: tuple[bytes, ...] = ()) -> None:
        """Make the catalog say this, as the log would."""
        self.index += 1
        with self.catalog.transaction(self.index) as txn:
            for path in without:
                txn.remove(path)
            for entry in entries:
                txn.put(replace(entry, version=txn.next_version()))

    def agree_on_file(
        self, path: bytes, content: bytes, mode: int = 0o640, mtime_ns: int = OLD_TIME
    ) -> None:
        digest, size = digest_bytes(content), len(content)
        self.agree(Entry(path, Kind.FILE, size, mode, mtime_ns, digest, b"", 0, "node2"))
        if content:
            self.inline.put(digest_bytes(content), content)

    def agree_on_file_without_content(self, path: bytes) -> None:
        """A file whose content is its path, which somebody else has."""
        digest = digest_bytes(path)
        self.agree(Entry(path, Kind.FILE, len(path), 0o640, OLD_TIME, digest, b"", 0, "node2"))

    def agree_on_directory(self, path: bytes, mode: int = 0o755) -> None:
        self.agree(Entry(path, Kind.DIRECTORY, 0, mode, 0, b"", b"", 0, "node2"))

    def edit_in_place(self) -> None:
        """A person overwrites `f` with as many bytes."""
        with (self.files / "f").open("r+b") as file:
            file.write(b"x" * (self.files / "f").stat().st_size)

    def give_away(self, path: bytes) -> None:
        """Have it that another user made the file at `path`, before it was taken in."""
        row = self.state.get(path)
        assert row is not None
        give_away(os.path.join(self.tree.root, path))
        stat = os.lstat(os.path.join(self.tree.root, path))
        self.state.put([KnownState.of(path, stat, row.digest, row.version)])

    def place(self, *paths: bytes) -> None:
        for path in paths:
            self.steps.place(path)
        self.steps.flush()
