"""Which ports of a node's host are opened to whom, by the rules that the role writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path("collections/ansible_collections/pickbox/cluster/roles/node").resolve()
NODES = {"node1": "192.0.2.1", "node2": "192.0.2.2"}
WATCHER, BALANCER, OPERATOR = "192.0.2.20", "192.0.2.30", "192.0.2.40"


def inventory(watched: dict[str, Any]) -> dict[str, Any]:
    """Two nodes, the first of which collects the logs, a balancer, and a host of Prometheus."""
    nodes = {name: {"ansible_host": address} for name, address in NODES.items()}
    return {
        "pickbox": {"hosts": nodes},
        "pickbox_logs": {"hosts": {"node1": {}}},
        "pickbox_balancer": {"hosts": {"balancer": {"ansible_host": BALANCER}}},
        "pickbox_prometheus": {"hosts": {"watcher": {"ansible_host": WATCHER, **watched}}},
    }


def run_play(
    directory: Path, play: dict[str, Any], watched: dict[str, Any], variables: dict[str, Any]
) -> None:
    """Run a play on the nodes of the inventory."""
    (directory / "play.yml").write_text(yaml.safe_dump([play]))
    (directory / "hosts.yml").write_text(yaml.safe_dump(inventory(watched)))
    given = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "pickbox_runtime": "systemd",
        **variables,
    }
    command = [Path(sys.executable).parent / "ansible-playbook", f"-i{directory}/hosts.yml"]
    subprocess.run(
        [*command, "--extra-vars", json.dumps(given), directory / "play.yml"],
        check=True,
        capture_output=True,
    )


def opened(directory: Path, watched: dict[str, Any]) -> dict[str, dict[int, set[str]]]:
    """Who reaches each port that is not open to all, by node; nobody else does.

    With firewalld it is the same, and its rules are told from those that are not of Pickbox.
    """
    play = {
        "hosts": "pickbox",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
        "tasks": [
            {"ansible.builtin.include_tasks": str(ROLE / "tasks/known.yml")},
            {
                "ansible.builtin.template": {
                    "src": str(ROLE / "templates/firewall.nft.j2"),
                    "dest": f"{directory}/{{{{ inventory_hostname }}}}.nft",
                    "mode": "0644",
                }
            },
            {
                "ansible.builtin.copy": {
                    "content": "{{ [__node_rich_rule_of_ours] + __node_rich_rules }}",
                    "dest": f"{directory}/{{{{ inventory_hostname }}}}.rich",
                    "mode": "0644",
                }
            },
        ],
    }
    run_play(directory, play, watched, {"pickbox_firewall_monitors": [OPERATOR]})
    found = {name: accepted((directory / f"{name}.nft").read_text()) for name in NODES}
    for name, ports in found.items():
        ours, *rules = json.loads((directory / f"{name}.rich").read_text())
        pairs = {(port, source) for port, sources in ports.items() for source in sources}
        assert {rich(rule) for rule in rules} == pairs
        assert all(re.search(ours, rule) for rule in rules)
        assert not re.search(ours, rules[0].replace('port="', 'port="1'))
    return found


def rich(rule: str) -> tuple[int, str]:
    """Port and source of a rule of firewalld's."""
    matched = re.search(r'source address="(.+)" port port="(\d+)"', rule)
    assert matched
    return int(matched[2]), matched[1]


def accepted(rules: str) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {int(p): set() for p in re.findall(r"dport (\d+) drop", rules)}
    for port, source in re.findall(r"dport (\d+) ip saddr (\S+) accept", rules):
        found[int(port)].add(source)
    return found


@pytest.fixture(scope="module")
def with_host_metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, set[str]]]:
    return opened(tmp_path_factory.mktemp("with"), {"pickbox_prometheus_host_metrics": True})


def test_each_port_of_a_node_is_for_whom_it_is_for(
    with_host_metrics: dict[str, dict[int, set[str]]],
) -> None:
    nodes = set(NODES.values())
    own = {port: with_host_metrics["node2"][port] for port in (8001, 9001, 6001, 8080)}
    assert own == {
        8001: nodes,
        9001: nodes,
        6001: nodes | {BALANCER, WATCHER, OPERATOR},
        8080: nodes | {BALANCER},
    }


def test_the_node_exporter_is_for_who_watches(
    with_host_metrics: dict[str, dict[int, set[str]]],
) -> None:
    for ports in with_host_metrics.values():
        assert ports[9100] == {WATCHER, OPERATOR}


def test_collected_logs_are_taken_from_nodes_alone(
    with_host_metrics: dict[str, dict[int, set[str]]],
) -> None:
    assert with_host_metrics["node1"][6514] == set(NODES.values())
    assert 6514 not in with_host_metrics["node2"]


def test_a_port_that_nothing_of_pickbox_listens_at_is_left_alone(tmp_path: Path) -> None:
    assert 9100 not in opened(tmp_path, {})["node2"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"pickbox_firewall_operators": ["192.0.2.0/24", "fd00::/8", "192.0.2.7-192.0.2.9"]}, ""),
        ({"pickbox_firewall_operators": ["192.0.2.7", "ops.example"]}, "ops.example"),
        ({"pickbox_host": "{{ inventory_hostname }}"}, "node1, node2"),
        ({"pickbox_host": "{{ inventory_hostname }}.fade.de"}, "node1.fade.de, node2.fade.de"),
        ({"pickbox_host": "{{ inventory_hostname }}", "pickbox_firewall": "none"}, ""),
    ],
)
def test_a_name_that_cannot_be_looked_up_when_the_host_starts_is_refused(
    tmp_path: Path, changes: dict[str, Any], names: str
) -> None:
    found = {
        "__node_ports": {"conflicts": []},
        "__node_interpreter": {},
        "__node_volumes": {"volumes": []},
    }
    problems = f"lookup('ansible.builtin.template', '{ROLE}/templates/problems.j2')"
    play = {
        "hosts": "pickbox",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
        "tasks": [
            {"ansible.builtin.include_tasks": str(ROLE / "tasks/known.yml")},
            {
                "ansible.builtin.copy": {
                    "content": f"{{{{ {problems} }}}}",
                    "dest": f"{tmp_path}/problems",
                    "mode": "0644",
                },
                "run_once": True,
            },
        ],
    }
    run_play(tmp_path, play, {}, {**found, "pickbox_firewall": "nftables", **changes})
    problems = json.loads((tmp_path / "problems").read_text())
    assert [re.findall("addresses for (.*), as", problem)[0] for problem in problems] == (
        [names] if names else []
    )
