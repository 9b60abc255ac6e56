"""Nothing that was acknowledged is lost, and nothing is applied twice, whoever dies when."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import urllib3
from cluster import UNDECIDED, Cluster, Node, put_until_acknowledged, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.cluster

SETTINGS = {"request_timeout": "4"}
"""Short, because what happens when it has passed is tested too."""


@pytest.fixture
def directory(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """The name of a directory of the test's own; it is on every node."""
    name: str = request.node.name[:60]
    (cluster["node1"].files / name).mkdir()
    wait_until(lambda: all((node.files / name).is_dir() for node in cluster), "it is everywhere")
    return name


@contextlib.contextmanager
def killed(nodes: Sequence[Node], after: threading.Event) -> Iterator[None]:
    """``kill -9`` `nodes` at the moment that `after` is set."""

    def kill() -> None:
        assert after.wait(60.0)
        for node in nodes:
            assert node.process is not None
            node.process.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    for node in nodes:
        assert node.process is not None
        node.process.wait(10.0)


def names(node: Node, directory: str) -> set[str]:
    return {path.name for path in (node.files / directory).iterdir()}


def test_kill_of_the_leader_loses_no_acknowledged_write(cluster: Cluster, directory: str) -> None:
    """200 files over HTTP through the other two, and 100 dropped into their folders, meanwhile."""
    leader = cluster.leader()
    others = [node for node in cluster if node is not leader]
    under_way = threading.Event()
    versions: dict[str, int] = {}

    def write(number: int) -> None:
        path = f"{directory}/http-{number}"
        turn = others if number % 2 else others[::-1]
        versions[path] = put_until_acknowledged(turn, path, b"http %d" % number)
        if number == 50:
            under_way.set()

    with killed([leader], under_way), ThreadPoolExecutor(8) as pool:
        done = [pool.submit(write, number) for number in range(200)]
        for number in range(100):
            dropped = others[number % 2].files / directory / f"dropped-{number}"
            dropped.write_bytes(b"dropped %d" % number)
        for future in done:
            future.result()
    assert not leader.running()
    cluster.heal()
    wait_until(
        lambda: all(len(names(node, directory)) == 300 for node in cluster),
        "300 files are everywhere",
        60,
    )
    cluster.wait_settled()
    listing = cluster["node1"].listing()
    for path, version in versions.items():
        assert listing[path.encode()]["version"] == version, "applied twice"
    for node in cluster:
        for number in range(200):
            content = (node.files / directory / f"http-{number}").read_bytes()
            assert content == b"http %d" % number


def test_kill_of_a_follower_is_not_noticed_by_writers(cluster: Cluster, directory: str) -> None:
    leader, (victim, other) = cluster.roles()
    put_until_acknowledged([victim], f"{directory}/before", b"before")
    victim.kill()
    for number in range(50):
        answer = [leader, other][number % 2].put(f"{directory}/{number}", b"%d" % number)
        assert answer.status == 201, answer.data
    (other.files / directory / "dropped").write_bytes(b"dropped")
    cluster.heal()
    wait_until(lambda: len(names(victim, directory)) == 52, "the follower has caught up")
    cluster.wait_settled()


def test_kill_of_all_nodes_loses_no_acknowledged_write(cluster: Cluster, directory: str) -> None:
    """Small ones that are in the log, and large ones that are staged, of which some are placed."""
    under_way = threading.Event()
    nodes = list(cluster)
    acknowledged: dict[str, tuple[int, bytes]] = {}

    def write(number: int) -> None:
        path = f"{directory}/{number}"
        content = b"%d " % number * (60_000 if number % 5 == 0 else 5)
        with contextlib.suppress(urllib3.exceptions.HTTPError, OSError):
            answer = nodes[number % 3].put(path, content)
            if answer.status == 201:
                acknowledged[path] = answer.json()["version"], content
        if number == 60:
            under_way.set()

    with killed(nodes, under_way), ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(150)))
    assert len(acknowledged) > 30
    assert not cluster.running()
    cluster.heal()
    cluster.wait_settled()
    for node in cluster:
        listing = node.listing()
        for path, (version, content) in acknowledged.items():
            assert listing[path.encode()]["version"] == version
            assert (node.files / path).read_bytes() == content


def test_kill_of_all_nodes_leaves_what_was_dropped_just_before(
    cluster: Cluster, directory: str
) -> None:
    source = cluster["node2"].files / directory
    for number in range(200):
        (source / f"{number}").write_bytes(b"%d" % number)
    for node in cluster:
        node.kill()
    cluster.heal()
    wait_until(lambda: all(len(names(node, directory)) == 200 for node in cluster), "200", 60)
    cluster.wait_settled()


def test_a_restart_applies_nothing_again(cluster: Cluster, directory: str) -> None:
    for number in range(20):
        put_until_acknowledged(list(cluster), f"{directory}/{number}", b"%d" % number)
    cluster.wait_settled()
    before = cluster["node1"].listing()
    for node in cluster:
        node.kill()
    cluster.heal()
    cluster.wait_settled()
    assert [node.listing() for node in cluster] == [before] * 3


def test_a_leader_that_hung_takes_its_place_as_a_follower(cluster: Cluster, directory: str) -> None:
    leader = cluster.leader()
    others = [node for node in cluster if node is not leader]
    leader.pause()
    stopped_at = time.monotonic()
    for number in range(20):
        put_until_acknowledged(others, f"{directory}/{number}", b"%d" % number)
    (others[0].files / directory / "dropped").write_bytes(b"dropped")
    (leader.files / directory / "on-the-old-leader").write_bytes(b"seen when it wakes up")
    # Longer than an election takes and than its links live: a fixed time is what is tested.
    time.sleep(max(0.0, stopped_at + 5.0 - time.monotonic()))
    leader.resume()
    wait_until(lambda: all(len(names(node, directory)) == 22 for node in cluster), "22 files", 60)
    cluster.wait_settled()
    assert cluster.leader() is not leader or leader.status()["term"] > 1


def test_leadership_goes_to_the_node_that_is_named(cluster: Cluster, directory: str) -> None:
    for target in ("node2", "node3", "node1"):
        asked = next(node for node in cluster if node.node_id != target)
        answer = asked.admin_request("POST", "/api/v1/leader", json={"target": target})
        assert answer.status == 200, answer.data
        wait_until(lambda target=target: cluster.leader().node_id == target, target)  # type: ignore[misc]
        put_until_acknowledged(list(cluster), f"{directory}/{target}", b"x")
    cluster.wait_settled()


def test_a_node_that_is_asked_to_stop_hands_over_and_exits_with_0(
    cluster: Cluster, directory: str
) -> None:
    leader = cluster.leader()
    others = [node for node in cluster if node is not leader]
    stopping = threading.Event()
    slowest = 0.0

    def write(number: int) -> None:
        nonlocal slowest
        began = time.monotonic()
        put_until_acknowledged(others, f"{directory}/{number}", b"%d" % number)
        slowest = max(slowest, time.monotonic() - began)
        if number == 10:
            stopping.set()

    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(write, number) for number in range(60)]
        assert stopping.wait(30.0)
        began = time.monotonic()
        assert leader.stop() == 0
        assert time.monotonic() - began < 10.0
        for future in done:
            future.result()
    assert cluster.leader() in others
    assert any(event["event"] == "stopped" for event in leader.events())
    cluster.heal()
    cluster.wait_settled()
    assert len(names(leader, directory)) == 60


def test_without_a_majority_nothing_is_acknowledged_and_nothing_is_lost(
    cluster: Cluster, directory: str
) -> None:
    survivor, others = cluster.roles()
    put_until_acknowledged([survivor], f"{directory}/before", b"before")
    for node in others:
        node.kill()
    answer = survivor.put(f"{directory}/put", b"put", Idempotency_Key="without-a-majority")
    assert answer.status in UNDECIDED, answer.data
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert not survivor.ready()
    (survivor.files / directory / "dropped").write_bytes(b"dropped")
    (survivor.files / directory / "large").write_bytes(b"large" * 100_000)
    assert survivor.get(f"{directory}/before").status == 200, "reads go on"
    cluster.heal()
    wait_until(lambda: {"dropped", "large"} <= names(others[0], directory), "all", 60)
    cluster.wait_settled()
    told = survivor.request("GET", "/api/v1/requests/without-a-majority")
    if told.status == 200:  # committed after all
        assert (others[0].files / directory / "put").read_bytes() == b"put"
    else:
        assert told.status == 404
        again = survivor.put(f"{directory}/put", b"put", Idempotency_Key="without-a-majority")
        assert again.status == 201
    for node in cluster:
        assert (node.files / directory / "large").read_bytes() == b"large" * 100_000


def test_edits_made_while_there_is_no_majority_are_no_conflict_with_each_other(
    cluster: Cluster, directory: str
) -> None:
    """The first one is in the survivor's log when the second is made, its outcome unknown."""
    leader, others = cluster.roles()
    file = leader.files / directory / "edited"
    file.write_bytes(b"base")
    cluster.wait_settled()
    for node in others:
        node.kill()
    for number in range(3):
        seen = untaken(leader)
        file.write_bytes(b"edit %d" % number)
        wait_until(lambda seen=seen: untaken(leader) > seen, "the edit is proposed in vain")  # type: ignore[misc]
    cluster.heal()
    wait_until(
        lambda: all((n.files / directory / "edited").read_bytes() == b"edit 2" for n in cluster),
        "the last edit is everywhere",
    )
    cluster.wait_settled()
    assert [names(node, directory) for node in cluster] == [{"edited"}] * 3


def untaken(node: Node) -> int:
    """How often the cluster did not take the changes of a node's folder."""
    return sum(event["event"] == "changes_not_taken" for event in node.events())


def test_a_node_that_is_killed_during_an_upload_leaves_no_part_of_it(
    cluster: Cluster, directory: str
) -> None:
    leader, (victim, _) = cluster.roles()
    for node in (victim, leader):
        sent = threading.Event()
        with (
            killed([node], sent),
            contextlib.suppress(urllib3.exceptions.HTTPError, OSError),
        ):
            node.request("PUT", f"/api/v1/files/{directory}/large", body=megabytes(64, sent, node))
        cluster.heal()
        cluster.wait_settled()
        for each in cluster:
            assert names(each, directory) == set()
            assert each.get(f"{directory}/large").status == 404
            assert not list((each.directory / "staging").glob("incoming-*"))
    content = os.urandom(8 << 20)
    put_until_acknowledged(list(cluster), f"{directory}/large", content)
    wait_until(lambda: all(names(node, directory) == {"large"} for node in cluster), "it is there")
    cluster.wait_settled()
    for each in cluster:
        assert (each.files / directory / "large").read_bytes() == content


def megabytes(count: int, halfway: threading.Event, node: Node) -> Iterator[bytes]:
    """A body in pieces, of which the second half is for a node that ends after the first one."""
    for number in range(count):
        yield os.urandom(1 << 20)
        if number == count // 2:
            halfway.set()
            assert node.process is not None
            node.process.wait(60.0)


def test_nodes_that_die_one_after_the_other_while_files_change_lose_no_edit(
    cluster: Cluster, directory: str
) -> None:
    stop = threading.Event()
    last: dict[str, bytes] = {}

    def edit(node: Node) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            name = f"{node.node_id}-{number % 20}"
            last[name] = b"%d" % number
            (node.files / directory / name).write_bytes(last[name])
            if number % 7 == 0:
                (node.files / directory / name).unlink()
                del last[name]
            time.sleep(0.01)  # a person's pace, so that the test is not one of throughput

    threads = [threading.Thread(target=edit, args=(node,)) for node in cluster]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            for node in cluster:
                node.kill()
                time.sleep(0.3)  # some changes are to happen while it is down
                node.start()
                cluster.wait_ready(seconds=60.0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    # A node killed between a commit and its own note of it may take a person's next edit for one
    # of the version before: then that edit is in a conflict copy, which is no loss.
    wait_until(
        lambda: all(holds_edits(node, directory, last) for node in cluster), "the last edits", 60
    )
    cluster.wait_settled()
    for node in cluster:
        assert holds_edits(node, directory, last)


def holds_edits(node: Node, directory: str, edits: dict[str, bytes]) -> bool:
    """Whether each edit is in the file of its name or in a conflict copy of it."""
    found: list[tuple[str, bytes]] = []
    for path in (node.files / directory).iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has gone since: the next look tells
            found.append((path.name, path.read_bytes()))
    return all(
        any(name.partition(".sync-conflict-")[0] == wanted and content == b for name, b in found)
        for wanted, content in edits.items()
    )
