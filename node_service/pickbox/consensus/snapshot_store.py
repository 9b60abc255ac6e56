"""Snapshots on disk: two files each, of which the second, renamed into place last, makes it valid.

``snapshot-<index>.data`` is what the state machine wrote. ``snapshot-<index>.meta`` says what it
covers, its size and its SHA-256. A crash at any point leaves the old snapshot or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgpack

from pickbox.consensus.configuration import Configuration, InvalidConfiguration
from pickbox.consensus.log.disk import RealDisk
from pickbox.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pickbox.consensus.log.disk import Disk, DiskFile

_META: Final = re.compile(r"snapshot-(\d{20})\.meta")
_MAGIC: Final = b"PBXSNAP1"
_READ_BYTES: Final = 1 << 20
OTHER_BYTES: Final = "its SHA-256 is not the one that was written"

WAYS_OUT: Final = (
    "Restore the node from a backup, or move its data directory away and add it to the cluster "
    "again"
)


class SnapshotDamaged(Exception):
    """A snapshot is not what was written; the text says which file, and the ways out."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot covers.

    Attributes:
        index, term: the last entry that is in it.
        machine_index: what the state machine calls its last applied entry; it counts only commands.
        configuration: the members in force at `index`.
        size, digest: length in bytes and SHA-256 of the data.
    """

    index: int
    term: int
    machine_index: int
    configuration: Configuration
    size: int
    digest: bytes

    def encode(self) -> bytes:
        """The meta file: magic, SHA-256 of the record, the record as msgpack."""
        record: bytes = msgpack.packb(
            [
                self.index,
                self.term,
                self.machine_index,
                self.configuration.encode(),
                self.size,
                self.digest,
            ]
        )
        return _MAGIC + hashlib.sha256(record).digest() + record

    @classmethod
    def decode(cls, content: bytes) -> Snapshot:
        """Read what `encode` wrote. Raises `ValueError` if it did not write this."""
        digest, record = content[8:40], content[40:]
        if not content.startswith(_MAGIC) or hashlib.sha256(record).digest() != digest:
            raise ValueError("its checksum is wrong")
        try:
            index, term, machine_index, members, size, data_digest = msgpack.unpackb(record)
            configuration = Configuration.decode(members)
        except (msgpack.UnpackException, InvalidConfiguration) as error:
            raise ValueError(str(error)) from error
        return cls(index, term, machine_index, configuration, size, data_digest)


class SnapshotStore:
    """The newest snapshot of a node, in `directory`, which is made if it is not there.

    Raises:
        SnapshotDamaged: the newest snapshot's description cannot be read.
    """

    def __init__(self, directory: str, disk: Disk | None = None) -> None:
        self._directory = directory
        self._disk = disk or RealDisk()
        self._disk.make_directory(directory)
        self.latest = self._find_latest()
        self._distrusted: Snapshot | None = None

    @property
    def covered(self) -> int:
        """Up to which entry the newest snapshot holds everything; 0 if it is not to be trusted."""
        latest = self.latest
        return 0 if latest is None or latest is self._distrusted else latest.index

    def distrust(self, snapshot: Snapshot) -> None:
        """`snapshot` cannot be read, or is not what was written: another is to take its place."""
        self._distrusted = snapshot

    def _find_latest(self) -> Snapshot | None:
        indexes = _indexes(self._disk.names(self._directory))
        if not indexes:
            return None
        path = self._path(indexes[0], "meta")
        try:
            return Snapshot.decode(b"".join(_read(self._disk, path)))
        except ValueError as error:
            raise SnapshotDamaged(f"{path} is damaged: {error}. {WAYS_OUT}") from error

    def _path(self, index: int, kind: str) -> str:
        return _path(self._directory, index, kind)

    def data_path(self, snapshot: Snapshot) -> str:
        """Where the state machine's part is."""
        return self._path(snapshot.index, "data")

    def scratch_path(self, name: str) -> str:
        """Where something may be written on its way to `install`."""
        return os.path.join(self._directory, f"{name}.part")

    def open_scratch(self, path: str) -> DiskFile:
        """The file at a scratch path, with what is there already."""
        try:
            return self._disk.open(path, create=False)
        except FileNotFoundError:
            return self._disk.open(path, create=True)

    def discard(self, path: str) -> None:
        """Remove what is at a path, if anything is."""
        with contextlib.suppress(FileNotFoundError):
            self._disk.remove(path)

    def describe(
        self, path: str, index: int, term: int, machine_index: int, members: Configuration
    ) -> Snapshot:
        """What a file that the state machine wrote will be called as a snapshot; makes it durable.

        Raises:
            OSError: the disk refuses.
        """
        self._sync(path)
        size, digest = self.measure(path)
        return Snapshot(index, term, machine_index, members, size, digest)

    def measure(self, path: str) -> tuple[int, bytes]:
        """Length in bytes and SHA-256 of the file at `path`."""
        return _measure(self._disk, path)

    def install(self, path: str, snapshot: Snapshot) -> None:
        """Move the file at `path` in as the data of `snapshot`; durable when this returns."""
        self._sync(path)
        self._disk.rename(path, self.data_path(snapshot))
        meta, part = self._path(snapshot.index, "meta"), self._path(snapshot.index, "meta.part")
        self._write_new(part, snapshot.encode())
        self._sync_directory()  # the data's name first
        failpoint("snapshot_before_rename")
        self._disk.rename(part, meta)
        failpoint("snapshot_after_rename")
        self._sync_directory()
        self.latest = snapshot

    def uninstall(self, snapshot: Snapshot) -> None:
        """Take back what `install` did; the one before is valid again."""
        self._disk.remove(self._path(snapshot.index, "meta"))
        self._sync_directory()
        self.latest = self._find_latest()

    def drop_older(self) -> None:
        """Remove all but the newest snapshot, and what was left half-written."""
        keep = (
            {self._path(self.latest.index, "meta"), self.data_path(self.latest)}
            if self.latest
            else set()
        )
        for name in reversed(self._disk.names(self._directory)):  # meta before its data
            path = os.path.join(self._directory, name)
            if path not in keep:
                self.discard(path)

    def load_into(self, load: Callable[[str], None], snapshot: Snapshot) -> None:
        """Give the state machine the data of `snapshot`, after a look at all of it.

        Raises:
            SnapshotDamaged: it is not what was written.
        """
        path = self.data_path(snapshot)
        if self.measure(path) != (snapshot.size, snapshot.digest):
            raise SnapshotDamaged(f"{path} is damaged: {OTHER_BYTES}. {WAYS_OUT}")
        load(path)

    def open(self, snapshot: Snapshot) -> DiskFile:
        """The data of `snapshot`; it stays readable when a newer one takes its place."""
        return self._disk.open(self.data_path(snapshot), create=False)

    # -- files ---------------------------------------------------------------------------------

    def _write_new(self, path: str, content: bytes) -> None:
        self.discard(path)
        file = self._disk.open(path, create=True)
        try:
            file.write(0, content)
            file.sync()
        finally:
            file.close()

    def _sync(self, path: str) -> None:
        file = self._disk.open(path, create=False)
        try:
            file.sync()
        finally:
            file.close()

    def _sync_directory(self) -> None:
        self._disk.sync_directory(self._directory)


@dataclass(frozen=True, slots=True)
class SnapshotFound:
    """A snapshot as it is on the disk.

    Attributes:
        path: of the file that makes it valid.
        snapshot: what it says; None if that cannot be read.
        trouble: what is wrong with it; empty if all its bytes are those that were written.
    """

    path: str
    snapshot: Snapshot | None
    trouble: str


def examine_snapshots(directory: str, disk: Disk | None = None) -> list[SnapshotFound]:
    """Look at all of the snapshots in `directory`, the newest first; changes nothing.

    Raises:
        OSError: the directory or a file in it cannot be read.
    """
    disk = disk or RealDisk()
    found = []
    for index in _indexes(disk.names(directory)):
        meta = _path(directory, index, "meta")
        try:
            found.append(_examine(disk, meta, _path(directory, index, "data")))
        except FileNotFoundError as error:
            if os.path.basename(meta) in disk.names(directory):  # else a newer one replaced it
                found.append(SnapshotFound(meta, None, f"{error.filename} is missing"))
    return found


def _examine(disk: Disk, meta: str, data: str) -> SnapshotFound:
    try:
        snapshot = Snapshot.decode(b"".join(_read(disk, meta)))
    except ValueError as error:
        return SnapshotFound(meta, None, str(error))
    as_written = _measure(disk, data) == (snapshot.size, snapshot.digest)
    return SnapshotFound(meta, snapshot, "" if as_written else f"{data}: {OTHER_BYTES}")


def _indexes(names: Iterable[str]) -> list[int]:
    """The indexes of the snapshots that are valid by their names, newest first."""
    found = map(_META.fullmatch, names)
    return sorted((int(name[1]) for name in found if name), reverse=True)


def _path(directory: str, index: int, kind: str) -> str:
    return os.path.join(directory, f"snapshot-{index:020}.{kind}")


def _measure(disk: Disk, path: str) -> tuple[int, bytes]:
    """Length in bytes and SHA-256 of the file at `path`."""
    digest, size = hashlib.sha256(), 0
    for block in _read(disk, path):
        digest.update(block)
        size += len(block)
    return size, digest.digest()


def _read(disk: Disk, path: str) -> Iterator[bytes]:
    file = disk.open(path, create=False)
    try:
        yield from blocks(file)
    finally:
        file.close()


def blocks(file: DiskFile) -> Iterator[bytes]:
    """All of a file, in blocks that fit into memory."""
    offset = 0
    while block := file.read(offset, _READ_BYTES):
        yield block
        offset += len(block)
