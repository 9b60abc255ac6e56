"""What an application relies on when it uses the cluster over HTTP, with real nodes."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from cluster import Cluster, Node, put_until_acknowledged, wait_until
from small_volume import fill, small_volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import urllib3

pytestmark = pytest.mark.cluster

SEES_ALL = "?consistency=linearizable"


@pytest.fixture
def directory(request: pytest.FixtureRequest) -> str:
    """The name of a directory of the test's own; the first PUT makes it."""
    name: str = request.node.name[:60]
    return name


def entry_etag(answer: urllib3.BaseHTTPResponse) -> str:
    return str(answer.headers["ETag"])


@pytest.mark.parametrize("size", [0, 5, 100_000, 3 << 20])
def test_a_writer_reads_what_it_wrote(cluster: Cluster, directory: str, size: int) -> None:
    for node in cluster:
        content = os.urandom(size)
        path = f"{directory}/{node.node_id}"
        put = node.put(path, content)
        assert put.status == 201, put.data
        got = node.get(path)
        assert (got.status, got.data) == (200, content)
        assert got.headers["ETag"] == put.headers["ETag"] == f'"{put.json()["version"]}"'


@pytest.mark.parametrize("size", [5, 1 << 20])
def test_a_linearizable_read_sees_what_another_node_acknowledged(
    cluster: Cluster, directory: str, size: int
) -> None:
    nodes = list(cluster)
    for number in range(15):
        writer, reader = nodes[number % 3], nodes[(number + 1) % 3]
        content = os.urandom(size)
        path = f"{directory}/file"
        answer = writer.put(path, content)
        assert answer.status in (200, 201), answer.data
        got = reader.get(path + SEES_ALL)
        assert got.status == 200, got.data
        assert got.headers["ETag"] == answer.headers["ETag"]
        assert got.data == content
    assert nodes[0].request("DELETE", f"/api/v1/files/{directory}/file").status == 200
    assert nodes[1].get(f"{directory}/file{SEES_ALL}").status == 404


def test_of_writers_with_one_version_exactly_one_wins(cluster: Cluster, directory: str) -> None:
    nodes = list(cluster)
    path = f"{directory}/contested"
    etag = entry_etag(nodes[0].put(path, b"start"))
    for number in range(10):
        for node in nodes:
            wait_until(
                lambda node=node, etag=etag: node.get(path).headers.get("ETag") == etag,  # type: ignore[misc]
                f"{node.node_id} is at {etag}",
            )
        barrier = threading.Barrier(len(nodes))

        def write(
            node: Node, etag: str = etag, number: int = number, barrier: threading.Barrier = barrier
        ) -> tuple[bytes, urllib3.BaseHTTPResponse]:
            barrier.wait()
            content = f"{number} {node.node_id}".encode()
            return content, node.put(path, content, If_Match=etag)

        with ThreadPoolExecutor(len(nodes)) as pool:
            answers = list(pool.map(write, nodes))
        won = [(content, answer) for content, answer in answers if answer.status == 200]
        assert sorted(answer.status for _, answer in answers) == [200, 412, 412]
        etag = entry_etag(won[0][1])
        assert nodes[0].get(path + SEES_ALL).data == won[0][0]


def test_a_writer_who_lost_is_told_and_counted_and_no_conflict_copy_is_made(
    cluster: Cluster, directory: str
) -> None:
    winner, loser, *_ = cluster
    path = f"{directory}/file"
    seen = entry_etag(winner.put(path, b"first"))

    def counted() -> tuple[float, float]:
        refused = [node.metric("pickbox_http_requests_total", code="412") for node in cluster]
        copies = [node.metric("pickbox_conflicts_total") for node in cluster]
        return sum(refused), sum(copies)

    refused, copies = counted()
    assert winner.put(path, b"winner", If_Match=seen).status == 200
    assert loser.put(path, b"loser", If_Match=seen).status == 412
    wait_until(lambda: counted() == (refused + 1, copies), "the answer is counted, and no copy")
    names = {entry for entry in loser.listing() if entry.startswith(directory.encode())}
    assert names == {directory.encode(), path.encode()}


def test_of_writers_of_a_new_file_exactly_one_makes_it(cluster: Cluster, directory: str) -> None:
    nodes = list(cluster)
    for number in range(10):
        path = f"{directory}/{number}"
        with ThreadPoolExecutor(6) as pool:
            answers = list(
                pool.map(lambda n, path=path: n.put(path, b"x", If_None_Match="*"), nodes * 2)
            )
        assert sorted(answer.status for answer in answers) == [201] + [412] * 5


def test_a_counter_in_a_file_counts_every_increment(cluster: Cluster, directory: str) -> None:
    """Read, add one, write if unchanged: the classic test of a conditional write."""
    nodes = list(cluster)
    path = f"{directory}/counter"
    assert nodes[0].put(path, b"0").status == 201

    def increment(number: int) -> None:
        node = nodes[number % 3]
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            read = node.get(path + SEES_ALL)
            assert read.status == 200, read.data
            content = b"%d" % (int(read.data) + 1)
            wrote = node.put(path, content, If_Match=entry_etag(read))
            if wrote.status == 200:
                return
            assert wrote.status == 412, wrote.data
        raise AssertionError("never won")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(increment, range(30)))
    assert nodes[1].get(path + SEES_ALL).data == b"30"


def test_a_retry_under_one_key_is_applied_once(cluster: Cluster, directory: str) -> None:
    nodes = list(cluster)
    path = f"{directory}/file"
    options = {"Idempotency_Key": "retry-once", "If_None_Match": "*"}
    first = nodes[0].put(path, b"content", **options)
    assert first.status == 201, first.data
    for node in nodes:
        again = node.put(path, b"content", **options)
        assert again.status in (200, 201), again.data
        assert again.json()["version"] == first.json()["version"]
    told = nodes[2].request("GET", "/api/v1/requests/retry-once").json()
    assert [outcome["status"] for outcome in told["outcomes"]] == ["applied"]
    assert told["outcomes"][0]["version"] == first.json()["version"]


def test_retries_that_race_each_other_are_applied_once(cluster: Cluster, directory: str) -> None:
    nodes = list(cluster)
    for number in range(10):
        path, key = f"{directory}/{number}", f"racing-{number}"
        with ThreadPoolExecutor(6) as pool:
            answers = list(
                pool.map(
                    lambda n, path=path, key=key: n.put(
                        path, b"x", Idempotency_Key=key, If_None_Match="*"
                    ),
                    nodes * 2,
                )
            )
        assert {answer.status for answer in answers} <= {200, 201}, [a.data for a in answers]
        assert len({answer.json()["version"] for answer in answers}) == 1


def test_a_retry_after_all_nodes_were_restarted_is_applied_once(
    cluster: Cluster, directory: str
) -> None:
    leader = cluster.leader()
    put = {"Idempotency_Key": "before-restart-put", "If_None_Match": "*"}
    first = leader.put(f"{directory}/new", b"content", **put)
    assert first.status == 201
    leader.put(f"{directory}/old", b"old")
    delete = {"Idempotency-Key": "before-restart-delete"}
    deleted = leader.request("DELETE", f"/api/v1/files/{directory}/old", headers=delete)
    assert deleted.status == 200
    remade = leader.put(f"{directory}/old", b"made again after the delete")
    for node in cluster:
        node.kill()
    cluster.heal()
    for node in cluster:
        again = node.put(f"{directory}/new", b"content", **put)
        assert again.status in (200, 201), again.data
        assert again.json()["version"] == first.json()["version"]
        answer = node.request("DELETE", f"/api/v1/files/{directory}/old", headers=delete)
        assert answer.status == 200, answer.data
        kept = node.get(f"{directory}/old{SEES_ALL}")
        assert kept.headers["ETag"] == remade.headers["ETag"], "a retry deleted a newer file"
    cluster.wait_settled()


def test_a_tree_is_moved_and_deleted_at_once(cluster: Cluster, directory: str) -> None:
    node, other, third = cluster
    paths = [f"{number % 4}/{number}" for number in range(40)]
    for path in paths:
        assert node.put(f"{directory}/from/{path}", path.encode()).status == 201
    cluster.wait_settled()
    moved = other.request(
        "POST",
        "/api/v1/move",
        json={"source": f"{directory}/from", "destination": f"{directory}/to/here"},
    )
    assert moved.status == 200, moved.data
    assert other.get(f"{directory}/from/{paths[0]}").status == 404
    for path in paths:  # while they are being placed
        assert other.get(f"{directory}/to/here/{path}").data == path.encode()
    cluster.wait_settled()
    for each in cluster:
        for path in paths:
            assert (each.files / directory / "to/here" / path).read_bytes() == path.encode()
        assert not (each.files / directory / "from").exists()
    whole = f"/api/v1/files/{directory}/to"
    refused = third.request("DELETE", whole)
    assert (refused.status, refused.json()["type"]) == (
        409,
        "urn:pickbox:problem:directory-not-empty",
    )
    assert third.request("DELETE", f"{whole}?recursive=true").status == 200
    cluster.wait_settled()
    assert not any((each.files / directory / "to").exists() for each in cluster)


def test_pages_of_a_listing_fit_together_while_files_come_and_go(
    cluster: Cluster, directory: str
) -> None:
    node, writer, _ = cluster
    kept = {f"{directory}/{number:03d}" for number in range(120)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: writer.put(path, b"x"), sorted(kept)))
    cluster.wait_settled()
    stop = threading.Event()

    def come_and_go() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            path = f"{directory}/{number % 120:03d}-passing"
            writer.put(path, b"x")
            writer.request("DELETE", f"/api/v1/files/{path}")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for limit in (7, 50):
            found = pages(node, f"{directory}/", limit)
            assert found == sorted(set(found)), "twice, or out of order"
            assert kept <= set(found)
    finally:
        stop.set()
        thread.join()
    assert pages(node, f"{directory}/000", 10) == [f"{directory}/000"]


def pages(node: Node, prefix: str, limit: int) -> list[str]:
    found: list[str] = []
    cursor = ""
    while True:
        page = node.request("GET", f"/api/v1/files?prefix={prefix}&limit={limit}{cursor}").json()
        assert len(page["entries"]) <= limit
        found += [entry["path"] for entry in page["entries"]]
        if page["cursor"] is None:
            return found
        cursor = f"&cursor={page['cursor']}"


def test_what_is_put_is_in_the_folder_and_the_other_way_round(
    cluster: Cluster, directory: str
) -> None:
    node, other, third = cluster
    headers = {"X_Pickbox_Mode": "0640", "X_Pickbox_Mtime": "1600000000123456789"}
    assert node.put(f"{directory}/put", b"over HTTP", **headers).status == 201
    placed = third.files / directory / "put"
    wait_until(placed.exists, "it is in the folder")
    stat = placed.stat()
    assert (stat.st_mode & 0o777, stat.st_mtime_ns) == (0o640, 1_600_000_000_123_456_789)
    cluster.wait_settled()
    (other.files / directory / "put").write_bytes(b"in the folder")
    wait_until(
        lambda: node.get(f"{directory}/put").data == b"in the folder", "it is to be read over HTTP"
    )
    cluster.wait_settled()


def test_an_edit_in_the_folder_and_a_put_at_once_lose_nothing(
    cluster: Cluster, directory: str
) -> None:
    node = next(iter(cluster))
    path = f"{directory}/file.txt"
    for number in range(15):
        assert node.put(path, b"put %d" % number).status in (200, 201)
        if number == 0:
            cluster.wait_settled()
        (node.files / path).write_bytes(b"edit %d" % number)
    cluster.wait_settled()
    contents = {p.read_bytes() for p in (node.files / directory).iterdir()}
    assert b"edit 14" in contents


def test_an_idle_cluster_writes_nothing_to_its_log(cluster: Cluster, directory: str) -> None:
    assert next(iter(cluster)).put(f"{directory}/last", b"x").status == 201
    cluster.wait_settled()
    for _ in range(5):
        same = "all have applied all"
        wait_until(lambda: len({log_figures(node) for node in cluster}) == 1, same)
        before = [log_figures(node) for node in cluster]
        # A fixed time is what is promised here: nothing is to happen in it.
        time.sleep(5.0)
        after = [log_figures(node) for node in cluster]
        if [term for *_, term in after] == [term for *_, term in before]:
            break  # an election writes to the log: after one there is another look
    assert after == before


def log_figures(node: Node) -> tuple[int, ...]:
    status = node.status()
    return tuple(status[name] for name in ("last_index", "commit_index", "applied_index", "term"))


@pytest.fixture
def cluster_with_small(tmp_path: Path) -> Iterator[tuple[Cluster, Node]]:
    """A cluster whose node 3 has a small volume."""
    cluster = Cluster(tmp_path / "cluster")
    small = cluster["node3"]
    with small_volume(small.directory), cluster:
        yield cluster, small


@pytest.mark.skipif(os.geteuid() != 0, reason="to mount a small volume takes root")
@pytest.mark.parametrize("leads", [False, True])
def test_a_full_disk_stops_one_node_only_and_for_as_long_as_it_is_full(
    cluster_with_small: tuple[Cluster, Node], leads: bool
) -> None:
    cluster, small = cluster_with_small
    roomy, third = cluster["node1"], cluster["node2"]
    target = small if leads else roomy
    cluster.hand_over(target)
    assert small.put("before", b"x" * 100_000).status == 201
    cluster.wait_settled()

    ballast = fill(small.directory, 1 << 20)  # less than the reserve of 5 %
    refused = small.put("refused", b"x" * 1000)
    wait_until(lambda: small.put("refused", b"x" * 1000).status == 507, "writes are refused")
    refused = small.put("refused", b"x" * 1000)
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:pickbox:problem:disk-full"
    assert small.get("before").data == b"x" * 100_000, "reads go on"
    roomy.request("DELETE", "/api/v1/files/refused")

    for number in range(20):
        assert roomy.put(f"small-{number}", b"%d" % number).status == 201
    assert roomy.put("large", b"l" * (5 << 20)).status == 201
    (roomy.files / "dropped").write_bytes(b"d" * 200_000)
    wait_until((third.files / "dropped").exists, "the others go on")
    fill(small.directory, 0)
    for number in range(150):
        content = os.urandom(30_000)  # in the log, so that the log itself meets the end of the disk
        put_until_acknowledged([roomy, third], f"to-the-last-byte-{number}", content)
    assert small.running()

    ballast.unlink()
    cluster.wait_ready()
    wait_until(lambda: small.put("accepted-again", b"x").status == 201, "writes are taken again")
    cluster.wait_settled()
    assert (small.files / "large").read_bytes() == b"l" * (5 << 20)
    small.kill()
    cluster.heal()
    cluster.wait_settled()
