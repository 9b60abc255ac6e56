"""What a node knows of the paths on its own disk: the rows of the state manager."""

from __future__ import annotations

import stat as st
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pickbox.changes import Kind

if TYPE_CHECKING:
    from os import stat_result


def kind_of(stat: stat_result) -> Kind | None:
    """The kind of what ``lstat`` saw; None for what is never replicated (devices, pipes, …)."""
    if st.S_ISREG(stat.st_mode):
        return Kind.FILE
    if st.S_ISDIR(stat.st_mode):
        return Kind.DIRECTORY
    if st.S_ISLNK(stat.st_mode):
        return Kind.SYMLINK
    return None


@dataclass(frozen=True, slots=True)
class KnownState:
    """What this node last knew of a path on its own disk (a row of the state manager).

    Attributes:
        version: the catalog version that the disk's content derives from; 0 if none.
        digest: of what is on the disk; with `version` unequal to the catalog's it is an older one.
    """

    path: bytes
    kind: Kind
    size: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: bytes
    version: int

    @classmethod
    def of(cls, path: bytes, stat: stat_result, digest: bytes, version: int) -> Self:
        """The row for what `stat` (not of a kind that is never replicated) and `digest` say."""
        kind = kind_of(stat)
        assert kind is not None
        mode = stat.st_mode & 0o777
        if kind is Kind.DIRECTORY:  # what is put into one changes its size and its times
            return cls(path, kind, 0, mode, 0, 0, stat.st_ino, digest, version)
        times = stat.st_mtime_ns, stat.st_ctime_ns
        return cls(path, kind, stat.st_size, mode, *times, stat.st_ino, digest, version)

    def matches(self, stat: stat_result) -> bool:
        """Whether the disk is as it was when this row was written (``lstat``, no hashing)."""
        if kind_of(stat) is not self.kind:
            return False
        if self.kind is Kind.DIRECTORY:
            return self.mode == stat.st_mode & 0o777
        return (
            self.size == stat.st_size
            and self.mtime_ns == stat.st_mtime_ns
            and self.ctime_ns == stat.st_ctime_ns
            and self.inode == stat.st_ino
        )


@dataclass(frozen=True, slots=True)
class Revision:
    """What the row of a path becomes by what was found on the disk, some time ago.

    Attributes:
        base: the version of the row that it was compared with; `ABSENT` if there was none.
        row: the new one; None to forget the path.
    """

    path: bytes
    base: int
    row: KnownState | None
