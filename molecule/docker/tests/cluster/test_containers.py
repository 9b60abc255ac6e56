"""The containers of a running cluster: what they may do, what they have, and that they are well."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

testinfra_hosts = ["ansible://pickbox?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

USER = "10001"
PORTS = ["pickbox_admin_port", "pickbox_monitor_port", "pickbox_dashboard_port"]


def status_of(host: Any, container: dict[str, Any]) -> dict[str, str]:
    """What the kernel says of the node's process."""
    lines = host.file(f"/proc/{container['State']['Pid']}/status").content_string.splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def inside(host: Any, container: dict[str, Any], command: str) -> Any:
    return host.run(f"docker exec {container['Name'].lstrip('/')} {command}")


def test_the_node_is_healthy_and_runs_the_version_that_it_should(
    host: Any, container: dict[str, Any], variables: dict[str, Any], now: dict[str, str]
) -> None:
    def seen() -> tuple[str, set[str]]:
        """The node's health, and the versions of all nodes as it sees them."""
        health = f"docker inspect --format={{{{.State.Health.Status}}}} {container['Id']}"
        url = f"http://127.0.0.1:{variables['pickbox_dashboard_port']}/api/cluster"
        with urllib.request.urlopen(url, timeout=10) as answer:
            nodes = json.load(answer)["nodes"]
        return host.check_output(health), {node["version"] for node in nodes}

    expected = ("healthy", {now["version"]})
    deadline = time.monotonic() + 60
    while (last := seen()) != expected and time.monotonic() < deadline:
        time.sleep(0.5)
    assert last == expected


def test_the_process_is_of_its_user_and_may_nothing(host: Any, container: dict[str, Any]) -> None:
    status = status_of(host, container)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {USER}
    kinds = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {int(status[kind], 16) for kind in kinds} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_nothing_can_be_written_but_data_and_tmp(
    host: Any, container: dict[str, Any], home: Path, name: str
) -> None:
    node = home / "nodes" / name
    for path in ("/new", "/opt/pickbox/new", node / "config/new", node / "config/node.toml"):
        assert inside(host, container, f"sh -c ': >>{path}'").rc != 0
    for path in ("/tmp/new", node / "data/new"):
        assert inside(host, container, f"sh -c ': >>{path} && rm {path}'").rc == 0


def test_it_has_the_limits_of_the_inventory(
    container: dict[str, Any], prefix: str, name: str
) -> None:
    limits = container["HostConfig"]
    assert limits["Memory"] == limits["MemorySwap"] == 512 << 20
    assert limits["CpuQuota"] / limits["CpuPeriod"] == 2.0
    assert limits["PidsLimit"] == 256
    assert limits["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "20m", "max-file": "4", "tag": f"pickbox-{prefix}-{name}"},
    }
    assert limits["RestartPolicy"]["Name"] == "unless-stopped"
    assert container["Config"]["StopTimeout"] == 15


def test_the_network_of_the_nodes_leads_nowhere_else(
    host: Any, container: dict[str, Any], prefix: str
) -> None:
    assert set(container["NetworkSettings"]["Networks"]) == {f"{prefix}-nodes", f"{prefix}-edge"}
    (nodes,) = json.loads(host.check_output(f"docker network inspect {prefix}-nodes"))
    assert nodes["Internal"] is True


def test_a_node_is_known_by_its_name_in_that_network_alone(
    host: Any, container: dict[str, Any], prefix: str, name: str
) -> None:
    address = container["NetworkSettings"]["Networks"][f"{prefix}-nodes"]["IPAddress"]
    found = inside(host, container, f"getent ahostsv4 {name}").stdout.splitlines()
    assert {line.split()[0] for line in found} == {address}


def test_what_clients_use_is_published_on_the_hosts_address_and_nothing_else(
    container: dict[str, Any], variables: dict[str, Any]
) -> None:
    bound = container["HostConfig"]["PortBindings"]
    assert bound == {
        f"{variables[port]}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(variables[port])}]
        for port in PORTS
    }


def test_data_are_in_a_named_volume_and_the_rest_is_read_only(
    host: Any, container: dict[str, Any], home: Path, prefix: str, name: str
) -> None:
    mounts = {mount["Destination"]: mount for mount in container["Mounts"]}
    data = mounts.pop(f"{home}/nodes/{name}/data")
    assert (data["Type"], data["Name"], data["RW"]) == ("volume", f"{prefix}-{name}-data", True)
    assert {path: mount["RW"] for path, mount in mounts.items()} == {
        f"{home}/nodes/{name}/config": False,
        f"{home}/secrets": False,
    }
    assert host.file(f"{home}/nodes/{name}/data/identity.json").uid == int(USER)


def test_of_what_releases_are_made_of_only_the_present_base_stays(
    host: Any, home: Path, prefix: str
) -> None:
    assert not host.file(f"{home}/wheels").exists
    assert len(host.check_output(f"docker image ls --quiet {prefix}-python").split()) == 1


def test_of_earlier_containers_no_more_logs_are_kept_than_releases(
    host: Any, home: Path, name: str
) -> None:
    kept = host.check_output(f"find {home}/nodes/{name} -name *.log.gz").split()
    assert len(kept) <= 3


def test_the_token_is_in_a_file_and_nowhere_that_the_engine_shows(
    host: Any, container: dict[str, Any], home: Path
) -> None:
    file = host.file(f"{home}/secrets/admin_token")
    assert (file.uid, file.gid, file.mode) == (0, int(USER), 0o640)
    token = file.content_string.strip()
    assert len(token) >= 32
    assert token not in json.dumps(container)
    names = {variable.partition("=")[0] for variable in container["Config"]["Env"]}
    assert {found for found in names if found.startswith("PICKBOX")} == {
        "PICKBOX_CONFIG",
        "PICKBOX_RELEASE",
        "PICKBOX_SETTINGS_DIGEST",
    }
