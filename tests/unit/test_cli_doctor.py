"""``pickbox doctor`` and ``pickbox serve``: what is wrong is named, with what to do about it."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from authority import DECADE, Authority, tls_settings
from cli_node import running_node
from cli_run import Ran, environment, pickbox_command
from ports import free_ports

from pickbox.cli import probe
from pickbox.settings import Settings
from pickbox.storage.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli_catalog import Node

SECRETS = {"PICKBOX_ADMIN_TOKEN": "a-token-for-tests-only"}


@pytest.fixture
def node() -> Iterator[Node]:
    with running_node() as node:
        yield node


def checks(ran: Ran) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in ran.json["checks"]}


def test_a_healthy_node_passes_every_check(node: Node) -> None:
    ran = pickbox_command("doctor", "--json", node=node)
    assert ran.code == 0
    assert ran.json["ok"] is True
    assert {check["level"] for check in ran.json["checks"]} == {"ok"}
    assert {"monitor API", "client API", "admin API", "ready", "clock", "versions"} <= set(
        checks(ran)
    )


def test_a_node_that_drains_fails_with_its_reasons(node: Node) -> None:
    node.draining = True
    ran = pickbox_command("doctor", node=node)
    assert ran.code == 1
    assert "The node is draining." in ran.stdout.decode()


def test_no_leader_fails(node: Node) -> None:
    node.leader = None
    found = checks(pickbox_command("doctor", "--json", node=node))
    assert found["leader"]["level"] == found["quorum"]["level"] == "failed"


def test_versions_that_differ_and_a_wrong_clock_are_warnings(node: Node) -> None:
    node.node_versions = ("0.1.0", "0.2.0", "0.1.0")
    node.clock_offset = -120
    ran = pickbox_command("doctor", "--json", node=node)
    assert ran.code == 0
    assert "node2 0.2.0" in checks(ran)["versions"]["detail"]
    assert "behind" in checks(ran)["clock"]["detail"]
    assert checks(ran)["clock"]["level"] == "warn"


def test_a_wrong_token_is_found(node: Node) -> None:
    ran = pickbox_command("doctor", "--json", node=node, env={"PICKBOX_ADMIN_TOKEN": "wrong"})
    assert ran.code == 1
    assert checks(ran)["admin API"]["level"] == "failed"


def test_a_node_that_is_not_there_exits_with_69() -> None:
    nowhere = {f"PICKBOX_{name}URL": "http://127.0.0.1:1" for name in ("", "ADMIN_", "MONITOR_")}
    assert pickbox_command("doctor", env=nowhere).code == 69


def test_a_probe_prints_nothing_and_exits_with_0_or_1(node: Node) -> None:
    assert pickbox_command("doctor", "--probe", node=node) == Ran(0, b"", "")
    node.draining = True
    assert pickbox_command("doctor", "--probe", node=node) == Ran(1, b"", "")
    gone = {"PICKBOX_MONITOR_URL": "http://127.0.0.1:1"}
    assert pickbox_command("doctor", "--probe", env=gone) == Ran(1, b"", "")


@dataclass(frozen=True)
class Config:
    """A node.toml with ports that were free a moment ago."""

    file: Path
    ports: dict[str, int]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    names = ("port", "admin_port", "monitor_port", "dashboard_port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    files = Authority(tmp_path / "tls").issue("node1", ends=DECADE)
    lines = [f"{name} = {number}" for name, number in ports.items()]
    lines += [
        'node_id = "node1"',
        f'data_dir = "{tmp_path / "data"}"',
        f'peers = {{node1 = "127.0.0.1:{ports["port"]}"}}',
        'cluster_name = "test"',
        *(f'{name} = "{file}"' for name, file in tls_settings(files).items()),
    ]
    (tmp_path / "node.toml").write_text("\n".join(lines))
    return Config(tmp_path / "node.toml", ports)


def test_good_settings_with_free_ports_pass(config: Config) -> None:
    ran = pickbox_command("doctor", "--json", "--config", config.file, env=SECRETS)
    assert ran.code == 0
    found = checks(ran)
    assert found["data_dir"]["detail"].endswith("will be made at the first start")
    assert all(found[f"{name} {port}"]["detail"] == "free" for name, port in config.ports.items())


def test_a_probe_asks_the_node_that_its_settings_describe(node: Node, config: Config) -> None:
    settings = {**SECRETS, "PICKBOX_CONFIG": str(config.file)}
    assert pickbox_command("doctor", "--probe", env=settings) == Ran(1, b"", "")
    settings["PICKBOX_MONITOR_PORT"] = port_of(node)
    assert pickbox_command("doctor", "--probe", env=settings) == Ran(0, b"", "")
    node.draining = True
    assert pickbox_command("doctor", "--probe", env=settings) == Ran(1, b"", "")


def port_of(node: Node) -> str:
    return node.monitor_url.rpartition(":")[2]


@pytest.fixture
def probed(node: Node, tmp_path: Path) -> dict[str, str]:
    """The environment of a container in which `node` runs."""
    file = tmp_path / "node.toml"
    file.write_text(f'host = "0.0.0.0"\nmonitor_port = {port_of(node)}\n')
    return {"PICKBOX_CONFIG": str(file)}


def test_a_probe_finds_the_node_of_a_file_however_it_is_asked(probed: dict[str, str]) -> None:
    assert pickbox_command("doctor", "--probe", env=probed) == Ran(0, b"", "")
    named = ("--config", probed["PICKBOX_CONFIG"])
    assert pickbox_command("doctor", "--probe", *named) == Ran(0, b"", "")
    assert pickbox_command("--timeout", "3", "doctor", *named, "--probe") == Ran(0, b"", "")


@pytest.mark.parametrize(
    "settings",
    [
        {"PICKBOX_CONFIG": "/nowhere/node.toml"},
        {"PICKBOX_CONFIG": __file__},
        {"PICKBOX_MONITOR_PORT": "eighty"},
        {"PICKBOX_HOST": "no host"},
    ],
)
def test_a_probe_of_settings_that_no_node_has_fails_in_silence(
    probed: dict[str, str], settings: dict[str, str]
) -> None:
    ran = pickbox_command("doctor", "--probe", env={**probed, **settings})
    assert ran == Ran(1, b"", "")


@pytest.mark.parametrize("host", ["::", "::1"])
def test_a_probe_finds_a_node_that_listens_on_ipv6(tmp_path: Path, host: str) -> None:
    with ipv6_node() as port:
        file = tmp_path / "node.toml"
        file.write_text(f'host = "{host}"\n')
        settings = {"PICKBOX_CONFIG": str(file), "pickbox_monitor_port": str(port)}
        assert pickbox_command("doctor", "--probe", env=settings) == Ran(0, b"", "")


@contextlib.contextmanager
def ipv6_node() -> Iterator[int]:
    """The port of something that says that it is ready, once."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(30)


def test_a_probe_takes_for_granted_what_the_settings_do() -> None:
    for name, default in (("host", probe._HOST), ("monitor_port", probe._MONITOR_PORT)):
        assert Settings.model_fields[name].default == default


def test_a_probe_loads_neither_the_command_line_nor_the_settings(probed: dict[str, str]) -> None:
    program = (
        "import runpy, sys\n"
        "sys.argv[1:] = ['doctor', '--probe']\n"
        "try: runpy.run_module('pickbox', run_name='__main__')\n"
        "except SystemExit: print(*sys.modules)\n"
    )
    command = [sys.executable, "-c", program]
    variables = {**environment(), **probed}
    ran = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    loaded = set(ran.stdout.split())
    assert "pickbox.cli.probe" in loaded, ran.stderr
    ours = {name for name in loaded if name.startswith("pickbox.")}
    assert ours <= {"pickbox.__main__", "pickbox.cli", "pickbox.cli.probe"}
    assert not loaded & {"click", "pydantic", "urllib3", "rich", "asyncio"}


def test_a_certificate_that_ends_soon_is_a_warning_and_a_bad_one_a_failure(config: Config) -> None:
    tls = Authority(config.file.parent / "tls")
    tls.issue("node1")
    ran = pickbox_command("doctor", "--json", "--config", config.file, env=SECRETS)
    assert (ran.code, checks(ran)["certificate"]["level"]) == (0, "warn")
    tls.issue("node1", "pickbox://test/node2")
    ran = pickbox_command("doctor", "--json", "--config", config.file, env=SECRETS)
    assert (ran.code, checks(ran)["certificate"]["level"]) == (1, "failed")
    assert "is of pickbox://test/node2" in checks(ran)["certificate"]["detail"]


def test_wrong_settings_exit_with_78_and_name_the_variable(config: Config) -> None:
    variables = {**SECRETS, "PICKBOX_LOG_LEVEL": "loud"}
    ran = pickbox_command("doctor", "--config", config.file, env=variables)
    assert ran.code == 78
    assert "PICKBOX_LOG_LEVEL: found 'loud'" in ran.stdout.decode()


def test_a_port_that_is_taken_is_named_with_its_owner(config: Config) -> None:
    port = config.ports["monitor_port"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        ran = pickbox_command("doctor", "--json", "--config", config.file, env=SECRETS)
    assert ran.code == 1
    found = checks(ran)[f"monitor_port {port}"]
    assert f"pid {os.getpid()}" in found["detail"]
    assert "set another monitor_port" in found["advice"]


def test_data_that_needs_another_release_is_found_before_a_node_is_started(config: Config) -> None:
    data = config.file.parent / "data"
    data.mkdir()
    Catalog(str(data / "catalog.db")).close()
    ran = pickbox_command("doctor", "--json", "--config", config.file, env=SECRETS)
    assert (ran.code, checks(ran)["release"]["level"]) == (0, "ok")
    with contextlib.closing(sqlite3.connect(data / "catalog.db")) as db:
        statement = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
        db.executemany(statement, [("level", 99), ("level_release", "9.9.0")])
        db.commit()
    ran = pickbox_command("doctor", "--json", "--config", config.file, env=SECRETS)
    assert (ran.code, checks(ran)["release"]["level"]) == (1, "failed")
    assert "start release 9.9.0 or a later one" in checks(ran)["release"]["detail"]


def test_neither_doctor_nor_recover_touch_the_data_of_a_newer_major_release(config: Config) -> None:
    data = config.file.parent / "data"
    data.mkdir()
    (data / "release.json").write_text('{"format": 1, "release": "99.0.1", "newest": "99.0.1"}')
    ran = pickbox_command("doctor", "--json", "--config", config.file, env=SECRETS)
    assert (ran.code, checks(ran)["release"]["level"]) == (1, "failed")
    arguments = ("recover", "--config", config.file, "--accept-copy", "--yes")
    ran = pickbox_command(*arguments, env=SECRETS)
    assert ran.code == 78
    assert "was written by release 99.0.1" in ran.stderr
    assert [path.name for path in data.iterdir()] == ["release.json"]


def test_a_data_directory_that_is_a_file_is_refused(config: Config) -> None:
    (config.file.parent / "data").touch()
    ran = pickbox_command("doctor", "--json", "--config", config.file, env=SECRETS)
    assert ran.code == 1
    assert "is not a directory" in checks(ran)["data_dir"]["detail"]


def test_a_secret_that_others_can_read_is_a_warning(config: Config) -> None:
    token = config.file.parent / "token"
    token.write_text("a-token-for-tests-only")
    token.chmod(0o644)
    variables = {"PICKBOX_ADMIN_TOKEN_FILE": str(token)}
    ran = pickbox_command("doctor", "--json", "--config", config.file, env=variables)
    assert ran.code == 0
    assert checks(ran)["admin_token_file"]["level"] == "warn"


def test_the_ports_of_a_running_node_are_its_own_and_it_is_examined(config: Config) -> None:
    # Something that listens under a node's command line, and answers nothing.
    listen = (
        "import socket, sys\n"
        "sockets = [socket.create_server(('127.0.0.1', int(p))) for p in sys.argv[3:]]\n"
        "print('up', flush=True)\n"
        "sys.stdin.read()\n"
    )
    script = config.file.parent / "listen.py"
    script.write_text(listen)
    command = [sys.executable, str(script), "pickbox", "serve", *map(str, config.ports.values())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"up\n"
        started = time.monotonic()
        arguments = ("doctor", "--json", "--timeout", "1", "--config", config.file)
        ran = pickbox_command(*arguments, env=SECRETS)
        assert other.stdin is not None
        other.stdin.close()
    assert checks(ran)[f"port {config.ports['port']}"]["detail"] == f"a node runs (pid {other.pid})"
    assert ran.code == 69
    assert "did not answer within 1 s" in checks(ran)["client API"]["detail"]
    assert time.monotonic() - started < 30


def test_serve_with_wrong_settings_exits_with_78_and_a_line_a_problem() -> None:
    ran = pickbox_command("serve", env={"PICKBOX_PORT": "eighty", **SECRETS})
    assert ran.code == 78
    lines = ran.stderr.splitlines()
    assert any(line.startswith("PICKBOX_NODE_ID: not set") for line in lines)
    assert any(line.startswith("PICKBOX_PORT: found 'eighty'") for line in lines)


def test_serve_names_the_setting_of_a_data_directory_that_cannot_be(config: Config) -> None:
    data = config.file.parent / "data"
    data.touch()
    ran = pickbox_command("serve", "--config", config.file, env=SECRETS)
    assert ran.code == 78
    assert ran.stderr == (
        f"PICKBOX_DATA_DIR: found '{data}', which cannot be made (File exists); "
        "allowed is a directory that this user can write\n"
    )


def test_serve_names_a_config_that_is_missing() -> None:
    ran = pickbox_command("serve", "--config", "/nowhere/node.toml")
    assert ran.code == 78
    assert "/nowhere/node.toml" in ran.stderr


def test_the_command_does_not_inherit_settings_of_the_tests() -> None:
    assert not any(name.startswith("PICKBOX_") for name in environment())
