"""What the dashboard says of nodes that are ready and warn, full disks first."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from cluster import Cluster
from legibility import poor_contrast, too_wide
from playwright.sync_api import expect
from small_volume import fill, small_volume
from test_dashboard_access import violations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Opener

pytestmark = pytest.mark.cluster

WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 320, "height": 740}
LESS_THAN_THE_RESERVE = 1 << 20
TOLD = 15_000
"""Milliseconds until the page has a new answer, with some to spare."""


@pytest.fixture
def cluster_with_small_disks(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "cluster")
    with ExitStack() as volumes:
        for node in cluster:
            volumes.enter_context(small_volume(node.directory))
        with cluster:
            yield cluster


@pytest.mark.skipif(os.geteuid() != 0, reason="to mount a small volume takes root")
def test_full_disks_are_told_before_anybody_is_refused(
    cluster_with_small_disks: Cluster, open_dashboard: Opener, pictures: Path
) -> None:
    cluster = cluster_with_small_disks
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    narrow = open_dashboard(cluster["node1"], viewport=NARROW, color_scheme="dark")
    situation = page.page.locator("#situation")
    expect(page.verdict).to_have_text("Healthy", timeout=TOLD)
    expect(situation).to_be_hidden()
    steps = (
        ("node3", "1 node warns", "The disk of node3 is full: it takes no writes. What is there"),
        ("node2", "Disks full", "Large files are taken nowhere"),
        ("node1", "Disks full", "All disks are full: no node takes writes"),
    )
    ballast = []
    for name, verdict, meaning in steps:
        ballast.append(fill(cluster[name].directory, LESS_THAN_THE_RESERVE))
        expect(page.verdict).to_have_text(verdict, timeout=TOLD)
        expect(page.page).to_have_title(f"{verdict} · Pickbox")
        expect(situation).to_contain_text(meaning, timeout=TOLD)
        expect(page.card(cluster[name]).locator(".state")).to_have_text("Ready, warns")
        assert poor_contrast(page.page) == []
        assert violations(page.page) == []
        expect(narrow.page.locator("#situation")).to_contain_text(meaning, timeout=TOLD)
        assert too_wide(narrow.page) == []
        assert poor_contrast(narrow.page) == []
        page.picture(pictures / f"dashboard-full-{name}.png")
        narrow.picture(pictures / f"dashboard-full-{name}-narrow.png")
    for file in ballast:
        file.unlink()
    expect(page.verdict).to_have_text("Healthy", timeout=TOLD)
    expect(situation).to_be_hidden()


def test_only_what_somebody_has_to_see_to_makes_a_node_warn(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE).page
    told = page.evaluate(
        """async () => {
          const { warns } = await import("/static/warnings.js");
          const node = { reachable: true, ready: true };
          const told = [["content"], ["content", "paths"], ["disk"], [], undefined];
          return told.map((warnings) => warns({ ...node, warnings }));
        }"""
    )
    assert told == [False, True, True, False, False], "the last is of a release that tells none"


def test_a_file_that_is_not_taken_in_is_warned_of(cluster: Cluster, open_dashboard: Opener) -> None:
    page = open_dashboard(cluster["node1"], viewport=WIDE)
    expect(page.verdict).to_have_text("Healthy", timeout=TOLD)
    refused = cluster["node2"].files / "..%2fx"
    refused.write_bytes(b"x")
    expect(page.verdict).to_have_text("1 node warns", timeout=TOLD)
    expect(page.card(cluster["node2"]).locator(".reasons")).to_contain_text("are not taken in")
    expect(page.page.locator("#situation")).to_be_hidden()
    refused.unlink()
    expect(page.verdict).to_have_text("Healthy", timeout=TOLD)
