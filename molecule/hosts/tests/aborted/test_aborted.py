"""An upgrade that failed at its first node: that one is as it was, the others never moved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

testinfra_hosts = ["ansible://pickbox?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

STATE = Path(os.environ["PICKBOX_TEST_STATE"])


def process(host: Any) -> str:
    return str(host.check_output("systemctl show pickbox --property=MainPID --value"))


def moved(host: Any, before: dict[str, str]) -> list[str]:
    hosts = {
        one.ansible.get_variables()["inventory_hostname"]: one
        for one in host.get_hosts(testinfra_hosts)
    }
    return [name for name, one in hosts.items() if process(one) != before[name]]


def test_one_node_was_restarted_and_no_other(host: Any, processes_before: dict[str, str]) -> None:
    assert len(moved(host, processes_before)) == 1


def test_what_the_operator_saw_names_the_node_and_what_it_runs_now(
    host: Any, processes_before: dict[str, str], now: dict[str, str]
) -> None:
    said = (STATE / "failed_upgrade.txt").read_text()
    (name,) = moved(host, processes_before)
    assert name in said
    assert now["version"] in said
    assert "this release of a test is never ready" in said
    assert "It has its old release" in " ".join(said.split())
    assert list(STATE.glob("evidence/*/what-happened.txt"))
