"""Links: P5, P7, P22, P29, P30, P42 and P43, in pysyncobj's transport and mended."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import struct
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from authority import Authority
from ports import free_ports
from pysyncobj import SyncObj, SyncObjConf, dns_resolver, replicated, tcp_connection
from pysyncobj import pickle as library_pickle
from pysyncobj.dns_resolver import DnsCachingResolver
from pysyncobj.poller import createPoller
from pysyncobj.tcp_connection import CONNECTION_STATE, TcpConnection
from transport_nodes import Endpoint, client, eventually, ticking

from pickbox.consensus.transport.frames import MAX_FRAME, FrameReader, Kind, encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PEER = "127.0.0.1:1"


class StockNode(SyncObj):
    """The library on a real port, leading alone unless it has a peer."""

    def __init__(self, others: tuple[str, ...] = (), **settings: Any) -> None:
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        super().__init__(self.address, list(others), SyncObjConf(autoTick=False, **settings))

    @replicated
    def op(self, value: Any) -> Any:
        return value

    def tick_until(self, condition: Any) -> None:
        eventually(lambda: self.doTick(0.01) is None and bool(condition()))


def stock_frame(message: object) -> bytes:
    packed = zlib.compress(pickle.dumps(message, 2), 3)
    return struct.pack("i", len(packed)) + packed


def stranger(node: StockNode, *messages: object) -> socket.socket:
    """A connection without a name or a key, that has said `messages`."""
    sock = socket.create_connection(node.address.rsplit(":", 1), timeout=10)
    for message in messages:
        sock.sendall(stock_frame(message))
    return sock


@pytest.fixture
def leading() -> Iterator[StockNode]:
    node = StockNode(dynamicMembershipChange=True)
    node.tick_until(lambda: node._isLeader() and node.raftCommitIndex > 1)
    yield node
    node.destroy()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def node(authority: Authority) -> Iterator[Endpoint]:
    """A node that knows one peer, b, which does not run."""
    endpoint = Endpoint(authority.issue("a"), "a")
    endpoint.add("b", PEER)
    yield endpoint
    endpoint.transport.destroy()


class Exploit:
    """Unpickled, it makes a directory."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self._path,)


def test_p05_stock_whoever_reaches_the_port_runs_code(leading: StockNode, tmp_path: Path) -> None:
    made = tmp_path / "made by a stranger"
    with stranger(leading, Exploit(made)):
        leading.tick_until(made.exists)


def test_p05_nobody_runs_code(node: Endpoint, authority: Authority, tmp_path: Path) -> None:
    made = tmp_path / "made by a stranger"
    exploit = pickle.dumps(Exploit(made))
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as plain:
        plain.sendall(stock_frame(Exploit(made)))
        read_to_the_end(plain)
    for files in (None, Authority(tmp_path / "foreign").issue("b"), authority.issue("c")):
        with contextlib.suppress(OSError), client(files, node.port) as unknown:
            unknown.send(stock_frame(Exploit(made)))
            read_to_the_end(unknown)
    for frame in (stock_frame(Exploit(made)), struct.pack(">IB", len(exploit) + 1, 4) + exploit):
        with client(authority.issue("b"), node.port) as member, contextlib.suppress(OSError):
            before = len(node.events)
            member.send(encode(Kind.HELLO, {"wire": 1}))
            ticking(node, until=lambda: len(node.events) == before + 1)  # noqa: B023
            member.send(frame)
            ticking(node, until=lambda: len(node.events) == before + 2)  # noqa: B023
    assert node.received == []
    assert not made.exists()


def read_to_the_end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(4096):
            pass


MEGABYTE = 1 << 20
PIECE = 1 << 16


def test_p07_stock_a_stranger_fills_the_memory_at_a_growing_price() -> None:
    poller = createPoller("auto")
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = TcpConnection(poller, socket=ours)
    theirs.sendall(struct.pack("i", 2**31 - 1))
    seconds = []
    for _ in range(8):
        began = time.process_time()
        for _ in range(MEGABYTE // PIECE):
            theirs.sendall(bytes(PIECE))
            poller.poll(1.0)
        seconds.append(time.process_time() - began)
    assert len(connection._TcpConnection__readBuffer) == 4 + 8 * MEGABYTE
    assert seconds[-1] > 3 * seconds[0], "each piece copies all that came before it"
    connection.disconnect()
    theirs.close()


def test_p07_a_large_frame_costs_what_its_bytes_cost() -> None:
    reader = FrameReader(MAX_FRAME)
    body = os.urandom(15 * MEGABYTE)
    began = time.process_time()
    reader.feed(struct.pack(">IB", len(body) + 1, Kind.MESSAGE))
    for start in range(0, len(body), 1 << 13):
        assert reader.next() is None
        reader.feed(body[start : start + (1 << 13)])
    assert reader.next() == (Kind.MESSAGE, body)
    assert time.process_time() - began < 1.0


def test_p22_stock_an_old_connection_of_a_peer_is_heard_after_the_new_one() -> None:
    node = StockNode((PEER,))
    heard: list[object] = []
    node._SyncObj__transport.setOnMessageReceivedCallback(lambda _, message: heard.append(message))
    try:
        with stranger(node, PEER) as old, stranger(node, PEER) as new:
            new.sendall(stock_frame({"type": "from the new one"}))
            node.tick_until(lambda: heard)
            old.sendall(stock_frame({"type": "from the old one"}))
            node.tick_until(lambda: len(heard) == 2)
    finally:
        node.destroy()


def test_p29_stock_an_idle_link_breaks_when_it_is_first_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(tcp_connection, "monotonicTime", lambda: now)
    ours, theirs = socket.socketpair()
    connection = TcpConnection(createPoller("auto"), socket=ours, timeout=3.5)
    now += 4.0
    connection.send({"type": "request_vote"})
    assert connection.state == CONNECTION_STATE.DISCONNECTED
    with theirs:
        assert theirs.recv(1) == b""


def test_p30_stock_a_name_is_where_it_was_ten_minutes_ago_and_holds_up_the_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, address = 1000.0, "192.0.2.1"
    asked_by: list[threading.Thread] = []

    def lookup(*_: object, **__: object) -> list[Any]:
        asked_by.append(threading.current_thread())
        v4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
        return [v4, (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0))]

    monkeypatch.setattr(dns_resolver, "monotonicTime", lambda: now)
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    resolver = DnsCachingResolver(cacheTime=600.0, failCacheTime=30.0)
    assert resolver.resolve("peer.test") == "192.0.2.1"
    now, address = now + 599.0, "192.0.2.2"
    assert resolver.resolve("peer.test") == "192.0.2.1"
    resolver.setPreferredAddrFamily("ipv6")
    now += 2.0
    assert resolver.resolve("peer.test") == "192.0.2.2"
    assert asked_by == [threading.current_thread()] * 2


def test_p42_stock_a_stranger_is_sent_the_log_and_changes_the_members(leading: StockNode) -> None:
    leading.op("a secret")
    leading.tick_until(lambda: leading.raftCommitIndex > 2)
    links = len(leading._SyncObj__transport._connections)
    from_the_start = {"type": "next_node_idx", "next_node_idx": 2, "reset": True, "success": False}
    with stranger(leading, "readonly", from_the_start) as reader:
        reader.setblocking(False)
        sent = b""

        def received() -> bool:
            nonlocal sent
            with contextlib.suppress(BlockingIOError):
                sent += reader.recv(1 << 16)
            return b"a secret" in b"".join(unpacked(sent))

        leading.tick_until(received)
    leading.tick_until(lambda: not leading.readonlyNodes)
    assert len(leading._SyncObj__transport._connections) == links + 1, "and it is never forgotten"
    with stranger(leading, ["add", "192.0.2.6:1"]):
        leading.tick_until(lambda: leading.otherNodes)
    assert {member.id for member in leading.otherNodes} == {"192.0.2.6:1"}


def unpacked(stream: bytes) -> Iterator[bytes]:
    """The bodies of the whole frames of the library in `stream`."""
    while len(stream) >= 4 and len(stream) >= 4 + struct.unpack("i", stream[:4])[0]:
        (length,) = struct.unpack("i", stream[:4])
        yield zlib.decompress(stream[4 : 4 + length])
        stream = stream[4 + length :]


ORDERS = ("readonly", ["add", "192.0.2.6:1"], ["remove", "b"], ["set_version", 1], ["transfer"])


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_p42_a_stranger_learns_nothing_and_orders_nothing(
    order: object, node: Endpoint, authority: Authority
) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as plain:
        plain.sendall(stock_frame(order))
        read_to_the_end(plain)
    with contextlib.suppress(OSError), client(authority.issue("c"), node.port) as unknown:
        unknown.send(encode(Kind.HELLO, {"wire": 1}) + encode(Kind.MESSAGE, order))
        read_to_the_end(unknown)
    with client(authority.issue("b"), node.port) as member, contextlib.suppress(OSError):
        member.send(encode(Kind.HELLO, {"wire": 1}) + encode(Kind.MESSAGE, order))
        ticking(node, until=lambda: node.events == [("up", "b"), ("down", "b")])
    assert node.received == []
    assert node.transport.counts().refused == {"not_tls": 1, "not_a_member": 1}


def test_p43_stock_random_bytes_grow_by_half_on_their_way() -> None:
    command = os.urandom(MEGABYTE)
    assert len(library_pickle.dumps(command)) > 1.45 * len(command)


def test_p43_a_command_takes_its_own_length_on_the_wire() -> None:
    command = os.urandom(MEGABYTE)
    frame = encode(Kind.MESSAGE, {"type": "append", "entries": [[1, command]]})
    assert len(frame) < len(command) + 100
