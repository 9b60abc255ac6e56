"""The description of the API is held against a node of a real cluster (schemathesis)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import schemathesis
from described_api import DOCUMENT, ENDLESS, hold
from hypothesis import HealthCheck, Phase, settings

if TYPE_CHECKING:
    from cluster import Cluster

pytestmark = pytest.mark.cluster

schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(path=ENDLESS)


@schema.parametrize()
@settings(
    max_examples=8,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_a_real_node_does_what_the_description_says(
    case: schemathesis.Case, module_cluster: Cluster
) -> None:
    hold(case, module_cluster["node2"].client)


def test_the_nodes_are_the_same_whatever_was_asked_of_one(cluster: Cluster) -> None:
    assert cluster["node2"].put("last.txt", b"last").status in {200, 201}
    assert b"last.txt" in cluster.wait_settled()
