"""Links through the harness: what they carry arrives whole, in order, and as late as told."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from cluster import wait_until
from ports import free_ports

from faults.proxy import PERFECT, Conditions, Link, Proxies

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = "/proc/self/ns/net"
SOURCE, TARGET = "127.0.0.1", "127.0.0.2"


class Echo:
    """Sends back whatever it gets, at an address that a link leads to."""

    def __init__(self, port: int) -> None:
        self.answers = True
        self._server = socket.create_server((TARGET, port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    if self.answers:
                        connection.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        if self._server.fileno() >= 0:
            self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()


class Wire:
    """A client of an echo at the other end of a link."""

    def __init__(self) -> None:
        (self._port,) = free_ports(1)
        self.echo = Echo(self._port)
        networks = {"one": HERE, "two": HERE}
        addresses = {"one": SOURCE, "two": TARGET}
        proxies = {"one": "127.1.0.1", "two": "127.1.0.2"}
        self.proxies = Proxies(networks, addresses, proxies, [self._port])
        self.proxies.start()
        self.link: Link = self.proxies.between(["one"], ["two"])[0]

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.1.0.2", self._port), timeout=30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def seconds(self, connection: socket.socket, data: bytes) -> float:
        """How long `data` takes there and back; it has to be the same."""
        began = time.monotonic()
        sending = threading.Thread(target=connection.sendall, args=(data,))
        sending.start()
        assert receive(connection, len(data)) == data
        sending.join()
        return time.monotonic() - began

    def close(self) -> None:
        self.proxies.stop()
        self.echo.close()


def receive(connection: socket.socket, size: int) -> bytes:
    parts = []
    while size > 0 and (part := connection.recv(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def taken(connection: socket.socket, size: int) -> int:
    """How many of `size` bytes are taken until none is for a second."""
    connection.settimeout(1.0)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < size:
            sent += connection.send(bytes(1 << 16))
    return sent


@pytest.fixture
def wire(needs_faults: None) -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def test_everything_arrives(wire: Wire) -> None:
    with wire.connect() as connection:
        wire.seconds(connection, os.urandom(5 << 20))
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert wire.link.done["bytes"] == 10 << 20
    assert wire.link.done["made"] == 1


def test_everything_arrives_in_order_through_delay_and_loss(wire: Wire) -> None:
    wire.link.conditions = Conditions(delay=0.02, jitter=0.02, loss=0.05)
    with wire.connect() as connection:
        wire.seconds(connection, os.urandom(2 << 20))
    assert wire.link.done["delayed"] > 0
    assert wire.link.done["lost"] > 0


def test_a_delay_is_paid_each_way_and_not_by_each_piece(wire: Wire) -> None:
    wire.link.conditions = Conditions(delay=0.2)
    with wire.connect() as connection:
        assert wire.seconds(connection, b"x") >= 0.4
        assert wire.seconds(connection, os.urandom(1 << 20)) < 12  # 64 pieces one by one: 12.8 s


def test_a_rate_is_kept(wire: Wire) -> None:
    wire.link.conditions = Conditions(rate=1e6)
    with wire.connect() as connection:
        assert wire.seconds(connection, os.urandom(500_000)) >= 0.5
    assert wire.link.done["throttled"] > 0


def test_what_is_stuck_comes_when_it_is_no_longer(wire: Wire) -> None:
    with wire.connect() as connection:
        wire.seconds(connection, b"before")
        wire.link.conditions = Conditions(stuck=True)
        connection.sendall(b"later")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        wire.link.conditions = PERFECT
        connection.settimeout(30)
        assert receive(connection, 5) == b"later"


def test_a_sender_has_to_wait_for_a_link_that_is_stuck(wire: Wire) -> None:
    """The harness keeps no more than a bound, and nothing else makes the sender wait."""
    wire.echo.answers = False  # nobody would read it
    wire.link.conditions = Conditions(stuck=True)
    with wire.connect() as connection:
        assert 1 << 20 <= taken(connection, 64 << 20) < 32 << 20


def test_a_cut_ends_connections_and_the_next_is_carried(wire: Wire) -> None:
    with wire.connect() as connection:
        wire.seconds(connection, b"before")
        wire.proxies.cut([wire.link])
        wait_until(lambda: _ended(connection), "the connection ends")
    assert wire.link.done["cut"] == 1
    with wire.connect() as connection:
        wire.seconds(connection, b"after")


def test_a_target_that_is_not_there_ends_the_connection(wire: Wire) -> None:
    wire.echo.close()
    with wire.connect() as connection:
        wait_until(lambda: _ended(connection), "the connection ends")


def _ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
