"""A node for the HTTP tests: the real listeners over an in-process cluster of one."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from authority import NO_FILES, tls_settings
from http_parts import Controls, FolderFiles, MembersOfOne, PointsOfNothing, UpgradeOfOne
from ports import free_ports

from pickbox.admin_tokens import AdminTokens
from pickbox.backup import Backups
from pickbox.http.apps import create_admin_app, create_client_app, create_monitor_app
from pickbox.http.event_stream import Viewers
from pickbox.http.server import Listeners
from pickbox.observability.file_changes import FileChanges
from pickbox.observability.metrics import Metrics
from pickbox.observability.observer import Observer
from pickbox.settings import Settings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = "a-token-of-enough-characters"


@dataclass
class Answer:
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def problem(self) -> Any:
        assert self.headers["Content-Type"] == "application/problem+json", self.content
        assert self.json["status"] == self.status
        return self.json


@dataclass
class Running:
    """Listeners that run, and what is behind them."""

    settings: Settings
    files: FolderFiles
    control: Controls
    members: MembersOfOne
    upgrade: UpgradeOfOne
    metrics: Metrics
    changes: FileChanges
    observer: Observer
    viewers: Viewers
    listeners: Listeners
    points: PointsOfNothing

    def client(self, method: str, target: str, **options: Any) -> Answer:
        return call(self.settings.dashboard_port, method, target, **options)

    def admin(self, method: str, target: str, **options: Any) -> Answer:
        headers = {"Authorization": f"Bearer {TOKEN}", **options.pop("headers", {})}
        return call(self.settings.admin_port, method, target, headers=headers, **options)

    def monitor(self, method: str, target: str, **options: Any) -> Answer:
        return call(self.settings.monitor_port, method, target, **options)

    def put(self, path: str, content: bytes, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client("PUT", f"/api/v1/files/{path}", body=content, headers=named)


def call(
    port: int, method: str, target: str, *, body: Any = None, headers: Any = None, **options: Any
) -> Answer:
    """One request on a connection of its own; the target goes out as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, target, body=body, headers=headers or {}, **options)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def raw(port: int, request: bytes) -> bytes:
    """Send bytes, and return all that comes until the node closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def make_settings(directory: Path, **more: Any) -> Settings:
    port, admin, monitor, dashboard = free_ports(4)
    return Settings(
        node_id="node1",
        data_dir=directory,
        peers=f"node1=127.0.0.1:{port}",
        port=port,
        admin_port=admin,
        monitor_port=monitor,
        dashboard_port=dashboard,
        admin_token=TOKEN,
        **tls_settings(NO_FILES),
        **more,
    )


def build(settings: Settings, admin_tls: Callable[[], ssl.SSLContext] | None = None) -> Running:
    files = FolderFiles(settings.data_dir, settings.max_file_size)
    control, members, metrics = Controls(), MembersOfOne(settings), Metrics("node1")
    upgrade = UpgradeOfOne()
    points = PointsOfNothing()
    backups = Backups(
        os.fsencode(settings.data_dir),
        points,  # type: ignore[arg-type]
        points,  # type: ignore[arg-type]
        barrier=lambda timeout: None,
        not_now=lambda: control.not_now,
        stopping=threading.Event(),
    )
    backups.start()
    changes = FileChanges(files.get)
    observer = Observer(control.cluster, control.mark, changes, threading.Event())
    viewers = Viewers(control, observer, most=3)
    listeners = Listeners(
        settings,
        create_client_app(files, control, observer, viewers, metrics, settings),
        create_admin_app(control, members, upgrade, backups, AdminTokens(settings), metrics),
        create_monitor_app(control, metrics.registry, metrics),
        admin_tls=admin_tls,
    )
    return Running(
        settings,
        files,
        control,
        members,
        upgrade,
        metrics,
        changes,
        observer,
        viewers,
        listeners,
        points,
    )


@contextmanager
def running(
    directory: Path, admin_tls: Callable[[], ssl.SSLContext] | None = None, **more: Any
) -> Iterator[Running]:
    node = build(make_settings(directory, **more), admin_tls)
    node.listeners.start()
    try:
        yield node
    finally:
        node.viewers.close()
        node.listeners.stop(2)


def chunks(content: bytes, size: int) -> Iterator[bytes]:
    source = io.BytesIO(content)
    return iter(lambda: source.read(size), b"")
