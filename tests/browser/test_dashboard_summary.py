"""The figures at the top of the dashboard are those of now."""

from __future__ import annotations

import re
import time
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

import pytest
from cluster import Cluster, wait_until
from legibility import poor_contrast, too_wide
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from cluster import Node
    from dashboard import Dashboard

    from conftest import Opener

pytestmark = pytest.mark.cluster

WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 320, "height": 740}


def newest_replication(node: Node) -> float | None:
    """What the slowest node took in the newest sample in which anything was replicated."""
    nodes = node.request("GET", "/api/history").json()["nodes"]
    samples = zip(*(figures["replication_seconds"] for figures in nodes.values()), strict=True)
    known = [max(told) for sample in samples if (told := [s for s in sample if s is not None])]
    return known[-1] if known else None


def in_words(seconds: float) -> str:
    """A time as the page has it, which rounds a half up."""
    if seconds == 0:
        return "0 s"
    if seconds < 1:
        return f"{Decimal(seconds * 1000).quantize(Decimal(1), ROUND_HALF_UP)} ms"
    return f"{Decimal(seconds).quantize(Decimal('0.1'), ROUND_HALF_UP)} s"


def test_the_replication_time_is_that_of_the_newest_sample_that_has_one(
    cluster: Cluster, open_dashboard: Opener, pictures: Path
) -> None:
    node = cluster["node1"]
    page = open_dashboard(node, viewport=WIDE)
    narrow = open_dashboard(node, viewport=NARROW, color_scheme="dark")
    assert cluster["node2"].put("replicated.txt", b"x").status == 201
    tile, note = page.page.locator("#sum-time"), page.page.locator("#sum-errors")

    def shows_it() -> bool:
        newest = newest_replication(node)
        return newest is not None and tile.inner_text() == in_words(newest)

    wait_until(shows_it, "the tile says what the newest sample says", pause=0.2)
    expect(note).to_contain_text(re.compile(r"slowest node, \d\d:\d\d:\d\d"))
    expect(narrow.page.locator("#sum-errors")).to_contain_text("slowest node")
    assert too_wide(narrow.page) == []
    assert poor_contrast(narrow.page) == []
    page.picture(pictures / "dashboard-summary.png")
    narrow.picture(pictures / "dashboard-summary-narrow.png")


def tell(page: Dashboard, times: list[float | None]) -> None:
    """Have the history say that node1 took `times`, a sample each, and node2 ten milliseconds."""
    now = time.time()
    told = {
        "seconds": 5,
        "times": [now - 5 * age for age in reversed(range(len(times)))],
        "nodes": {
            "node1": {"replication_seconds": times},
            "node2": {"replication_seconds": [None if each is None else 0.01 for each in times]},
        },
    }
    page.page.unroute("**/api/history*")
    page.page.route("**/api/history*", lambda route: route.fulfill(json=told))
    page.page.reload()


def test_a_slowdown_is_seen_at_once_and_so_is_its_end(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], unwell=True, viewport=WIDE)
    page.page.route("**/api/events/stream", lambda route: route.fulfill(status=503, body="{}"))
    tile, note = page.page.locator("#sum-time"), page.page.locator("#sum-errors")
    quick: list[float | None] = [0.02] * 700
    tell(page, quick)
    expect(tile).to_have_text("20 ms")
    tell(page, [*quick, 2.5, None, None])
    expect(tile).to_have_text("2.5 s")
    expect(note).to_contain_text("slowest node")
    tell(page, [*quick, 2.5, 0.03])
    expect(tile).to_have_text("30 ms")
    tell(page, [None, None])
    expect(tile).to_have_text("\N{EN DASH}")
    expect(note).to_contain_text("nothing lately")
