"""Measures backup and restore of a folder on this machine: three real nodes, restic, one disk.

1 GiB in 10,000 files, unless ``--files`` and ``--bytes`` say otherwise. Each figure is printed as
it is had; it fails if what was restored is not what was backed up.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "integration"))

from cluster import TOKEN, Cluster, Node, wait_until

MIB = 1 << 20
FOLDERS = 100


def say(text: str) -> None:
    """Print a figure at once."""
    print(text, flush=True)  # noqa: T201 - the program's output


def fill(folder: Path, files: int, size: int) -> None:
    """Have `files` files of random content, `size` bytes in all, in `folder`."""
    for number in range(files):
        path = folder / f"{number % FOLDERS:02}/{number}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(size // files))


def pickbox(node: Node, repository: Path, *arguments: str) -> Any:
    """What the command answers."""
    (repository.parent / "password").write_text("a password for a measurement\n")
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PICKBOX", "RESTIC"))},
        "PICKBOX_ADMIN_URL": node.admin,
        "PICKBOX_ADMIN_TOKEN": TOKEN,
        "RESTIC_REPOSITORY": str(repository),
        "RESTIC_PASSWORD_FILE": str(repository.parent / "password"),
        "RESTIC_CACHE_DIR": str(repository.parent / "cache"),
    }
    command = [sys.executable, "-m", "pickbox", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}: {done.stderr.decode()}")
    return json.loads(done.stdout)


def measure(directory: Path, files: int, size: int) -> None:
    """Fill a cluster, back it up twice, and restore it into another one."""
    repository = directory / "repository"
    old, new = Cluster(directory / "old"), Cluster(directory / "new")
    try:
        old.start()
        fill(old["node1"].files, files, size)
        wait_until(
            lambda: all(node.status()["figures"]["files"] == files for node in old),
            "all files are committed",
            900,
            0.5,
        )
        expected = old.wait_same(600)
        node = old.followers()[0]
        say(f"backup of {files} files, {size / MIB:.0f} MiB")
        pickbox(node, repository, "backup", "init")
        for which in ("first", "second"):
            made = pickbox(node, repository, "backup", "run")
            say(f"  {which}: {made['seconds']:.1f} s, {made['point_seconds']:.1f} s for the point")
            say(f"  ... the repository grew by {made['bytes_added'] / MIB:.2f} MiB")
        old.stop()
        new.start()
        began = time.monotonic()
        done = pickbox(new.followers()[0], repository, "restore")
        say(f"  restore into an empty cluster: {done['seconds']:.1f} s until all is committed")
        found = new.wait_same(600)
        say(f"  ... {time.monotonic() - began:.1f} s until every node has every file")
        if found != expected:
            sys.exit("what was restored is not what was backed up")
        say(f"  identical: {len(found)} paths, with content, mode and time")
    finally:
        old.stop()
        new.stop()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--bytes", type=int, default=1 << 30)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pickbox-backup-") as directory:
        measure(Path(directory), asked.files, asked.bytes)


if __name__ == "__main__":
    main()
