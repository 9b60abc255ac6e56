"""The deployed cluster after its leader was killed under load."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

testinfra_hosts = ["ansible://pickbox?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

HOME = Path(os.environ["PICKBOX_TEST_HOME"])
ARRIVAL_SECONDS = 60.0
PORTS = ["pickbox_port", "pickbox_admin_port", "pickbox_monitor_port", "pickbox_dashboard_port"]


def process(host: Any, node: str) -> Any:
    """The one process that serves the node."""
    config = str(HOME / "nodes" / node / "node.toml")
    (found,) = [p for p in host.process.filter(comm="pickbox") if config in p.args]
    return found


def test_a_node_is_one_process_of_the_current_release(host: Any, node: str) -> None:
    release = host.file(str(HOME / "current")).linked_to
    own = HOME / "nodes" / node / "current"
    python, command = process(host, node).args.split()[:2]
    assert Path(python).parent == Path(release) / "bin"
    assert command == f"{own}/bin/pickbox"
    assert own.resolve() == Path(release).resolve()


@pytest.mark.parametrize("port", PORTS)
def test_each_port_is_listened_at_on_the_nodes_address_only(
    host: Any, variables: dict[str, Any], port: str
) -> None:
    assert host.socket(f"tcp://127.0.0.1:{variables[port]}").is_listening
    assert not host.socket(f"tcp://0.0.0.0:{variables[port]}").is_listening


def test_supervisors_socket_is_for_its_user_only(host: Any) -> None:
    assert host.file(str(HOME / "supervisor.sock")).mode == 0o700


@pytest.mark.parametrize("name", ["admin_token"])
def test_a_secret_is_long_and_for_its_user_only(host: Any, name: str) -> None:
    secret = host.file(str(HOME / "secrets" / name))
    assert secret.mode == 0o600
    assert len(secret.content_string.strip()) >= 32
    assert host.file(str(HOME / "secrets")).mode == 0o700


@pytest.mark.parametrize("name", ["admin_token"])
def test_no_secret_is_in_a_command_line_an_environment_or_a_log(
    host: Any, node: str, name: str
) -> None:
    secret = host.file(str(HOME / "secrets" / name)).content_string.strip()
    pid = process(host, node).pid
    for path in [f"/proc/{pid}/cmdline", f"/proc/{pid}/environ"]:
        assert secret.encode() not in Path(path).read_bytes()
    for text in ["node.toml", "node.log"]:
        assert secret not in host.file(str(HOME / "nodes" / node / text)).content_string


def test_a_private_key_is_for_its_user_only(host: Any, node: str) -> None:
    key = host.file(str(HOME / "nodes" / node / "tls" / "key.pem"))
    assert "PRIVATE KEY" in key.content_string
    assert key.mode == 0o600
    assert host.file(str(HOME / "certificates")).mode == 0o700


def test_the_leader_was_killed_and_files_were_acknowledged_before_and_after(
    record: dict[str, Any],
) -> None:
    assert record["pid"] > 0
    assert not Path(f"/proc/{record['pid']}").exists()
    assert record["after_kill"] > 0
    assert len(record["acknowledged"]) > record["after_kill"]
    assert len(record["folder"]) > 0


def test_a_leader_of_a_later_term_took_over(record: dict[str, Any]) -> None:
    assert record["successor"]
    assert record["term_after"] > record["term"]


def test_all_nodes_are_back_and_agree(cluster: dict[str, Any]) -> None:
    assert cluster["leader"] in {node["node_id"] for node in cluster["nodes"]}
    assert [node["ready"] for node in cluster["nodes"]] == [True, True, True]
    assert {node["leader"] for node in cluster["nodes"]} == {cluster["leader"]}


@pytest.mark.parametrize("way", ["acknowledged", "folder"])
def test_every_acknowledged_file_is_here(node: str, record: dict[str, Any], way: str) -> None:
    files = HOME / "nodes" / node / "data" / "files"
    expected = {files / name: digest for name, digest in record[way].items()}
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while (wrong := different(expected)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not wrong


def different(expected: dict[Path, str]) -> list[str]:
    """The files that are missing or have other content."""
    return [
        path.name
        for path, digest in expected.items()
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest
    ]
