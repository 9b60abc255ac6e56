"""What all tests of the hosts share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

STATE = Path(os.environ["PICKBOX_TEST_STATE"])


@pytest.fixture(scope="module")
def name(variables: dict[str, Any]) -> str:
    return str(variables["inventory_hostname"])


@pytest.fixture(scope="module")
def address(variables: dict[str, Any]) -> str:
    return str(variables["ansible_host"])


@pytest.fixture(scope="session")
def now() -> dict[str, str]:
    """What the last step left: its name, and the version that every node should have."""
    return dict(json.loads((STATE / "now.json").read_text()))


@pytest.fixture(scope="session")
def processes_before() -> dict[str, str]:
    """Node -> id of the process that it had before the last step."""
    return dict(json.loads((STATE / "processes.json").read_text()))
