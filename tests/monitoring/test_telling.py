"""A real Alertmanager alone: what it keeps from people, and how what it tells them reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cluster import wait_until
from monitored import Monitoring, Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = {"node1": (8001, 9001, 6001, 7001)}


@pytest.fixture(scope="module")
def slack() -> Iterator[Webhook]:
    """Takes what is meant for Slack."""
    made = Webhook()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def monitoring(slack: Webhook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    made = Monitoring(
        tmp_path_factory.mktemp("monitoring"),
        NODES,
        variables={
            "pickbox_alertmanager_slack_url": slack.url,
            "pickbox_alertmanager_slack_channel": "#operations",
            "pickbox_alertmanager_group_wait": 1,
        },
    )
    made.set_up()
    try:
        made.start_alertmanager()
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize(
    ("cause", "silenced"),
    [
        ("PickboxNoQuorum", {"NoLeader", "NodeNotReady", "ReplicationErrors"}),
        ("PickboxNoLeader", {"NodeNotReady", "ReplicationErrors"}),
    ],
)
def test_what_follows_from_a_cluster_that_takes_no_writes_is_silenced(
    monitoring: Monitoring, cause: str, silenced: set[str]
) -> None:
    names = {f"Pickbox{name}" for name in silenced}
    cluster = {"cluster": cause}  # one for each case
    monitoring.raise_alerts(
        {"alertname": cause, **cluster},
        {"alertname": "PickboxDiskNearlyFull", "node": "node1", **cluster},
        *({"alertname": name, "node": "node1", **cluster} for name in names),
    )
    expected = {cause: "active", "PickboxDiskNearlyFull": "active"}
    expected |= dict.fromkeys(names, "suppressed")
    wait_until(lambda: monitoring.states(**cluster) == expected, f"{names} are silenced")


def test_slack_is_told_of_each_alert_in_a_line_of_its_own(
    monitoring: Monitoring, slack: Webhook
) -> None:
    nodes = ("node1", "node2")
    labels = {"alertname": "PickboxFsyncSlow", "cluster": "two"}
    monitoring.raise_alerts(*({**labels, "node": node} for node in nodes))

    def told() -> list[str]:
        messages = [message.document["attachments"][0] for message in slack.messages]
        title = "FIRING: PickboxFsyncSlow (two)"
        return [message["text"] for message in messages if message["title"] == title]

    wait_until(told, "Slack is told")
    lines = told()[0].splitlines()
    assert lines == [f"{node} fails. So it is. r#{node}" for node in nodes]
