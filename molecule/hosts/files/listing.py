"""Prints what people have in the folder of a node, as JSON: run on a host, as root."""

import hashlib
import json
import os
import stat
from pathlib import Path

FOLDER = Path("/var/lib/pickbox/files")
OWN = FOLDER / ".pickbox"
"""Of the node, and not of the cluster."""


def described(path: Path) -> list[object]:
    """Mode, and what it is; of files also the time of the last change, of links whereto."""
    status = path.lstat()
    mode = stat.filemode(status.st_mode)
    if path.is_symlink():
        return [mode, os.readlink(path)]
    if path.is_dir():
        return [mode]
    return [mode, status.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()]


found = [path for path in sorted(FOLDER.rglob("*")) if path != OWN and OWN not in path.parents]
print(json.dumps({str(path.relative_to(FOLDER)): described(path) for path in found}))  # noqa: T201
