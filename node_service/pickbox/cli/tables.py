"""Tables for people; into a pipe, one line a row."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pickbox.cli import render

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; into a pipe, a line a row that is never wrapped or cut."""
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 10_000, highlight=False)
    shown = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        shown.add_row(*(Text(render.printable(cell)) for cell in row))
    with console.capture() as captured:
        console.print(shown)
    for line in captured.get().splitlines():
        click.echo(line.rstrip(), color=terminal)
