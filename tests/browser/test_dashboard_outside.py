"""The dashboard of a node that takes no part in its cluster any more, or not yet."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import urllib3
from cluster import Cluster, wait_until
from legibility import poor_contrast, too_wide
from playwright.sync_api import expect
from test_dashboard_access import violations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster import Node
    from dashboard import Dashboard

    from conftest import Opener

pytestmark = pytest.mark.cluster

WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 320, "height": 740}
TOLD = 20_000
"""Milliseconds until the node knows it, and the page has it."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One of the test's own: its members change."""
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


def listens(node: Node) -> bool:
    """Whether the node, which was just started, answers."""
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        return node.request("GET", "/api/cluster").status == 200
    return False


def says(page: Dashboard, reason: str) -> None:
    """Wait until the page says that its node takes no part, and why, and nothing of majorities."""
    situation = page.page.locator("#situation")
    expect(page.verdict).to_have_text("Takes no part", timeout=TOLD)
    expect(situation).to_contain_text("This node takes no part in the cluster: ")
    expect(situation).to_contain_text(reason)
    expect(situation).to_contain_text("Use another node")
    advice = ("no majority: files can be read", "start the other nodes", "nodes must run and reach")
    said = page.page.locator("body").inner_text()
    assert [words for words in advice if words in said] == []


def test_a_removed_node_says_so_and_not_that_a_majority_is_lost(
    cluster: Cluster, open_dashboard: Opener, pictures: Path
) -> None:
    leader, (removed, _) = cluster.roles()
    page = open_dashboard(removed, unwell=True, viewport=WIDE)
    dark = open_dashboard(removed, unwell=True, viewport=NARROW, color_scheme="dark")
    expect(page.verdict).to_have_text("Healthy", timeout=TOLD)
    gone = leader.admin_request("DELETE", f"/api/v1/members/{removed.node_id}")
    assert gone.status == 200, gone.data
    says(page, "this node was removed by version")
    assert removed.get("anything").status == 503, "the page says so, too"
    assert violations(page.page) == []
    assert poor_contrast(page.page) == []
    expect(dark.verdict).to_have_text("Takes no part", timeout=TOLD)
    assert too_wide(dark.page) == []
    assert poor_contrast(dark.page) == []
    page.picture(pictures / "dashboard-removed.png")
    dark.picture(pictures / "dashboard-removed-narrow.png")


@pytest.mark.parametrize("bootstrap", ["true", "false"])
def test_a_node_whose_data_is_gone_says_that_the_cluster_knows_another(
    cluster: Cluster, open_dashboard: Opener, pictures: Path, bootstrap: str
) -> None:
    wiped = cluster.followers()[0]
    wiped.kill()
    wiped.directory.rename(wiped.directory.with_suffix(".lost"))
    wiped.environment["PICKBOX_BOOTSTRAP"] = bootstrap
    wiped.start()
    wait_until(lambda: listens(wiped), "the wiped node answers")
    page = open_dashboard(wiped, unwell=True, viewport=WIDE)
    says(page, "another data directory")
    page.picture(pictures / "dashboard-wiped.png")
    page.forgive("status of 503")  # it serves no files


def test_a_node_that_nobody_has_added_yet_says_what_to_do(
    cluster: Cluster, open_dashboard: Opener, pictures: Path
) -> None:
    leader = cluster.leader()
    waits = cluster.join("node4")
    waits.start()
    wait_until(lambda: listens(waits), "the node that waits answers")
    page = open_dashboard(waits, unwell=True, viewport=WIDE)
    says(page, "is not a member: add it to the cluster")
    page.picture(pictures / "dashboard-not-a-member.png")
    asked = {"node_id": "node4", "address": f"127.0.0.1:{waits.ports[0]}"}
    added = leader.admin_request("POST", "/api/v1/members", json=asked)
    assert added.status in {200, 201}, added.data
    expect(page.verdict).to_have_text("Healthy", timeout=TOLD)
    expect(page.page.locator("#situation")).to_be_hidden()
