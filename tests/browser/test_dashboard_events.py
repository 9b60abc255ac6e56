"""The list of events in a page that stays open: what stays in it, and what is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
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
    lost = {"kind": "quorum_lost", "timestamp": 1000, "text": "No majority is reached."}
    changed = [
        {"kind": "files_changed", "timestamp": 1005 + 5 * n, "text": "1 path changed."}
        for n in range(80)
    ]
    page.page.evaluate(TELL, [lost, *changed])
    expect(page.event("quorum_lost")).to_have_count(1)
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
    expect(page.event("node_down")).to_have_count(1)
