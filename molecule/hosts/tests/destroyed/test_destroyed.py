"""Nothing of the cluster is left on its hosts but its user, with the backups, and who watched."""

from __future__ import annotations

import os
from typing import Any

testinfra_hosts = ["ansible://pickbox?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

# What is mounted is not looked through, but for /var/lib, which is a volume here.
FIND = "find / /var/lib -xdev"

# Those stay that gather metrics and logs, as docs/operations/teardown.md says.
WATCHING = {
    "/etc/systemd/system/prometheus-node-exporter.service.d/pickbox.conf",
    "/etc/systemd/journald@pickbox.conf.d",
    "/etc/systemd/journald@pickbox.conf.d/pickbox-logs.conf",
    "/etc/rsyslog.d/10-pickbox-send.conf",
}


def test_nothing_has_its_name_but_those_who_watch(host: Any) -> None:
    with host.sudo():
        found = host.check_output(f"{FIND} -iname '*pickbox*'").splitlines()
    assert set(found) <= WATCHING


def test_nothing_belongs_to_its_user(host: Any) -> None:
    with host.sudo():
        assert host.check_output(f"{FIND} -user pickbox -o -group pickbox") == ""
    assert not host.process.filter(user="pickbox")


def test_systemd_knows_nothing_of_it(host: Any) -> None:
    for listed in [
        "list-units --all",
        "list-unit-files",
        "list-timers --all",
        "list-sockets --all",
    ]:
        assert "pickbox" not in host.check_output(f"systemctl {listed} --no-legend --no-pager")
    assert host.check_output("systemctl is-system-running") == "running"


def test_none_of_its_ports_is_listened_at(host: Any) -> None:
    listening = host.check_output("ss --listening --tcp --numeric --no-header")
    ports = {line.split()[3].rpartition(":")[2] for line in listening.splitlines()}
    assert not ports & {"8001", "9001", "6001", "8080"}
    assert "22" in ports


def test_the_user_is_there_and_cannot_log_in(host: Any) -> None:
    user = host.user("pickbox")
    assert user.shell == "/usr/sbin/nologin"
    with host.sudo():
        assert user.password.startswith("!")


def test_the_backups_are_there(host: Any) -> None:
    with host.sudo():
        assert "config" in host.file("/srv/shared/backups").listdir()
        assert host.file("/srv/shared/backups").user == "pickbox"
