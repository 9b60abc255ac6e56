"""Waiting for a point or a restore: what cuts it off, and what does not."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli_catalog import Fault
from cli_node import running_node
from cli_run import environment, pickbox_command

if TYPE_CHECKING:
    from pathlib import Path

ALONE = """
import sys
from pickbox.cli.points import alone_in
with alone_in(sys.argv[1]):
    try:
        print("began", flush=True)
        sys.stdin.read()
    finally:
        print("cleared away", flush=True)
"""


def test_a_connection_that_is_lost_meanwhile_ends_no_waiting() -> None:
    with running_node() as node:
        node.faults += [Fault("GET", hang_up=True), Fault("GET", 503)]
        made = pickbox_command("backup", "create", "first", node=node)
    assert (made.code, made.stdout) == (0, b"/data/first\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_clears_away_what_it_began(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Such as by a terminal that is closed."""
    with began(tmp_path) as command:
        command.send_signal(number)
        rest, _ = command.communicate(timeout=20)
    assert (command.returncode, rest) == (128 + number, b"cleared away\n")


def test_a_command_that_nohup_started_outlives_its_terminal(tmp_path: Path) -> None:
    with began(tmp_path, "nohup") as command:
        command.send_signal(signal.SIGHUP)
        rest, _ = command.communicate(timeout=20)
    assert (command.returncode, rest) == (0, b"cleared away\n")


def began(directory: Path, *under: str) -> subprocess.Popen[bytes]:
    """A command that is alone in `directory` until its stdin ends, or it is ended."""
    command = subprocess.Popen(
        [*under, sys.executable, "-c", ALONE, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert command.stdout is not None
    assert command.stdout.readline() == b"began\n"
    return command
