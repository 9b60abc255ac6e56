"""The modules that the balancer's role waits with: what they count, and what they note."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import module_runs
import pytest
from ansible_collections.pickbox.cluster.plugins.modules.haproxy_server import (
    requests_of,
    row_of,
    taken_out,
)
from ansible_collections.pickbox.cluster.plugins.modules.wait_disconnected import (
    address_in,
    addresses_of,
    count,
)

if TYPE_CHECKING:
    from pathlib import Path

STATES = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
3 nodes 1 node1 127.0.0.1 2 0 1
3 nodes 2 node2 127.0.0.1 2 8 1
"""
STATISTICS = """# pxname,svname,qcur,qmax,scur,status
nodes,node1,1,0,2,UP
nodes,BACKEND,0,0,5,UP
"""


@pytest.mark.parametrize(("family", "host"), [("AF_INET", "127.0.0.1"), ("AF_INET6", "::1")])
def test_an_open_connection_counts_until_both_sides_have_closed(family: str, host: str) -> None:
    with socket.socket(getattr(socket, family)) as listener:
        listener.bind((host, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert count(addresses_of(host), port) == 0
        with socket.create_connection((host, port)):
            assert count(addresses_of(host), port) == 1
            assert count({"192.0.2.1"}, port) == 0


def test_an_address_of_ipv4_is_known_in_the_table_of_ipv6() -> None:
    assert address_in("0000000000000000FFFF00000100007F:1F90") == ("127.0.0.1", 8080)


def test_connections_that_do_not_end_are_told_and_no_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            answer = module_runs.run("wait_disconnected", host="127.0.0.1", port=port, timeout=0)
    assert (answer["connections"], answer["changed"]) == (1, False)


def test_a_host_that_nobody_knows_is_named() -> None:
    told = module_runs.failure("wait_disconnected", host="nowhere.invalid", port=1)
    assert told.startswith("nowhere.invalid is no known host here")


def test_only_servers_that_somebody_took_out_are_noted() -> None:
    assert taken_out(STATES).splitlines() == [
        line for line in STATES.splitlines() if "node1" not in line
    ]


def test_requests_that_wait_for_a_server_count_too() -> None:
    assert requests_of(row_of(STATISTICS, "nodes", "node1")) == 3
    assert row_of(STATISTICS, "nodes", "node9") is None


def test_an_haproxy_that_does_not_run_sends_to_nobody(tmp_path: Path) -> None:
    answer = module_runs.run(
        "haproxy_server",
        socket=str(tmp_path / "none.sock"),
        state_file=str(tmp_path / "servers"),
        server="node1",
        state="drain",
    )
    assert (answer["changed"], answer["running"], answer["requests"]) == (False, False, 0)
