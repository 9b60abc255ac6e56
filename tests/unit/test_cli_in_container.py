"""The command as the first process of a container, which no signal ends that it does not handle."""

from __future__ import annotations

import signal
import subprocess
import sys

from cli_run import environment

STARTING = """
import os, signal, pickbox.cli, pickbox.cli.app

def start(**_):
    print("starting", flush=True)
    signal.pause()

os.getpid = lambda: {pid}
pickbox.cli.app.app = start
pickbox.cli.main()
"""


def ended_while_starting(pid: int) -> int:
    """How a process that believes to be `pid` ends when it is told to before a node is there."""
    command = [sys.executable, "-c", STARTING.format(pid=pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"starting\n"
        process.terminate()
        return process.wait(timeout=30)


def test_the_first_process_of_a_container_ends_when_it_is_told_to_while_it_starts() -> None:
    assert ended_while_starting(1) == 128 + signal.SIGTERM


def test_another_process_is_ended_by_the_signal_as_ever() -> None:
    assert ended_while_starting(2) == -signal.SIGTERM
