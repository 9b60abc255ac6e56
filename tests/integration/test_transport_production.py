"""What users of pysyncobj met at their ports and addresses: see the page of the findings."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from authority import Authority
from pysyncobj.transport import TransportNotReadyError
from transport_nodes import Endpoint, ticking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def forwarded() -> Iterator[tuple[str, list[int]]]:
    """An address whose connections go to the port that is put into the list, as behind NAT."""
    target: list[int] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError), source, sink:
            while data := source.recv(1 << 16):
                sink.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                outer, _ = listening.accept()
                inner = socket.create_connection(("127.0.0.1", target[0]))
                for pair in ((outer, inner), (inner, outer)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{listening.getsockname()[1]}", target
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def test_a_node_is_reached_at_another_address_than_it_is_bound_to(
    authority: Authority, forwarded: tuple[str, list[int]]
) -> None:
    address, target = forwarded
    inside, outside = (Endpoint(authority.issue(name), name) for name in "az")
    try:
        target.append(inside.port)
        inside.add("z", "127.0.0.1:1")  # it cannot dial out
        outside.add("a", address)
        linked = [{"z"}, {"a"}]
        ticking(inside, outside, until=lambda: [inside.connected, outside.connected] == linked)
        assert outside.send("a", {"type": "append"})
        ticking(inside, until=lambda: inside.received == [("z", {"type": "append"})])
        assert inside.send("z", {"type": "reply"})
        ticking(outside, until=lambda: outside.received == [("a", {"type": "reply"})])
    finally:
        inside.transport.destroy()
        outside.transport.destroy()


def test_a_port_that_is_taken_is_told_at_once(authority: Authority) -> None:
    first = Endpoint(authority.issue("a"), "a")
    try:
        with pytest.raises(TransportNotReadyError, match="Address already in use"):
            Endpoint(authority.issue("b"), "b", first.port)
    finally:
        first.transport.destroy()
