"""What is told to systemd, and when."""

from __future__ import annotations

import errno
import os
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from cluster import wait_until
from service_manager import Notifications
from transport_nodes import quickest

from pickbox.sd_notify import ServiceManager
from pickbox.status import Joining

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WATCHDOG = 0.4
LEADERLESS = Joining("no leader is known")
SETTLING = Joining("the folder is compared with the log", needs_time=True)


@dataclass
class Joiner:
    """A node whose state the tests set."""

    state: Joining = field(default_factory=Joining)
    is_live: bool = True
    told: str = "ready,\nfollows node2"
    asked: int = 0

    def live(self) -> bool:
        self.asked += 1
        return self.is_live

    def become_hung(self) -> None:
        """Return when whoever asks has heard that the node is not live."""
        self.is_live = False
        asked = self.asked
        wait_until(lambda: self.asked > asked + 1, "it was asked whether it is live")

    def joining(self) -> Joining:
        return self.state

    def summary(self) -> str:
        return self.told


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Notifications]:
    abstract = f"@pickbox-{uuid.uuid4().hex}"
    with Notifications(str(tmp_path / "s") if request.param == "path" else abstract) as socket:
        yield socket


def manager(systemd: Notifications, **variables: str) -> ServiceManager:
    return ServiceManager.from_environment({"NOTIFY_SOCKET": systemd.address, **variables})


def test_ready_is_said_once_the_node_has_joined_and_never_again(systemd: Notifications) -> None:
    node = Joiner(LEADERLESS)
    manager(systemd).follow(node)
    assert systemd.next() == ["STATUS=no leader is known"]
    node.state = Joining()
    ready = ["READY=1", f"MAINPID={os.getpid()}", "STATUS=ready, follows node2"]
    assert systemd.next() == ready
    node.state, node.told = LEADERLESS, "not ready: no leader is known"
    assert systemd.next() == ["STATUS=not ready: no leader is known"]


def test_only_a_node_that_waits_for_nobody_asks_for_more_time(systemd: Notifications) -> None:
    node = Joiner(LEADERLESS)
    manager(systemd).follow(node)
    systemd.until("STATUS=no leader")
    node.state = SETTLING
    assert systemd.until("EXTEND_TIMEOUT_USEC=") == "EXTEND_TIMEOUT_USEC=30000000"
    assert systemd.heard[0] == "STATUS=no leader is known"
    node.become_hung()
    systemd.drain()
    node.told = "not hung any more"
    node.state = Joining()
    assert systemd.next()[0] == "READY=1"


def test_a_sign_of_life_comes_twice_as_often_as_asked_while_the_node_lives(
    systemd: Notifications,
) -> None:
    node = Joiner()
    manager(systemd, WATCHDOG_USEC=str(int(WATCHDOG * 1e6))).follow(node)
    systemd.until("WATCHDOG=1")

    def until_the_next() -> float:
        began = time.monotonic()
        systemd.until("WATCHDOG=1")
        return time.monotonic() - began

    assert quickest(until_the_next, 8) < 0.75 * WATCHDOG
    node.become_hung()
    systemd.drain()
    with pytest.raises(TimeoutError):
        systemd.until("WATCHDOG=1", 2 * WATCHDOG)
    node.is_live = True
    systemd.until("WATCHDOG=1")


def test_a_node_that_stops_says_so_and_gives_signs_of_life_until_it_has(
    systemd: Notifications,
) -> None:
    node = Joiner()
    told = manager(systemd, WATCHDOG_USEC=str(int(WATCHDOG * 1e6)))
    told.follow(node)
    systemd.until("READY=1")
    node.is_live = False
    told.stopping("the disk refuses")
    systemd.until("STOPPING=1")
    assert systemd.heard[-1] == "STATUS=failed: the disk refuses"
    node.told = "another"
    for _ in range(3):
        assert systemd.next() == ["WATCHDOG=1"]


@pytest.mark.parametrize("meant_for", ["1", "x"])
def test_a_watchdog_of_another_process_is_not_this_ones(
    systemd: Notifications, meant_for: str
) -> None:
    told = manager(systemd, WATCHDOG_USEC="20000", WATCHDOG_PID=meant_for)
    node = Joiner()
    told.follow(node)
    systemd.until("READY=1")
    node.told = "later"
    systemd.until("STATUS=later")
    systemd.drain()
    assert "WATCHDOG=1" not in systemd.heard


def test_the_variables_are_not_left_for_children(systemd: Notifications) -> None:
    environment = {
        "NOTIFY_SOCKET": systemd.address,
        "WATCHDOG_USEC": "1000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    ServiceManager.from_environment(environment)
    assert environment == {"PATH": "/bin"}


def test_a_check_that_fails_is_told_and_ends_nothing(systemd: Notifications) -> None:
    class Broken(Joiner):
        def joining(self) -> Joining:
            if self.is_live:
                raise OSError("the disk refuses")
            return Joining()

    node = Broken()
    manager(systemd).follow(node)
    assert systemd.next() == ["STATUS=its state is not known: the disk refuses"]
    node.is_live = False
    systemd.until("READY=1")


def test_what_could_not_be_said_is_said_again(tmp_path: Path) -> None:
    node = Joiner()
    address = str(tmp_path / "s")
    ServiceManager.from_environment({"NOTIFY_SOCKET": address}).follow(node)
    wait_until(lambda: node.asked > 1, "it was tried, and once more")
    with Notifications(address) as systemd:
        ready = ["READY=1", f"MAINPID={os.getpid()}", "STATUS=ready, follows node2"]
        assert systemd.next() == ready
        node.told = "later"
        assert systemd.next() == ["STATUS=later"], "and only once"


def test_one_that_does_not_read_holds_up_neither_the_stop_nor_later_signs_of_life(
    systemd: Notifications, caplog: pytest.LogCaptureFixture
) -> None:
    node = Joiner()
    told = manager(systemd, WATCHDOG_USEC=str(int(WATCHDOG * 1e6)))
    systemd.fill()
    told.follow(node)
    asked = node.asked
    wait_until(lambda: node.asked > asked + 2, "signs of life are tried again")
    began = time.monotonic()
    told.stopping("")
    assert time.monotonic() - began < 5.0
    full = {"why": os.strerror(errno.EAGAIN)}
    warnings = [r for r in caplog.records if r.message == "notify_socket_unusable"]
    assert [r.__dict__["fields"] for r in warnings].count(full) == 1, "said once"
    systemd.drain()
    systemd.until("WATCHDOG=1")


def test_ready_is_said_though_a_check_failed_when_the_node_had_joined(
    systemd: Notifications,
) -> None:
    class Broken(Joiner):
        def live(self) -> bool:
            if not super().live():
                raise OSError("the disk refuses")
            return True

    node = Broken(is_live=False)
    manager(systemd).follow(node)
    assert systemd.next() == ["STATUS=its state is not known: the disk refuses"]
    node.is_live = True
    systemd.until("READY=1")


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nowhere/at/all"])
def test_without_a_listener_nothing_happens(address: str) -> None:
    variables = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"}
    told = ServiceManager.from_environment(variables)
    told.follow(Joiner())
    began = time.monotonic()
    told.stopping("")
    assert time.monotonic() - began < 5.0
