"""Prometheus and Alertmanager, as the roles have set them up, watch the containers."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from cluster import wait_until

from monitoring.monitored import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

testinfra_hosts = ["ansible://watcher?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

STATE = Path(os.environ["PICKBOX_TEST_STATE"])

log = logging.getLogger(__name__)  # figures, for --log-level=info


@pytest.fixture
def webhook(variables: dict[str, Any]) -> Iterator[Webhook]:
    url = urllib3.util.parse_url(variables["pickbox_alertmanager_webhook_url"])
    made = Webhook(url.port or 80)
    yield made
    made.stop()


@pytest.fixture
def watching() -> Iterator[None]:
    """Both programs, run by what the roles have written."""
    with ExitStack() as stack:
        for program in (STATE / "prometheus", STATE / "alertmanager"):
            output = stack.enter_context(program.with_suffix(".log").open("wb"))
            process = subprocess.Popen([program / "run"], cwd=program, stdout=output, stderr=output)
            stack.enter_context(process)
            stack.callback(process.terminate)
        yield


def healths(port: int) -> list[str]:
    """The health of each node, as Prometheus sees it; none before it is up."""
    url = f"http://127.0.0.1:{port}/api/v1/targets"
    try:
        answer = urllib3.request("GET", url, timeout=10.0, retries=False)
    except urllib3.exceptions.HTTPError:
        return []
    if answer.status != 200:
        return []
    targets = answer.json()["data"]["activeTargets"]
    return [one["health"] for one in targets if one["labels"]["job"] == "pickbox"]


@pytest.mark.usefixtures("watching")
@pytest.mark.timeout(300)
def test_who_is_on_call_is_told_of_a_killed_container_and_that_it_is_back(
    host: Any, variables: dict[str, Any], prefix: str, webhook: Webhook
) -> None:
    port = variables["pickbox_prometheus_port"]
    wait_until(lambda: healths(port) == ["up"] * 3, "all containers are read", 60)
    killed = time.monotonic()
    host.check_output(f"docker kill --signal=KILL {prefix}-node2")
    labels = {"alertname": "PickboxNodeDown", "node": "node2", "cluster": prefix}
    message = webhook.wait_for("firing", 120, **labels)
    log.info("from kill -9 to the webhook: %.1f s: %s", message.arrived - killed, message.document)
    host.check_output(f"docker start {prefix}-node2")
    webhook.wait_for("resolved", 120, **labels)
