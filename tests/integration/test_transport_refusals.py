"""Who is not let in, what the log says of it, and what strangers can do to a node: nothing."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import random
import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from authority import Authority
from cryptography.x509.oid import ExtendedKeyUsageOID
from transport_nodes import Endpoint, client, eventually, introduce, quickest, ticking

from pickbox.consensus.transport.frames import Kind, encode
from pickbox.consensus.transport.listener import MAX_STRANGERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pickbox.tls import CredentialsFiles

HOUR = dt.timedelta(hours=1)
FUZZ_SECONDS = float(os.environ.get("PICKBOX_FUZZ_SECONDS", "3"))
IDLE = int(os.environ.get("PICKBOX_IDLE_CONNECTIONS", "200"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def node(authority: Authority) -> Iterator[Endpoint]:
    """A node that knows one peer, b, which does not run."""
    endpoint = Endpoint(authority.issue("a"), "a")
    endpoint.add("b", "127.0.0.1:1")
    yield endpoint
    endpoint.transport.destroy()


@pytest.fixture
def pair(authority: Authority) -> Iterator[tuple[Endpoint, Endpoint]]:
    one, other = (Endpoint(authority.issue(name), name) for name in "ab")
    introduce(one, other)
    yield one, other
    one.transport.destroy()
    other.transport.destroy()


def another_ca(authority: Authority) -> CredentialsFiles:
    return Authority(authority.directory / "foreign").issue("b")


CAUSES: dict[str, Callable[[Authority], CredentialsFiles | None]] = {
    "no_certificate": lambda authority: None,
    "another_ca": another_ca,
    "another_cluster": lambda authority: authority.issue("b", "pickbox://other/b"),
    "no_identity": lambda authority: authority.issue("b", "https://example.test/b"),
    "own_identity": lambda authority: authority.issue("c", "pickbox://test/a"),
    "not_a_member": lambda authority: authority.issue("c"),
    "expired": lambda authority: authority.issue("b", starts=-2 * HOUR, ends=-HOUR),
    "not_yet_valid": lambda authority: authority.issue("b", starts=HOUR, ends=2 * HOUR),
    "wrong_purpose": lambda authority: authority.issue(
        "b", usages=(ExtendedKeyUsageOID.SERVER_AUTH,)
    ),
}


def refusals(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [r.__dict__["fields"] for r in caplog.records if r.message == "peer_refused"]


def knock(files: CredentialsFiles | None, port: int) -> None:
    """Say hello as a peer would, and read until the node hangs up."""
    with contextlib.suppress(OSError), client(files, port) as stranger:
        stranger.send(encode(Kind.HELLO, {"wire": 1}))
        while stranger.recv(4096):
            pass


@pytest.mark.parametrize("cause", CAUSES)
def test_a_stranger_is_refused_with_one_event_that_says_why(
    cause: str, node: Endpoint, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    files = CAUSES[cause](authority)
    for _ in range(3):
        knock(files, node.port)
    eventually(lambda: node.transport.counts().refused.get(cause) == 3)
    events = refusals(caplog)
    assert [event["cause"] for event in events] == [cause]
    assert events[0]["address"].startswith("127.0.0.1:")
    assert node.events == []


def test_a_node_of_another_release_of_the_protocol_is_told_apart(
    node: Endpoint, authority: Authority
) -> None:
    with contextlib.suppress(OSError), client(authority.issue("b"), node.port) as peer:
        peer.send(encode(Kind.HELLO, {"wire": 99}))
        while peer.recv(4096):
            pass
    eventually(lambda: node.transport.counts().refused == {"wire_version": 1})


def test_a_protocol_that_is_not_spoken_is_refused(node: Endpoint, authority: Authority) -> None:
    with contextlib.suppress(OSError), client(authority.issue("b"), node.port, "http/1.1") as peer:
        peer.recv(1)
    eventually(lambda: node.transport.counts().refused == {"no_common_protocol": 1})


def test_plain_text_is_refused(node: Endpoint) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while plain.recv(4096):
                pass
    eventually(lambda: node.transport.counts().refused == {"not_tls": 1})


def test_tls_1_2_is_refused(node: Endpoint) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", node.port), timeout=10) as sock,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(sock)
    eventually(lambda: node.transport.counts().refused == {"old_tls": 1})


def test_a_server_with_another_name_is_not_talked_to(authority: Authority) -> None:
    z, c = Endpoint(authority.issue("z"), "z"), Endpoint(authority.issue("c"), "c")
    try:
        z.add("b", f"127.0.0.1:{c.port}")
        eventually(lambda: "another_node" in z.transport.counts().refused)
        assert z.transport.counts().peers["b"].frames_sent == 0
    finally:
        z.transport.destroy()
        c.transport.destroy()


def test_a_slow_stranger_is_dropped(node: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pickbox.consensus.transport.listener.PATIENCE", 0.5)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    connected = socket.create_connection(("127.0.0.1", node.port), timeout=10)
    with connected as slow, contextlib.suppress(OSError):
        for byte in hello:
            slow.send(bytes([byte]))
            time.sleep(0.1)
        slow.recv(1)
    eventually(lambda: node.transport.counts().refused == {"too_slow": 1})


@pytest.mark.parametrize("announced", [0, 1 << 20, 2 << 30, (1 << 32) - 1])
def test_p07_a_stranger_announces_a_frame_of_a_wrong_size_in_vain(
    announced: int, node: Endpoint, authority: Authority
) -> None:
    with client(authority.issue("b"), node.port) as peer, contextlib.suppress(OSError):
        peer.send(struct.pack(">IB", announced, Kind.HELLO))
        while peer.recv(4096):
            pass
    eventually(lambda: node.transport.counts().refused == {"bad_frame": 1})


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack(">I", 2 << 30),
        struct.pack(">IB", 5, 77) + b"....",
        struct.pack(">IB", 5, Kind.MESSAGE) + b"\xc1\xc1\xc1\xc1",
        encode(Kind.MESSAGE, ["append"]),
        encode(Kind.MESSAGE, {"type": 7}),
        encode(Kind.HELLO, {"wire": 1}),
    ],
)
def test_a_member_that_sends_garbage_loses_its_link_and_nothing_else(
    garbage: bytes, node: Endpoint, authority: Authority
) -> None:
    with client(authority.issue("b"), node.port) as peer, contextlib.suppress(OSError):
        peer.send(encode(Kind.HELLO, {"wire": 1}))
        ticking(node, until=lambda: node.events == [("up", "b")])
        peer.send(garbage)
        ticking(node, until=lambda: node.events == [("up", "b"), ("down", "b")])
    assert node.received == []


def test_a_frame_that_was_cut_short_is_never_delivered(
    node: Endpoint, authority: Authority
) -> None:
    whole = encode(Kind.MESSAGE, {"type": "append", "data": bytes(1000)})
    with client(authority.issue("b"), node.port) as peer:
        peer.send(encode(Kind.HELLO, {"wire": 1}) + whole[:500])
        ticking(node, until=lambda: node.events == [("up", "b")])
    ticking(node, until=lambda: node.events == [("up", "b"), ("down", "b")])
    assert node.received == []


@pytest.mark.timeout(FUZZ_SECONDS + 120)
def test_fuzzed_bytes_cost_bounded_memory_and_no_member(
    pair: tuple[Endpoint, Endpoint], authority: Authority
) -> None:
    """`PICKBOX_FUZZ_SECONDS=600` makes it the long one."""
    one, other = pair
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    files = authority.issue("c")
    process = psutil.Process()
    before, up = process.memory_info().rss, len(one.events)
    deadline, rounds = time.monotonic() + FUZZ_SECONDS, 0
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if rng.random() < 0.5:
                stranger: socket.socket = socket.create_connection(("127.0.0.1", one.port), 1)
            else:
                stranger = client(files if rng.random() < 0.7 else None, one.port)
            with stranger:
                stranger.send(rng.randbytes(rng.choice([1, 5, 100, 5000, 50_000])))
        assert one.send("b", {"type": "append"})
        ticking(one, other, until=lambda: bool(other.received))
        other.received.clear()
        rounds += 1
    assert rounds > 20
    assert process.memory_info().rss - before < 32 << 20
    assert len(one.events) == up, "a member lost its link"
    eventually(lambda: one.transport.counts().strangers == 0)


def test_idle_connections_do_not_hurt_the_members(pair: tuple[Endpoint, Endpoint]) -> None:
    """`PICKBOX_IDLE_CONNECTIONS=10000` makes it the large one (`ulimit -n` must allow it)."""
    one, other = pair
    before = len(one.events)
    idle = []
    try:
        for _ in range(IDLE):
            idle.append(socket.create_connection(("127.0.0.1", one.port), timeout=10))
            assert one.transport.counts().strangers <= MAX_STRANGERS
        assert quickest(lambda: worst_of_100(one, other)) < 0.5
        assert len(one.events) == before
        port = other.port
        other.transport.destroy()  # and a member that comes anew gets in past them
        ticking(one, until=lambda: not one.connected)
        again = Endpoint(other_files(other), "b", port)
        again.add("a", f"127.0.0.1:{one.port}")
        try:
            ticking(one, again, until=lambda: one.connected == {"b"})
        finally:
            again.transport.destroy()
    finally:
        for sock in idle:
            sock.close()


def worst_of_100(one: Endpoint, other: Endpoint) -> float:
    """The longest that one of 100 messages took."""
    worst = 0.0
    for _ in range(100):
        began = time.monotonic()
        assert one.send("b", {"type": "append"})
        ticking(one, other, until=lambda: bool(other.received))
        worst = max(worst, time.monotonic() - began)
        other.received.clear()
    return worst


def other_files(endpoint: Endpoint) -> CredentialsFiles:
    return endpoint.credentials._files
