"""Progress bars: on stderr, and only when somebody looks at it."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from pickbox.cli import render

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bar(Protocol):
    """Shows how far a transfer is. A silent one is used when nobody looks."""

    def expect(self, total: int) -> None:
        """Say how many bytes there are in all, once that is known."""

    def advance(self, count: int) -> None:
        """Count bytes moved; a negative number when a transfer starts over."""


class _Silent:
    def expect(self, total: int) -> None:
        pass

    def advance(self, count: int) -> None:
        pass


class _Drawn:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def expect(self, total: int) -> None:
        self._bars.update(self._task, total=total)

    def advance(self, count: int) -> None:
        self._bars.advance(self._task, count)


@contextlib.contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Bar]:
    """A progress bar for `total` bytes, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield _Silent()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Drawn(bars, bars.add_task(render.printable(label), total=total))
