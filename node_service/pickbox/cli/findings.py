"""What ``pickbox doctor`` finds."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pickbox.cli import render

if TYPE_CHECKING:
    from collections.abc import Iterable


class Level(enum.StrEnum):
    """How bad a finding is. Only `FAILED` makes ``doctor`` exit with an error."""

    OK = "ok"
    WARN = "warn"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: stable, for scripts: ``ready``, ``clock``, ``port 8001``, …
        detail: what was found.
        advice: what to do about it; empty when all is well.
        source: what kind of check it was, where the exit code depends on it: ``settings``,
            ``reach``, ``running``; else empty.
    """

    name: str
    level: Level
    detail: str
    advice: str = ""
    source: str = ""

    def document(self) -> dict[str, str | bool]:
        """The finding for ``--json``."""
        return {
            "name": self.name,
            "ok": self.level is not Level.FAILED,
            "level": self.level.value,
            "detail": self.detail,
            "advice": self.advice,
        }


def show(findings: Iterable[Finding]) -> None:
    """Print a line a finding, and what to do about it below."""
    for finding in findings:
        mark = finding.level.value
        click.echo(f"{mark:<6}  {finding.name:<22}  {render.printable(finding.detail)}")
        if finding.advice:
            click.echo(f"{'':<32}{render.printable(finding.advice)}")
