"""Clusters for the tests: one a module, mended between tests, and its logs read at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# What the tests share is to say what it found too when one of its assertions fails.
pytest.register_assert_rewrite(*{path.stem for path in Path(__file__).parent.rglob("*.py")})

from cluster import Cluster  # noqa: E402 - rewritten

from nothing_left import (  # noqa: E402, F401 - hooks and a fixture
    nothing_runs_on,
    pytest_sessionfinish,
    pytest_unconfigure,
)
from workers import pytest_xdist_make_scheduler  # noqa: E402, F401 - a hook

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long an example takes says more of the machine, which may stall, than of the product.
settings.register_profile("any time", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any time")


@pytest.fixture(scope="module")
def module_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A cluster for all tests of a module; nothing may have broken in it when they are done.

    A module may say in `SETTINGS` what its nodes are told.
    """
    settings = getattr(request.module, "SETTINGS", {})
    with Cluster(tmp_path_factory.mktemp("cluster"), **settings) as cluster:
        yield cluster
        broken = {node.node_id: node.errors() for node in cluster if node.errors()}
        assert not broken, f"nodes logged errors: {broken}"


@pytest.fixture
def cluster(module_cluster: Cluster) -> Cluster:
    """The module's cluster with all of its nodes running, whatever the test before did to them."""
    module_cluster.heal()
    return module_cluster
