"""Where nodes are, as the inventory says: which are on one machine, and what no node can be at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from playbooks import Run, run_playbook

ROLE = Path("collections/ansible_collections/pickbox/cluster/roles/node").resolve()
ADDRESS = "192.0.2.1"


def described(directory: Path, port: int | None, **variables: Any) -> Run:
    """Describe two nodes behind one address, and see that they can make a cluster.

    The second is reached at this SSH port, or at none of its own.
    """
    hosts = {name: {"ansible_host": ADDRESS} for name in ("node1", "node2")}
    if port:
        hosts["node2"]["ansible_port"] = str(port)
    inventory = directory / "hosts.json"
    inventory.write_text(json.dumps({"pickbox": {"hosts": hosts}}))
    given = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "pickbox_host": "{{ inventory_hostname }}",
        **variables,
    }
    play = {
        "hosts": "pickbox",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
        "tasks": [
            {"ansible.builtin.include_tasks": str(ROLE / "tasks/known.yml")},
            {"ansible.builtin.debug": {"msg": "together: {{ pickbox_container_together }}"}},
        ],
    }
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    return run_playbook(inventory, "--extra-vars", json.dumps(given), f"{directory}/play.yml")


@pytest.mark.parametrize("port", [None, 22])
def test_nodes_at_one_address_are_on_one_host(tmp_path: Path, port: int | None) -> None:
    run = described(tmp_path, port, pickbox_runtime="systemd")
    assert run.code != 0
    assert "node1 and node2 are on one host" in " ".join(run.output.split())


def test_nodes_behind_one_address_with_ssh_ports_of_their_own_are_on_two(tmp_path: Path) -> None:
    run = described(tmp_path, 2202, pickbox_runtime="systemd")
    assert run.code == 0, run.output


@pytest.mark.parametrize(("port", "together"), [(22, True), (2202, False)])
def test_so_are_the_docker_hosts_behind_one_address(
    tmp_path: Path, port: int, together: bool
) -> None:
    run = described(tmp_path, port, pickbox_runtime="docker")
    assert f"together: {together}" in run.output


def test_docker_hosts_are_named_with_their_ports(tmp_path: Path) -> None:
    run = described(tmp_path, 2202, pickbox_runtime="docker", pickbox_container_together=True)
    assert "the Docker hosts 192.0.2.1 and 192.0.2.1:2202" in " ".join(run.output.split())


@pytest.mark.parametrize("host", ["fd00::11", "[fd00::11]"])
def test_an_address_of_ipv6_is_refused_with_what_to_give(tmp_path: Path, host: str) -> None:
    run = described(tmp_path, 2202, pickbox_runtime="systemd", pickbox_host=host)
    assert run.code != 0
    said = f"node1 is to be reached at {host}, and an address of IPv6 is not taken: give it a name"
    assert said in " ".join(run.output.split())
