"""The dashboard where things go wrong: names, networks, uploads, and many files."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from cluster import Cluster, wait_until
from dashboard import has_told
from playwright.sync_api import expect
from proxy import keeping_the_stream

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator, Request, Route

    from conftest import Opener

pytestmark = pytest.mark.cluster

WIDE = {"width": 1280, "height": 900}
FILES = "**/api/v1/files/**"
EVENTS = "**/api/events"
STREAM = "**/api/events/stream"


def test_behind_a_proxy_that_keeps_the_stream_the_page_asks_every_five_seconds(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    with keeping_the_stream([cluster["node1"]]) as node:
        dashboard = open_dashboard(node, viewport=WIDE)
        page = dashboard.page
        dashboard.hold_time()
        with page.expect_response(STREAM):
            page.reload()
        expect(dashboard.updated).to_contain_text("every 5 s")
        for _ in range(3):
            before = dashboard.updated.inner_text()
            page.clock.run_for(5_000)
            expect(dashboard.updated).not_to_have_text(before)
            expect(dashboard.updated).to_contain_text("every 5 s")


def test_what_several_nodes_behind_a_balancer_tell_is_shown_once(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    with keeping_the_stream(list(cluster)) as node:
        page = open_dashboard(node, unwell=True, viewport=WIDE)
        leader = cluster.leader()
        assert leader.admin_request("POST", "/api/v1/drain").status == 200
        wait_until(lambda: cluster.leader() is not leader, "it has handed over")
        after = leader.status()
        assert leader.admin_request("DELETE", "/api/v1/drain").status == 200
        what = f"{after['leader']} leads, in term {after['term']}."
        wait_until(lambda: all(has_told(each, what) for each in cluster), "each node has told")
        for _ in cluster:
            with page.page.expect_response(EVENTS):
                page.refresh()
        expect(page.event("leader_changed").filter(has_text=what)).to_have_count(1)


def test_an_answer_that_is_no_node_s_is_told_in_plain_words(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    bad_gateway = {"status": 502, "content_type": "text/html", "body": "<h1>Bad Gateway</h1>"}
    page.page.route("**/api/**", lambda route: route.fulfill(**bad_gateway))
    page.page.reload()  # the stream of before goes on, and tells how the node is
    expect(page.banner).to_contain_text("something between here and the node answered with 502")
    page.forgive("status of 502")


NOTE_BANNERS = """
addEventListener("DOMContentLoaded", () => {
  globalThis.banners = [];
  const banner = document.getElementById("banner");
  const note = () => banner.hidden || globalThis.banners.push(banner.textContent);
  new MutationObserver(note).observe(banner, { attributes: true });
});
"""


def test_a_node_whose_stream_goes_on_is_not_gone_because_its_history_is_not_told(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    dashboard = open_dashboard(cluster["node1"], viewport=WIDE)
    page = dashboard.page
    asked: list[str] = []

    def refuse_all_but_the_first(route: Route, request: Request) -> None:
        asked.append(request.url)
        if len(asked) > 1:
            return route.fulfill(status=500, body="")
        # It has none, so the page asks for what was before the first sample of the stream.
        return route.fulfill(json={"seconds": 5, "times": [], "nodes": {}})

    page.route("**/api/history*", refuse_all_but_the_first)
    page.add_init_script(NOTE_BANNERS)
    page.reload()
    wait_until(lambda: page.evaluate("true") and len(asked) > 2, "it was refused, and asks again")
    expect(dashboard.updated).to_contain_text("live")
    assert page.evaluate("banners") == []
    dashboard.forgive("status of 500")


def test_a_device_without_a_network_says_so_and_is_back_at_once(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], unwell=True, viewport=WIDE)
    page.page.context.set_offline(True)
    expect(page.banner).to_contain_text("this device is offline", timeout=4_000)
    page.page.context.set_offline(False)
    expect(page.banner).to_be_hidden(timeout=4_000)
    expect(page.updated).to_contain_text("live")


def test_graphs_begin_anew_when_the_node_s_clock_was_put_back(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE).page
    times = page.evaluate(
        """async () => {
          const { History } = await import("/static/history.js");
          const history = new History();
          const told = (...times) => ({ seconds: 5, times, nodes: {} });
          history.add(told(5000, 5005), true);
          const complete = history.add(told(1400)); // a single one: what was before it is asked for
          history.add(told(1390, 1395, 1400), true);
          return [complete, history.times];
        }"""
    )
    assert times == [False, [1390, 1395, 1400]]


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("annual\u202etxt.exe", "annual<U+202E>txt.exe"),
        ("two\nlines.txt", "two<U+000A>lines.txt"),
        ('<b onclick="x">&amp;', '<b onclick="x">&amp;'),
        ("a  b ", "a  b "),
    ],
)
def test_no_name_looks_like_another_one(
    cluster: Cluster, open_dashboard: Opener, name: str, seen: str
) -> None:
    assert cluster["node1"].put(quote(name, safe=""), b"x").status == 201
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    names = page.page.locator("#entries a")
    wait_until(lambda: seen in [a.inner_text() for a in names.all()], f"{seen!r} is shown", 5)


def test_more_of_many_files_is_shown_and_stays_while_the_folder_changes(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    for number in range(103):
        assert cluster["node1"].put(f"many/{number:03}", b"x").status == 201
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    # What is told of the many files has the folder read again: not now.
    nothing_told = {"node_id": "node1", "events": []}
    page.page.route(STREAM, lambda route: route.fulfill(status=204))
    page.page.route(EVENTS, lambda route: route.fulfill(json=nothing_told))
    page.page.reload()
    page.row("many/").get_by_role("button").click()
    status = page.page.locator("#files-status")
    expect(status).to_have_text("100 entries, and more")
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url))
    page.page.get_by_role("button", name="Show more").click()
    expect(status).to_have_text("103 entries")
    listings = [url for url in asked if "/files?" in url]
    assert len(listings) == 1, "what is known is not read again"
    assert "cursor=" in listings[0]
    first_new = page.row("100").get_by_role("link")
    expect(first_new).to_be_focused()
    page.row("100").evaluate("(row) => { row.keptByTheTest = true; }")
    page.page.unroute(EVENTS)
    assert cluster["node2"].put("many/050a", b"x").status == 201
    expect(page.row("050a")).to_have_count(1, timeout=30_000)
    expect(status).to_have_text("104 entries")
    expect(first_new).to_be_focused()
    assert page.row("100").evaluate("(row) => row.keptByTheTest"), "the row is another one"


def test_a_file_far_down_is_reached_by_how_its_name_begins(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    for number in range(103):
        assert cluster["node1"].put(f"plenty/{number:03}", b"x").status == 201
    for name in ("zebra.txt", "zürich.txt", "zoo/inside.txt"):
        assert cluster["node1"].put(f"plenty/{quote(name)}", b"x").status == 201
    dashboard = open_dashboard(cluster["node1"], viewport=WIDE)
    page = dashboard.page
    dashboard.row("plenty/").get_by_role("button").click()
    letters, status = page.get_by_label("Names that begin with"), page.locator("#files-status")
    expect(status).to_have_text("100 entries, and more")
    letters.press_sequentially("z")
    expect(status).to_have_text("3 entries with a name that begins with “z”")
    expect(dashboard.row("zoo/")).to_have_count(1)
    letters.press_sequentially("/ü")
    expect(status).to_have_text("1 entry with a name that begins with “zü”")
    letters.fill("1")
    expect(status).to_have_text("3 entries with a name that begins with “1”")
    letters.fill("nothing")
    expect(status).to_have_text("Nothing is here with a name that begins with “nothing”.")
    letters.fill("zo")
    dashboard.row("zoo/").get_by_role("button").click()
    expect(dashboard.row("inside.txt")).to_have_count(1)
    expect(letters).to_have_value("")


def test_an_upload_that_breaks_off_can_be_tried_again_and_is_done_once(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], unwell=True, viewport=WIDE)
    keys: list[str | None] = []

    def break_the_first(route: Route, request: Request) -> None:
        if request.method != "PUT":
            return route.continue_()
        keys.append(request.headers.get("idempotency-key"))
        if len(keys) > 1:
            return route.continue_()
        # It arrives, and its answer does not.
        assert route.fetch().status == 201
        return route.abort()

    page.page.route(FILES, break_the_first)
    upload = page.upload("broken off.txt", b"once")
    expect(upload).to_contain_text("the node did not answer")
    expect(page.page.locator("#uploads-said")).to_contain_text("broken off.txt: could not be sent")
    upload.get_by_role("button", name="Try again").click()
    page.wait_stored(upload)
    assert keys[0] is not None
    assert keys == [keys[0]] * 2, "the second try is not known for the first"


def test_an_upload_shows_how_far_it_is_and_can_be_cancelled(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], unwell=True, viewport=WIDE)
    page.page.route(FILES, lambda route: None)  # the node never answers
    upload = page.upload("endless.bin", bytes(1 << 20))
    waiting = page.upload("waits.bin", b"x")
    expect(upload.get_by_role("progressbar", name="Upload of endless.bin")).to_be_visible()
    expect(waiting).to_contain_text("waits")
    for each in (waiting, upload):
        each.get_by_role("button", name="Cancel").press("Enter")
        expect(each).to_contain_text("cancelled")
        expect(page.page.get_by_role("button", name="Upload files")).to_be_focused()
    page.page.unroute(FILES)
    assert cluster["node1"].get("waits.bin").status == 404


def test_an_upload_to_a_machine_without_power_gives_way_to_the_next(
    cluster: Cluster, open_dashboard: Opener, tmp_path: Path
) -> None:
    large = tmp_path / "stalled.bin"
    large.write_bytes(bytes(40 << 20))
    page = open_dashboard(cluster["node1"], unwell=True, viewport=WIDE)
    page.hold_time()
    cluster["node1"].pause()
    stalled = page.upload_from(large)
    following = page.upload("next.txt", b"next")
    wait_stuck(stalled.locator(".said"))
    page.page.clock.run_for(55_000)
    expect(following).to_contain_text("waits")
    page.page.clock.run_for(10_000)
    expect(stalled).to_contain_text("nothing more went out for a minute")
    expect(following).not_to_contain_text("waits")
    cluster["node1"].resume()
    page.wait_stored(following)
    stalled.get_by_role("button", name="Try again").click()
    page.wait_stored(stalled, seconds=30)


def wait_stuck(said: Locator) -> None:
    """Until some of a file is sent, and for a second no more of it: what lies between is full."""
    expect(said).to_have_text(re.compile(r"^(?!0\.0 ).* % of "))
    text, since = "", 0.0

    def is_stuck() -> bool:
        nonlocal text, since
        if (now := said.inner_text()) != text:
            text, since = now, time.monotonic()
        return time.monotonic() - since > 1

    wait_until(is_stuck, "no more is sent")


def test_an_upload_that_was_sent_and_is_not_answered_is_given_up_in_the_end(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], unwell=True, viewport=WIDE)
    page.hold_time()
    cluster["node1"].pause()
    upload = page.upload("unanswered.txt", b"sent")
    expect(upload).to_contain_text("sent; is being stored")
    page.page.clock.run_for(280_000)
    expect(upload).to_contain_text("sent; is being stored")
    page.page.clock.run_for(30_000)
    expect(upload).to_contain_text("has not answered for minutes")
    cluster["node1"].resume()
    upload.get_by_role("button", name="Try again").click()
    page.wait_stored(upload)
    wait_until(
        lambda: cluster["node2"].get("unanswered.txt").data == b"sent", "another node has it"
    )


def test_a_file_that_is_too_large_is_not_even_sent(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    page.page.evaluate("document.getElementById('files').dataset.largest = 1024")
    refused = page.upload("large.bin", bytes(2048))
    expect(refused).to_contain_text("has 2.0 KiB; this node takes up to 1.0 KiB")
