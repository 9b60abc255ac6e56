"""What Compose runs is what the role runs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

testinfra_hosts = ["ansible://pickbox?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

STATE = Path(os.environ["PICKBOX_TEST_STATE"])
# What decides on what a node may do and what it has.
CONFIG = ["Image", "Entrypoint", "Cmd", "User", "Healthcheck", "StopSignal", "StopTimeout"]
HOST_CONFIG = [
    "ReadonlyRootfs",
    "CapAdd",
    "CapDrop",
    "SecurityOpt",
    "Privileged",
    "Memory",
    "MemorySwap",
    "CpuQuota",
    "CpuPeriod",
    "PidsLimit",
    "LogConfig",
    "RestartPolicy",
    "PortBindings",
    "Tmpfs",
    "IpcMode",
    "PidMode",
    "UsernsMode",
]


def described(container: dict[str, Any], name: str) -> dict[str, Any]:
    """A container without what differs between any two."""
    config, host = container["Config"], container["HostConfig"]
    labels = config["Labels"].items()
    networks = container["NetworkSettings"]["Networks"].items()
    return {
        **{key: config[key] for key in CONFIG},
        **{key: host[key] for key in HOST_CONFIG},
        "Env": sorted(config["Env"]),
        "Labels": {k: v for k, v in labels if not k.startswith("com.docker.compose.")},
        "Networks": {key: name in (network["Aliases"] or []) for key, network in networks},
        "Mounts": sorted((m["Type"], m["Destination"], m["RW"]) for m in container["Mounts"]),
        "Volumes": sorted(m["Name"] for m in container["Mounts"] if m["Type"] == "volume"),
    }


def test_compose_made_the_container(container: dict[str, Any], prefix: str) -> None:
    assert container["Config"]["Labels"]["com.docker.compose.project"] == prefix


def test_its_container_is_like_that_of_the_role(container: dict[str, Any], name: str) -> None:
    (made_by_role,) = json.loads((STATE / f"{name}.json").read_text())
    assert described(container, name) == described(made_by_role, name)


def test_the_nodes_go_on_with_their_data(host: Any, container: dict[str, Any]) -> None:
    def seen() -> tuple[int, str, str]:
        """What the node finds of itself, and its health as the engine sees it."""
        name = container["Name"].lstrip("/")
        probe = host.run(f"docker exec {name} pickbox doctor --probe")
        health = host.check_output(f"docker inspect --format={{{{.State.Health.Status}}}} {name}")
        return probe.rc, probe.stdout, health

    expected = (0, "", "healthy")
    deadline = time.monotonic() + 60
    while (last := seen()) != expected and time.monotonic() < deadline:
        time.sleep(0.5)
    assert last == expected
