"""The hosts are what the other tests take them for, before anything is deployed."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

testinfra_hosts = ["ansible://all?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

SECONDS_TO_CONNECT = 1.0
TRIES = 20  # testinfra gives each a second
UNIT = ["systemd-run", "--wait", "--quiet", "--collect"]


def all_hosts(host: Any) -> list[Any]:
    return list(host.get_hosts(testinfra_hosts))


def fails(host: Any, command: str) -> bool:
    """Whether it fails, of whichever status: 255 would be taken for a failure of SSH."""
    return host.run(f"! {command}").rc == 0


def test_ansible_is_an_unprivileged_user_with_sudo(host: Any) -> None:
    assert host.user().name == "operator"
    assert host.run("id --user").stdout.strip() != "0"
    with host.sudo():
        assert host.user().name == "root"


def test_systemd_runs_and_nothing_failed(host: Any) -> None:
    assert host.check_output("systemctl is-system-running") == "running"


def test_the_sandbox_of_a_unit_is_real(host: Any) -> None:
    with host.sudo():
        unit = " ".join([*UNIT, "--property=ProtectSystem=strict"])
        assert fails(host, f"{unit} touch /etc/written")
        assert not host.file("/etc/written").exists
        denied = " ".join([*UNIT, "--property=SystemCallFilter=~@file-system"])
        assert fails(host, f"{denied} touch /tmp/written")


def test_the_limits_of_a_unit_are_real(host: Any) -> None:
    with host.sudo():
        unit = " ".join([*UNIT, "--property=MemoryMax=32M", "--property=MemorySwapMax=0"])
        assert fails(host, f"{unit} python3 -c 'bytearray(200_000_000)'")
        host.check_output(f"{unit} python3 -c 'bytearray(1_000_000)'")


def test_no_two_hosts_are_the_same_machine(host: Any) -> None:
    for path in ["/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"]:
        contents = [other.file(path).content_string for other in all_hosts(host)]
        assert len(contents) == len(set(contents)) == 5
        assert all(contents)


def test_no_way_leads_out_not_even_to_this_machine(host: Any) -> None:
    gateway = host.check_output("ip route show default").split()[2]
    with socket.create_server((gateway, 0)) as listener:
        assert not host.addr(gateway).port(listener.getsockname()[1]).is_reachable


@pytest.mark.parametrize(
    "package",
    [
        "nginx",
        "haproxy",
        "restic",
        "prometheus",
        "prometheus-alertmanager",
        "prometheus-node-exporter",
    ],
)
def test_the_packages_of_the_distribution_are_there_and_none_of_them_runs(
    host: Any, package: str
) -> None:
    assert host.package(package).is_installed
    assert not host.process.filter(comm=package)


def test_this_machine_comes_in_over_ssh_only(host: Any, address: str) -> None:
    with host.sudo():
        host.check_output("systemd-run --quiet --unit=stranger python3 -m http.server 8080")
    try:
        with pytest.raises(TimeoutError):
            socket.create_connection((address, 8080), timeout=SECONDS_TO_CONNECT)
    finally:
        with host.sudo():
            host.check_output("systemctl stop stranger")


def test_the_hosts_reach_each_other(host: Any) -> None:
    for other in all_hosts(host):
        address = other.ansible.get_variables()["ansible_host"]
        assert any(host.addr(address).port(22).is_reachable for _ in range(TRIES))
