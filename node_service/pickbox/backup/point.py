"""Making a point: the catalog pinned at one index, and every content that it names.

The folder cannot be pinned: people edit its files in place. So content is looked for by its digest
(in the folder, staging, kept versions, then at the peers), taken into a file of the point's own,
and believed only when that file has the digest. What cannot be had may be on its way, or have been
replaced on the only node that had it: then the catalog is pinned anew, and what has changed since
is brought up to date in the point.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import logging
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from pickbox import __version__
from pickbox.backup.clone import shares_blocks, take
from pickbox.backup.manifest import (
    BY_DIGEST,
    FILES,
    FORMAT,
    Manifest,
    is_in_tree,
    place_of,
    write_entries,
    write_manifest,
)
from pickbox.changes import Kind
from pickbox.errors import ContentPending, NotReady
from pickbox.storage.catalog import CatalogCopy
from pickbox.storage.disk import naming_refusals
from pickbox.storage.paths import display
from pickbox.storage.tree import FileTree

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from pickbox.changes import Entry
    from pickbox.seams import ContentSource
    from pickbox.storage.catalog import Catalog
    from pickbox.storage.disk import DiskGuard

log = logging.getLogger(__name__)

MAX_MISSING: Final = 1000
"""Contents that a node may lack and still try: with more it is not caught up yet."""

_NAMED: Final = 5
_PAUSE: Final = 0.3
_CATALOG: Final = b"catalog.db"


class ContentFetcher(Protocol):
    """Brings content from peers to this node."""

    def fetch(self, digest: bytes, size: int, sources: Sequence[str]) -> bool: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose folder a point is of."""

    cluster: str
    node: str


class PointMaker:
    """Makes points; several at a time would only cost room, so its caller makes one.

    Args:
        sources: whom to ask for an entry's content.
        stopping: set when the node stops: what is being made is given up.
    """

    def __init__(
        self,
        origin: Origin,
        catalog: Catalog,
        content: ContentSource,
        fetcher: ContentFetcher,
        disk: DiskGuard,
        sources: Callable[[Entry], Sequence[str]],
        stopping: threading.Event,
    ) -> None:
        self._origin = origin
        self._catalog = catalog
        self._content = content
        self._fetcher = fetcher
        self._disk = disk
        self._sources = sources
        self._stopping = stopping

    def make(self, directory: bytes, wait: float, done: Callable[[int], None]) -> Manifest:
        """Fill `directory`, which is empty; `done` is told how many entries are in it.

        Raises:
            ContentPending: after `wait` seconds content was still not to be had.
            DiskFull, DiskFailed: the volume refuses.
            NotReady: the node stops.
        """
        with naming_refusals():
            return _Making(self, directory, done).run(wait)

    # -- for one making

    def pin(self, path: bytes) -> None:
        """Have the catalog at `path` as it is now."""
        self._catalog.begin_dump()(os.fsdecode(path))

    def check_room(self, count: int) -> None:
        """Raise `DiskFull` unless `count` more bytes fit above the reserve."""
        self._disk.check(count)

    def bring(self, entry: Entry, tree: FileTree, place: bytes) -> bool:
        """Have the content of `entry` at `place` of the point; False if it is not to be had now."""
        for is_last in (False, True):
            source = self._open(entry)
            if source is not None:
                with source, tree.locate(place) as location:
                    if take(source, location, entry.digest, entry.size, self.check_room):
                        return True
            if is_last or not self._fetcher.fetch(entry.digest, entry.size, self._sources(entry)):
                break
        return False

    def _open(self, entry: Entry) -> BinaryIO | None:
        return self._content.open(entry.digest, entry.size) if entry.size else io.BytesIO()

    def go_on(self, seconds: float = 0.0) -> None:
        """Wait for so long; raise if the node stops."""
        if self._stopping.wait(seconds) if seconds else self._stopping.is_set():
            raise NotReady("The node stops: make the backup point on another one.")

    def manifest(self, copy: CatalogCopy, entries: str) -> Manifest:
        """What the point of `copy` is."""
        counts = copy.counts()
        return Manifest(
            format=FORMAT,
            cluster=self._origin.cluster,
            node=self._origin.node,
            release=__version__,
            made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            index=copy.applied_index,
            version=copy.last_version,
            files=counts[Kind.FILE][0],
            directories=counts[Kind.DIRECTORY][0],
            symlinks=counts[Kind.SYMLINK][0],
            bytes=counts[Kind.FILE][1],
            entries=entries,
        )


class _Making:
    """One point in the making. `missing` are paths whose content was not to be had."""

    def __init__(self, maker: PointMaker, directory: bytes, done: Callable[[int], None]) -> None:
        self._maker = maker
        self._directory = directory
        self._done = done
        self._tree = FileTree(directory)
        self._missing: set[bytes] = set()
        self._room_checked = False

    def run(self, wait: float) -> Manifest:
        deadline = time.monotonic() + wait
        for name in (FILES, BY_DIGEST):
            os.mkdir(os.path.join(self._directory, name.encode()), 0o700)
        previous: CatalogCopy | None = None
        try:
            while True:
                current = self._pin()
                self._bring_up_to_date(previous, current)
                if previous is not None:
                    previous.close()
                previous = current
                if not self._missing:
                    return self._finish(current)
                if time.monotonic() > deadline:
                    raise self._pending()
                log.info("backup_waits_for_content", extra={"fields": {"n": len(self._missing)}})
                self._maker.go_on(_PAUSE)
        finally:
            self._tree.close()
            if previous is not None:
                previous.close()

    def _pin(self) -> CatalogCopy:
        path = os.path.join(self._directory, _CATALOG)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # the copy before is still open
        self._maker.pin(path)
        return CatalogCopy(os.fsdecode(path))

    def _bring_up_to_date(self, previous: CatalogCopy | None, current: CatalogCopy) -> None:
        if previous is not None:
            self._remove_what_changed(previous, current)
        self._check_room(current)
        missing = self._missing
        self._missing = set()
        for number, entry in enumerate(current.under(b""), start=1):
            self._maker.go_on()
            there = previous is not None and entry.path not in missing
            if not (there and _is_the_same(previous, entry)) and not self._put(entry):
                self._missing.add(entry.path)
                if len(self._missing) > MAX_MISSING:
                    raise self._pending()
            self._done(number)

    def _check_room(self, current: CatalogCopy) -> None:
        """Without shared blocks every byte is there twice: say at once that they do not fit."""
        if self._room_checked:
            return
        self._room_checked = True
        copied = 0 if shares_blocks(self._directory) else current.counts()[Kind.FILE][1]
        self._maker.check_room(copied)

    def _remove_what_changed(self, previous: CatalogCopy, current: CatalogCopy) -> None:
        """Remove what is no more, or is another thing now; what is in a directory goes first."""
        going: list[Entry] = []
        for entry in previous.under(b""):
            now = current.get(entry.path)
            stays = now is not None and entry.kind is Kind.DIRECTORY and now.kind is entry.kind
            if not stays and (now is None or not _equal(entry, now)):
                going.append(entry)
        for entry in reversed(going):
            with contextlib.suppress(FileNotFoundError):
                self._remove(entry)

    def _remove(self, entry: Entry) -> None:
        if not is_in_tree(entry):
            return  # content by its digest is no path's alone
        if entry.kind is Kind.DIRECTORY:
            self._tree.remove_directory(place_of(entry))
            return
        with self._tree.locate(place_of(entry)) as location:
            os.unlink(location.name, dir_fd=location.directory)

    def _put(self, entry: Entry) -> bool:
        """Have `entry` in the point; False if its content is not to be had now."""
        place = place_of(entry)
        if not is_in_tree(entry):
            if entry.kind is not Kind.FILE or self._tree.lstat(place) is not None:
                return True
            return self._put_file(entry, place)
        if entry.kind is Kind.DIRECTORY:
            with contextlib.suppress(FileExistsError):
                # Its owner must be able to fill it, read it, and remove it; the entry has its mode.
                self._tree.make_directory(place, entry.mode | 0o700)
            return True
        if entry.kind is Kind.SYMLINK:
            with self._tree.locate(place) as location:
                os.symlink(entry.target, location.name, dir_fd=location.directory)
            self._tree.set_metadata(place, Kind.SYMLINK, entry.mode, entry.mtime_ns)
            return True
        return self._put_file(entry, place)

    def _put_file(self, entry: Entry, place: bytes) -> bool:
        if not self._maker.bring(entry, self._tree, place):
            return False
        self._tree.set_metadata(place, Kind.FILE, entry.mode | 0o400, entry.mtime_ns)
        return True

    def _finish(self, current: CatalogCopy) -> Manifest:
        entries = write_entries(self._directory, current.under(b""))
        manifest = self._maker.manifest(current, entries)
        os.unlink(os.path.join(self._directory, _CATALOG))
        write_manifest(self._directory, manifest)
        return manifest

    def _pending(self) -> ContentPending:
        named = ", ".join(repr(display(path)) for path in sorted(self._missing)[:_NAMED])
        return ContentPending(
            f"The content of {len(self._missing)} files is not to be had on this node or at its "
            f"peers: {named}. Wait until it has come (`pickbox status` counts it as pending), or "
            "make the backup on another node."
        )


def remove_tree(directory: bytes) -> None:
    """Remove a point, whole or in part; nothing if it is not there.

    Raises:
        OSError: the disk refuses.
    """
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


def _is_the_same(previous: CatalogCopy | None, entry: Entry) -> bool:
    before = None if previous is None else previous.get(entry.path)
    return before is not None and _equal(before, entry)


def _equal(one: Entry, other: Entry) -> bool:
    """Whether both look the same in a point, whatever their versions."""
    return (one.kind, one.digest, one.target, one.mode, one.mtime_ns) == (
        other.kind,
        other.digest,
        other.target,
        other.mode,
        other.mtime_ns,
    )
