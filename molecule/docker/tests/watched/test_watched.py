"""Prometheus, Alertmanager and Grafana, as the roles run them in containers, watch the nodes."""

from __future__ import annotations

import json
import logging
import os
import time
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
PROGRAMS = ("prometheus", "alertmanager", "grafana")

log = logging.getLogger(__name__)  # figures, for --log-level=info


@pytest.fixture(params=PROGRAMS)
def watcher(request: pytest.FixtureRequest, host: Any, prefix: str) -> dict[str, Any]:
    """What the engine says of a container that watches."""
    return dict(json.loads(host.check_output(f"docker inspect {prefix}-{request.param}"))[0])


@pytest.fixture
def webhook(variables: dict[str, Any]) -> Iterator[Webhook]:
    url = urllib3.util.parse_url(variables["pickbox_alertmanager_webhook_url"])
    made = Webhook(url.port or 80)
    yield made
    made.stop()


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


def test_what_watches_may_nothing_and_writes_only_what_it_stores(watcher: dict[str, Any]) -> None:
    limits = watcher["HostConfig"]
    assert watcher["State"]["Running"]
    assert limits["ReadonlyRootfs"]
    assert limits["CapDrop"] == ["ALL"]
    assert limits["SecurityOpt"] == ["no-new-privileges"]
    assert 0 < limits["Memory"] == limits["MemorySwap"]
    assert limits["PidsLimit"] == 512
    assert limits["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert limits["RestartPolicy"]["Name"] == "unless-stopped"
    assert watcher["Config"]["User"] in {"65534:65534", "472:0"}
    written = [mount["Source"] for mount in watcher["Mounts"] if mount["RW"]]
    assert [source.rpartition("/")[2] for source in written] == ["data"]


def test_secrets_are_in_files_that_only_the_program_reads(
    host: Any, watcher: dict[str, Any], variables: dict[str, Any], home: Path
) -> None:
    password = (STATE / "grafana-password").read_text().strip()
    for secret in (password, variables["pickbox_alertmanager_webhook_token"]):
        assert secret not in json.dumps(watcher)
    token = host.file(f"{home}-monitoring/alertmanager/secrets/webhook_token")
    assert (token.uid, token.mode) == (65534, 0o600)
    kept = host.file(f"{home}-monitoring/grafana/admin_password")
    assert (kept.uid, kept.gid, kept.mode) == (0, 0, 0o640)


def test_the_one_who_shows_has_read_the_dashboards_and_knows_its_administrator(
    variables: dict[str, Any],
) -> None:
    url = f"http://127.0.0.1:{variables['pickbox_grafana_port']}/api/search"
    password = (STATE / "grafana-password").read_text().strip()
    login = urllib3.make_headers(basic_auth=f"admin:{password}")
    found = urllib3.request("GET", url, headers=login, timeout=10.0).json()
    assert len({one["title"] for one in found}) == 5
    assert urllib3.request("GET", url, timeout=10.0).status == 401


@pytest.mark.timeout(300)
def test_who_is_on_call_is_told_of_a_killed_container_and_that_it_is_back(
    host: Any, variables: dict[str, Any], prefix: str, webhook: Webhook
) -> None:
    port = variables["pickbox_prometheus_port"]
    wait_until(lambda: healths(port) == ["up"] * 3, "all containers are read", 60)
    killed = time.monotonic()
    host.check_output(f"docker kill --signal=KILL {prefix}-node2")
    labels = {"alertname": "PickboxNodeDown", "node": "node2", "cluster": prefix}
    message = webhook.wait_for("firing", 120, since=killed, **labels)
    log.info("from kill -9 to the webhook: %.1f s: %s", message.arrived - killed, message.document)
    assert message.authorization == "Bearer of-the-webhook"
    started = time.monotonic()
    host.check_output(f"docker start {prefix}-node2")
    webhook.wait_for("resolved", 120, since=started, **labels)
