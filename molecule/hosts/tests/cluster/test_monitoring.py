"""What holds on the host that watches the nodes after every step."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest

INVENTORY = "?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]
NODES = f"ansible://pickbox{INVENTORY}"
testinfra_hosts = [f"ansible://pickbox_prometheus{INVENTORY}"]

SECONDS = 90.0
"""For a look at each target, and for an alert that Prometheus sends anew each minute."""


def get(host: Any, url: str) -> Any:
    return json.loads(host.check_output(f"curl --silent --fail '{url}'"))


def healths(host: Any) -> dict[str, str]:
    """Of each program and each node that is read, by job and name."""
    answer = get(host, "http://127.0.0.1:9090/api/v1/targets?state=active")
    return {
        f"{labels['job']} {labels.get('node') or labels['program']}": target["health"]
        for target in answer["data"]["activeTargets"]
        for labels in [target["labels"]]
        if labels["job"] in {"pickbox", "pickbox-monitoring"}
    }


def alerts(host: Any) -> set[str]:
    """The names of the alerts that have reached Alertmanager."""
    found = get(host, "http://127.0.0.1:9093/api/v2/alerts")
    return {alert["labels"]["alertname"] for alert in found}


@pytest.mark.parametrize("name", ["prometheus", "prometheus-alertmanager"])
def test_the_service_runs_and_starts_with_the_host(host: Any, name: str) -> None:
    service = host.service(name)
    assert service.is_running
    assert service.is_enabled


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/var/lib/prometheus/metrics2", 0o755),
        ("/var/lib/prometheus/alertmanager", 0o755),
        ("/etc/prometheus/alertmanager/secrets", 0o700),
        ("/etc/prometheus/alertmanager/alertmanager.yml", 0o600),
    ],
)
def test_what_it_stores_and_what_is_secret_is_its_users(host: Any, path: str, mode: int) -> None:
    with host.sudo():
        found = host.file(path)
        assert (found.user, oct(found.mode)) == ("prometheus", oct(mode))


def test_it_asks_nobody_who_they_are_and_so_listens_for_its_host_alone(host: Any) -> None:
    for port in (9090, 9093):
        assert host.socket(f"tcp://127.0.0.1:{port}").is_listening
        assert not host.socket(f"tcp://0.0.0.0:{port}").is_listening


def test_every_node_and_both_programs_are_read(host: Any) -> None:
    nodes = [node.ansible.get_variables()["inventory_hostname"] for node in host.get_hosts([NODES])]
    programs = ("prometheus", "alertmanager")
    expected = dict.fromkeys([f"pickbox {name}" for name in nodes], "up")
    expected |= dict.fromkeys([f"pickbox-monitoring {name}" for name in programs], "up")
    deadline = time.monotonic() + SECONDS
    while (found := healths(host)) != expected and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found == expected


def test_alerts_reach_alertmanager(host: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while "PickboxWatchdog" not in alerts(host) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert "PickboxWatchdog" in alerts(host)
