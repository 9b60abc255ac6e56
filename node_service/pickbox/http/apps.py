"""The WSGI applications of the three listeners, each a Flask application with its blueprints."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

from flask import Blueprint, Response

from pickbox.http import access, problems
from pickbox.http.admin import admin_blueprint
from pickbox.http.backups import backups_blueprint
from pickbox.http.cluster import cluster_blueprint
from pickbox.http.files import files_blueprint
from pickbox.http.members import members_blueprint
from pickbox.http.monitoring import monitoring_blueprint
from pickbox.http.page_files import WithPageFiles
from pickbox.http.peer import peer_blueprint
from pickbox.http.raw_path import RawPaths
from pickbox.http.upgrade import upgrade_blueprint
from pickbox.http.watching import watching_blueprint

if TYPE_CHECKING:
    from flask import Flask
    from prometheus_client import CollectorRegistry

    from pickbox.admin_tokens import AdminTokens
    from pickbox.backup import Backups
    from pickbox.http.event_stream import Viewers
    from pickbox.observability.metrics import Metrics
    from pickbox.observability.observer import Observer
    from pickbox.seams import FileService, Membership, NodeControl, PeerService, Upgrade
    from pickbox.settings import Settings

_PACKAGE: Final = "pickbox.http"


def create_client_app(
    files: FileService,
    control: NodeControl,
    observer: Observer,
    viewers: Viewers,
    metrics: Metrics,
    settings: Settings,
) -> Flask:
    """Files, the cluster's state, the dashboard and the API's description."""
    app = _flask("client", metrics, static_folder="static")
    app.register_blueprint(files_blueprint(files, settings.max_file_size))
    app.register_blueprint(cluster_blueprint(files, control, settings.max_file_size))
    app.register_blueprint(watching_blueprint(control, observer, viewers))
    app.register_blueprint(_openapi_blueprint())
    app.wsgi_app = RawPaths(app.wsgi_app)  # type: ignore[method-assign]
    return app


def create_admin_app(
    control: NodeControl,
    membership: Membership,
    upgrade: Upgrade,
    backups: Backups,
    tokens: AdminTokens,
    metrics: Metrics,
) -> Flask:
    """The operators' API."""
    app = _flask("admin", metrics)
    app.register_blueprint(admin_blueprint(control, tokens))
    app.register_blueprint(members_blueprint(membership, tokens))
    app.register_blueprint(upgrade_blueprint(upgrade, tokens))
    app.register_blueprint(backups_blueprint(backups, tokens))
    return app


def create_peer_app(peers: PeerService, control: NodeControl, metrics: Metrics) -> Flask:
    """What the other nodes ask."""
    app = _flask("peers", metrics)
    app.register_blueprint(peer_blueprint(peers, control))
    return app


def create_monitor_app(
    control: NodeControl, registry: CollectorRegistry, metrics: Metrics
) -> Flask:
    """Probes and metrics."""
    app = _flask("monitor", metrics)
    app.register_blueprint(monitoring_blueprint(control, registry))
    return app


def _flask(listener: str, metrics: Metrics, *, static_folder: str | None = None) -> Flask:
    app = WithPageFiles(_PACKAGE, static_folder)
    app.url_map.merge_slashes = False
    app.json.sort_keys = False  # type: ignore[attr-defined]
    access.install(app, listener, metrics)
    problems.install(app)
    return app


def _openapi_blueprint() -> Blueprint:
    blueprint = Blueprint("openapi", __name__)
    document = (resources.files(_PACKAGE) / "openapi.json").read_bytes()

    @blueprint.get("/api/openapi.json")
    def openapi() -> Response:
        return Response(document, content_type="application/json")

    return blueprint
