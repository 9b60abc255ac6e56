"""The description of the API is held against the running service (schemathesis).

Schemathesis makes up requests, good and bad, and fails on an undescribed status, header, media
type or body, on a 5xx, and on malformed requests that are accepted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import schemathesis
from described_api import DOCUMENT, ENDLESS, hold
from http_node import Running, running
from hypothesis import HealthCheck, Phase, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(path=ENDLESS)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("node")) as started:
        started.put("reports/2026/plan.txt", b"a plan")
        started.client("PUT", "/api/v1/files/directory?kind=directory")
        started.files.symlink(b"link", b"target")
        started.put("x.sync-conflict-20260101-120000-node2.txt", b"x")
        yield started


@schema.parametrize()
@settings(
    max_examples=25,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_service_does_what_its_description_says(case: schemathesis.Case, node: Running) -> None:
    hold(case, f"http://127.0.0.1:{node.settings.dashboard_port}")


def test_the_document_is_served_as_it_is_in_the_package(node: Running) -> None:
    answer = node.client("GET", "/api/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == DOCUMENT
    assert DOCUMENT["openapi"].startswith("3.1")


def test_every_route_of_the_client_port_is_described(node: Running) -> None:
    app = next(s for s in node.listeners._servers if s.name == "client").wsgi_app
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"OPTIONS", "HEAD"}
        if rule.rule.startswith("/api/")
    }
    described = {
        (path, method.upper())
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
        if method not in {"parameters", "head"}
    }
    assert routes == described
