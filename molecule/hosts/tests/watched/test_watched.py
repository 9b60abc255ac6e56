"""What the hosts say of themselves, and what the nodes log, on the host that gathers both."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

testinfra_hosts = [
    "ansible://pickbox_logs?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]
]

NODES = ("node1", "node2", "node3")
LOG = "/var/log/pickbox/cluster.jsonl"


def within(seconds: float, look: Callable[[], Any], expected: Any) -> Any:
    """What is seen: what is expected as soon as it is so, or the last that was seen."""
    deadline = time.monotonic() + seconds
    while (seen := look()) != expected and time.monotonic() < deadline:
        time.sleep(0.5)
    return seen


def test_the_metrics_of_every_host_are_read(host: Any) -> None:
    def healths() -> dict[str, str]:
        url = "http://127.0.0.1:9090/api/v1/targets?state=active"
        answer = json.loads(host.check_output(f"curl --silent --fail '{url}'"))
        targets = answer["data"]["activeTargets"]
        return {
            target["labels"].get("node", "no node"): target["health"]
            for target in targets
            if target["labels"]["job"] == "pickbox-hosts"
        }

    expected = dict.fromkeys((*NODES, "no node"), "up")
    assert within(60, healths, expected) == expected


def test_one_query_reads_the_path_of_a_change_through_all_hosts(host: Any) -> None:
    url = "http://127.0.0.1/api/v1/files/followed"
    put = f"echo hello | curl --silent --fail --include --upload-file - {url}"
    lines = [line.partition(": ") for line in host.check_output(put).splitlines()]
    (request_id,) = [value.strip() for name, _, value in lines if name.lower() == "x-request-id"]

    def trail() -> set[tuple[str, str]]:
        with host.sudo():
            found = host.run(f"grep --fixed-strings {request_id} {LOG}").stdout.splitlines()
        events = []
        for line in found:
            with contextlib.suppress(json.JSONDecodeError):  # the last may be being written
                events.append(json.loads(line))
        return {(event["event"], event["node"]) for event in events if event["path"] == "followed"}

    taken = {("change_applied", node) for node in NODES}
    seen = within(60, lambda: trail() >= taken, expected=True)
    assert seen, trail()
    assert {event for event, _ in trail()} == {"change_proposed", "change_applied"}


def test_its_size_is_looked_at_each_hour(host: Any) -> None:
    timer = host.service("logrotate.timer")
    assert timer.is_running
    assert timer.is_enabled
    shown = host.check_output("systemctl show --property=TimersCalendar logrotate.timer")
    assert "OnCalendar=hourly" in shown or "*-*-* *:00:00" in shown


def test_the_log_is_for_nobody_else_and_is_rotated(host: Any) -> None:
    with host.sudo():
        assert host.file(LOG).mode & 0o007 == 0
        assert host.file("/var/log/pickbox").mode == 0o750
        host.check_output("logrotate --force /etc/logrotate.d/pickbox")
        assert host.file(f"{LOG}.1").exists
    host.check_output(
        "echo rotated-since | curl --silent --fail --upload-file - http://127.0.0.1/api/v1/files/rotated-since"
    )

    def goes_on() -> bool:
        with host.sudo():
            return bool(host.run(f"grep --quiet rotated-since {LOG}").rc == 0)

    assert within(60, goes_on, expected=True), "what is logged after a rotation is in the new file"
