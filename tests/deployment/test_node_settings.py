"""What the role writes into a node's settings about where it is reached."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pickbox.settings import Settings, load_settings

MEMBERS = {"name": "pickbox.cluster.node", "tasks_from": "members"}
TEMPLATE = Path("roles/node/templates/node.toml.j2").resolve()
HOST = "192.0.2.1"
APART = {"node1": {"ansible_host": HOST}, "node2": {"ansible_host": "192.0.2.2"}}
DOCKER = {"pickbox_runtime": "docker"}


def written(directory: Path, hosts: dict[str, Any], **variables: Any) -> Path:
    """The settings of node1 of a cluster of `hosts`."""
    play = {
        "hosts": "pickbox",
        "gather_facts": False,
        "tasks": [
            # Its specification has defaults of facts, which this does not need.
            {"ansible.builtin.import_role": {**MEMBERS, "rolespec_validate": False}},
            {
                "ansible.builtin.template": {
                    "src": str(TEMPLATE),
                    "dest": f"{directory}/{{{{ inventory_hostname }}}}.toml",
                    "mode": "0600",
                }
            },
        ],
    }
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    (directory / "hosts.yml").write_text(yaml.safe_dump({"pickbox": {"hosts": hosts}}))
    given = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "pickbox_home": "/srv/pickbox",
        **variables,
    }
    command = [Path(sys.executable).parent / "ansible-playbook", f"-i{directory}/hosts.yml"]
    done = subprocess.run(
        [*command, "--extra-vars", json.dumps(given), directory / "play.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory / "node1.toml"


def together() -> dict[str, Any]:
    """The nodes of the inventory that comes with Pickbox, on one Docker host."""
    nodes: dict[str, Any] = yaml.safe_load(Path("inventories/docker/hosts.yml").read_text())
    return {
        name: {**variables, "ansible_host": HOST}
        for name, variables in nodes["pickbox"]["hosts"].items()
    }


def loaded(config: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As the node reads them."""
    monkeypatch.setenv("PICKBOX_ADMIN_TOKEN", "0123456789abcdef")
    return load_settings(config)


def test_containers_of_one_machine_say_where_they_are_published_and_meet_in_their_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = loaded(written(tmp_path, together(), **DOCKER), monkeypatch)
    urls = (settings.client_url, settings.admin_url, settings.monitor_url)
    assert urls == (f"http://{HOST}:8080", f"https://{HOST}:9001", f"http://{HOST}:6001")
    met = {name: peer.address for name, peer in settings.peers.items()}
    assert met == {"node1": "node1:8001", "node2": "node2:8002", "node3": "node3:8003"}


@pytest.mark.parametrize("runtime", ["systemd", "docker"])
def test_nodes_whose_peers_reach_them_where_all_do_are_told_nothing_new(
    tmp_path: Path, runtime: str
) -> None:
    """Another line would be another digest, for which every node is restarted."""
    config = written(tmp_path, APART, pickbox_runtime=runtime)
    assert "advertised_host" not in config.read_text()


def test_what_the_inventory_says_of_it_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"pickbox_settings": {"advertised_host": "files.example"}}
    settings = loaded(written(tmp_path, together(), **DOCKER, **chosen), monkeypatch)
    assert settings.client_url == "http://files.example:8080"
