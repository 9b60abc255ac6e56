"""Real Prometheus and Alertmanager on a real cluster: what they see of it, and whom they tell.

They are set up by the roles, with times that do not keep a test waiting. The tests of this module
build on each other.
"""

from __future__ import annotations

import logging
import os
import re
import time
from typing import TYPE_CHECKING

import pytest
import urllib3
from authority import CLUSTER
from cluster import wait_until
from dashboard_queries import Asked, asked, offered
from monitored import TOKEN, Monitoring, Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster import Cluster, Node

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

JOB = "pickbox"

log = logging.getLogger(__name__)  # figures, for --log-level=info


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def heartbeats() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def monitoring(
    module_cluster: Cluster,
    webhook: Webhook,
    heartbeats: Webhook,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Monitoring]:
    made = Monitoring(
        tmp_path_factory.mktemp("monitoring"),
        {node.node_id: node.ports for node in module_cluster},
        node_variables={"pickbox_cluster_name": CLUSTER},
        variables={
            "pickbox_prometheus_interval": 1,
            "pickbox_prometheus_for": {"PickboxNodeDown": "2s"},
            "pickbox_alertmanager_group_wait": 1,
            "pickbox_alertmanager_group_interval": 1,
            "pickbox_alertmanager_webhook_url": webhook.url,
            "pickbox_alertmanager_webhook_token": TOKEN,
            "pickbox_alertmanager_watchdog_url": heartbeats.url,
            "pickbox_alertmanager_watchdog_interval": 1,
        },
    )
    said = made.set_up()
    assert "Prometheus does not run: start " in said
    try:
        made.start()
        yield made
    finally:
        made.stop()


def addresses(cluster: Cluster) -> dict[str, str]:
    """What all targets of the cluster look like when all is well."""
    return {node.monitor.removeprefix("http://"): "up" for node in cluster}


def test_every_node_is_read(cluster: Cluster, monitoring: Monitoring) -> None:
    expected = addresses(cluster)
    wait_until(lambda: monitoring.health(JOB) == expected, "all nodes are read")
    both = dict.fromkeys((f"127.0.0.1:{port}" for port in monitoring.ports), "up")
    wait_until(lambda: monitoring.health("pickbox-monitoring") == both, "so are both programs")
    wait_until(lambda: monitoring.figure("sum(pickbox_is_leader)") == "1", "one of them leads")


def test_the_rules_are_evaluated_and_nothing_is_wrong(
    cluster: Cluster, monitoring: Monitoring
) -> None:
    def healths() -> set[str]:
        groups = monitoring.ask("rules")["groups"]
        return {rule["health"] for group in groups for rule in group["rules"]}

    wait_until(lambda: healths() == {"ok"}, "every rule was evaluated, without an error")
    assert len(monitoring.ask("rules")["groups"]) == 4

    def active() -> set[str]:
        return {alert["labels"]["alertname"] for alert in monitoring.ask("alerts")["alerts"]}

    # The cluster has only just begun; and what is said of the disk is the machine's.
    disk = {"PickboxDiskNearlyFull", "PickboxDiskFull", "PickboxFsyncSlow"}
    try:
        wait_until(
            lambda: {"PickboxWatchdog"} <= active() <= disk | {"PickboxWatchdog"},
            "nothing is wrong",
        )
    except AssertionError:
        raise AssertionError(monitoring.ask("alerts")["alerts"]) from None


def answered(monitoring: Monitoring, query: Asked, node: str) -> list[float]:
    """The figures that a query of the dashboards finds now; one that is none is left out."""
    found = monitoring.ask("query", query=query.filled_in(cluster=CLUSTER, node=node))["result"]
    return [float(sample["value"][1]) for sample in found if sample["value"][1] != "NaN"]


def find_something(monitoring: Monitoring, queries: list[Asked], node: str) -> None:
    """Wait until each of the queries has found something; one that has is not asked again."""
    waiting = list(queries)

    def all_have() -> bool:
        waiting[:] = [query for query in waiting if not answered(monitoring, query, node)]
        return not waiting

    try:
        wait_until(all_have, "every panel shows something", pause=0.5)
    except AssertionError:
        raise AssertionError([query.where for query in waiting]) from None


def test_every_panel_of_the_dashboards_shows_something(
    cluster: Cluster, monitoring: Monitoring
) -> None:
    # A counter of requests is there from the first one on, and has a rate from the second.
    assert cluster["node1"].put("first", b"first").status == 201
    first = 'pickbox_http_requests_total{method="PUT"}'
    wait_until(lambda: monitoring.ask("query", query=first)["result"], "it was counted")
    for number, node in enumerate(cluster):
        assert node.put(f"content-{number}", os.urandom(300_000)).status == 201
        (node.files / f"dropped-{number}").write_bytes(b"dropped")
    cluster.wait_same()
    find_something(monitoring, [q for q in asked() if not q.waits_for_events], "node1")
    for name, series, label in offered():
        match = {"match[]": series.replace("$cluster", CLUSTER)}
        values = monitoring.ask(f"label/{label}/values", **match)
        assert values == {"cluster": [CLUSTER], "node": sorted(cluster.nodes)}[name]


def test_who_is_on_call_is_told_that_a_node_was_killed_and_that_it_is_back(
    cluster: Cluster, monitoring: Monitoring, webhook: Webhook
) -> None:
    node = cluster.leader()
    killed = time.monotonic()
    node.kill()
    labels = {"alertname": "PickboxNodeDown", "node": node.node_id, "cluster": CLUSTER}
    message = webhook.wait_for("firing", since=killed, **labels)
    log.info("from kill -9 to the webhook: %.1f s: %s", message.arrived - killed, message.document)
    assert message.authorization == f"Bearer {TOKEN}"
    (alert,) = message.of(**labels)
    assert alert["labels"]["severity"] == "critical"
    assert alert["annotations"]["summary"].startswith(f"Node {node.node_id} of cluster")
    assert alert["annotations"]["runbook_url"].endswith("alerts.md#pickboxnodedown")
    find_something(monitoring, [q for q in asked() if q.waits_for_events], node.node_id)
    _what_else_is_said_of_it_is_silenced(node, cluster, monitoring)
    mended = time.monotonic()
    cluster.heal()
    back = time.monotonic()
    resolved = webhook.wait_for("resolved", since=mended, **labels)
    log.info("from being ready again to the webhook: %.1f s", resolved.arrived - back)


def _what_else_is_said_of_it_is_silenced(
    node: Node, cluster: Cluster, monitoring: Monitoring
) -> None:
    other = next(one for one in cluster if one is not node)
    monitoring.raise_alerts(
        *(
            {"alertname": name, "cluster": CLUSTER, "node": one.node_id}
            for name, one in (("PickboxContentPending", node), ("PickboxFsyncSlow", other))
        )
    )
    expected = {
        "PickboxNodeDown": "active",
        "PickboxContentPending": "suppressed",
        "PickboxFsyncSlow": "active",
    }
    wait_until(
        lambda: monitoring.states().items() >= expected.items(), "its other alerts are silenced"
    )


def test_a_node_that_went_is_read_no_more_and_nothing_else_is_changed(
    cluster: Cluster, monitoring: Monitoring
) -> None:
    expected = addresses(cluster)
    expected.pop(cluster["node3"].monitor.removeprefix("http://"))
    loaded = "prometheus_config_last_reload_success_timestamp_seconds"
    before = monitoring.figure(loaded)
    del monitoring.nodes["node3"]
    said = monitoring.set_up()
    assert re.search(r"^watcher .*changed=1 ", said, re.MULTILINE), said
    wait_until(lambda: monitoring.health(JOB) == expected, "the files of targets are followed")
    assert monitoring.figure(loaded) == before


def test_a_heartbeat_service_hears_again_and_again_and_nobody_else_does(
    monitoring: Monitoring, webhook: Webhook, heartbeats: Webhook
) -> None:
    # What it sends before it has found Alertmanager, Prometheus sends again after a minute.
    heartbeats.wait_for("firing", seconds=90, alertname="PickboxWatchdog")
    before = len(heartbeats.messages)
    wait_until(lambda: len(heartbeats.messages) >= before + 3, "it hears of it again and again")
    others = {alert for message in heartbeats.messages for alert in message.alerts()}
    assert others == {"PickboxWatchdog"}
    assert "PickboxWatchdog" not in {
        alert for message in webhook.messages for alert in message.alerts()
    }


def test_a_scrape_is_small_and_quick(cluster: Cluster, monitoring: Monitoring) -> None:
    for node in cluster:
        began = time.monotonic()
        text = urllib3.request("GET", f"{node.monitor}/metrics").data
        milliseconds = 1000 * (time.monotonic() - began)
        series = sum(not line.startswith(b"#") for line in text.splitlines())
        figures = (node.node_id, len(text), series, milliseconds)
        log.info("%s: %d bytes, %d series, %.1f ms", *figures)
        assert series < 1500
        assert len(text) < 150_000
