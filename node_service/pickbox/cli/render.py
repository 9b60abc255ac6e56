"""What a command prints: JSON for programs, lines for people, one sentence for a failure."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pickbox.cli.failures import Failure


def as_json(document: Any) -> None:
    """Print a JSON document, in ASCII so that every locale can carry it."""
    click.echo(json.dumps(document, indent=2))


def failure(problem: Failure, *, as_json: bool) -> None:
    """Tell what went wrong and what to do about it."""
    click.echo(f"pickbox: {printable(problem.detail)}", err=True)
    if problem.advice:
        click.echo(problem.advice, err=True)
    if as_json:
        click.echo(json.dumps(problem.document(), indent=2))


def warning(text: str) -> None:
    """Say on stderr what the user should know and what does not stop the command."""
    click.echo(f"pickbox: {printable(text)}", err=True)


def path_line(path: bytes, before: str = "") -> None:
    """Print a path: its very bytes into a pipe, something harmless to a terminal."""
    if sys.stdout.isatty():
        click.echo(before + printable(path))
    else:
        click.echo(before.encode() + path)


def printable(text: str | bytes) -> str:
    """Text that a terminal shows as is: control characters and undecodable bytes are escaped."""
    decoded = os.fsdecode(text)
    return "".join(
        c
        if c.isprintable()
        else c.encode("unicode_escape", "backslashreplace").decode()
        if not "\ud800" <= c <= "\udfff"
        else f"\\x{ord(c) & 0xFF:02x}"
        for c in decoded
    )


def size(count: float) -> str:
    """A number of bytes for people, in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def moment(nanoseconds: int) -> str:
    """A point in time, in the local zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(nanoseconds / 1e9))


def mode_of(kind: str, mode: int) -> str:
    """Permissions as ``ls -l`` writes them."""
    types = {"directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}
    return stat.filemode(types.get(kind, stat.S_IFREG) | mode)
