"""Both balancers, run for real in front of real nodes: what clients see while nodes come and go.

The tests of this module build on each other: set up, use, kill, roll, and change.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from balanced import KINDS, MAX_BODY, Balancer, Balancers, Load
from cluster import wait_until
from ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster import Cluster, Node

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ROLL = "tests/deployment/roll_through_balancer.yml"


@pytest.fixture(scope="module")
def balancers(
    module_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Balancers]:
    made = Balancers(module_cluster, tmp_path_factory.mktemp("balancers"))
    try:
        made.succeed("load_balancer")
        yield made
    finally:
        made.stop()


@pytest.fixture(params=KINDS)
def balancer(request: pytest.FixtureRequest, balancers: Balancers) -> Balancer:
    return balancers[request.param]


def test_a_second_run_changes_nothing(balancers: Balancers) -> None:
    run = balancers.succeed("load_balancer", "--check", "--diff")
    assert set(run.changed.values()) == {0}


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("a%2Fb", "a/b"),
        ("a%20b", "a b"),
        ("%C3%A9t%C3%A9", "été"),
        ("a+b;c=d", "a+b;c=d"),
        ("100%25", "100%"),
        ("a%3Fb%23c", "a?b#c"),
    ],
)
def test_a_path_reaches_the_node_as_it_was_sent(
    balancer: Balancer, address: str, path: str
) -> None:
    answer = balancer.request("PUT", f"/api/v1/files/paths/{address}", body=b"x")
    assert answer.json()["path"] == f"paths/{path}"


@pytest.mark.parametrize("size", [0, 5 << 20])
def test_a_body_is_passed_on_byte_for_byte(balancer: Balancer, size: int) -> None:
    content = os.urandom(size)
    assert balancer.request("PUT", "/api/v1/files/body", body=content).status in (200, 201)
    # Another node may answer, and be a moment behind.
    got = balancer.request("GET", "/api/v1/files/body?consistency=linearizable")
    assert got.data == content


def test_a_body_above_the_limit_is_refused_with_a_problem(balancer: Balancer) -> None:
    answer = balancer.request("PUT", "/api/v1/files/large", body=bytes(MAX_BODY + 1))
    assert answer.status == 413
    assert answer.json()["type"] == "urn:pickbox:problem:too-large"


def test_ranges_and_conditions_are_passed_on(balancer: Balancer) -> None:
    version = balancer.request("PUT", "/api/v1/files/numbers", body=b"0123456789").headers["ETag"]
    current = "/api/v1/files/numbers?consistency=linearizable"
    part = balancer.request("GET", current, headers={"Range": "bytes=2-4"})
    assert (part.status, part.data, part.headers["ETag"]) == (206, b"234", version)
    same = balancer.request("GET", current, headers={"If-None-Match": version})
    assert same.status == 304
    stale = {"If-Match": '"1"'}
    assert balancer.request("DELETE", "/api/v1/files/numbers", headers=stale).status == 412


def test_the_dashboard_may_write_and_another_site_may_not(balancer: Balancer) -> None:
    assert b"<html" in balancer.request("GET", "/").data
    for origin, status in ((balancer.url, (200, 201)), ("http://elsewhere", (403,))):
        answer = balancer.request("PUT", "/api/v1/files/o", body=b"", headers={"Origin": origin})
        assert answer.status in status


def test_a_write_without_a_name_gets_one_under_which_it_is_done_once(balancer: Balancer) -> None:
    balancer.request("PUT", "/api/v1/files/from", body=b"moved")
    move = json.dumps({"source": "from", "destination": f"to-{balancer.kind}"})
    headers = {"Content-Type": "application/json"}
    first = balancer.request("POST", "/api/v1/move", body=move, headers=headers)
    name = first.json()["request_id"]
    assert first.headers["X-Request-Id"] == name
    again = balancer.request(
        "POST", "/api/v1/move", body=move, headers={**headers, "Idempotency-Key": name}
    )
    assert (again.status, again.json()["version"]) == (200, first.json()["version"])


def test_events_come_as_they_happen(balancer: Balancer) -> None:
    with urllib3.PoolManager(retries=False) as pool:
        stream = pool.request(
            "GET",
            f"{balancer.url}/api/events/stream",
            headers={"Accept": "text/event-stream"},
            preload_content=False,
            timeout=urllib3.Timeout(connect=5, read=10),  # a message comes every few seconds
        )
        assert stream.headers["Content-Type"] == "text/event-stream"
        name = f"told-by-{balancer.kind}"
        with contextlib.closing(stream):
            for line in itertools.islice(stream, 500):
                if name in line.decode():
                    return
                # What others changed since the last picture may crowd this name out of an event.
                if line.startswith(b"event: state"):
                    answer = balancer.request("PUT", f"/api/v1/files/{name}", body=line)
                    assert answer.status in (200, 201)
    pytest.fail(f"no event names {name}")


def test_a_balancer_has_metrics_of_its_own(balancer: Balancer) -> None:
    path, word = {
        "nginx": ("nginx_status", "Active connections"),
        "haproxy": ("metrics", "haproxy_server_status"),
    }[balancer.kind]
    assert word in balancer.told(path)


def test_no_client_notices_that_the_leader_is_killed(balancers: Balancers) -> None:
    with balancers.loaded() as loads:
        _answered(loads, 40)
        victim = balancers.cluster.leader()
        victim.kill()
        _answered(loads, 200)
        victim.start()
        balancers.cluster.wait_ready(seconds=90)


def test_no_client_notices_that_no_node_is_ready_for_a_while(balancers: Balancers) -> None:
    cluster = balancers.cluster
    with balancers.loaded() as loads:
        _answered(loads, 40)
        victim = cluster.leader()
        victim.kill()
        missing = cluster.running()[0]
        missing.pause()  # one of three is no majority
        none_active = 'haproxy_backend_active_servers{proxy="nodes"} 0'
        wait_until(
            lambda: none_active in balancers["haproxy"].told("metrics"),
            "HAProxy finds no node ready",
            60,
        )
        missing.resume()
        _answered(loads, 200)
        victim.start()
        cluster.wait_ready(seconds=90)


def test_no_client_notices_that_nodes_are_taken_out_and_put_back(balancers: Balancers) -> None:
    with balancers.loaded() as loads:
        # nginx' wait sees HAProxy's idle connections too, which the node closes after 30 s.
        run = balancers.succeed(ROLL, pickbox_drain_timeout=60)
    assert all(load.requests > 100 for load in loads)
    assert not [line for line in run.output.splitlines() if "are still open" in line]
    # Out of each balancer, and back into it.
    assert {node: run.changed[node] for node in balancers.nodes} == dict.fromkeys(
        balancers.nodes, 2 * len(KINDS)
    )


def test_a_node_that_is_out_gets_nothing_and_stays_out_over_a_reload(balancers: Balancers) -> None:
    node = balancers.cluster["node2"]
    balancers.succeed("take_out", pickbox_node="node2")
    assert balancers["nginx"].connections_to(node) == 0
    served = _requests_of(node)
    for balancer in balancers:
        balancer.reload()
    with balancers.loaded() as loads:
        _answered(loads, 40)
    assert _requests_of(node) == served
    metrics = balancers["haproxy"].told("metrics")
    drained = re.findall(r'haproxy_server_status{.*server="(.*)",state="DRAIN"} 1', metrics)
    assert set(drained) == {"node2", "node2:unready"}, "it gets none while no node is ready either"
    # What a deployment does when a node was left out: all are ready, so all are back.
    run = balancers.succeed("load_balancer")
    for balancer in balancers:
        assert run.changed[balancer.kind] == 1
        _serves_again(node, balancer)


def test_a_balancer_that_cannot_be_reached_is_named_before_any_is_touched(
    balancers: Balancers,
) -> None:
    balancers.others = {"far": _unreachable()}
    run = balancers.play("take_out", pickbox_node="node1")
    balancers.others = {}
    assert run.code != 0
    told = " ".join(run.output.split())
    assert "node1 is not taken out, and no balancer was touched: far cannot be reached." in told
    assert not list((balancers["nginx"].home / "out").iterdir())


def test_a_roll_goes_on_without_a_balancer_that_cannot_be_reached_if_told_to(
    balancers: Balancers,
) -> None:
    balancers.others = {"far": _unreachable()}
    refused = balancers.play(ROLL, rolled="node1")
    skipped = balancers.play(ROLL, rolled="node1", pickbox_balancer_unreachable="skip")
    balancers.others = {}
    assert refused.code != 0
    assert "no balancer was touched: far cannot be reached." in " ".join(refused.output.split())
    assert "far cannot be reached and is left out" in " ".join(skipped.output.split())
    assert skipped.code == 0, skipped.output
    assert skipped.changed["node1"] == 2 * len(KINDS)


def test_a_node_is_taken_out_and_put_back_though_hosts_of_nodes_are_dead(
    balancers: Balancers,
) -> None:
    balancers.away = {"node1": _unreachable(), "node2": _unreachable()}
    out = balancers.succeed("take_out", pickbox_node="node2")
    back = balancers.succeed("put_back", pickbox_node="node2")
    balancers.away = {}
    assert (out.changed["node2"], back.changed["node2"]) == (len(KINDS), len(KINDS))


def test_a_node_that_was_let_go_and_comes_back_gets_requests(balancers: Balancers) -> None:
    come_or_go = json.dumps({"__load_balancer_puts_back": False})  # as scale_in and scale_out do
    balancers.succeed("take_out", pickbox_node="node2")
    for nodes in (["node1", "node3"], list(balancers.cluster.nodes)):
        balancers.nodes = nodes
        balancers.succeed("load_balancer", f"--extra-vars={come_or_go}")
    for balancer in balancers:
        _serves_again(balancers.cluster["node2"], balancer)


def test_no_client_notices_that_the_balancer_is_changed(balancers: Balancers) -> None:
    authority = balancers.directory / "authority"
    balancers.cluster.authority.keep_in(authority)
    balancers.variables = {
        "pickbox_balancer_tls": "cluster",
        "pickbox_balancer_tls_redirect": False,
        "pickbox_certificates_dir": str(authority),
    }
    balancers.nodes = ["node1"]
    with balancers.loaded():
        balancers.succeed("load_balancer")
    with urllib3.PoolManager(ca_certs=str(authority / "current"), retries=False) as pool:
        for balancer in balancers:
            secure = pool.request("GET", f"https://127.0.0.1:{balancer.tls_port}/api/metrics")
            assert secure.status == 200


def _answered(loads: list[Load], more: int) -> None:
    """Wait until each load has got so many answers more than it had."""
    enough = [(load, load.requests + more) for load in loads]
    wait_until(
        lambda: all(load.requests >= count for load, count in enough),
        f"each load has got {more} answers more",
        120,
    )


def _serves_again(node: Node, balancer: Balancer) -> None:
    served = _requests_of(node)
    with Load(balancer.url).applied():
        wait_until(lambda: _requests_of(node) > served, f"{balancer.kind} sends there again", 120)


def _unreachable() -> dict[str, Any]:
    """Variables of a host at whose address nothing answers."""
    (port,) = free_ports(1)
    return {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": port}


def _requests_of(node: Node) -> float:
    return node.metric("pickbox_http_requests_total", listener="client")
