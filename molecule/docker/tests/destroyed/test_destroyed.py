"""After a teardown with the data, the engine knows nothing of the cluster but who watched it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

testinfra_hosts = ["ansible://pickbox?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]


@pytest.mark.parametrize("command", ["volume ls", "network ls"], ids=lambda command: command[:6])
def test_nothing_of_the_engine_has_the_name(host: Any, prefix: str, command: str) -> None:
    assert host.check_output(f"docker {command} --quiet --filter name=^{prefix}-") == ""


def test_of_the_containers_those_that_watch_are_left(host: Any, prefix: str) -> None:
    command = f"docker container ls --all --format {{{{.Names}}}} --filter name=^{prefix}-"
    watch = {f"{prefix}-{name}" for name in ("prometheus", "alertmanager", "grafana")}
    assert set(host.check_output(command).split()) == watch


def test_no_image_of_a_release_is_left(host: Any, prefix: str) -> None:
    for name in (prefix, f"{prefix}-backup", f"{prefix}-python"):
        assert host.check_output(f"docker image ls --quiet {name}") == ""


def test_no_data_and_no_secrets_are_left(host: Any, home: Path, name: str) -> None:
    for path in ("secrets", f"nodes/{name}", "releases", "compose.yaml"):
        assert not host.file(f"{home}/{path}").exists
