"""What the tests know of a cluster: its inventory, its answer, the record of the side effect."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

SETTLED_SECONDS = 60.0


@pytest.fixture(scope="module")
def node(variables: dict[str, Any]) -> str:
    return str(variables["inventory_hostname"])


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """Missing when the side effect has not run: then every test that needs it fails."""
    return dict(json.loads(Path(os.environ["PICKBOX_TEST_RECORD"]).read_text()))


def settled(cluster: dict[str, Any]) -> bool:
    """Whether all are ready and name one leader, as a view of the cluster has it."""
    leaders = {node["leader"] for node in cluster["nodes"]}
    return all(node["ready"] for node in cluster["nodes"]) and leaders == {cluster["leader"]}


@pytest.fixture(scope="module")
def cluster(variables: dict[str, Any]) -> dict[str, Any]:
    """How the node sees the cluster, once it is settled, or what was seen last."""
    url = f"http://127.0.0.1:{variables['pickbox_dashboard_port']}/api/cluster"
    deadline = time.monotonic() + SETTLED_SECONDS
    while True:
        with urllib.request.urlopen(url, timeout=10) as answer:
            seen = dict(json.load(answer))
        if settled(seen) or time.monotonic() > deadline:
            return seen
        time.sleep(0.5)
