"""Content by its digest, wherever this node has it: memory, staging, the folder, versions."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, BinaryIO

from pickbox.changes import Kind, OnStale
from pickbox.known import kind_of
from pickbox.storage.digest import digest_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.changes import Put, Submission
    from pickbox.replication.inline import InlineContent
    from pickbox.seams import StateManager
    from pickbox.storage.staging import Staging
    from pickbox.storage.tree import FileTree
    from pickbox.storage.versions import Versions

log = logging.getLogger(__name__)


class LocalContent:
    """Implements `pickbox.seams.ContentSource` for this node's own volume.

    The digest of a file in the folder is trusted as far as ``lstat`` says that nobody changed it;
    whoever copies content verifies it again on the way.

    Args:
        offered: the folder's path of content that the watcher is about to propose.
        in_doubt: whether ``lstat`` says nothing, as after a loss of power: then all is read.
    """

    def __init__(
        self,
        tree: FileTree,
        inline: InlineContent,
        staging: Staging,
        state: StateManager,
        versions: Versions,
        offered: Callable[[bytes], bytes | None],
        node_id: str,
        in_doubt: Callable[[], bool] = lambda: False,
    ) -> None:
        self._tree = tree
        self._inline = inline
        self._staging = staging
        self._state = state
        self._versions = versions
        self._offered = offered
        self._node_id = node_id
        self._in_doubt = in_doubt

    def open(self, digest: bytes, size: int) -> BinaryIO | None:
        """The content from its first byte, or None if this node does not have it."""
        return (
            self._inline.open(digest)
            or self._staging.open(digest)
            or self._as_named(self._open_in_folder(digest, size), digest)
            or self._open_offered(digest, size)
            or self._as_named(self._versions.open(digest), digest)
        )

    def has(self, digest: bytes, size: int) -> bool:
        """Whether this node has the content, undamaged.

        What is in the folder or in versions is read: a process that kept the file open may have
        changed it unseen, and then it has to be fetched.
        """
        if self._inline.get(digest) is not None or self._staging.has(digest, size):
            return True
        found = self.open(digest, size)
        if found is None:
            return False
        with found:
            return digest_file(found) == (digest, size)

    def is_placed(self, digest: bytes) -> bool:
        """Whether a file of the folder has this content, as far as ``lstat`` tells."""
        for row in self._state.with_digest(digest):
            stat = self._lstat(row.path)
            if stat is not None and row.matches(stat):
                return True
        return False

    def is_in_folder(self, submission: Submission, put: Put) -> bool:
        """Whether the folder holds the content of `put` at its path; looks at no content.

        Never so while all is in doubt.

        Size and time alone say it only where the watcher has just read the file: another content of
        the same size and time may be there, and were that believed on every node, none would keep
        the new one.
        """
        stat = None if self._in_doubt() else self._lstat(put.path)
        if stat is None or kind_of(stat) is not Kind.FILE:
            return False
        row = self._state.get(put.path)
        if row is not None and row.digest == put.digest and row.matches(stat):
            return True
        taken_in_here = submission.origin == self._node_id and put.on_stale is OnStale.KEEP_BOTH
        return taken_in_here and (stat.st_size, stat.st_mtime_ns) == (put.size, put.mtime_ns)

    def _as_named(self, file: BinaryIO | None, digest: bytes) -> BinaryIO | None:
        """`file`, from its first byte; None if that is in doubt and it has another digest."""
        if file is None or not self._in_doubt():
            return file
        if digest_file(file)[0] == digest:
            file.seek(0)
            return file
        file.close()
        return None

    def _open_in_folder(self, digest: bytes, size: int) -> BinaryIO | None:
        for row in self._state.with_digest(digest):
            stat = self._lstat(row.path)
            if stat is None or not row.matches(stat) or stat.st_size != size:
                continue
            opened = self._try_open(row.path)
            if opened is not None and os.fstat(opened.fileno()).st_ino == row.inode:
                return opened
            if opened is not None:
                opened.close()
        return None

    def _open_offered(self, digest: bytes, size: int) -> BinaryIO | None:
        path = self._offered(digest)
        opened = None if path is None else self._try_open(path)
        if opened is not None and os.fstat(opened.fileno()).st_size != size:
            opened.close()
            return None
        return opened

    def _lstat(self, path: bytes) -> os.stat_result | None:
        """What is at `path`; None if that cannot be seen, as in a directory that has lost its x."""
        try:
            return self._tree.lstat(path)
        except OSError:
            return None

    def _try_open(self, path: bytes) -> BinaryIO | None:
        try:
            return self._tree.open_file(path)
        except OSError as error:
            log.debug("content_not_opened", extra={"fields": {"path": path, "why": str(error)}})
            return None
