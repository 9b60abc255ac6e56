"""What holds on the balancer after every step."""

from __future__ import annotations

import os
from typing import Any

testinfra_hosts = [
    "ansible://pickbox_balancer?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]
]


def test_the_balancer_runs_and_starts_with_the_host(host: Any) -> None:
    service = host.service("nginx")
    assert service.is_running
    assert service.is_enabled


def test_it_listens_for_clients(host: Any) -> None:
    assert host.socket("tcp://0.0.0.0:80").is_listening


def test_a_file_that_was_put_through_it_is_read_back(host: Any, name: str) -> None:
    url = f"http://127.0.0.1/api/v1/files/seen-by/{name}"
    host.check_output(f"echo hello | curl --silent --fail --upload-file - {url}")
    assert host.check_output(f"curl --silent --fail {url}?consistency=linearizable") == "hello"


def test_no_node_is_taken_out(host: Any) -> None:
    assert host.file("/var/lib/pickbox-balancer/out").listdir() == []
