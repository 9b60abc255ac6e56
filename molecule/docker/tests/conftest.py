"""What the tests of the containers share."""

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


@pytest.fixture(scope="session")
def prefix() -> str:
    """Of all names at the engine, and the cluster's name."""
    return os.environ["PICKBOX_TEST_PREFIX"]


@pytest.fixture(scope="session")
def home(prefix: str) -> Path:
    return Path("/srv", prefix)


@pytest.fixture
def container(host: Any, prefix: str, name: str) -> dict[str, Any]:
    """What the engine says of the node's container."""
    return dict(json.loads(host.check_output(f"docker inspect {prefix}-{name}"))[0])


@pytest.fixture(scope="session")
def now() -> dict[str, str]:
    """What the last step left: its name, and the version that every node should have."""
    return dict(json.loads((STATE / "now.json").read_text()))
