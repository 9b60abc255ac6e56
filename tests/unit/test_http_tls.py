"""The admin listener over TLS: what clients that say nothing, or leave, do to the others."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING

import pytest
from authority import Authority
from http_node import Running, running

from pickbox.http import connection
from pickbox.tls import Credentials, NodeIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RESET = struct.pack("ii", 1, 0)
"""Linger for no time: a close throws away what is unsent and resets the connection."""

CLOSING = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
WORKERS = 16
"""Threads of the admin listener."""


class Https:
    """Clients of an admin listener that speaks TLS."""

    def __init__(self, node: Running, trusted: ssl.SSLContext) -> None:
        self.node = node
        self.trusted = trusted

    def plain(self) -> socket.socket:
        """A connection on which nothing was said yet."""
        return socket.create_connection(("127.0.0.1", self.node.settings.admin_port), timeout=10)

    def connect(self) -> ssl.SSLSocket:
        """A connection with its handshake done."""
        return self.trusted.wrap_socket(self.plain(), server_hostname="127.0.0.1")

    def hello(self) -> bytes:
        """What a client says first."""
        outgoing = ssl.MemoryBIO()
        tls = self.trusted.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        return outgoing.read()

    def status(self, given: ssl.SSLSocket | None = None) -> int:
        """Of the answer to a request without a token."""
        with given or self.connect() as client:
            client.sendall(CLOSING)
            return int(client.recv(65536).split(b" ")[1])


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Https]:
    files = Authority(tmp_path / "tls").issue("node1", hosts=("127.0.0.1",))
    credentials = Credentials(files, NodeIdentity("test", "node1"))
    trusted = ssl.create_default_context(cafile=str(files.ca))
    with running(tmp_path, credentials.https_context) as node:
        yield Https(node, trusted)


def test_clients_that_reset_within_their_handshake_end_nothing(admin: Https) -> None:
    for said in (b"\x16", b"\x16\x03\x01\x02\x00\x01", b"GET"):
        for _ in range(2 * WORKERS):
            client = admin.plain()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.sendall(said)
            client.close()
    assert admin.status() == 401


def test_clients_that_say_nothing_after_their_handshake_keep_nobody_waiting(admin: Https) -> None:
    silent = [admin.connect() for _ in range(2 * WORKERS)]
    assert admin.status() == 401
    assert admin.status(silent.pop()) == 401
    for client in silent:
        client.close()


def test_a_connection_takes_one_request_after_the_other(admin: Https) -> None:
    with admin.connect() as client:
        for _ in range(3):
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 401 ")
        client.sendall(2 * b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + CLOSING)
        answers = b"".join(iter(lambda: client.recv(65536), b""))
        assert answers.count(b"HTTP/1.1 401 ") == 3


def test_clients_that_go_no_further_in_their_handshake_keep_nobody_waiting(admin: Https) -> None:
    slow = [admin.plain() for _ in range(2 * WORKERS)]
    for client in slow:
        client.sendall(b"\x16\x03")
    assert admin.status() == 401
    for client in slow:
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)  # the node still waits for it
        client.close()


def test_a_handshake_may_come_byte_by_byte_but_not_for_ever(
    admin: Https, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_to(*pieces: bytes) -> bytes:
        with admin.plain() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                client.sendall(piece)
            return client.recv(65536)

    hello = admin.hello()
    assert answer_to(*(hello[at : at + 1] for at in range(len(hello)))).startswith(b"\x16")
    monkeypatch.setattr(connection, "_HANDSHAKE_SECONDS", 0.0)
    with contextlib.suppress(ConnectionResetError):
        assert answer_to(hello[:-1]) == b""
