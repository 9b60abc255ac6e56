"""Followers of a node's events: what they are sent, and that they take no worker thread."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from http_node import Running, call, running

from pickbox.status import NodeStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STREAM = "/api/events/stream"


class Follower:
    """A client that reads the stream."""

    def __init__(self, node: Running, version: int = 11, **headers: str) -> None:
        port = node.settings.dashboard_port
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.connection._http_vsn = version
        self.connection._http_vsn_str = f"HTTP/{version / 10}"
        self.connection.request("GET", STREAM, headers=headers)
        self.answer = self.connection.getresponse()

    def message(self) -> dict[str, str]:
        """The next message: its fields."""
        fields: dict[str, str] = {}
        while line := self.answer.readline():
            name, colon, value = line.decode().rstrip("\n").partition(": ")
            if colon:
                fields[name] = value
            elif fields:
                return fields
        raise EOFError

    def next(self, name: str) -> Any:
        """The document of the next message with that name."""
        while (fields := self.message()).get("event") != name:
            pass
        return json.loads(fields["data"])


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as started:
        started.observer.look()
        yield started


def look(node: Running) -> None:
    """Look as the observer's thread does, once a follower is there."""
    wait = threading.Event()
    while not node.viewers.looking:
        wait.wait(0.005)
    node.observer._next_sample = 0.0
    node.observer.look()


@pytest.mark.parametrize("version", [10, 11])
def test_a_follower_is_told_what_happens(node: Running, version: int) -> None:
    follower = Follower(node, version)
    assert follower.answer.headers["Content-Type"] == "text/event-stream"
    assert follower.message() == {"retry": "3000"}
    node.control.leader = "node2"
    look(node)
    event = follower.next("event")
    assert (event["kind"], event["node_id"]) == ("leader_changed", "node2")
    assert event["text"] == "node2 leads, in term 3."


def test_a_follower_need_not_ask_for_what_the_page_shows(node: Running) -> None:
    follower = Follower(node)
    look(node)
    state = follower.next("state")
    cluster = node.client("GET", "/api/cluster").json
    assert state["cluster"].keys() == cluster.keys()
    assert state["cluster"]["nodes"] == cluster["nodes"]
    health = node.client("GET", "/api/health").json
    assert state["health"]["checks"] == health["checks"]
    history = node.client("GET", "/api/history").json
    assert state["history"]["times"] == history["times"][-1:]
    assert state["history"]["nodes"].keys() == history["nodes"].keys()


def test_a_follower_that_comes_again_gets_what_it_missed(node: Running) -> None:
    follower = Follower(node)
    node.control.leader = "node2"
    look(node)
    seen = follower.next("event")["id"]
    follower.connection.close()
    node.control.leader = "node3"
    node.observer.look()
    again = Follower(node, **{"Last-Event-ID": seen})
    assert again.next("event")["node_id"] == "node3"


def test_an_id_of_another_node_gets_all_that_is_kept(node: Running) -> None:
    node.control.leader = "node2"
    node.observer.look()
    stranger = Follower(node, **{"Last-Event-ID": "0badc0de-7"})
    assert stranger.next("event")["node_id"] == "node2"
    kept = node.client("GET", "/api/events").json["events"]
    assert [event["node_id"] for event in kept] == ["node2"]


@pytest.mark.parametrize("number", ["1" * 5000, "\u0661", "-1", ""])
def test_what_is_no_event_of_this_node_gets_all_and_harms_nothing(
    node: Running, number: str
) -> None:
    node.control.leader = "node2"
    node.observer.look()
    run = node.observer.events.latest()[0].id.partition("-")[0]
    for _ in range(40):  # more than there are workers
        follower = Follower(node, **{"Last-Event-ID": f"{run}-{number}".encode().decode("latin-1")})
        assert follower.next("event")["node_id"] == "node2"
        follower.connection.close()
        follower.answer.close()
    assert node.client("GET", "/api/cluster").status == 200


def test_a_connection_that_nobody_can_take_is_closed_and_the_next_one_served(
    node: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(node.viewers, "take", fail)
    for _ in range(40):
        with pytest.raises(EOFError):
            Follower(node).message()
    assert node.client("GET", "/api/cluster").status == 200


def test_followers_take_no_worker_and_one_too_many_is_refused(node: Running) -> None:
    followers = [Follower(node) for _ in range(3)]
    for follower in followers:  # each is one once it is sent something: its answer begins before
        assert follower.message() == {"retry": "3000"}
    refused = node.client("GET", STREAM)
    assert refused.problem["type"] == "urn:pickbox:problem:too-many-viewers"
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    workers = next(s for s in node.listeners._servers if s.name == "client").requests
    wait = threading.Event()
    while workers.idle < 32:
        wait.wait(0.005)
    followers[0].connection.close()
    followers[0].answer.close()
    assert Follower(node).message() == {"retry": "3000"}, "who leaves makes room"


def test_a_follower_that_does_not_read_is_dropped(node: Running) -> None:
    silent = Follower(node)
    node.control.others = tuple(
        NodeStatus(f"node{n}", reachable=False, error="x" * 20_000) for n in range(2, 60)
    )
    look(node)  # the follower has its answer a moment before it is one
    for _ in range(60):
        look_if_watched(node)
    assert not node.viewers.looking
    silent.connection.close()


def look_if_watched(node: Running) -> None:
    if node.viewers.looking:
        look(node)


def test_a_stop_lets_followers_go(node: Running) -> None:
    follower = Follower(node)
    follower.message()
    node.viewers.close()
    with pytest.raises(EOFError):
        follower.message()


def test_head_is_answered_and_follows_nothing(node: Running) -> None:
    answer = call(node.settings.dashboard_port, "HEAD", STREAM)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert not node.viewers.looking


def test_history_after_a_time_has_only_what_is_later(node: Running) -> None:
    full = node.client("GET", "/api/history").json
    assert len(full["times"]) == 1
    assert full["nodes"]["node1"]["lag"] == [0]
    later = node.client("GET", f"/api/history?since={int(full['times'][0]) + 1}").json
    assert (later["times"], later["nodes"]) == ([], {})
