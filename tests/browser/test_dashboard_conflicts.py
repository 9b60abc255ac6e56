"""Settling conflicts in the browser: what is kept, and that nothing unseen is ever lost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from cluster import Cluster, wait_until
from playwright.sync_api import expect

if TYPE_CHECKING:
    from dashboard import Dashboard
    from playwright.sync_api import Locator

    from conftest import Opener

pytestmark = pytest.mark.cluster

WIDE = {"width": 1280, "height": 900}
AGAIN = 15_000
"""Milliseconds until the page has read the list again, with some to spare."""


class Conflict:
    """A file and its conflict copy in the folder, and the item that the page has of it."""

    def __init__(self, cluster: Cluster, name: str, current: bytes | None = b"current") -> None:
        self.name = name
        self.path = quote(f"{name}.txt")
        self.copy = quote(f"{name}.sync-conflict-20260101-120000-node2.txt")
        self._cluster = cluster
        if current is not None:
            assert cluster["node1"].put(self.path, current).status == 201
        assert cluster["node1"].put(self.copy, b"the copy").status == 201

    def open(self, page: Dashboard) -> Locator:
        page.page.locator("#conflicts summary").click()
        item = page.page.locator("#conflict-list li").filter(has_text=self.name)
        item.get_by_role("button", name="Settle").click()
        return item

    def becomes(self, current: bytes | None, copy: bytes | None) -> None:
        """Wait until all nodes have that, None for nothing."""
        for node in self._cluster:
            for path, content in ((self.path, current), (self.copy, copy)):
                wait_until(
                    lambda n=node, p=path, c=content: content_of(n.get(p)) == c,
                    f"{path} is {content!r} on {node.node_id}",
                    10,
                )


def content_of(answer: object) -> bytes | None:
    return answer.data if answer.status == 200 else None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "choice", "kept", "told"),
    [
        ("ours", "Keep the current one", b"current", "ours.txt stays as it is"),
        ("theirs ü#%", "Keep the copy", b"the copy", "theirs ü#%.txt is what the copy was"),
    ],
)
def test_what_is_kept_has_the_name_on_all_nodes_and_the_other_one_goes(
    cluster: Cluster, open_dashboard: Opener, name: str, choice: str, kept: bytes, told: str
) -> None:
    conflict = Conflict(cluster, name)
    page = open_dashboard(cluster["node3"], viewport=WIDE)
    item = conflict.open(page)
    expect(item).to_contain_text("The copy: 8 B, from node1")
    expect(item).to_contain_text("The current one: 7 B, from node1")
    item.get_by_role("button", name=choice).click()
    expect(page.page.locator("#conflicts-said")).to_contain_text(told)
    expect(item).to_have_count(0)
    conflict.becomes(kept, None)


def test_the_list_says_how_many_there_are_without_being_opened(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    node = cluster["node1"]
    for entry in node.request("GET", "/api/conflicts").json()["conflicts"]:
        assert node.request("DELETE", f"/api/v1/files/{quote(entry['path'])}").status == 200
    page = open_dashboard(node, unwell=True, viewport=WIDE)
    conflicts = page.page.locator("#conflicts")
    summary = conflicts.locator("summary")
    expect(summary).to_have_text("Conflict copies in the folder: none", timeout=AGAIN)
    first, second = Conflict(cluster, "counted 1"), Conflict(cluster, "counted 2")
    expect(summary).to_have_text("Conflict copies in the folder: 2", timeout=AGAIN)
    expect(conflicts).to_have_class(re.compile("news"))
    assert node.stop() == 0
    expect(page.banner).to_be_visible()
    assert cluster["node2"].request("DELETE", f"/api/v1/files/{first.copy}").status == 200
    node.start()
    expect(page.banner).to_be_hidden(timeout=30_000)
    expect(summary).to_have_text("Conflict copies in the folder: 1", timeout=AGAIN)
    assert page.figure(node, "Conflicts made") == "0", "that counts what this process made"
    assert cluster["node2"].request("DELETE", f"/api/v1/files/{second.copy}").status == 200
    expect(summary).to_have_text("Conflict copies in the folder: none", timeout=AGAIN)
    expect(conflicts).not_to_have_class(re.compile("news"))


def test_a_version_that_the_person_has_not_seen_is_not_replaced(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    conflict = Conflict(cluster, "moving on")
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    item = conflict.open(page)
    expect(item).to_contain_text("The current one: 7 B")
    assert cluster["node1"].put(conflict.path, b"newer than seen").status == 200
    item.get_by_role("button", name="Keep the copy").click()
    expect(item).to_contain_text("Something was changed meanwhile")
    expect(item).to_contain_text("The current one: 15 B")
    conflict.becomes(b"newer than seen", b"the copy")
    page.forgive("status of 412")


def test_the_last_one_that_is_left_is_not_deleted_and_can_be_put_back(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    conflict = Conflict(cluster, "last one")
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    item = conflict.open(page)
    expect(item).to_contain_text("The current one: 7 B")
    assert cluster["node1"].request("DELETE", f"/api/v1/files/{conflict.path}").status == 200
    item.get_by_role("button", name="Keep the current one").click()
    expect(item).to_contain_text("Nothing has the name last one.txt any more")
    conflict.becomes(None, b"the copy")
    item.get_by_role("button", name="Put the copy back as last one.txt").click()
    expect(item).to_have_count(0)
    conflict.becomes(b"the copy", None)
    page.forgive("status of 404")


def test_a_name_that_only_looks_like_a_copy_s_cannot_be_settled(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    assert cluster["node1"].put("my.sync-conflict-notes.txt", b"mine").status == 201
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    page.page.locator("#conflicts summary").click()
    item = page.page.locator("#conflict-list li").filter(has_text="sync-conflict-notes")
    expect(item).to_have_count(1)
    expect(item.get_by_role("button", name="Settle")).to_have_count(0)


def test_a_conflict_is_settled_by_keyboard_alone(cluster: Cluster, open_dashboard: Opener) -> None:
    conflict = Conflict(cluster, "typed")
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    item = conflict.open(page)
    keyboard = page.page.keyboard
    group = item.get_by_role("group", name="Settle the conflict of typed.txt")
    expect(group).to_be_focused()
    cancel = item.get_by_role("button", name="Cancel")
    cancel.press("Enter")
    settle = item.get_by_role("button", name="Settle")
    expect(settle).to_be_focused()
    settle.press("Enter")
    expect(group).to_be_focused()
    keyboard.press("Tab")
    keyboard.press("Tab")
    expect(item.get_by_role("button", name="Keep the copy")).to_be_focused()
    keyboard.press("Enter")
    expect(item).to_have_count(0)
    expect(page.page.locator("#conflicts summary")).to_be_focused()
