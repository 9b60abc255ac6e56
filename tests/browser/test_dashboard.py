"""The dashboard in a real browser, on a real cluster."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from cluster import Cluster, wait_until
from dashboard import REFRESH
from legibility import faint_lines, poor_contrast, too_wide
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from cluster import Node
    from dashboard import Dashboard
    from playwright.sync_api import Page

    from conftest import Opener

pytestmark = pytest.mark.cluster

WIDE = {"width": 1280, "height": 900}
MIDDLE = {"width": 820, "height": 1100}
NARROW = {"width": 360, "height": 740}
CONFLICT = "<img src=x onerror=alert(1)>.sync-conflict-20260101-120000-node2.txt"


def test_three_healthy_nodes_and_one_leader_are_shown(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    expect(page.verdict).to_have_text("Healthy")
    expect(page.cards).to_have_count(3)
    for node in cluster:
        expect(page.card(node).locator(".state")).to_have_text("Ready")
    summed_up = page.page.locator("#sum-leader")

    def leader_is_shown() -> bool:
        leader = cluster.leader().node_id
        return (page.leaders(), summed_up.inner_text()) == ([leader], leader)

    wait_until(leader_is_shown, "the page shows who leads")
    expect(page.page.locator("#sum-up")).to_have_text("3 of 3")
    expect(page.banner).to_be_hidden()


def test_figures_follow_a_written_file_within_two_refreshes(
    cluster: Cluster, open_dashboard: Opener, pictures: Path
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    for node in cluster:
        expect(page.card(node).locator(".state")).to_have_text("Ready")
    before = {node.node_id: page.figure(node, "Applied") for node in cluster}
    files = int(page.figure(cluster["node3"], "Files"))
    assert cluster["node2"].put("shown.bin", bytes(3 << 20)).status == 201

    def has_followed(node: Node) -> bool:
        applied = page.figure(node, "Applied") != before[node.node_id]
        return applied and page.figure(node, "Files") == str(files + 1)

    wait_until(lambda: all(map(has_followed, cluster)), "each card follows", 2 * REFRESH)
    expect(page.page.locator("#sum-bytes")).to_contain_text("MiB")
    page.picture(pictures / "dashboard-wide.png")


def test_a_killed_leader_is_told_and_another_one_shown(
    cluster: Cluster, open_dashboard: Opener, pictures: Path
) -> None:
    page = open_dashboard(cluster.followers()[0], unwell=True, viewport=WIDE)
    narrow = open_dashboard(page.node, unwell=True, viewport=NARROW)
    dark = open_dashboard(page.node, unwell=True, viewport=WIDE, color_scheme="dark")
    killed = leader_shown_elsewhere(cluster, page)
    killed.kill()
    successor = cluster.leader()
    led = page.event("leader_changed").filter(has_text=f"{successor.node_id} leads")
    expect(led).not_to_have_count(0)
    expect(page.event("node_down").first).to_contain_text(killed.node_id)
    page.wait_verdict("1 node needs attention")
    expect(page.card(killed).locator(".state")).to_have_text("Not reachable")
    expect(page.card(killed).locator(".reasons")).to_have_text(re.compile(r"\w+ \w+"))
    wait_until(lambda: page.leaders() == [cluster.leader().node_id], "the new leader is shown")
    expect(page.page.locator("#sum-up")).to_have_text("2 of 3")
    page.picture(pictures / "dashboard-degraded.png")
    for other in (narrow, dark):
        other.wait_verdict("1 node needs attention")
    assert poor_contrast(page.page) == []
    assert poor_contrast(dark.page) == []
    assert too_wide(narrow.page) == []
    narrow.picture(pictures / "dashboard-degraded-narrow.png")
    killed.start()
    page.wait_verdict("Healthy")
    expect(page.card(killed).locator(".reasons")).to_be_hidden()


def leader_shown_elsewhere(cluster: Cluster, page: Dashboard) -> Node:
    """The leader, which is not the page's own node, once the page shows it."""
    other = next(node for node in cluster if node is not page.node)
    found: list[Node] = []

    def shown() -> bool:
        found[:] = [cluster.leader()]
        if found[0] is page.node:  # an election has made it that
            cluster.hand_over(other)
            return False
        return page.leaders() == [found[0].node_id]

    wait_until(shown, "the page shows that another node leads")
    return found[0]


def test_a_lost_majority_is_the_first_thing_to_see(
    cluster: Cluster, open_dashboard: Opener, pictures: Path
) -> None:
    page = open_dashboard(cluster["node1"], unwell=True, viewport=WIDE)
    cluster["node2"].kill()
    cluster["node3"].kill()
    page.wait_verdict("No quorum")
    failing = page.page.locator(".failing")
    expect(failing).to_contain_text("quorum")
    assert poor_contrast(page.page) == []
    page.picture(pictures / "dashboard-no-quorum.png")


def test_the_page_says_that_its_own_node_is_gone_and_comes_back_by_itself(
    cluster: Cluster, open_dashboard: Opener, pictures: Path
) -> None:
    node = cluster["node3"]
    page = open_dashboard(node, unwell=True, viewport=WIDE)
    shown = applied(page, node)
    assert node.stop() == 0
    page.refresh()
    expect(page.banner).to_contain_text("This node, node3, has not answered since")
    expect(page.verdict).to_have_text("Not reachable")
    # A leader that stops hands over first, which is an entry: the page may have heard of that.
    assert applied(page, node) >= shown, "what was known before stays to be read"
    assert page.banner.bounding_box()["y"] < WIDE["height"] / 4
    assert poor_contrast(page.page) == []
    page.picture(pictures / "dashboard-gone.png")
    node.start()
    expect(page.banner).to_be_hidden()
    expect(page.verdict).not_to_have_text("Not reachable")


def applied(page: Dashboard, node: Node) -> int:
    """The index on the node's card."""
    return int(page.figure(node, "Applied").replace(",", ""))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(
    cluster: Cluster, open_dashboard: Opener, pictures: Path, scheme: str
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE, color_scheme=scheme)
    page.wait_verdict("Healthy")
    page.page.locator("summary").click()
    expect(page.page.locator("#conflicts")).to_contain_text(re.compile("There are none|from"))
    expect(page.page.locator("figure.graph").first).to_be_visible()
    assert poor_contrast(page.page) == []
    assert faint_lines(page.page) == []
    if scheme == "dark":
        page.picture(pictures / "dashboard-dark.png")
    ground = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(int(part) for part in re.findall(r"\d+", ground)) / 3
    assert lightness < 60 if scheme == "dark" else lightness > 200


def test_a_narrow_screen_needs_no_sideways_scrolling(
    cluster: Cluster, open_dashboard: Opener, pictures: Path
) -> None:
    long = f"{'deep/' * 30}{'very-long-name-' * 12}.sync-conflict-20260101-120000-node2.txt"
    assert cluster["node1"].put(long, b"x").status in {200, 201}
    page = open_dashboard(cluster["node1"], viewport=NARROW)
    page.page.locator("summary").click()
    expect(page.page.locator("#conflict-list")).to_contain_text("very-long-name")
    page.row("deep/").get_by_role("button").click()
    expect(page.page.locator("#crumbs [aria-current]")).to_have_text("deep")
    expect(page.row("deep/")).to_have_count(1)
    for width, name in ((NARROW, "narrow"), (MIDDLE, "middle")):
        page.page.set_viewport_size(width)
        wait_until(lambda: too_wide(page.page) == [], "everything fits", seconds=5)
        page.picture(pictures / f"dashboard-{name}.png")


def test_names_from_the_folder_are_text_and_never_markup(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    (cluster["node2"].files / CONFLICT).write_bytes(b"x")
    cluster.wait_settled()
    page = open_dashboard(cluster["node1"])
    page.page.locator("summary").click()
    expect(page.page.locator("#conflict-list")).to_contain_text(CONFLICT)
    assert page.page.locator("#conflict-list img").count() == 0


FOCUSABLE = """
() => [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex]")]
  .filter((element) => element.tabIndex >= 0 && element.checkVisibility())
  .map((element) => element.getAttribute("aria-labelledby") ?? element.textContent.trim())
"""
FOCUSED = """
() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  const middle = [box.x + box.width / 2, box.y + box.height / 2];
  return {
    name: element.getAttribute("aria-labelledby") ?? element.textContent.trim(),
    outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    inside: box.top >= 0 && box.left >= 0 && box.bottom <= innerHeight && box.right <= innerWidth,
    on_top: element.contains(document.elementFromPoint(...middle)),
  };
}
"""


def is_to_be_seen(page: Page) -> bool:
    focused = page.evaluate(FOCUSED)
    return bool(focused["inside"] and focused["on_top"])


def test_the_keyboard_reaches_everything_with_a_visible_focus(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    dashboard = open_dashboard(cluster["node1"], viewport=WIDE)
    expect(dashboard.verdict).to_have_text("Healthy")
    expect(dashboard.page.locator("#files-status")).to_contain_text("entries")
    expect(dashboard.page.locator("#conflicts-count")).not_to_be_empty()
    page = dashboard.page
    everything = page.evaluate(FOCUSABLE)
    assert len(everything) > 10
    reached = []
    for _ in everything:
        page.keyboard.press("Tab")
        # The skip link slides in, and the browser scrolls to what has the focus.
        name = page.evaluate(FOCUSED)["name"]
        wait_until(lambda: is_to_be_seen(page), f"{name!r} is to be seen when it has the focus", 5)
        focused = page.evaluate(FOCUSED)
        assert focused["outline"] >= 2, f"{focused['name']} has the focus, and nothing shows it"
        reached.append(focused["name"])
    assert reached == everything


def test_the_keyboard_opens_what_it_reaches(cluster: Cluster, open_dashboard: Opener) -> None:
    page = open_dashboard(cluster["node1"]).page
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#nodes$"))
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#conflict-list")).to_be_visible()


def test_nothing_from_elsewhere_can_be_loaded_into_the_page(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"])
    foreign = cluster["node2"].client
    page.page.evaluate(
        """(address) => {
          const image = new Image();
          image.src = `${address}/static/pickbox.svg`;
          document.body.append(image);
          const script = document.createElement("script");
          script.textContent = "document.title = 'taken over'";
          document.body.append(script);
          return fetch(`${address}/api/cluster`).catch(() => {});
        }""",
        foreign,
    )
    refused = ("img-src refused", "connect-src refused", "script-src-elem refused")
    wait_until(
        lambda: page.page.title() and all(any(r in c for c in page.complaints) for r in refused),
        f"image, request and script are refused; {page.complaints}",
        seconds=5,
    )
    assert "taken over" not in page.page.title()
    page.complaints.clear()
    page.strangers.clear()


def test_the_measures_see_what_is_hard_to_read(cluster: Cluster, open_dashboard: Opener) -> None:
    page = open_dashboard(cluster["node1"], viewport=NARROW).page
    page.evaluate("document.documentElement.style.setProperty('--muted', '#b0b8c4')")
    assert any(text.startswith("Memory: ") for text in poor_contrast(page))
    page.evaluate("document.querySelector('.tiles').style.width = '400px'")
    assert "the page scrolls sideways" in too_wide(page)
