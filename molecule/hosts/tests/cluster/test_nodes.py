"""What holds on every node after every step: service, ports, permissions, hardening, formation."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest

testinfra_hosts = ["ansible://pickbox?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

PORTS = {"raft": 8001, "admin": 9001, "monitoring": 6001, "dashboard": 8080}
WORST_EXPOSURE = 2.0
FORMED_SECONDS = 60.0


def get(host: Any, address: str, path: str, port: int = PORTS["dashboard"]) -> Any:
    return json.loads(host.check_output(f"curl --silent --fail http://{address}:{port}{path}"))


def test_the_service_runs_and_starts_with_the_host(host: Any) -> None:
    service = host.service("pickbox")
    assert service.is_running
    assert service.is_enabled


def test_it_is_one_process_of_the_service_user(host: Any) -> None:
    processes = host.process.filter(user="pickbox")
    assert [process.comm for process in processes] == ["pickbox"]


def test_it_has_the_release_that_it_should(host: Any, address: str, now: dict[str, str]) -> None:
    current = host.check_output("readlink /opt/pickbox/current")
    assert current.startswith(f"releases/{now['version']}-")
    assert get(host, address, "/", PORTS["monitoring"])["version"] == now["version"]


@pytest.mark.parametrize("port", PORTS.values(), ids=PORTS)
def test_each_port_is_listened_at_on_the_nodes_address_only(
    host: Any, address: str, port: int
) -> None:
    assert host.socket(f"tcp://{address}:{port}").is_listening
    assert not host.socket(f"tcp://0.0.0.0:{port}").is_listening
    assert not host.socket(f"tcp://127.0.0.1:{port}").is_listening


@pytest.mark.parametrize(
    ("path", "owner", "group", "mode"),
    [
        ("/opt/pickbox", "root", "root", 0o755),
        ("/opt/pickbox/releases", "root", "root", 0o755),
        ("/etc/pickbox", "root", "pickbox", 0o750),
        ("/etc/pickbox/node.toml", "root", "pickbox", 0o640),
        ("/etc/pickbox/secrets", "root", "pickbox", 0o750),
        ("/etc/pickbox/secrets/admin_token", "root", "pickbox", 0o640),
        ("/etc/pickbox/tls", "pickbox", "pickbox", 0o700),
        ("/etc/pickbox/tls/key.pem", "pickbox", "pickbox", 0o600),
        ("/var/lib/pickbox", "pickbox", "pickbox", 0o750),
    ],
)
def test_each_path_is_for_those_who_need_it(
    host: Any, path: str, owner: str, group: str, mode: int
) -> None:
    with host.sudo():
        found = host.file(path)
        assert (found.user, found.group, oct(found.mode)) == (owner, group, oct(mode))


def test_the_service_cannot_write_to_its_own_program(host: Any) -> None:
    """Its key is its user's, as it asks for, and in a directory that systemd mounts read-only."""
    with host.sudo():
        # It cannot even look into what is saved before a release is switched.
        writable = host.run(
            "runuser -u pickbox -- find /opt/pickbox /etc/pickbox -writable ! -type l"
        )
    assert set(writable.stdout.split()) <= {"/etc/pickbox/tls", "/etc/pickbox/tls/key.pem"}
    mounts = host.check_output("systemctl show pickbox -p ProtectSystem -p ReadWritePaths --value")
    assert set(mounts.split()) == {"strict", "/var/lib/pickbox"}


def test_no_secret_is_in_a_command_line_an_environment_or_the_journal(host: Any) -> None:
    with host.sudo():
        token = host.file("/etc/pickbox/secrets/admin_token").content_string.split()[0]
        pid = host.check_output("systemctl show pickbox --property=MainPID --value")
        assert len(token) >= 32
        for command in [
            f"cat /proc/{pid}/cmdline /proc/{pid}/environ",
            "journalctl --namespace=pickbox --no-pager",
            "cat /etc/pickbox/node.toml /etc/systemd/system/pickbox.service",
        ]:
            assert token not in host.check_output(command)


def test_the_unit_is_hardened(host: Any) -> None:
    with host.sudo():
        said = host.run("systemd-analyze security --no-pager pickbox.service").stdout
    exposure = float(said.splitlines()[-1].split(":")[1].split()[0])
    assert exposure <= WORST_EXPOSURE


def test_the_sandbox_of_the_process_is_real(host: Any) -> None:
    with host.sudo():
        pid = host.check_output("systemctl show pickbox --property=MainPID --value")
        status = dict(
            line.split(":\t", 1)
            for line in host.check_output(f"cat /proc/{pid}/status").splitlines()
            if ":\t" in line
        )
        mounts = host.check_output(f"cat /proc/{pid}/mountinfo").splitlines()
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    (root,) = [line.split() for line in mounts if line.split()[4] == "/"]
    assert "ro" in root[5].split(",")


def formed(cluster: dict[str, Any], names: set[str]) -> bool:
    """Whether all are ready and name one leader, as a view of the cluster has it."""
    leaders = {node["leader"] for node in cluster["nodes"]}
    ready = {node["node_id"] for node in cluster["nodes"] if node["ready"]}
    return ready == names and leaders == {cluster["leader"]} and cluster["leader"] in names


def test_the_cluster_has_formed(host: Any, address: str) -> None:
    hosts = host.get_hosts(testinfra_hosts)
    names = {one.ansible.get_variables()["inventory_hostname"] for one in hosts}
    deadline = time.monotonic() + FORMED_SECONDS
    while not formed(cluster := get(host, address, "/api/cluster"), names):
        if time.monotonic() > deadline:
            break  # what is wrong is said below
        time.sleep(0.5)
    assert {node["node_id"] for node in cluster["nodes"]} == names
    assert all(node["ready"] for node in cluster["nodes"])
    assert {node["leader"] for node in cluster["nodes"]} == {cluster["leader"]}
    assert cluster["leader"] in names
