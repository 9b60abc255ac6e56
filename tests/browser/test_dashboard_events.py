"""The list of events in a page that stays open: what stays in it, and what is made of it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from cluster import wait_until
from playwright.sync_api import expect

if TYPE_CHECKING:
    from cluster import Cluster

    from conftest import Opener

pytestmark = pytest.mark.cluster

WIDE = {"width": 1280, "height": 900}

TELL = """
async (events) => {
  const { showEvents } = await import("/static/happenings.js");
  for (const [number, event] of events.entries()) {
    showEvents([{ id: `test-${number}`, node_id: null, paths: [], ...event }]);
  }
}
"""


def test_a_busy_folder_does_not_push_the_other_events_out(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    lost = {"kind": "quorum_lost", "timestamp": 1000, "text": "node9 has none."}
    changed = [
        {"kind": "files_changed", "timestamp": 1005 + 5 * n, "text": "1 path changed."}
        for n in range(80)
    ]
    page.page.evaluate(TELL, [lost, *changed])
    expect(page.event("quorum_lost").filter(has_text="node9")).to_have_count(1)
    expect(page.event("files_changed")).to_have_count(20)


def test_an_event_that_is_told_again_after_thousands_is_shown_once(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    kept = {
        "id": "test-kept",
        "kind": "node_down",
        "timestamp": 1000,
        "text": "node9 does not answer.",
    }
    changed = [
        {"kind": "files_changed", "timestamp": 1005 + 5 * n, "text": "1 path changed."}
        for n in range(2500)
    ]
    told_again = [event for each in changed for event in (kept, each)]
    page.page.evaluate(TELL, told_again)
    expect(page.event("node_down").filter(has_text="node9")).to_have_count(1)


def test_an_event_has_a_date_once_it_is_not_of_today(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    dashboard = open_dashboard(cluster["node1"], viewport=WIDE, timezone_id="UTC", locale="en-US")
    page = dashboard.page
    evening = dt.datetime(2030, 5, 6, 23, 57, tzinfo=dt.UTC)
    page.clock.install(time=evening)
    page.reload()
    happened = {"kind": "leader_lost", "timestamp": evening.timestamp(), "text": "It happened."}
    page.evaluate(TELL, [happened])
    time = dashboard.event("leader_lost").filter(has_text="It happened.").locator("time")
    expect(time).to_contain_text("11:57")
    expect(time).not_to_contain_text("2030")
    page.clock.run_for(5 * 60_000)
    expect(time).to_contain_text("May 6, 2030")


OPEN_FOR_A_WHILE = """
() => {
  const [loaded] = performance.getEntriesByType("navigation");
  return performance.now() - loaded.domContentLoadedEventEnd > 3000;
}
"""

NOTE_WHAT_IS_READ_OUT = """
() => {
  globalThis.readOut = [];
  const said = document.getElementById("events-said");
  const note = () => globalThis.readOut.push(said.textContent);
  new MutationObserver(note).observe(said, { childList: true });
}
"""


def test_changed_files_are_not_read_out_and_what_happens_to_nodes_is(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    here, (drained, _) = cluster.roles()
    page = open_dashboard(here, viewport=WIDE)
    expect(page.page.get_by_role("log")).to_have_attribute("aria-live", "off")
    read_out = page.page.locator("#events-said")
    wait_until(lambda: page.page.evaluate(OPEN_FOR_A_WHILE), "the page is open for a while")
    page.page.evaluate(NOTE_WHAT_IS_READ_OUT)
    # What is read out of a file would be so before, or with, what happens to the node after it.
    assert here.put("silent.txt", b"x").status == 201
    expect(page.event("files_changed").first).to_contain_text("silent.txt")
    assert drained.admin_request("POST", "/api/v1/drain").status == 200
    expect(read_out).to_contain_text(f"{drained.node_id} is draining")
    assert here.put("silent too.txt", b"x").status == 201
    expect(page.event("files_changed").first).to_contain_text("silent too.txt")
    assert drained.admin_request("DELETE", "/api/v1/drain").status == 200
    expect(read_out).to_contain_text(f"{drained.node_id} is in service again")
    noted = page.page.evaluate("readOut")
    assert any(f"{drained.node_id} is draining" in each for each in noted)
    assert [each for each in noted if "silent" in each] == []
