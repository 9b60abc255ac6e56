"""What a run may not leave: tests out, threads that run on, a process that does not end.

What takes root is skipped for people without it, who are told so. In CI, which has it, a test that
looks as if it had passed must have run: as root, one that is skipped, or expected to fail, fails
the run.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds that threads have to come to their end once nothing needs them.
_GRACE = 10
# Seconds the interpreter has to end: nobody waits for hours to hear that it hangs.
_LONGEST_EXIT = 60


@pytest.fixture(scope="module", autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """Fail the module whose tests leave a node, or threads that keep the interpreter from its end.

    A node that runs on takes its share of the processors, and looks at the clock of the library,
    which a simulation in the same process replaces.
    """
    before = set(threading.enumerate())
    yield
    for thread in _to_be_ended() - before:
        thread.join(_GRACE)
    left = _to_be_ended() - before
    assert not left, "threads run on: " + "\n".join(map(_where_it_is, left))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Say where the interpreter hangs, if it does not end, and end it as failed."""
    faulthandler.dump_traceback_later(_LONGEST_EXIT, exit=True, file=sys.__stderr__)


def _to_be_ended() -> set[threading.Thread]:
    """Those of a node's log, and those that the interpreter waits for: no daemons, or of pools."""
    return {
        thread
        for thread in threading.enumerate()
        if (not thread.daemon or thread.name.startswith("raft-"))
        and thread is not threading.main_thread()
    }


def _where_it_is(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return thread.name + "\n" + "".join(traceback.format_stack(frame))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of root in which something was left out."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return  # a worker of pytest-xdist; who started it has its reports
    left_out = [
        report.nodeid
        for outcome in ("skipped", "xfailed", "xpassed")
        for report in reporter.stats.get(outcome, [])
    ]
    if left_out and os.geteuid() == 0:
        reporter.ensure_newline()
        reporter.write_line(f"As root nothing may be left out: {', '.join(left_out)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
