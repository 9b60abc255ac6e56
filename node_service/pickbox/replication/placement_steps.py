"""The steps that bring one path of the folder to what the catalog says."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat as st
from typing import TYPE_CHECKING, BinaryIO, Final

from blake3 import blake3

from pickbox.changes import ABSENT, Entry, Kind
from pickbox.errors import DiskFull
from pickbox.failpoints import failpoint
from pickbox.known import KnownState, Revision, kind_of
from pickbox.replication import trail
from pickbox.storage.placement import ChangedMeanwhile, dress, may_dress

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import stat_result

    from pickbox.replication.content import LocalContent
    from pickbox.replication.inline import InlineContent
    from pickbox.replication.swaps import Swaps
    from pickbox.seams import CatalogReader, StateManager
    from pickbox.storage.disk import DiskGuard
    from pickbox.storage.staging import Staging
    from pickbox.storage.tree import FileTree
    from pickbox.storage.versions import Versions

log = logging.getLogger(__name__)

_CHUNK: Final = 1 << 20


class ContentMissing(Exception):
    """The entry's content is not on this node yet."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.path)
        self.entry = entry


class NotYet(Exception):
    """Something else has to be placed first: a parent, or what is inside a directory."""


class PlacementSteps:
    """Places paths; used by one thread. Rows of the state manager are written by `flush`."""

    def __init__(
        self,
        tree: FileTree,
        inline: InlineContent,
        staging: Staging,
        state: StateManager,
        versions: Versions,
        catalog: CatalogReader,
        content: LocalContent,
        disk: DiskGuard,
        swaps: Swaps,
    ) -> None:
        self._tree = tree
        self._inline = inline
        self._staging = staging
        self._state = state
        self._versions = versions
        self._catalog = catalog
        self._content = content
        self._disk = disk
        self._swaps = swaps
        self._rows: dict[bytes, KnownState] = {}
        self._announced: dict[bytes, int] = {}
        self._in_hand: set[bytes] = set()

    def announce(self, paths: Iterable[bytes]) -> None:
        """Note what is about to be placed, in one transaction.

        Until its row is written, by `flush`, what was placed would look like a person's edit of
        the version before: to the watcher if the catalog has moved on, or after a crash. Where the
        disk is not as its row says, what was announced before a crash may be what is there: that
        stays announced, and the watcher tells it by it.
        """
        entries = [entry for path in paths if (entry := self._due(path)) is not None]
        self._state.announce(entries)
        self._announced = {entry.path: entry.version for entry in entries}

    def place(self, path: bytes) -> tuple[str, int] | None:
        """Bring `path` to the catalog's version.

        Returns:
            What was done and how many bytes it has (``("file", 1024)``), or None if nothing was.

        Raises:
            ChangedMeanwhile: a person changed it: the watcher must look first.
            ContentMissing: its content is elsewhere.
            NotYet: another path comes first.
            StillOpen: what is to go is open for writing.
            DiskFull: there is no room.
        """
        self._in_hand.add(path)
        row, disk, entry = self._look(path)
        if entry is None:
            removed = self._remove(path, row, disk)
            if removed is not None:
                trail.placed(path, 0)
            return removed
        if row is not None and disk is None:
            raise ChangedMeanwhile(path)
        if row is not None and row.version == entry.version:
            return None
        done = self._put(entry, row)
        trail.placed(path, entry.version)
        return done

    def _look(self, path: bytes) -> tuple[KnownState | None, stat_result | None, Entry | None]:
        """What is known of `path`, what is there, and what is to be there.

        The catalog is asked last. A row of a version that the catalog had by then is never later
        than the entry, so that nothing is replaced by what came before it.

        Raises:
            ChangedMeanwhile: something is there that is not what is known.
            NotYet: the catalog is behind the row: it is being rebuilt, or lags behind an answer. Or
                this node waits for the answer to what the entry says.
        """
        row = self._rows.get(path) or self._state.get(path)
        disk = self._tree.lstat(path)
        if disk is not None and (row is None or not row.matches(disk)):
            raise ChangedMeanwhile(path)
        if row is not None and row.version > self._catalog.last_version:
            raise NotYet(path)
        entry = self._catalog.get(path)
        if entry is not None and row is None and disk is None and self._is_removed_again(entry):
            raise NotYet(path)
        return row, disk, entry

    def _is_removed_again(self, entry: Entry) -> bool:
        """Whether a person may have removed what was taken in here, and is not answered yet.

        The answer completes the row, which is looked at last, for it may come just now.
        """
        path = entry.path
        return self._state.is_proposed(path, entry.digest) or self._state.get(path) is not None

    def _due(self, path: bytes) -> Entry | None:
        """The entry that is to be put at `path`, if nothing is in its way as far as can be seen."""
        try:
            row, _, entry = self._look(path)
        except (ChangedMeanwhile, NotYet, OSError):
            return None  # `place` finds it too, and says so
        up_to_date = entry is not None and row is not None and row.version == entry.version
        return None if up_to_date else entry

    def flush(self) -> None:
        """Write the rows of what was placed, in one transaction."""
        rows, self._rows = list(self._rows.values()), {}
        if rows:
            self._state.put(rows)
            self._in_hand.difference_update(row.path for row in rows)

    def has_in_hand(self, path: bytes) -> bool:
        """Whether `path` is being placed, or was and its row is not written yet."""
        return path in self._in_hand

    def let_go(self, paths: Iterable[bytes]) -> None:
        """Nothing more is done to `paths`: what is there now is somebody's."""
        self._in_hand.difference_update(paths)

    def let_go_of_all(self) -> None:
        """A batch is done."""
        self._in_hand.clear()

    # -- removing ---------------------------------------------------------------------------

    def _remove(
        self, path: bytes, row: KnownState | None, disk: stat_result | None
    ) -> tuple[str, int] | None:
        if row is None:
            self._forget_announced(path)
            return None
        if disk is not None and not self._take_away(path, row):
            return None  # its row stays, or the next scan would take the directory for a new one
        self._forget(row)
        return None if disk is None else ("delete", 0)

    def _take_away(self, path: bytes, row: KnownState) -> bool:
        """Remove what is on the disk as `row` says; a file's bytes are kept for a while.

        Returns:
            False for a directory that cannot go, because something ignored is in it.
        """
        if row.kind is Kind.DIRECTORY:
            return self._remove_directory(path)
        out = self._staging.scratch()
        self._swaps.take_out(row, out)
        self._put_by(out, row)
        return True

    def _remove_directory(self, path: bytes) -> bool:
        try:
            self._tree.remove_directory(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if any(below.path != path for below in self._state.under(path)):
                raise NotYet(path) from error
            return False
        return True

    def _put_by(self, taken: bytes, row: KnownState) -> None:
        if row.kind is Kind.FILE and row.size > 0:
            self._versions.keep(taken, row)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(taken)

    # -- putting ----------------------------------------------------------------------------

    def _put(self, entry: Entry, row: KnownState | None) -> tuple[str, int]:
        if row is not None and row.kind is entry.kind and row.digest == entry.digest:
            self._announce_now(entry)
            if self._set_metadata(entry, row):
                self._inline.forget(entry.digest)
                return "metadata", 0
        self._need_parent(entry.path)
        if row is not None and Kind.DIRECTORY in (row.kind, entry.kind):
            if not self._take_away(entry.path, row):
                raise NotYet(entry.path)
            self._forget(row)
            row = None
        self._announce_now(entry)
        if entry.kind is Kind.DIRECTORY:
            self._tree.make_directory(entry.path, entry.mode)
            self._know(entry, self._tree.lstat(entry.path))
        else:
            self._know(entry, self._install(entry, row))
        return entry.kind.name.lower(), entry.size

    def _announce_now(self, entry: Entry) -> None:
        """Announce what the catalog has said only since its batch was announced."""
        if self._announced.get(entry.path) != entry.version:
            self._state.announce([entry])

    def _set_metadata(self, entry: Entry, row: KnownState) -> bool:
        """False if it is another user's file, which a copy of our own has to replace."""
        try:
            self._tree.set_metadata(entry.path, entry.kind, entry.mode, entry.mtime_ns, row)
        except PermissionError:
            if entry.kind is Kind.DIRECTORY:
                raise
            return False
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            raise ChangedMeanwhile(entry.path) from error
        stat = self._tree.lstat(entry.path)
        if stat is None or not _is_unedited(stat, entry, row):
            raise ChangedMeanwhile(entry.path)
        self._know(entry, stat)
        return True

    def _need_parent(self, path: bytes) -> None:
        parent = path.rpartition(b"/")[0]
        if not parent:
            return
        found = self._tree.lstat(parent)
        if found is None and self._catalog.get(parent) is not None:
            self.place(parent)
            found = self._tree.lstat(parent)
        if found is None or not st.S_ISDIR(found.st_mode):
            raise NotYet(path)

    def _install(self, entry: Entry, row: KnownState | None) -> stat_result:
        staged = self._ready(entry)
        try:
            dress(staged, entry.kind, entry.mode, entry.mtime_ns)
            stat = self._swaps.install(staged, entry.path, row)
        except BaseException:
            self._return(staged, entry)
            raise
        failpoint("place_after_rename")
        # Not before: until now the log could be compacted, or the disk be full.
        self._inline.forget(entry.digest)
        if row is not None:
            self._put_by(staged, row)
        return stat

    def _return(self, staged: bytes, entry: Entry) -> None:
        """Placement failed: the content goes back to where the next attempt finds it."""
        with contextlib.suppress(FileNotFoundError):
            in_memory = self._inline.get(entry.digest) is not None
            if entry.kind is Kind.FILE and entry.size > 0 and not in_memory:
                with contextlib.suppress(PermissionError):  # another user's, so never dressed
                    os.chmod(staged, 0o600)  # dressed as it is, we may be unable to read it
                os.rename(staged, self._staging.path(entry.digest))
            else:
                os.unlink(staged)

    def _ready(self, entry: Entry) -> bytes:
        """A private file (or link) in staging that holds what `entry` says."""
        scratch = self._staging.scratch()
        if entry.kind is Kind.SYMLINK:
            os.symlink(entry.target, scratch)
            return scratch
        small = b"" if entry.size == 0 else self._inline.get(entry.digest)
        if small is not None:
            _write(scratch, small)
            return scratch
        claimed = self._staging.claim(entry.digest)
        if claimed is not None:
            return claimed
        if not self._take_over(entry, scratch) and not self._copy(entry, scratch):
            raise ContentMissing(entry)
        return scratch

    def _take_over(self, entry: Entry, scratch: bytes) -> bool:
        """Take the content from a path that is about to lose it: this is how a rename is placed."""
        for row in self._state.with_digest(entry.digest):
            if row.path in self._rows or not self._is_removed(row):
                continue
            with contextlib.suppress(ChangedMeanwhile, OSError):
                if not self._may_take(row):
                    continue
                self._swaps.take_out(row, scratch)
                try:
                    self._forget(row)
                except BaseException:  # the disk is full, say: this may be the only copy
                    os.rename(scratch, self._staging.path(entry.digest))
                    raise
                return True
        return False

    def _is_removed(self, row: KnownState) -> bool:
        """Whether the catalog, which may lag behind the row, has nothing at its path any more."""
        return row.version <= self._catalog.last_version and self._catalog.get(row.path) is None

    def _may_take(self, row: KnownState) -> bool:
        """Whether what `row` knows is there, and could be dressed elsewhere."""
        stat = self._tree.lstat(row.path)
        return stat is not None and row.matches(stat) and may_dress(stat)

    def _copy(self, entry: Entry, scratch: bytes) -> bool:
        """Copy the content from wherever it is here, verified on the way."""
        source = self._content.open(entry.digest, entry.size)
        if source is None:
            self.flush()  # it may be in a file that was placed a moment ago
            source = self._content.open(entry.digest, entry.size)
        if source is None:
            return False
        self._disk.check(entry.size)
        try:
            with source, open(scratch, "xb") as copy:
                if _copy_hashing(source, copy, self._disk) == entry.digest:
                    return True
        except (OSError, DiskFull):
            os.unlink(scratch)
            raise
        os.unlink(scratch)
        return False

    # -- what is known ----------------------------------------------------------------------

    def _know(self, entry: Entry, stat: stat_result | None) -> None:
        """Note what was placed, as it was when it was placed: an edit since then must show."""
        if stat is None or kind_of(stat) is not entry.kind:
            raise ChangedMeanwhile(entry.path)
        self._rows[entry.path] = KnownState.of(entry.path, stat, entry.digest, entry.version)
        if entry.size >= _CHUNK:
            self.flush()  # before the watcher sees it, which would otherwise hash it again

    def _forget(self, row: KnownState) -> None:
        self._rows.pop(row.path, None)
        self._announced.pop(row.path, None)
        self._state.forget([row])

    def _forget_announced(self, path: bytes) -> None:
        """Nothing is at `path`: whoever makes something there that looks like it is a person."""
        if self._state.look_up(path)[1] is not None:
            self._state.revise([Revision(path, ABSENT, None)])


def _is_unedited(stat: stat_result, entry: Entry, row: KnownState) -> bool:
    """Whether what `row` knows has the metadata of `entry`, and nobody has written it since."""
    if entry.kind is Kind.DIRECTORY:
        return stat.st_ino == row.inode
    # A file system may keep whole seconds alone, and has a first and a last one.
    has_its_time = stat.st_mtime_ns == entry.mtime_ns or stat.st_mtime_ns % 1_000_000_000 == 0
    return has_its_time and (stat.st_ino, stat.st_size) == (row.inode, row.size)


def _copy_hashing(source: BinaryIO, copy: BinaryIO, disk: DiskGuard) -> bytes:
    """Copy to the end, durably: the log has no copy. Return the digest of what was copied."""
    hasher = blake3()
    while chunk := source.read(_CHUNK):
        disk.check(len(chunk))  # what comes from peers takes of the same room
        hasher.update(chunk)
        copy.write(chunk)
    copy.flush()
    os.fsync(copy.fileno())
    return hasher.digest()


def _write(path: bytes, data: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
