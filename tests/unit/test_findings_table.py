"""`docs/reference/pysyncobj-findings.md` against the tests that there are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
PAGE = TESTS.parent / "docs" / "reference" / "pysyncobj-findings.md"
CONSENSUS = TESTS.parent / "node_service" / "pickbox" / "consensus"
FINDINGS = [f"P{number}" for number in range(1, 46)]


def rows(part: str) -> list[list[str]]:
    """The cells of each row of the table in a part of the page, without its head."""
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def findings() -> list[list[str]]:
    return rows(PAGE.read_text().split("\n## ")[0])


def cases() -> list[list[str]]:
    return rows(PAGE.read_text().split("\n## ")[1])


def named_in(cell: str) -> str:
    """The one test that a cell names."""
    names = re.findall(r"`(test_\w+)`", cell)
    assert len(names) == 1, f"{cell}: one test belongs here"
    return str(names[0])


@pytest.fixture(scope="module")
def collected() -> set[str]:
    """The names of the tests that pytest finds in the modules that test the log."""
    modules = [*TESTS.glob("*/test_consensus*.py"), *TESTS.glob("*/test_log_*.py")]
    modules += TESTS.glob("*/test_transport*.py")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-o", "addopts="]
    listed = subprocess.check_output([*command, *modules], text=True, cwd=TESTS.parent)
    return set(re.findall(r"::(test_\w+)", listed))


def test_every_finding_is_there_once_and_in_order() -> None:
    assert [row[0] for row in findings()] == FINDINGS


@pytest.mark.parametrize("row", findings(), ids=FINDINGS)
def test_a_finding_is_mended_or_impossible_and_both_sides_are_shown(
    row: list[str], collected: set[str]
) -> None:
    number, _, here, on_the_library, absent = row
    assert re.match(r"(mended|impossible): ", here)
    for module in re.findall(r"`(\w+)[.\w]*`", here):
        assert (CONSENSUS / f"{module}.py").exists() or (CONSENSUS / module).is_dir(), module
    prefix = f"test_p{int(number[1:]):02}_"
    assert named_in(on_the_library) in collected
    assert named_in(on_the_library).startswith(f"{prefix}stock_")
    assert named_in(absent) in collected
    assert re.match(rf"{prefix}(?!stock_)", named_in(absent))


def test_every_test_of_a_finding_is_called_after_it(collected: set[str]) -> None:
    numbered = {name for name in collected if re.match(r"test_p\d", name)}
    prefixes = tuple(f"test_p{number:02}_" for number in range(1, 46))
    assert len(numbered) > 2 * len(FINDINGS)
    assert [name for name in numbered if not name.startswith(prefixes)] == []


def test_every_case_from_production_has_a_test(collected: set[str]) -> None:
    assert len(cases()) > 20
    assert [named_in(row[3]) for row in cases() if named_in(row[3]) not in collected] == []
