"""The dashboard for everybody: what axe-core finds, by keyboard, by finger, and read out."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from cluster import Cluster
    from dashboard import Dashboard
    from playwright.sync_api import Page

    from conftest import Opener

pytestmark = pytest.mark.cluster

WIDE = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
COPY = "read me.sync-conflict-20260101-120000-node2.txt"
_CHECKED = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Page) -> list[str]:
    """What axe-core, which is in the package `axe-playwright-python`, has to say of a page."""
    page.evaluate((resources.files("axe_playwright_python") / "axe.min.js").read_text())
    found: dict[str, Any] = page.evaluate("(tags) => axe.run({ runOnly: tags })", _CHECKED)
    assert len(found["passes"]) > 20, "it has looked at next to nothing"
    return [
        f"{rule['id']}: {node['html'][:120]}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def open_everything(cluster: Cluster, dashboard: Dashboard) -> None:
    """Have the page show what it can: a conflict being settled, and an upload that asks."""
    for name in ("read%20me.txt", COPY.replace(" ", "%20")):
        # Another version would be another item of the list, in which nothing is being settled.
        if cluster["node1"].get(name).status != 200:
            assert cluster["node1"].put(name, name.encode()).status == 201
    expect(dashboard.page.locator("#entries")).to_contain_text(COPY)
    dashboard.page.locator("#conflicts summary").click()
    item = dashboard.page.locator("#conflict-list li").filter(has_text="read me")
    item.get_by_role("button", name="Settle").click()
    expect(item).to_contain_text("The current one")
    expect(dashboard.upload("read me.txt", b"x")).to_contain_text("is there already")
    expect(dashboard.page.locator("figure.graph")).to_have_count(7)


@pytest.mark.parametrize(
    "options",
    [
        {"viewport": WIDE, "color_scheme": "light"},
        {"viewport": PHONE, "color_scheme": "dark", "has_touch": True, "is_mobile": True},
    ],
    ids=["wide-light", "phone-dark"],
)
def test_axe_finds_nothing_with_all_parts_open(
    cluster: Cluster, open_dashboard: Opener, pictures: Path, options: dict[str, Any]
) -> None:
    dashboard = open_dashboard(cluster["node1"], **options)
    open_everything(cluster, dashboard)
    assert violations(dashboard.page) == []
    dashboard.forgive("status of 412")
    pictures.mkdir(exist_ok=True)
    wide = options["viewport"] == WIDE
    kind = "wide" if wide else "phone"
    dashboard.page.locator("#files").screenshot(path=pictures / f"dashboard-settling-{kind}.png")


def test_axe_finds_nothing_when_nodes_are_down_and_the_page_says_what_that_means(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    here = cluster.followers()[0]
    dashboard = open_dashboard(here, unwell=True, viewport=WIDE, color_scheme="dark")
    situation = dashboard.page.locator("#situation")
    expect(situation).to_be_hidden()
    meanings = ("2 of 3 nodes are up. The cluster works", "files can be read here and not written")
    others = [node for node in cluster if node is not here]
    for node, meaning in zip(others, meanings, strict=True):
        node.kill()
        expect(situation).to_contain_text(meaning)
        assert violations(dashboard.page) == []


def test_axe_finds_what_is_wrong(cluster: Cluster, open_dashboard: Opener) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE).page
    page.locator(".reading").evaluate("(label) => label.replaceWith(...label.children)")
    assert any(found.startswith("label: ") for found in violations(page))


SMALL = """
() => [...document.querySelectorAll("a[href], button, input, summary")]
  .filter((element) => element.checkVisibility())
  .map((element) => [element.textContent.trim(), element.getBoundingClientRect()])
  .filter(([, box]) => box.width < 44 || box.height < 44)
  .map(([text, box]) => `${text}: ${box.width} by ${box.height}`)
"""


def test_a_finger_hits_every_target(cluster: Cluster, open_dashboard: Opener) -> None:
    dashboard = open_dashboard(cluster["node1"], viewport=PHONE, has_touch=True, is_mobile=True)
    open_everything(cluster, dashboard)
    assert dashboard.page.evaluate(SMALL) == []
    dashboard.forgive("status of 412")


def test_a_narrow_screen_leaves_nothing_out(cluster: Cluster, open_dashboard: Opener) -> None:
    assert cluster["node1"].put("told in full.txt", b"x").status in {200, 201}
    row = open_dashboard(cluster["node1"], viewport=PHONE).row("told in full.txt")
    for part in (".size", ".time", ".from"):
        expect(row.locator(part)).to_be_visible()
    expect(row.get_by_role("cell")).to_have_count(3)


def test_the_bar_takes_no_room_of_a_low_screen(cluster: Cluster, open_dashboard: Opener) -> None:
    page = open_dashboard(cluster["node1"], viewport={"width": 844, "height": 390}).page
    page.locator("#files-title").scroll_into_view_if_needed()
    expect(page.locator(".brand")).not_to_be_in_viewport()


def test_earlier_samples_are_read_by_keyboard(cluster: Cluster, open_dashboard: Opener) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE).page
    slider = page.get_by_role("slider", name="Read at")
    heading = page.locator("#graphs-at")
    expect(slider).not_to_have_attribute("max", "0")
    slider.press("ArrowLeft")
    expect(heading).to_contain_text("at ")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("at .*"))
    slider.press("End")
    expect(heading).to_have_text("now")


def test_progress_is_shown_and_only_the_outcome_is_read_out(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    page.wait_stored(page.upload("announced.bin", bytes(1 << 20)))
    expect(page.page.locator("#uploads-said")).to_have_text("announced.bin: stored")
    assert page.page.locator("#uploads[aria-live], #uploads [aria-live]").count() == 0
