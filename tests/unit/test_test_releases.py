"""The releases that tests upgrade to can be made, and agree with this one while they must."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import pickbox
from pickbox.levels import LEVEL
from pickbox.storage.catalog import Catalog
from releases.make import KINDS, ROOT, make

if TYPE_CHECKING:
    from pathlib import Path

APPLY = """
import sys
from pickbox.changes import Delete, Entry, Kind, Move, Put, Raise, Submission
from pickbox.codec import decode_command, encode_command
from pickbox.replication.rules import apply_change
from pickbox.storage.catalog import Catalog

catalog = Catalog(sys.argv[1])
puts = [Put(b"d/f%d" % n, Kind.FILE, n, 0o644, n, b"d" * 32) for n in range(50)]
changes = [*puts, Delete(b"d/f7"), Move(b"d", b"e")]
command = encode_command([Submission("r", "node1", 0, tuple(changes))])
with catalog.transaction(5) as txn:
    for change in decode_command(command)[0].changes:
        apply_change(txn, decode_command(command)[0], change)
catalog.begin_dump()(sys.argv[2])
print(command.hex(), catalog.state_hash.hex())
"""


def run(source: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the package that is in a tree of sources."""
    environment = {**os.environ, "PYTHONPATH": str(source / "node_service")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, Path]]:
    directory = tmp_path_factory.mktemp("releases")
    return {kind: (make(kind, directory / kind), directory / kind) for kind in KINDS}


def test_each_is_a_tree_of_sources_of_a_version_of_its_own(
    releases: dict[str, tuple[str, Path]],
) -> None:
    versions = [version for version, _ in releases.values()]
    assert len({*versions, pickbox.__version__}) == len(KINDS) + 1
    for version, source in releases.values():
        assert (source / "pyproject.toml").exists()
        told = run(source, "-m", "pickbox", "--version")
        assert told.stdout == f"pickbox, version {version}\n", told.stderr


def test_next_and_this_one_write_the_same_until_the_upgrade_is_finished(
    releases: dict[str, tuple[str, Path]], tmp_path: Path
) -> None:
    answers = [
        run(source, "-c", APPLY, str(tmp_path / f"{name}.db"), str(tmp_path / f"{name}.snapshot"))
        for name, source in (("this", ROOT), ("next", releases["next"][1]))
    ]
    assert answers[0].stdout, answers[0].stderr
    assert answers[0].stdout == answers[1].stdout, answers[1].stderr
    ours = Catalog(str(tmp_path / "ours.db"))
    ours.load(str(tmp_path / "next.snapshot"))
    assert ours.level == LEVEL
    assert ours.state_hash.hex() == answers[1].stdout.split()[1]
