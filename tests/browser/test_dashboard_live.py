"""What happens while the dashboard is open: events, graphs, and the files browser."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from cluster import Cluster, wait_until
from dashboard import REFRESH, Dashboard, has_told
from legibility import pixels_drawn, poor_contrast
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Request, Route

    from conftest import Opener

pytestmark = pytest.mark.cluster

WIDE = {"width": 1280, "height": 900}
STREAM = "**/api/events/stream"


def test_a_file_written_elsewhere_appears_although_the_page_asks_for_nothing(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    expect(page.updated).to_contain_text("live")
    expect(page.page.locator("#conflicts-count")).not_to_be_empty()  # the last thing it asks for
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url))
    assert cluster["node2"].put("from elsewhere.txt", b"new").status == 201
    expect(page.row("from elsewhere.txt")).to_contain_text("3 B")
    expect(page.event("files_changed").first).to_contain_text("from elsewhere.txt")
    samples = page.updated.inner_text()
    expect(page.updated).not_to_have_text(samples)
    assert [url for url in asked if "/api/v1/files" not in url] == [], "the stream brings the rest"


def test_without_the_stream_the_page_asks_every_five_seconds(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], unwell=True, viewport=WIDE)
    refused = {"status": 503, "content_type": "application/problem+json", "body": "{}"}
    page.page.route(STREAM, lambda route: route.fulfill(**refused))
    page.page.reload()
    expect(page.updated).to_contain_text("every 5 s")
    assert cluster["node2"].put("asked for.txt", b"x").status == 201
    wait_until(lambda: has_told(cluster["node1"], "asked for.txt"), "the node tells")
    told = page.event("files_changed").first
    expect(told).to_contain_text("asked for.txt", timeout=1000 * (2 * REFRESH - 0.5))
    expect(page.row("asked for.txt")).to_have_count(1)
    expect(page.verdict).to_have_text("Healthy")


def test_graphs_are_still_there_after_a_reload(cluster: Cluster, open_dashboard: Opener) -> None:
    node = cluster["node1"]

    def samples() -> list[float]:
        times: list[float] = node.request("GET", "/api/history").json()["times"]
        return times

    wait_until(lambda: len(samples()) >= 3, "there are three samples")
    page = open_dashboard(node, viewport=WIDE)
    expect(page.page.locator("figure.graph")).to_have_count(7)
    titles = page.page.locator("figure.graph h3").all_inner_texts()
    assert len(titles) == 7
    before = samples()
    page.page.reload()
    expect(page.page.locator("figure.graph")).to_have_count(7)
    for title in titles:
        expect(page.graph(title).locator(".values li")).to_have_count(3)
    wait_until(lambda: pixels_drawn(page.graph("Memory")) > 5, "a line is drawn", seconds=5)
    assert set(before[-3:]) <= set(samples()), "the node keeps them, not the page"


def test_the_range_of_the_graphs_can_be_chosen(cluster: Cluster, open_dashboard: Opener) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE).page
    hour = page.get_by_role("button", name="1 hour")
    expect(hour).to_have_attribute("aria-pressed", "false")
    hour.click()
    expect(hour).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="15 minutes")).to_have_attribute("aria-pressed", "false")


def test_a_pointed_sample_is_read_out_in_all_graphs(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE).page
    heading = page.locator("#graphs-at")
    expect(heading).to_have_text("now")
    wait_until(lambda: page.locator("figure.graph .u-over").count() == 7, "the graphs are drawn")
    page.locator("figure.graph .u-over").last.hover()
    expect(heading).to_contain_text("at ")


def test_a_drained_node_is_shown_as_such_and_when_it_is_back(
    cluster: Cluster, open_dashboard: Opener, pictures: Path
) -> None:
    leader, (drained, _) = cluster.roles()
    page = open_dashboard(leader, viewport=WIDE)
    assert drained.admin_request("POST", "/api/v1/drain").status == 200
    expect(page.card(drained).locator(".state")).to_have_text("Draining")
    expect(page.verdict).to_have_text("1 node needs attention")
    started = page.event("drain_started").filter(has_text=drained.node_id)
    expect(started).to_have_count(1)
    assert poor_contrast(page.page) == []
    page.picture(pictures / "dashboard-drained.png")
    assert drained.admin_request("DELETE", "/api/v1/drain").status == 200
    expect(page.event("drain_ended").filter(has_text=drained.node_id)).to_have_count(1)
    expect(page.verdict).to_have_text("Healthy")


def test_an_upload_is_on_all_nodes_and_replaces_nothing_unasked(
    cluster: Cluster, open_dashboard: Opener, pictures: Path
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    large = os.urandom(2 << 20)
    assert cluster["node1"].put("uploads/old.txt", b"old").status == 201
    page.row("uploads/").get_by_role("button").click()
    expect(page.row("old.txt")).to_have_count(1)
    page.wait_stored(page.upload("späť 100%.bin", large))
    expect(page.row("späť 100%.bin")).to_contain_text("2.0 MiB")
    wait_until(
        lambda: all(holds(node.files / "uploads/späť 100%.bin", large) for node in cluster),
        "every folder has it",
    )
    there = page.upload("old.txt", b"new")
    expect(there).to_contain_text("is there already")
    assert poor_contrast(page.page) == []
    pictures.mkdir(exist_ok=True)
    page.page.locator("#files").screenshot(path=pictures / "dashboard-files.png")
    there.get_by_role("button", name="Keep it").click()
    expect(there).to_contain_text("left as it was")
    assert cluster["node2"].get("uploads/old.txt").data == b"old"
    again = page.upload("old.txt", b"new")
    again.get_by_role("button", name="Replace it").click()
    page.wait_stored(again)
    wait_until(lambda: cluster["node2"].get("uploads/old.txt").data == b"new", "it is replaced")
    page.forgive("status of 412")


def test_an_upload_replaces_only_the_version_that_was_told_of(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    first, second = cluster["node1"], cluster["node2"]
    assert first.put("told.txt", b"old").status == 201
    page = open_dashboard(first, viewport=WIDE)
    upload = page.upload("told.txt", b"new")
    expect(upload).to_contain_text("is there already: 3 B, from node1")
    assert second.put("told.txt", b"unseen").status == 200
    upload.get_by_role("button", name="Replace it").click()
    expect(upload).to_contain_text("was changed meanwhile: 6 B, from node2")
    assert first.get("told.txt").data == b"unseen"
    upload.get_by_role("button", name="Replace it").click()
    page.wait_stored(upload)
    assert first.get("told.txt").data == b"new"
    page.forgive("status of 412")


def test_an_upload_asks_again_when_what_it_would_replace_is_gone(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    node = cluster["node1"]
    assert node.put("gone.txt", b"old").status == 201
    page = open_dashboard(node, viewport=WIDE)
    upload = page.upload("gone.txt", b"new")
    expect(upload).to_contain_text("is there already")
    assert node.request("DELETE", "/api/v1/files/gone.txt").status == 200
    upload.get_by_role("button", name="Replace it").click()
    expect(upload).to_contain_text("was there, and is gone by now")
    upload.get_by_role("button", name="Upload it").click()
    page.wait_stored(upload)
    assert node.get("gone.txt").data == b"new"
    page.forgive("status of 412")


def holds(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content


def test_a_dropped_file_is_uploaded(cluster: Cluster, open_dashboard: Opener) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    dropped = page.page.evaluate_handle(
        """() => {
          const transfer = new DataTransfer();
          transfer.items.add(new File(["dropped"], "dropped.txt"));
          return transfer;
        }"""
    )
    page.page.dispatch_event("#files", "drop", {"dataTransfer": dropped})
    expect(page.row("dropped.txt")).to_contain_text("7 B")
    assert cluster["node1"].get("dropped.txt").data == b"dropped"


def test_an_upload_that_the_node_refuses_says_why(cluster: Cluster, open_dashboard: Opener) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    refused = page.upload(".pickbox", b"x")
    expect(refused).to_contain_text("which Pickbox keeps for itself")
    page.forgive("status of 400")


def test_a_download_is_the_file(cluster: Cluster, open_dashboard: Opener, tmp_path: Path) -> None:
    content = os.urandom(100_000)
    for name in ("plain.bin", "a #% ü.html"):
        assert cluster["node2"].put(f"downloads/{quoted(name)}", content).status == 201
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    page.row("downloads/").get_by_role("button").click()
    for name in ("plain.bin", "a #% ü.html"):
        with page.page.expect_download() as download:
            page.row(name).get_by_role("link").click()
        assert download.value.suggested_filename == name
        saved = tmp_path / "saved"
        download.value.save_as(saved)
        assert saved.read_bytes() == content


def quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name)


def test_a_conflict_is_told_and_both_versions_can_be_had(
    cluster: Cluster, open_dashboard: Opener, tmp_path: Path
) -> None:
    here, away = cluster["node1"], cluster["node3"]
    assert here.put("fought over.txt", b"first").status == 201
    cluster.wait_settled()
    page = open_dashboard(here, unwell=True, viewport=WIDE)
    assert away.stop() == 0
    (away.files / "fought over.txt").write_bytes(b"the edit that lost")
    assert here.put("fought over.txt", b"the edit that won").status == 200
    away.start()
    told = page.event("conflict").first
    expect(told).to_contain_text("fought over.sync-conflict-")
    copy = page.page.locator("#entries tr").filter(has_text="fought over.sync-conflict-")
    expect(copy).to_contain_text("conflict copy")
    page.page.locator("summary").click()
    item = page.page.locator("#conflict-list li").filter(has_text="fought over")
    expect(item).to_contain_text("from node3")
    assert downloaded(page, item, "Download the copy", tmp_path) == b"the edit that lost"
    assert downloaded(page, item, "Download what is current", tmp_path) == b"the edit that won"


def downloaded(page: Dashboard, item: object, name: str, directory: Path) -> bytes:
    with page.page.expect_download() as download:
        item.get_by_role("link", name=name).click()  # type: ignore[attr-defined]
    saved = directory / "saved"
    download.value.save_as(saved)
    return saved.read_bytes()


def test_files_are_reached_and_uploaded_by_keyboard_alone(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    assert cluster["node1"].put("keys/inside/deep.txt", b"deep").status == 201
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    keyboard = page.page.keyboard
    page.row("keys/").get_by_role("button").focus()
    keyboard.press("Enter")
    expect(page.row("inside/")).to_have_count(1)
    expect(page.page.locator("#files-title")).to_be_focused()
    keyboard.press("Tab")
    with page.page.expect_file_chooser() as chosen:
        keyboard.press("Enter")
    chosen.value.set_files(
        files=[{"name": "typed.txt", "mimeType": "text/plain", "buffer": b"typed"}]
    )
    expect(page.row("typed.txt")).to_have_count(1)
    assert cluster["node1"].get("keys/typed.txt").data == b"typed"
    keyboard.press("Tab")
    keyboard.press("Enter")
    expect(page.row("keys/")).to_have_count(1)


SEEN = """
(state) => {
  Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


def is_stream(request: Request) -> bool:
    return request.url.endswith("/api/events/stream")


def test_a_page_that_nobody_sees_leaves_its_place_to_others(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    expect(page.updated).to_contain_text("live")
    with page.page.expect_event("requestfailed", is_stream):
        page.page.evaluate(SEEN, "hidden")
    of_before = page.updated.inner_text()
    with page.page.expect_request(is_stream):
        page.page.evaluate(SEEN, "visible")
    expect(page.updated).not_to_have_text(of_before)
    expect(page.updated).to_contain_text("live")


def test_an_answer_that_comes_when_nobody_looks_does_not_name_the_tab(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    dashboard = open_dashboard(cluster["node1"], unwell=True, viewport=WIDE)
    page = dashboard.page
    expect(page).to_have_title("Healthy · Pickbox")
    expect(dashboard.updated).to_contain_text("live")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/cluster", hold)
    with page.expect_request("**/api/cluster"):
        dashboard.refresh()
    wait_until(lambda: page.evaluate("true") and held, "the page waits for an answer", 5)
    page.evaluate(SEEN, "hidden")
    expect(page).to_have_title("Pickbox")
    held[0].continue_()
    expect(dashboard.updated).to_contain_text("every 5 s")  # which is what the answer changes
    expect(page).to_have_title("Pickbox")
    page.unroute("**/api/cluster")
    page.evaluate(SEEN, "visible")
    expect(page).to_have_title("Healthy · Pickbox")


def test_who_asks_for_a_refresh_while_the_page_asks_has_an_answer_of_afterwards(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    dashboard = open_dashboard(cluster["node1"], unwell=True, viewport=WIDE)
    page = dashboard.page
    page.route(STREAM, lambda route: route.fulfill(status=204))
    dashboard.hold_time()
    page.reload()
    expect(dashboard.updated).to_contain_text("every 5 s")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/cluster", hold)
    dashboard.refresh()
    wait_until(lambda: page.evaluate("true") and held, "the page waits for an answer")
    dashboard.refresh()
    dashboard.refresh()
    page.unroute("**/api/cluster")
    with page.expect_response("**/api/cluster"), page.expect_request("**/api/cluster"):
        held[0].continue_()
    assert len(held) == 1, "one question at a time"
