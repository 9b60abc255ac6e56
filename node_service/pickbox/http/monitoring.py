"""Probes and metrics: what load balancers, supervisors and Prometheus ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from pickbox import __version__
from pickbox.errors import NotReady
from pickbox.http.documents import blocking_reasons, health_document
from pickbox.http.parameters import Query
from pickbox.http.problems import failing_health, problem

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from pickbox.seams import NodeControl
    from pickbox.status import Health


def monitoring_blueprint(control: NodeControl, registry: CollectorRegistry) -> Blueprint:
    """Routes ``/live``, ``/ready``, ``/health``, ``/metrics`` and ``/``."""
    blueprint = Blueprint("monitoring", __name__)

    @blueprint.get("/")
    def index() -> dict[str, Any]:
        status = control.status()
        return {
            "service": "pickbox",
            "version": __version__,
            "node_id": status.node_id,
            "state": status.role,
            "uptime": status.figures.uptime_seconds,
        }

    @blueprint.get("/live")
    def live() -> dict[str, Any] | Response:
        """Whether the process does its work: if not, restart it."""
        if control.live():
            return {"live": True}
        return problem(NotReady("The node's own threads no longer turn; restart it."), live=False)

    @blueprint.get("/ready")
    def ready() -> dict[str, Any] | Response:
        """Whether to send requests here; with ``?verbose`` a line a check."""
        verbose = "verbose" in Query("verbose")
        health = control.health()
        if verbose:
            return _lines(health)
        document = {
            "node_id": health.node_id,
            "ready": health.ready,
            "reasons": blocking_reasons(health),
        }
        return document if health.ready else failing_health(health, document)

    @blueprint.get("/health")
    def health() -> dict[str, Any] | Response:
        """Every check; 503 when one of those that gate readiness fails."""
        checked = control.health()
        document = health_document(checked)
        return document if checked.ready else failing_health(checked, document)

    @blueprint.get("/metrics")
    def metrics() -> Response:
        """Prometheus' text format."""
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return blueprint


def _lines(health: Health) -> Response:
    lines = [
        f"[+]{check.name} ok" if check.ok else f"[-]{check.name} failed: {check.reason}"
        for check in health.checks
    ]
    lines.append("ready" if health.ready else "not ready")
    status = 200 if health.ready else 503
    return Response("\n".join(lines) + "\n", status, content_type="text/plain; charset=utf-8")
