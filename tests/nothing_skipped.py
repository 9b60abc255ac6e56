"""As root every test runs: one that is skipped, or expected to fail, fails the run.

What takes root is skipped for people without it, who are told so. In CI, which has it, a test that
looks as if it had passed must have run.
"""

from __future__ import annotations

import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of root in which something was left out."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    left_out = [
        report.nodeid
        for outcome in ("skipped", "xfailed", "xpassed")
        for report in reporter.stats.get(outcome, [])
    ]
    if left_out and os.geteuid() == 0:
        reporter.ensure_newline()
        reporter.write_line(f"As root nothing may be left out: {', '.join(left_out)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
