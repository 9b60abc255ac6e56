"""The three listeners: opening, stopping, and clients that are slow or say nothing."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from http_node import Running, build, call, make_settings, running
from transport_nodes import quickest

from pickbox.http.connection import _SocketWriter
from pickbox.http.server import ListenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        yield started


@pytest.mark.parametrize(
    ("setting", "variable"),
    [
        ("dashboard_port", "PICKBOX_DASHBOARD_PORT"),
        ("admin_port", "PICKBOX_ADMIN_PORT"),
        ("monitor_port", "PICKBOX_MONITOR_PORT"),
    ],
)
def test_a_port_in_use_is_named_and_leaves_none_open(
    tmp_path: Path, setting: str, variable: str
) -> None:
    settings = make_settings(tmp_path)
    port = getattr(settings, setting)
    node = build(settings)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ListenError) as refused:
        node.listeners.start()
    assert str(refused.value).startswith(f"{variable}: port {port} on 127.0.0.1 is already in use")
    for other in (settings.dashboard_port, settings.admin_port, settings.monitor_port):
        socket.create_server(("127.0.0.1", other)).close()


def test_an_address_that_is_not_ours_is_named(tmp_path: Path) -> None:
    node = build(make_settings(tmp_path, host="192.0.2.1"))
    with pytest.raises(ListenError, match=r"PICKBOX_MONITOR_PORT: .*192\.0\.2\.1"):
        node.listeners.start()


def test_a_request_in_flight_is_finished_at_a_stop(node: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", node.settings.dashboard_port, timeout=10)
    connection.putrequest("PUT", "/api/v1/files/last")
    connection.putheader("Content-Length", "8")
    connection.endheaders()
    connection.send(b"half")
    wait_for(lambda: node.metrics.http_in_flight.labels("client")._value.get() == 1)
    stopping = threading.Thread(target=node.listeners.stop, args=(5,))
    stopping.start()
    wait_for(lambda: not is_open(node.settings.dashboard_port))
    connection.send(b"done")
    response = connection.getresponse()
    assert (response.status, response.headers["Connection"]) == (201, "close")
    stopping.join(5)
    assert not stopping.is_alive()


def test_a_stop_does_not_wait_for_ever(node: Running) -> None:
    with socket.create_connection(("127.0.0.1", node.settings.dashboard_port)) as stuck:
        stuck.sendall(b"PUT /api/v1/files/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        wait_for(lambda: node.metrics.http_in_flight.labels("client")._value.get() == 1)
        began = time.monotonic()
        node.listeners.stop(1)
        assert time.monotonic() - began < 8


def test_a_stop_closes_idle_connections_at_once(node: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", node.settings.dashboard_port, timeout=10)
    connection.request("GET", "/api/health")
    connection.getresponse().read()
    began = time.monotonic()
    node.listeners.stop(10)
    assert time.monotonic() - began < 8


def test_connections_that_say_nothing_keep_nobody_waiting(node: Running) -> None:
    port = node.settings.dashboard_port

    def until_answered() -> float:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        began = time.monotonic()
        assert call(port, "GET", "/api/health").status == 200
        took = time.monotonic() - began
        for connection in silent:
            connection.close()
        return took

    assert quickest(until_answered) < 2


def test_many_clients_at_once_are_all_served(node: Running) -> None:
    statuses: list[int] = []

    def client() -> None:
        mine = f"many/{threading.get_ident()}"
        statuses.extend(node.put(f"{mine}-{number}", b"x").status for number in range(10))

    threads = [threading.Thread(target=client) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert statuses == [201] * 400


def test_listeners_can_be_opened_again_after_a_stop(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    for _ in range(2):
        node = build(settings)
        node.listeners.start()
        assert call(settings.monitor_port, "GET", "/live").status == 200
        node.listeners.stop(2)


def wait_for(condition: object, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_headers_leave_in_one_piece_with_what_follows_them() -> None:
    sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with sending, receiving:
        writer = _SocketWriter(sending)
        with writer.held():
            writer.write(b"headers ")
        writer.write(b"content")
        assert receiving.recv(100) == b"headers content"
        with writer.held():
            writer.write(b"headers alone")
        writer.flush()
        assert receiving.recv(100) == b"headers alone"
