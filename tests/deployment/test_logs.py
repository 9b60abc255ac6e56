"""The logs of all nodes in one file: real rsyslog, set up by the collection's own playbook."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from authority import Authority
from cluster import wait_until
from collected import PATH, Logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster import Cluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def logs(module_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logs]:
    assert shutil.which("rsyslogd", path=PATH), "apt-get install rsyslog rsyslog-gnutls"
    files = [node.log for node in module_cluster]
    made = Logs(tmp_path_factory.mktemp("logs"), files)
    with made.running():
        yield made


def test_one_query_reads_the_path_of_a_change_through_all_nodes(
    cluster: Cluster, logs: Logs
) -> None:
    taking, *_ = cluster
    answer = taking.put("followed", b"content")
    request_id = answer.headers["X-Request-Id"]

    def trail() -> set[tuple[str, str]]:
        found = [event for event in logs.events() if event.get("request_id") == request_id]
        return {(event["event"], event["node"]) for event in found}

    expected = {("change_applied", node.node_id) for node in cluster}
    expected.add(("change_proposed", taking.node_id))
    wait_until(lambda: trail() == expected, "all of its events are in one file")


def test_each_line_arrives_as_the_node_wrote_it(cluster: Cluster, logs: Logs) -> None:
    taking, *_ = cluster
    name = 'a "quoted" name, ünïcode and %n'
    taking.put("a%20%22quoted%22%20name%2C%20%C3%BCn%C3%AFcode%20and%20%25n", b"content")
    own = [event for event in taking.events() if event.get("path") == name]
    assert own
    wait_until(lambda: all(event in logs.events() for event in own), "they are collected")


def test_what_is_logged_while_nobody_takes_it_arrives_later(cluster: Cluster, logs: Logs) -> None:
    taking, *_ = cluster
    logs.collector.stop()
    ids = [taking.put(f"late {number}", b"x").headers["X-Request-Id"] for number in range(20)]
    logs.collector.start()
    wait_until(
        lambda: set(ids) <= {event.get("request_id") for event in logs.events()},
        "what waited is collected",
        seconds=60,
    )


@pytest.mark.parametrize("trusted", [True, False], ids=["its CA", "another CA"])
def test_over_tls_only_the_collector_of_the_right_ca_is_sent_anything(
    cluster: Cluster, tmp_path: Path, *, trusted: bool
) -> None:
    own = Authority(tmp_path / "own").issue("collector", hosts=("localhost",))
    other = Authority(tmp_path / "other").issue("collector", hosts=("localhost",))
    logs = Logs(tmp_path, [node.log for node in cluster])
    logs.variables["pickbox"] = {
        "pickbox_logs_target": "localhost",
        "pickbox_logs_ca": str(own.ca if trusted else other.ca),
    }
    logs.variables["pickbox_logs"] = {
        "pickbox_logs_certificate": str(own.certificate),
        "pickbox_logs_key": str(own.key),
    }
    with logs.running():
        if trusted:
            wait_until(logs.events, "events arrive")
        else:
            complaints = logs.sender.complaints
            wait_until(lambda: "certificate" in complaints.read_text(), "the sender refuses it")
            assert logs.events() == []


@pytest.mark.parametrize("mode", [(), ("--check",)], ids=["run", "check"])
def test_a_second_run_changes_nothing(logs: Logs, mode: tuple[str, ...]) -> None:
    again = logs.play(*mode)
    assert again.code == 0, again.output
    assert "changed=0" in again.output
    assert "changed=1" not in again.output


def test_without_a_receiver_it_says_how_to_name_one(logs: Logs) -> None:
    refused = logs.play("--extra-vars=pickbox_logs_target=")
    assert refused.code != 0
    assert "put a host into the group pickbox_logs" in refused.output
