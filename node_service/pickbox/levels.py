"""What the releases of one major version understand, so that two of them can run side by side.

Each new kind of command, and each column that it fills, comes with a *level*, a number that grows
by one. A cluster is at the level that its log says, and never goes back: commands of a later one
are refused until an operator finishes the upgrade (`pickbox.upgrades`), which takes every member
understanding it. Until then the release before can run on the same data.

docs/reference/versions.md has the rules for whoever adds to this list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Level:
    """One step of what nodes tell each other.

    Attributes:
        release: the first that understands it.
        migration: what the step adds to the catalog (SQL). It takes the same short time however
            many entries there are: a column without a value, a table, an index.
    """

    number: int
    release: str
    migration: tuple[str, ...] = ()


LEVELS: Final = (Level(1, "0.1.0"),)
"""All of them, in order."""

LEVEL: Final = LEVELS[-1].number
"""The highest that this release understands."""

FIRST_LEVEL: Final = LEVELS[0].number


class WrongRelease(Exception):
    """What is there needs another release than this one; the text says which, and what to do."""
