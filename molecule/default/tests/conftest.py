"""What the tests know of a cluster: its inventory, its answer, the record of the side effect."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def node(variables: dict[str, Any]) -> str:
    return str(variables["inventory_hostname"])


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """Missing when the side effect has not run: then every test that needs it fails."""
    return dict(json.loads(Path(os.environ["PICKBOX_TEST_RECORD"]).read_text()))


@pytest.fixture(scope="module")
def cluster(variables: dict[str, Any]) -> dict[str, Any]:
    url = f"http://127.0.0.1:{variables['pickbox_dashboard_port']}/api/cluster"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return dict(json.load(answer))
