"""Directories that nobody watches, because the kernel's limit of watches is reached.

watchdog raises only if the folder itself cannot be watched; directories below it beyond the limit
are silently deaf. So the watches that exist are counted, and compared with the directories.
"""

from __future__ import annotations

import os
from typing import Final

SPARE: Final = 1.25
"""The limit to ask for is what is needed now and a quarter more."""

_LIMIT_FILE: Final = "/proc/sys/fs/inotify/max_user_watches"


class WatchLimit:
    """Compares watches and directories; `reason` says what is wrong, empty when all are watched."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._suspected = False
        self.reason = ""

    def check(self, directories: int | None = None) -> bool:
        """Count, and return whether another check is wanted soon.

        A directory made just now may not be watched yet: two checks in a row have to agree.

        Args:
            directories: as a scan counted them a moment ago; None to count them here.
        """
        before = watches()
        if directories is None:
            directories = count_directories(self._root)
        watched = max(before, watches())
        if watched >= directories:
            self._suspected, self.reason = False, ""
            return False
        if not self._suspected:
            self._suspected = True
            return True
        self.reason = _sentence(directories, watched, _limit())
        return False


def watches() -> int:
    """How many inotify watches this process has, as the kernel counts them (proc(5), fdinfo)."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:inotify":
                with open(f"/proc/self/fdinfo/{name}", "rb") as info:
                    count += sum(line.startswith(b"inotify ") for line in info)
        except FileNotFoundError:
            continue  # closed meanwhile, as the descriptor that lists the directory is
    return count


def count_directories(root: bytes) -> int:
    """How many directories there are to watch, `root` itself and ignored ones too."""
    count, todo = 0, [root]
    while todo:
        count += 1
        try:
            with os.scandir(todo.pop()) as entries:
                todo += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # gone meanwhile, or unreadable, which the scan tells
    return count


def _limit() -> int:
    with open(_LIMIT_FILE, "rb") as file:
        return int(file.read())


def _sentence(directories: int, watched: int, limit: int) -> str:
    needed = int((limit + directories - watched) * SPARE)
    return (
        f"{directories - watched} of {directories} directories are not watched, because "
        f"fs.inotify.max_user_watches is {limit}: set it to {needed} or more. Until then the "
        f"folder is scanned every few seconds instead."
    )
