"""Graphs read by keyboard, with more history than they show."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cluster import wait_until
from legibility import is_drawn, too_wide
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from cluster import Cluster
    from dashboard import Dashboard
    from playwright.sync_api import Locator, Request, Route

    from conftest import Opener

pytestmark = pytest.mark.cluster

WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 320, "height": 640}
SECONDS = 5
SHOWN = 900 // SECONDS
"""Samples between both ends of the range that is shown first."""
TOLD = SHOWN + 120


@dataclass
class LongHistory:
    """A page of a node that runs for long; each figure is the number of the sample."""

    dashboard: Dashboard
    node_id: str
    figures: list[str]
    began: float
    samples: int = TOLD

    def answer(self, route: Route, request: Request) -> None:
        """Tell the samples that are later than what is asked for."""
        since = int(request.url.partition("since=")[2])
        numbers = [n for n in range(self.samples) if self.began + SECONDS * n > since]
        told = {
            "seconds": SECONDS,
            "times": [self.began + SECONDS * number for number in numbers],
            "nodes": {self.node_id: dict.fromkeys(self.figures, numbers)} if numbers else {},
        }
        route.fulfill(json=told)

    def go_on(self, samples: int) -> None:
        """Have the page show so many more."""
        self.samples += samples
        self.dashboard.refresh()
        self.expect_newest()

    def expect_newest(self) -> None:
        """The node's card shows the newest sample, which is read when none is pointed at."""
        card = self.dashboard.cards.filter(has_text=self.node_id).first
        expect(card).to_contain_text(f"{self.samples - 1} %")

    @property
    def read(self) -> Locator:
        """The number of the sample that is read."""
        return self.dashboard.graph("CPU, of one processor").locator(".values b").first

    @property
    def at(self) -> Locator:
        """Its time, in words."""
        return self.dashboard.page.locator("#graphs-at")

    @property
    def slider(self) -> Locator:
        return self.dashboard.page.get_by_role("slider", name="Read at")


@pytest.fixture
def long_history(cluster: Cluster, open_dashboard: Opener) -> LongHistory:
    node = cluster["node1"]
    dashboard = open_dashboard(node, viewport=WIDE)
    known = node.request("GET", "/api/history").json()["nodes"][node.node_id]
    began = time.time() - SECONDS * TOLD
    history = LongHistory(dashboard, node.node_id, list(known), began)
    # Without a stream the page learns what it asks for, and nothing in between.
    refused: dict[str, Any] = {"status": 204}
    dashboard.page.route("**/api/events/stream", lambda route: route.fulfill(**refused))
    dashboard.page.route("**/api/history*", history.answer)
    dashboard.page.reload()
    history.expect_newest()
    return history


def test_home_reads_the_first_sample_that_is_shown(long_history: LongHistory) -> None:
    first = TOLD - 1 - SHOWN
    long_history.slider.press("Home")
    expect(long_history.read).to_have_text(f"{first} %")
    expect(long_history.at).to_contain_text("at ")
    long_history.slider.press("ArrowRight")
    expect(long_history.read).to_have_text(f"{first + 1} %")
    long_history.slider.press("End")
    expect(long_history.at).to_have_text("now")
    expect(long_history.read).to_have_text(f"{TOLD - 1} %")


def test_the_time_that_the_slider_points_at_stays_while_graphs_move_on(
    long_history: LongHistory,
) -> None:
    for _ in range(3):
        long_history.slider.press("ArrowLeft")
    expect(long_history.read).to_have_text(f"{TOLD - 4} %")
    at = long_history.at.text_content()
    assert at
    for _ in range(3):
        long_history.go_on(5)
        expect(long_history.read).to_have_text(f"{TOLD - 4} %")
        expect(long_history.at).to_have_text(at)
    long_history.slider.press("ArrowLeft")
    expect(long_history.read).to_have_text(f"{TOLD - 5} %")


def test_a_time_that_is_shown_no_longer_gives_way_to_the_first_that_is(
    long_history: LongHistory,
) -> None:
    long_history.slider.press("Home")
    long_history.go_on(10)
    expect(long_history.read).to_have_text(f"{TOLD - 1 - SHOWN + 10} %")


def test_the_mouse_takes_over_from_the_slider(long_history: LongHistory) -> None:
    long_history.slider.press("Home")
    newest = long_history.dashboard.page.locator("figure.graph .u-over").last
    box = newest.bounding_box()
    assert box is not None
    newest.hover(position={"x": box["width"] - 1, "y": box["height"] / 2})
    expect(long_history.read).to_have_text(f"{TOLD - 1} %")


def test_graphs_go_on_without_a_stream_when_the_clock_was_put_back(
    long_history: LongHistory,
) -> None:
    page = long_history.dashboard.page
    page.clock.install()
    page.reload()
    long_history.expect_newest()
    long_history.began -= 7200
    long_history.samples = 20
    page.clock.run_for(31_000)
    long_history.dashboard.refresh()
    long_history.expect_newest()
    long_history.go_on(1)


@pytest.mark.parametrize("title", ["Memory", "Replication time"])
def test_no_line_leads_through_time_of_which_nothing_is_known(
    cluster: Cluster, open_dashboard: Opener, title: str
) -> None:
    node = cluster["node1"]
    dashboard = open_dashboard(node, viewport=WIDE)
    figures = node.request("GET", "/api/history").json()["nodes"][node.node_id]
    now = time.time()
    # Five minutes, a hole of five minutes, and five more.
    times = [now - SECONDS * n for n in range(SHOWN, 0, -1) if not 60 <= n < 120]
    told = {name: [1.0] * len(times) for name in figures}
    told["replication_seconds"] = [1.0 if n % 20 == 0 else None for n in range(len(times))]

    def answer(route: Route) -> None:
        nodes = {node.node_id: told}
        route.fulfill(json={"seconds": SECONDS, "times": times, "nodes": nodes})

    dashboard.page.route("**/api/events/stream", lambda route: route.fulfill(status=204))
    dashboard.page.route("**/api/history*", answer)
    dashboard.page.reload()
    graph = dashboard.graph(title)
    wait_until(lambda: is_drawn(graph, 0.1, 0.3) and is_drawn(graph, 0.75, 0.9), "lines", 10)
    for begin in (0.05, 0.1, 0.15, 0.2, 0.25):
        assert is_drawn(graph, begin, begin + 0.04), "what is between two replications is known"
    assert not is_drawn(graph, 0.36, 0.64)


DASHES_OF_KEYS = """
(keys) => keys.map((key) => {
  const { borderTopStyle, backgroundImage } = getComputedStyle(key);
  return borderTopStyle === "none" ? backgroundImage.split("(")[0] : borderTopStyle;
})
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_eight_nodes_of_long_names_have_keys_like_their_lines_and_room_on_a_narrow_screen(
    cluster: Cluster, open_dashboard: Opener, pictures: Path, scheme: str
) -> None:
    node = cluster["node1"]
    dashboard = open_dashboard(node, viewport=NARROW, color_scheme=scheme)
    figures = node.request("GET", "/api/history").json()["nodes"][node.node_id]
    now = time.time()
    times = [now - SECONDS * n for n in range(SHOWN, 0, -1)]
    nodes = {
        f"node{'n' * 27}{number}": {
            name: [1e6 * (1 + number + n % 20) for n in range(SHOWN)] for name in figures
        }
        for number in range(8)
    }

    def answer(route: Route) -> None:
        route.fulfill(json={"seconds": SECONDS, "times": times, "nodes": nodes})

    page = dashboard.page
    page.route("**/api/events/stream", lambda route: route.fulfill(status=204))
    page.route("**/api/history*", answer)
    page.reload()
    keys = dashboard.graph("Memory").locator(".key")
    expect(keys).to_have_count(8)
    dashes = ["solid", "dashed", "dotted", "linear-gradient"]
    assert keys.evaluate_all(DASHES_OF_KEYS) == [*dashes, *dashes]
    assert too_wide(page) == []
    pictures.mkdir(exist_ok=True)
    for size, kind in ((NARROW, "narrow"), (WIDE, "wide")):
        page.set_viewport_size(size)
        dashboard.graph("Memory").screenshot(path=pictures / f"dashboard-keys-{kind}-{scheme}.png")
