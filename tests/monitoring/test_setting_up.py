"""Setting the watching up, as it goes on a bad day."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from monitored import LOCAL, Monitoring

if TYPE_CHECKING:
    from pathlib import Path

NODES = {f"node{n}": (8000 + n, 9000 + n, 6000 + n, 7000 + n) for n in (1, 2, 3)}
WEBHOOK = {"pickbox_alertmanager_webhook_url": "http://127.0.0.1:1/"}


@pytest.mark.parametrize("down", [("node1",), ("node1", "node2", "node3")], ids=["one", "all"])
def test_nodes_whose_hosts_are_down_are_watched_all_the_same(
    tmp_path: Path, down: tuple[str, ...]
) -> None:
    monitoring = Monitoring(tmp_path, NODES, down=down, variables=WEBHOOK)
    monitoring.set_up()
    groups = json.loads((monitoring.prometheus / "targets/pickbox.json").read_text())
    targets = {group["labels"]["node"]: group["targets"] for group in groups}
    assert targets == {name: [f"127.0.0.1:{ports[2]}"] for name, ports in NODES.items()}


def exporters(monitoring: Monitoring) -> list[dict[str, str]]:
    """The labels of each node exporter that is read."""
    monitoring.set_up()
    groups = json.loads((monitoring.prometheus / "targets/pickbox-hosts.json").read_text())
    return [group["labels"] for group in groups]


@pytest.mark.parametrize("balancer", ["node1", "front"])
def test_a_host_of_one_node_has_its_label_when_the_balancer_is_there_too(
    tmp_path: Path, balancer: str
) -> None:
    monitoring = Monitoring(
        tmp_path,
        {"node1": NODES["node1"]},
        variables={**WEBHOOK, "pickbox_prometheus_host_metrics": True},
        balancers={balancer: {} if balancer == "node1" else LOCAL},
    )
    assert exporters(monitoring) == [{"cluster": "pickbox", "node": "node1"}]


def test_a_host_of_several_nodes_is_none_of_them(tmp_path: Path) -> None:
    variables = {**WEBHOOK, "pickbox_prometheus_host_metrics": True}
    monitoring = Monitoring(tmp_path, NODES, variables=variables, balancers={"front": LOCAL})
    assert exporters(monitoring) == [{"cluster": "pickbox"}]


def test_a_user_of_the_mail_server_without_a_password_is_refused(tmp_path: Path) -> None:
    email = {
        "pickbox_alertmanager_email_to": "operators@example.org",
        "pickbox_alertmanager_email_from": "pickbox@example.org",
        "pickbox_alertmanager_smtp_server": "mail.example.org:587",
        "pickbox_alertmanager_smtp_user": "pickbox",
    }
    monitoring = Monitoring(tmp_path, NODES, variables=email)
    done = monitoring.play("monitoring", "--check")
    said = " ".join(done.output.split())
    assert done.code != 0
    assert "Alertmanager was not touched" in said
    assert "pickbox_alertmanager_smtp_user wants pickbox_alertmanager_smtp_password" in said
    assert not monitoring.alertmanager.exists()
