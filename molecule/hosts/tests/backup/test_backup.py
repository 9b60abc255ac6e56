"""A backup is in the repository, every node would make the next one, and nothing else is left."""

from __future__ import annotations

import json
import os
from typing import Any

testinfra_hosts = ["ansible://pickbox?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

AS_NODE = "runuser -u pickbox -- /etc/pickbox/backup/pickbox-backup"
METRICS = "/var/lib/prometheus/node-exporter/pickbox_backup.prom"


def test_the_timer_runs_and_starts_with_the_host(host: Any) -> None:
    timer = host.service("pickbox-backup.timer")
    assert timer.is_running
    assert timer.is_enabled
    elapses = "systemctl show pickbox-backup.timer --property=NextElapseUSecRealtime --value"
    assert host.check_output(elapses)


def test_what_the_timer_starts_has_succeeded(host: Any) -> None:
    service = "systemctl show pickbox-backup.service -p ExecMainStatus -p Result --value"
    assert set(host.check_output(service).split()) == {"0", "success"}


def test_of_all_timers_one_has_made_a_backup(host: Any) -> None:
    """The others let the first follower do it."""
    said = []
    for one in host.get_hosts(testinfra_hosts):
        with one.sudo():
            last = one.check_output(
                "systemctl show pickbox-backup.service --property=InvocationID --value"
            )
            command = f"journalctl _SYSTEMD_INVOCATION_ID={last} --output=cat --no-pager"
            said += one.check_output(command).splitlines()
    made = [line for line in said if line.startswith("snapshot ")]
    left = [line for line in said if line.startswith("nothing to do here")]
    assert (len(made), len(left)) == (1, 2)


def test_every_node_sees_the_last_backup_of_the_day(host: Any) -> None:
    """The one that the operator made before has been removed: one a day is kept."""
    with host.sudo():
        told = json.loads(host.check_output(f"{AS_NODE} snapshots --json"))
    (snapshot,) = told["snapshots"]
    assert snapshot["cluster"] == "hosts"
    assert int(snapshot["index"]) > 0


def test_no_point_is_left(host: Any) -> None:
    with host.sudo():
        assert host.file("/var/lib/pickbox/backups").listdir() == []


def test_the_service_can_read_its_settings_and_nobody_else(host: Any) -> None:
    with host.sudo():
        told = host.check_output(
            "cd /etc/pickbox/backup && stat -c '%U %G %a' environment password repository"
        )
    assert told.splitlines() == ["root pickbox 640"] * 3


def test_the_repository_is_for_the_service_user_alone(host: Any) -> None:
    with host.sudo():
        directory = host.file("/srv/shared/backups")
        assert (directory.user, directory.mode) == ("pickbox", 0o700)


def test_the_node_exporter_can_tell_when_the_last_one_was_made(host: Any) -> None:
    """Of each that has made one, since the leader may have moved. Others have an empty file."""
    last = []
    for one in host.get_hosts(testinfra_hosts):
        with one.sudo():
            lines = one.check_output(f"runuser -u prometheus -- cat {METRICS}").splitlines()
        last += [line for line in lines if line.startswith("pickbox_backup_last_success")]
    assert last
    assert min(float(line.split()[-1]) for line in last) > 1.7e9
