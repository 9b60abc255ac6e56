"""All peers are asked how they are, and one that hangs costs nobody else anything."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest
from authority import CLUSTER, Authority
from transport_nodes import Endpoint, eventually, quickest

from pickbox.http import peer as peer_api
from pickbox.http.apps import create_peer_app
from pickbox.http.peer_server import PeerServer
from pickbox.members import Member, Members
from pickbox.observability.metrics import Metrics
from pickbox.replication import peers as peers_module
from pickbox.replication.peers import Peers
from pickbox.replication.roll_call import RollCall
from pickbox.status import NodeStatus
from pickbox.tls import Credentials, NodeIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pickbox.seams import NodeControl, PeerService

PATIENCE = 0.3
HANGS = "hangs.test"


class Control:
    """A node that is well."""

    def status(self) -> NodeStatus:
        return NodeStatus("well", reachable=True, role="follower", ready=True)


class OtherClock:
    """The module `time` of a node whose clock is two minutes slow."""

    @staticmethod
    def time() -> float:
        return time.time() - 120.0


class OlderRelease:
    """The module `json` of whoever hears from a node that knows nothing of clocks."""

    @staticmethod
    def loads(text: bytes) -> dict[str, Any]:
        told = json.loads(text)
        return {name: told[name] for name in told.keys() - {"clock", "clock_offset"}}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def well(authority: Authority) -> Iterator[Member]:
    """A peer that answers."""
    control = cast("NodeControl", Control())
    server = PeerServer(create_peer_app(cast("PeerService", None), control, Metrics("well")))
    server.prepare()
    threading.Thread(target=server.serve, daemon=True).start()
    endpoint = Endpoint(authority.issue("well"), "well", hand_over=server.hand_over)
    endpoint.add("asks", "127.0.0.1:1")
    yield Member("well", f"127.0.0.1:{endpoint.port}")
    endpoint.transport.destroy()
    server.stop()


@pytest.fixture
def peers(authority: Authority) -> Peers:
    credentials = Credentials(authority.issue("asks"), NodeIdentity(CLUSTER, "asks"))
    return Peers("asks", credentials)


class SilentResolver:
    """Answers for `HANGS` only when `answers` is set, and then that there is no such name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers = threading.Event()
        self.asked = 0
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, *rest: Any, **more: Any) -> Any:
        if host != HANGS:
            return self._real(host, *rest, **more)
        self.asked += 1
        self.answers.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentResolver]:
    resolver = SilentResolver(monkeypatch)
    yield resolver
    resolver.answers.set()


def asking() -> list[str]:
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name.startswith("peer-status-")]


def answers(roll_call: RollCall) -> dict[str, NodeStatus]:
    return {status.node_id: status for status in roll_call.statuses()}


def test_every_peer_says_how_it_is_or_why_it_does_not(peers: Peers, well: Member) -> None:
    peers.follow(Members(1, (well, Member("gone", "127.0.0.1:1"))))
    found = answers(RollCall(peers))
    assert (found["well"].reachable, found["well"].role) == (True, "follower")
    assert (found["gone"].reachable, found["gone"].error) == (False, "gone cannot be reached")


def test_a_peer_whose_clock_is_wrong_is_found_out(
    peers: Peers, well: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers.follow(Members(1, (well,)))
    offset = answers(RollCall(peers))["well"].clock_offset
    assert offset == pytest.approx(0, abs=1.0)
    monkeypatch.setattr(peer_api, "time", OtherClock)
    offset = answers(RollCall(peers))["well"].clock_offset
    assert offset == pytest.approx(-120, abs=1.0)


def test_a_peer_of_a_release_that_does_not_tell_the_time_has_no_offset(
    peers: Peers, well: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers.follow(Members(1, (well,)))
    monkeypatch.setattr(peers_module, "json", OlderRelease)
    found = answers(RollCall(peers))["well"]
    assert (found.reachable, found.role, found.clock_offset) == (True, "follower", None)


def test_a_name_that_nobody_resolves_holds_up_no_answer_of_another(
    peers: Peers, well: Member, resolver: SilentResolver
) -> None:
    peers.follow(Members(1, (well, Member("hangs", f"{HANGS}:1"))))

    def until_the_other_is_heard() -> float:
        began = time.monotonic()
        found = answers(RollCall(peers))
        assert found["hangs"].error == "hangs did not answer in time"
        return time.monotonic() - began if found["well"].reachable else math.inf

    assert quickest(until_the_other_is_heard) < 4.0  # a page gives up a little later


def test_a_peer_that_hangs_costs_one_thread_and_is_waited_for_once(
    peers: Peers, resolver: SilentResolver
) -> None:
    peers.follow(Members(1, (Member("hangs", f"{HANGS}:1"),)))
    roll_call = RollCall(peers, PATIENCE)
    answers(roll_call)

    def twenty_answers() -> float:
        began = time.monotonic()
        for _ in range(20):
            assert answers(roll_call)["hangs"].error == "hangs did not answer in time"
        return time.monotonic() - began

    assert quickest(twenty_answers) < PATIENCE
    assert asking() == ["peer-status-hangs"]
    assert resolver.asked == 1


def test_a_peer_is_asked_anew_when_it_hangs_no_more(peers: Peers, resolver: SilentResolver) -> None:
    peers.follow(Members(1, (Member("hangs", f"{HANGS}:1"),)))
    roll_call = RollCall(peers, PATIENCE)
    answers(roll_call)
    resolver.answers.set()
    eventually(lambda: not asking())
    assert answers(roll_call)["hangs"].error == "hangs cannot be reached"
    assert resolver.asked == 2


def test_nobody_waits_longer_because_others_ask_too(peers: Peers, resolver: SilentResolver) -> None:
    peers.follow(Members(1, (Member("hangs", f"{HANGS}:1"),)))
    roll_call = RollCall(peers, PATIENCE)
    threads = [threading.Thread(target=roll_call.statuses) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 4)
    assert not any(thread.is_alive() for thread in threads)
    assert resolver.asked == 1
