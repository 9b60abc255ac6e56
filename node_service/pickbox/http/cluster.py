"""The cluster's state for people and programs, on the client port, and the dashboard over it.

Field names are those of Pickbox's predecessor where they mean the same thing here; figures are
real, and lists are lists even when they are empty.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Response, current_app, render_template

from pickbox import __version__
from pickbox.http.documents import cluster_document, entry_document, health_document
from pickbox.http.parameters import Query
from pickbox.http.problems import failing_health

if TYPE_CHECKING:
    from pickbox.changes import Entry
    from pickbox.seams import FileService, NodeControl
    from pickbox.status import ClusterStatus, NodeStatus

_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CONFLICT_MARK: Final = b".sync-conflict-"
_CONFLICTS_SHOWN: Final = 1000
_PAGE: Final = 1000


def cluster_blueprint(files: FileService, control: NodeControl, max_file_size: int) -> Blueprint:
    """Routes ``/``, ``/api/health``, ``/api/metrics``, ``/api/cluster``, ``/api/conflicts``."""
    blueprint = Blueprint("cluster", __name__)

    @blueprint.get("/")
    def dashboard() -> Response:
        """The page; all that it shows comes from ``/api/cluster`` and ``/api/health``."""
        html = render_template("dashboard.html", version=__version__, largest=max_file_size)
        page = current_app.make_response(html)
        page.headers["Content-Security-Policy"] = _PAGE_POLICY
        return page

    @blueprint.get("/api/health")
    def health() -> dict[str, Any] | Response:
        """Checks and log indexes of this node; 503 when it is not ready."""
        Query()
        node, checks = control.status(), control.health()
        document = {**_log_document(node, control.cluster()), **health_document(checks)}
        return document if checks.ready else failing_health(checks, document)

    @blueprint.get("/api/metrics")
    def metrics() -> dict[str, Any]:
        """Figures of this node."""
        Query()
        return _figures_document(control.status())

    @blueprint.get("/api/cluster")
    def cluster() -> dict[str, Any]:
        """Every node as this one sees it."""
        Query()
        document = cluster_document(control.cluster(), control.status().node_id)
        return {**document, "timestamp": time.time()}

    @blueprint.get("/api/conflicts")
    def conflicts() -> dict[str, Any]:
        """The conflict copies that are in the folder."""
        Query()
        found, more = _conflict_copies(files)
        return {"conflicts": [entry_document(entry) for entry in found], "more": more}

    return blueprint


def _log_document(node: NodeStatus, cluster: ClusterStatus) -> dict[str, Any]:
    return {
        "node_id": node.node_id,
        "version": node.version,
        "state": node.role,
        "leader": node.leader,
        "term": node.term,
        "has_quorum": cluster.has_quorum,
        "draining": node.draining,
        "peers": [
            {"node_id": peer.node_id, "reachable": peer.reachable, "role": peer.role}
            for peer in cluster.nodes
            if peer.node_id != node.node_id
        ],
        "last_log_index": node.last_index,
        "commit_index": node.commit_index,
        "applied_index": node.applied_index,
        "lag": node.lag,
        "uptime": node.figures.uptime_seconds,
        "timestamp": time.time(),
    }


def _figures_document(node: NodeStatus) -> dict[str, Any]:
    figures = node.figures
    return {
        "node_id": node.node_id,
        "files": figures.files,
        "bytes": figures.bytes,
        "files_replicated": figures.files_replicated,
        "files_deleted": figures.files_deleted,
        "bytes_replicated": figures.bytes_replicated,
        "replication_errors": figures.replication_errors,
        "avg_replication_time_ms": figures.replication_seconds_avg * 1000,
        "last_replication_time": figures.last_replication,
        "conflicts": figures.conflicts,
        "pending": figures.pending,
        "memory_usage_bytes": figures.memory_bytes,
        "cpu_seconds": figures.cpu_seconds,
        "disk_free_bytes": figures.disk_free_bytes,
        "threads": figures.threads,
        "uptime": figures.uptime_seconds,
        "timestamp": time.time(),
    }


def _conflict_copies(files: FileService) -> tuple[list[Entry], bool]:
    """Up to `_CONFLICTS_SHOWN` of them, and whether there are more."""
    found: list[Entry] = []
    after = b""
    while page := files.page(b"", after, _PAGE):
        found += [e for e in page if _CONFLICT_MARK in e.path.rpartition(b"/")[2]]
        if len(found) > _CONFLICTS_SHOWN:
            return found[:_CONFLICTS_SHOWN], True
        after = page[-1].path
    return found, False
