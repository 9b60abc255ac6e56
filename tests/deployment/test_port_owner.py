"""A port in use is named with its owner."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml
from ansible_collections.pickbox.cluster.plugins.modules.port_owner import (
    Owner,
    find_owners,
    is_expected,
    listeners,
)
from ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["127.0.0.1", "::1"])
def listening_port(request: pytest.FixtureRequest) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((request.param, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_the_process_that_listens_is_found(listening_port: int) -> None:
    (owner,) = find_owners({"raft": listening_port})
    assert (owner.purpose, owner.port, owner.pid) == ("raft", listening_port, os.getpid())
    assert owner.command == " ".join(psutil.Process().cmdline())


@pytest.mark.parametrize(
    ("listens", "wanted", "free"),
    [
        ("127.0.0.1", "127.0.0.2", True),
        ("127.0.0.1", "::1", True),
        ("::1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", False),
        ("::1", "::1", False),
        ("::ffff:127.0.0.1", "127.0.0.1", False),
        ("0.0.0.0", "127.0.0.2", False),
        ("::", "127.0.0.2", False),
        ("127.0.0.1", "0.0.0.0", False),
        ("127.0.0.1", "localhost", False),
        ("127.0.0.1", "no-such-host.invalid", False),
        ("127.0.0.1", "", False),
    ],
)
def test_who_listens_at_another_address_leaves_the_port_free(
    listens: str, wanted: str, free: bool
) -> None:
    with socket.socket(socket.AF_INET6 if ":" in listens else socket.AF_INET) as listener:
        listener.bind((listens, 0))
        listener.listen()
        owners = find_owners({"raft": listener.getsockname()[1]}, address=wanted)
    assert (owners == []) is free


def test_a_node_is_deployed_to_a_port_that_is_free_at_its_address() -> None:
    preflight = Path(
        "collections/ansible_collections/pickbox/cluster/roles/node/tasks/preflight.yml"
    )
    (asked,) = [
        task["pickbox.cluster.port_owner"]
        for task in yaml.safe_load(preflight.read_text())
        if "pickbox.cluster.port_owner" in task
    ]
    assert "pickbox_listen_address" in asked["address"]


def test_a_port_that_is_only_bound_or_connected_is_free() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert find_owners({"raft": bound.getsockname()[1]}) == []


def test_a_free_port_has_no_owner(listening_port: int) -> None:
    asked = {"raft": listening_port, "admin": free_ports(1)[0]}
    assert [owner.purpose for owner in find_owners(asked)] == ["raft"]


def test_the_sentence_names_port_purpose_process_and_user() -> None:
    owner = Owner("raft", 8001, 4711, "nc -l 8001", "ann")
    assert owner.sentence() == "port 8001 (raft) is held by pid 4711 (nc -l 8001) of user ann"


def test_a_process_that_cannot_be_seen_is_told_by_its_user(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
        "   0: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000 "
        "    0        0 99 1\n"
    )
    assert listeners(str(tmp_path)) == {8001: [("99", 0)]}
    (owner,) = find_owners({"raft": 8001}, str(tmp_path))
    assert owner.pid is None
    assert owner.sentence() == (
        "port 8001 (raft) is held by a process of user root, which only that user and root can see"
    )


@pytest.mark.parametrize(
    ("pid", "user", "expected"),
    [
        (os.getpid(), "whoever", True),
        (1, getpass.getuser(), False),
        (None, getpass.getuser(), True),
        (None, "whoever", False),
    ],
    ids=["that process", "another one", "one of its user", "one of another user"],
)
def test_an_expected_process_is_known_by_its_id_or_else_by_its_user(
    pid: int | None, user: str, expected: bool
) -> None:
    owner = Owner("raft", 8001, pid, "", user)
    assert is_expected(owner, os.getpid()) is expected
    assert not is_expected(owner, None)
