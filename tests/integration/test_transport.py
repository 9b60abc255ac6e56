"""Two and three transports on real sockets: messages, links, and what breaks them."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from authority import CLUSTER, Authority, write
from transport_nodes import (
    QUICK,
    Endpoint,
    client,
    eventually,
    introduce,
    quickest,
    tick,
    ticking,
)

from pickbox.consensus.transport import Pace
from pickbox.consensus.transport.frames import FrameError, Kind, encode
from pickbox.consensus.transport.resolver import Resolver
from pickbox.tls import NodeIdentity

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def made(authority: Authority) -> Iterator[Callable[..., Endpoint]]:
    endpoints: list[Endpoint] = []

    def make(node_id: str, **options: object) -> Endpoint:
        endpoint = Endpoint(authority.issue(node_id), node_id, **options)  # type: ignore[arg-type]
        endpoints.append(endpoint)
        return endpoint

    yield make
    for endpoint in endpoints:
        endpoint.transport.destroy()


def test_messages_arrive_whole_and_in_order(made: Callable[..., Endpoint]) -> None:
    a, b = made("a"), made("b")
    introduce(a, b)
    sent = [{"type": "append", "n": n, "entries": [[1, bytes([n % 256]) * n]]} for n in range(2000)]
    for message in sent:
        assert a.send("b", message)
        assert b.send("a", message)
    ticking(a, b, until=lambda: len(a.received) == len(b.received) == 2000)
    assert [message for _, message in a.received] == sent
    assert [message for _, message in b.received] == sent


def test_a_message_wakes_a_waiting_tick_thread_at_once(made: Callable[..., Endpoint]) -> None:
    a, b = made("a"), made("b")
    introduce(a, b)

    def until_it_wakes() -> float:
        b.received.clear()
        threading.Timer(0.2, lambda: a.send("b", {"type": "append"})).start()
        began = time.monotonic()
        while not b.received:
            assert b.transport.wait(5.0)
            tick(b)
        return time.monotonic() - began

    assert quickest(until_it_wakes) < 1.0


def test_a_large_message_arrives_and_a_larger_one_is_refused_at_the_sender(
    made: Callable[..., Endpoint],
) -> None:
    a, b = made("a"), made("b")
    introduce(a, b)
    body = bytes(15 << 20)
    assert a.send("b", {"type": "append", "data": body})
    ticking(a, b, until=lambda: bool(b.received))
    assert b.received[0][1]["data"] == body
    with pytest.raises(FrameError, match="a frame has at most"):
        a.send("b", {"type": "append", "data": bytes(17 << 20)})


def test_each_pair_keeps_one_link_though_both_sides_dial(made: Callable[..., Endpoint]) -> None:
    nodes = [made(name) for name in "abc"]
    introduce(*nodes)
    until = time.monotonic() + 4.0  # silence is 3 s
    ticking(*nodes, until=lambda: time.monotonic() > until)
    for node in nodes:
        assert [what for what, _ in node.events].count("down") <= 1
        assert len(node.connected) == 2


def test_p29_an_idle_link_lives_on_pings(made: Callable[..., Endpoint]) -> None:
    a, b = made("a"), made("b")
    introduce(a, b)
    before = len(a.events)
    until = time.monotonic() + 4.0  # silence is 3 s
    ticking(a, b, until=lambda: time.monotonic() > until)
    assert a.events[before:] == []
    assert a.transport.counts().peers["b"].frames_received >= 10


def test_a_peer_that_falls_silent_is_given_up(
    made: Callable[..., Endpoint], authority: Authority
) -> None:
    a = made("a", pace=QUICK)
    files = authority.issue("b")
    a.add("b", "127.0.0.1:1")

    def until_given_up() -> float:
        a.events.clear()
        with client(files, a.port) as silent:
            began = time.monotonic()
            silent.send(encode(Kind.HELLO, {"wire": 1}))
            ticking(a, until=lambda: a.events == [("up", "b"), ("down", "b")])
        return time.monotonic() - began

    assert 0.5 < quickest(until_given_up) < 3.0


def test_a_peer_comes_back_after_its_process_died(made: Callable[..., Endpoint]) -> None:
    a, b = made("a"), made("b")
    introduce(a, b)
    port = b.port
    b.transport.destroy()
    ticking(a, until=lambda: not a.connected)
    assert not a.send("b", {"type": "append"})
    again = made("b", port=port)
    again.add("a", f"127.0.0.1:{a.port}")
    ticking(a, again, until=lambda: a.connected == {"b"} and again.connected == {"a"})
    assert a.transport.counts().peers["b"].reconnects == 1


def test_a_peer_whose_address_changed_is_found_by_either_side(
    made: Callable[..., Endpoint],
) -> None:
    a, b = made("a"), made("b")
    introduce(a, b)
    b.transport.destroy()
    moved = made("b")  # another port, which only this node knows
    moved.add("a", f"127.0.0.1:{a.port}")
    ticking(a, moved, until=lambda: a.connected == {"b"} and moved.connected == {"a"})
    moved.transport.destroy()
    there = made("a0")  # the lesser id, known to the other side by its new address only
    a.add("a0", "127.0.0.1:1")
    a.add("a0", f"127.0.0.1:{there.port}")
    there.add("a", "127.0.0.1:1")
    ticking(a, there, until=lambda: "a0" in a.connected)


def test_a_peer_is_looked_for_in_one_place_after_the_other(
    made: Callable[..., Endpoint],
) -> None:
    stranger, a, z = made("s"), made("a"), made("z")
    a.add("z", "127.0.0.1:1")
    z.add("a", "127.0.0.1:1", f"127.0.0.1:{stranger.port}", f"127.0.0.1:{a.port}")
    ticking(a, z, until=lambda: [a.connected, z.connected] == [{"z"}, {"a"}])


def test_p22_a_new_connection_of_a_peer_closes_the_old_one(
    made: Callable[..., Endpoint], authority: Authority
) -> None:
    a = made("a", pace=Pace(0.1, 30.0))
    files = authority.issue("b")
    a.add("b", "127.0.0.1:1")
    with client(files, a.port) as old, client(files, a.port) as new:
        old.send(encode(Kind.HELLO, {"wire": 1}))
        ticking(a, until=lambda: a.events == [("up", "b")])
        new.send(encode(Kind.HELLO, {"wire": 1}))
        ticking(a, until=lambda: a.events == [("up", "b"), ("down", "b"), ("up", "b")])
        while old.recv(4096):
            pass  # what it was sent before, then the end
        new.send(encode(Kind.MESSAGE, {"type": "reply"}))
        ticking(a, until=lambda: a.received == [("b", {"type": "reply"})])


def test_a_dropped_node_is_heard_no_more(made: Callable[..., Endpoint]) -> None:
    a, b = made("a"), made("b")
    introduce(a, b)
    assert b.send("a", {"type": "append"})
    a.transport.wait(5.0)
    a.transport.dropNode(next(iter(a.transport._nodes.values())))
    assert a.events[-1] == ("down", "b")
    ticking(a, b, until=lambda: ("a", "not_a_member") in b.turned_away)
    assert a.received == []
    eventually(lambda: a.transport.counts().refused.get("not_a_member", 0) >= 1)


def test_a_full_queue_costs_the_connection_and_not_the_process(
    made: Callable[..., Endpoint], authority: Authority
) -> None:
    a = made("a", pace=Pace(0.1, 30.0))
    a.add("b", "127.0.0.1:1")
    with client(authority.issue("b"), a.port) as deaf:
        deaf.send(encode(Kind.HELLO, {"wire": 1}))
        ticking(a, until=lambda: a.connected == {"b"})
        message = {"type": "append", "data": bytes(4 << 20)}
        accepted = 0
        while a.send("b", message):
            accepted += 1
            assert accepted < 30, "the queue has no bound"
        assert accepted >= 15
        ticking(a, until=lambda: not a.connected)


def test_a_peer_that_floods_a_stalled_node_keeps_what_it_floods_with(
    made: Callable[..., Endpoint],
) -> None:
    a, b = made("a"), made("b")
    introduce(a, b)
    before = a.transport.counts().peers["b"].bytes_received
    message = {"type": "append", "data": bytes(1 << 20)}
    for _ in range(60):
        assert b.send("a", message)
    stalled = time.monotonic() + 5.0  # silence is 3 s
    ticking(b, until=lambda: time.monotonic() > stalled)
    assert a.transport.counts().peers["b"].bytes_received == before
    assert b.transport._links["a"]._queued > 40 << 20
    ticking(a, b, until=lambda: len(a.received) == 60)
    assert ("down", "b") not in a.events


def test_an_unknown_message_is_counted_and_dropped(made: Callable[..., Endpoint]) -> None:
    a, b = made("a"), made("b")
    introduce(a, b)
    assert a.send("b", {"type": "of the next release"})
    assert a.send("b", {"type": "append"})
    ticking(b, until=lambda: bool(b.received))
    assert b.received == [("a", {"type": "append"})]
    assert b.transport.counts().unknown_messages == 1


def test_new_certificates_are_used_without_a_restart(
    made: Callable[..., Endpoint], authority: Authority
) -> None:
    a, b = made("a"), made("b")
    introduce(a, b)
    old_ca = authority.pem
    successor = Authority(authority.directory)
    both = old_ca + successor.pem
    for name in "ab":  # first trust both, then change the certificates
        write(authority.directory / f"{name}-ca.pem", both)
    for node in (a, b):
        node.credentials.reload()
    expires = a.credentials.expires
    before = len(a.events)
    for name in "ab":
        successor.issue(name, ends=dt.timedelta(hours=2))
        write(authority.directory / f"{name}-ca.pem", both)
    ticking(a, b, until=lambda: a.credentials.expires != expires or a.events[before:] != [])
    assert a.events[before:] == [], "a reload touched a link"
    assert a.send("b", {"type": "append"})
    c = Endpoint(successor.issue("c"), "c")
    try:
        for node in (a, b):
            node.credentials.reload()
        introduce(a, b, c)
    finally:
        c.transport.destroy()


def test_p30_a_name_that_hangs_holds_up_nobody_and_is_asked_anew(
    made: Callable[..., Endpoint],
) -> None:
    answers = threading.Event()
    asked: list[str] = []

    def lookup(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        if host == "hangs.test":
            answers.wait(20)
        if host == "fails.test" and len(asked) < 4:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    z = made("z", resolver=Resolver(lookup))  # the greatest id: it dials first
    a, b, c = made("a"), made("b"), made("c")
    z.add("a", f"hangs.test:{a.port}")
    z.add("b", f"fails.test:{b.port}")
    z.add("c", f"127.0.0.1:{c.port}")
    for node in (a, b, c):
        node.add("z", "127.0.0.1:1")
    began = time.monotonic()
    ticking(z, until=lambda: "c" in z.connected)
    assert time.monotonic() - began < 2.0
    ticking(z, until=lambda: "b" in z.connected)
    assert "a" not in z.connected
    answers.set()
    ticking(z, until=lambda: "a" in z.connected)


def test_p30_a_name_that_moved_is_found_at_the_next_connect(made: Callable[..., Endpoint]) -> None:
    port = 0

    def lookup(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    z = made("z", resolver=Resolver(lookup))
    for _ in range(2):
        b = made("b")
        b.add("z", "127.0.0.1:1")  # so that only z can find it
        port = b.port
        z.add("b", "moves.test:1")
        ticking(z, b, until=lambda: z.connected == {"b"})
        b.transport.destroy()
        ticking(z, until=lambda: not z.connected)


def test_the_library_takes_it_for_a_transport_of_its_own(authority: Authority) -> None:
    from pysyncobj import SyncObj, SyncObjConf
    from pysyncobj.node import Node

    from pickbox.consensus.transport import TlsTransport, TransportOptions
    from pickbox.tls import Credentials

    options = TransportOptions(
        Credentials(authority.issue("a"), NodeIdentity(CLUSTER, "a")),
        "127.0.0.1",
        0,
        frozenset({"request_vote"}),
    )
    node = SyncObj(
        Node("a"),
        [],
        SyncObjConf(autoTick=False, journalFile=str(authority.directory / "journal")),
        nodeClass=Node,
        transportClass=TlsTransport.with_options(options),
    )
    try:
        eventually(lambda: node.doTick(0.05) is None and node._isLeader())
    finally:
        node._doDestroy()


def test_a_member_opens_http_on_the_same_port_and_others_do_not(
    made: Callable[..., Endpoint], authority: Authority
) -> None:
    taken: list[tuple[str, bytes]] = []

    def hand_over(sock: ssl.SSLSocket, node_id: str, address: str) -> None:
        with sock:
            taken.append((node_id, sock.recv(4096)))
            sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    def in_a_thread(*handed: Any) -> None:
        threading.Thread(target=hand_over, args=handed).start()

    a = made("a", hand_over=in_a_thread)
    a.add("b", "127.0.0.1:1")
    with client(authority.issue("b"), a.port, "http/1.1") as member:
        time.sleep(0.1)  # a connection that is not used at once keeps nobody waiting
        member.send(b"GET / HTTP/1.1\r\n\r\n")
        assert member.recv(4096).startswith(b"HTTP/1.1 204")
    assert taken == [("b", b"GET / HTTP/1.1\r\n\r\n")]
    with (
        client(authority.issue("c"), a.port, "http/1.1") as stranger,
        contextlib.suppress(OSError),
    ):
        assert stranger.recv(4096) == b""
    eventually(lambda: a.transport.counts().refused == {"not_a_member": 1})
    assert len(taken) == 1
