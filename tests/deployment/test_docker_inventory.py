"""What an inventory of containers may not say: refused before an engine is asked for anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from playbooks import run_playbook

if TYPE_CHECKING:
    from pathlib import Path


def inventory(directory: Path, **variables: Any) -> Path:
    """Three nodes, each on a Docker host of its own; Ansible reaches all of them here."""
    hosts = {f"node{number}": {"ansible_host": f"192.0.2.{number}"} for number in (1, 2, 3)}
    everywhere = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "pickbox_become": False,
        "pickbox_home": str(directory / "home"),
        "pickbox_runtime": "docker",
        **variables,
    }
    path = directory / "hosts.json"
    path.write_text(json.dumps({"pickbox": {"hosts": hosts, "vars": everywhere}}))
    return path


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"pickbox_container_together": True},
            "the Docker hosts 192.0.2.1 and 192.0.2.2 and 192.0.2.3 have no network in common",
        ),
        ({"pickbox_node_id": "node1"}, "the name node1 is there 3 times"),
    ],
)
def test_nodes_that_could_not_find_each_other_are_refused(
    tmp_path: Path, variables: dict[str, Any], said: str
) -> None:
    run = run_playbook(inventory(tmp_path, **variables), "--tags=plan", "pickbox.cluster.deploy")
    assert run.code != 0
    assert said in " ".join(run.output.split())
    assert not (tmp_path / "home").exists()
