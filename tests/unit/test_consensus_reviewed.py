"""The library that the core builds on is the one that was read."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from consensus_cluster import Cluster, fake_clock
from pysyncobj import SyncObj

from pickbox.consensus import core, library, reviewed
from pickbox.consensus.core import SafeSyncObj
from pickbox.consensus.library import LibraryNode
from pickbox.consensus.reviewed import LibraryNotReviewed, check_library


def test_the_installed_library_is_the_reviewed_one() -> None:
    check_library()


def test_another_version_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviewed, "VERSION", "0.3.18")
    with pytest.raises(LibraryNotReviewed, match=r"0\.3\.18.*Install pysyncobj==0\.3\.17"):
        check_library()


def test_a_changed_source_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reviewed.REVIEWED_SOURCES, "syncobj.py", "0" * 64)
    with pytest.raises(LibraryNotReviewed, match=r"syncobj\.py has SHA-256"):
        check_library()


def test_a_missing_source_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reviewed.REVIEWED_SOURCES, "gone.py", "0" * 64)
    with pytest.raises(LibraryNotReviewed, match=r"gone\.py cannot be read"):
        check_library()


def test_a_private_name_that_is_gone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for table in (
        "OVERRIDDEN_METHODS",
        "USED_ATTRIBUTES",
        "USED_OPEN_ATTRIBUTES",
        "USED_TRANSPORT_METHODS",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(reviewed, table, ("noSuchThing",))
            with pytest.raises(LibraryNotReviewed, match=r"it has no .*noSuchThing"):
                check_library()


CHECKED = {
    *reviewed.OVERRIDDEN_METHODS,
    *(f"_SyncObj__{name}" for name in reviewed.USED_ATTRIBUTES),
    *reviewed.USED_OPEN_ATTRIBUTES,
}
RETIRING = {"syncobj.py"}
"""What the core replaces; it goes with the switch to it."""


def test_every_private_name_of_the_library_in_the_package_is_checked() -> None:
    package = Path(reviewed.__file__).parent.parent
    used = set()
    for path in package.rglob("*.py"):
        if path.name not in {"reviewed.py", *RETIRING}:
            used |= set(re.findall(r"\b_SyncObj__\w+", path.read_text()))
    assert used == {name for name in CHECKED if name.startswith("_SyncObj__")}


def test_every_name_that_the_core_shares_with_the_library_is_checked() -> None:
    """One that it does not share on purpose would change the library's behaviour by accident."""
    theirs = {name for name in dir(SyncObj) if not hasattr(object, name)}
    theirs |= {name for name in SyncObj.__init__.__code__.co_names if name.startswith("_")}
    ours = set(vars(LibraryNode)) | set(vars(SafeSyncObj))
    for module in (library, core):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            match node:
                case ast.Attribute(ast.Name("self"), name):
                    ours.add(name)
    assert ours & theirs == CHECKED


def test_every_source_that_comes_with_the_library_is_reviewed() -> None:
    program = (
        "import sys, pickbox.consensus.core;"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'pysyncobj'))"
    )
    paths = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert {Path(path).name for path in paths} == reviewed.REVIEWED_SOURCES.keys()


def test_what_is_overridden_is_overridden() -> None:
    for name in reviewed.OVERRIDDEN_METHODS:
        if name != "_doDestroy":
            owners = [c for c in SafeSyncObj.__mro__ if name in vars(c)]
            assert issubclass(owners[0], LibraryNode), name


def test_a_node_does_not_start_on_a_library_that_nobody_has_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(reviewed.REVIEWED_SOURCES, "syncobj.py", "0" * 64)
    with (
        fake_clock() as clock,
        pytest.raises(LibraryNotReviewed, match=r"Install pysyncobj==0\.3\.17 unmodified"),
    ):
        Cluster(clock, str(tmp_path), "A")
