"""Which paths are left alone: built-in rules and the folder's own ``.pickboxignore``.

The file has gitignore syntax (https://git-scm.com/docs/gitignore) and is itself replicated, so all
nodes ignore the same. Its lines come after the built-in ones and the last match wins: a line such
as ``!*.tmp`` takes a built-in rule back. ``.pickbox/`` is ignored whatever the file says.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from pathspec import GitIgnoreSpec

from pickbox.storage.paths import RESERVED_NAME, TEMPORARY_PREFIX

if TYPE_CHECKING:
    from pickbox.storage.tree import FileTree

log = logging.getLogger(__name__)

IGNORE_FILE: Final = b".pickboxignore"

BUILT_IN: Final = (
    "*~",  # backups of vim, emacs, nano, gedit, …
    ".*.sw?",  # vim's swap files
    ".#*",  # emacs' locks
    r"\#*#",  # emacs' unsaved changes
    "*.tmp",
    ".goutputstream-*",  # GLib, before it renames
    ".~lock.*#",  # LibreOffice
    "~$*",  # Microsoft Office
    ".nfs*",  # NFS: deleted and still open
    ".fuse_hidden*",  # FUSE: the same
)

_MAX_BYTES: Final = 1 << 20
"""An ignore file larger than this is a mistake, and would slow every look down."""

_REMEMBERED: Final = 50_000
"""Directories whose answer is remembered, at most."""


class IgnoreRules:
    """Answers whether a path is ignored. Any thread may ask while another reloads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._text = b""
        self._spec = _compile(b"")
        self._directories: dict[bytes, bool] = {}

    def refresh(self, tree: FileTree) -> bool:
        """Read ``.pickboxignore`` again; return whether the rules changed.

        A file that is missing means the built-in rules. One that cannot be read, or not be
        understood, changes nothing and is logged.
        """
        try:
            text = _read(tree)
            if text == self._text:
                return False
            spec = _compile(text)
        except (OSError, ValueError) as error:
            log.warning("ignore_file_unreadable", extra={"fields": {"why": str(error)}})
            return False
        with self._lock:
            self._text, self._spec, self._directories = text, spec, {}
        log.info("ignore_rules_changed", extra={"fields": {"bytes": len(text)}})
        return True

    def ignores(self, path: bytes, *, is_directory: bool) -> bool:
        """Whether `path` is left alone: by a rule for itself or for a directory above it."""
        parent, _, name = path.rpartition(b"/")
        if parent and self._ignores_directory(parent):
            return True
        if is_directory:
            return self._ignores_directory(path)
        return _is_ours(path, name) or self._matches(path)

    def _ignores_directory(self, path: bytes) -> bool:
        known = self._directories
        answer = known.get(path)
        if answer is None:
            parent, _, name = path.rpartition(b"/")
            above = bool(parent) and self._ignores_directory(parent)
            answer = above or _is_ours(path, name) or self._matches(path + b"/")
            if len(known) >= _REMEMBERED:
                known.clear()
            known[path] = answer
        return answer

    def _matches(self, path: bytes) -> bool:
        return self._spec.match_file(os.fsdecode(path))


def _is_ours(path: bytes, name: bytes) -> bool:
    """What belongs to Pickbox itself; no rule takes it back."""
    return path == RESERVED_NAME or name.startswith(TEMPORARY_PREFIX)


def _read(tree: FileTree) -> bytes:
    if tree.lstat(IGNORE_FILE) is None:
        return b""
    with tree.open_file(IGNORE_FILE) as file:
        return file.read(_MAX_BYTES)


def _compile(text: bytes) -> GitIgnoreSpec:
    lines = os.fsdecode(text).split("\n")
    return GitIgnoreSpec.from_lines([*BUILT_IN, *lines])
