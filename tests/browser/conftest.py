"""A real browser: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from dashboard import NOT_READY, UNWELL, Dashboard
from playwright.sync_api import expect, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster import Node
    from playwright.sync_api import Browser

_FLAGS = [
    "--no-sandbox",  # CI runs as root, where Chromium's sandbox cannot
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# What a page is told takes a tick of the stream, a look at the cluster, and a node that is slow to
# answer. Where a page promises to be quicker, the test says how quick.
expect.set_options(timeout=20_000)


class Opener(Protocol):
    """Opens the dashboard of `node`; `options` are those of Playwright's ``new_context``."""

    def __call__(self, node: Node, *, unwell: bool = False, **options: Any) -> Dashboard: ...


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.fail("These tests need a browser: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=_FLAGS)
        yield started
        started.close()


@pytest.fixture
def open_dashboard(browser: Browser) -> Iterator[Opener]:
    """Opens pages; when the test is done, nothing may have gone wrong in any of them.

    The browser may report that the node was not ready, with ``unwell`` that it was gone too, and
    nothing else.
    """
    opened: list[tuple[Dashboard, bool]] = []
    with ExitStack() as contexts:

        def open_page(node: Node, *, unwell: bool = False, **options: Any) -> Dashboard:
            context = contexts.enter_context(browser.new_context(**options))
            context.set_default_timeout(15_000)
            dashboard = Dashboard(context.new_page(), node)
            opened.append((dashboard, unwell))
            dashboard.open()
            return dashboard

        yield open_page
        for dashboard, unwell in opened:
            excused = (NOT_READY, UNWELL) if unwell else (NOT_READY,)
            told = [c for c in dashboard.complaints if not any(e.search(c) for e in excused)]
            assert told == []
            assert dashboard.strangers == []


@pytest.fixture(scope="session")
def pictures(pytestconfig: pytest.Config) -> Path:
    """Where the screenshots go."""
    return Path(pytestconfig.rootpath) / "artifacts"
