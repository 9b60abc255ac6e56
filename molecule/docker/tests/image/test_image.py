"""The image that the role has made, as it is without any node."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

testinfra_hosts = ["ansible://node1?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

BILL = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"], "artifacts/image.cdx.json")
USER = "10001"
ADDED_MAX = 80_000_000


@pytest.fixture
def image(host: Any, container: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(host.check_output(f"docker image inspect {container['Image']}"))[0])


@pytest.fixture
def bill() -> dict[str, str]:
    """Version of each component of the bill of materials, by its kind and name."""
    addresses = [component["purl"] for component in json.loads(BILL.read_text())["components"]]
    pairs = (address.partition("?")[0].rpartition("@") for address in addresses)
    return {name: version for name, _, version in pairs}


def test_it_says_what_it_is(image: dict[str, Any], container: dict[str, Any]) -> None:
    labels = image["Config"]["Labels"]
    release = container["Config"]["Image"].rpartition(":")[2]
    assert labels["org.opencontainers.image.version"] == release
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.base.name"] == "debian:bookworm-slim"
    assert image["Config"]["User"] == f"{USER}:{USER}"
    assert image["Config"]["Healthcheck"]["Test"] == ["CMD", "pickbox", "doctor", "--probe"]


def test_little_is_added_to_the_base(host: Any, image: dict[str, Any]) -> None:
    command = f"docker history --human=false --format {{{{.Size}}}} {image['Id']}"
    *added, _base = [int(size) for size in host.check_output(command).split()]
    assert sum(added) < ADDED_MAX


@pytest.mark.parametrize("program", ["pip", "gcc", "curl"])
def test_it_has_no_tool_that_a_node_does_not_need(
    host: Any, image: dict[str, Any], program: str
) -> None:
    run = "docker run --rm --network=none --entrypoint=sh"
    assert host.run(f"{run} {image['Id']} -c 'command -v {program}'").rc == 127


def test_without_settings_it_says_what_is_missing(host: Any, image: dict[str, Any]) -> None:
    said = host.run(f"docker run --rm --network=none --read-only --cap-drop=ALL {image['Id']}")
    assert said.rc == 78
    assert "PICKBOX_CONFIG" in said.stderr


def test_its_bill_of_materials_names_wheels_and_packages(
    container: dict[str, Any], bill: dict[str, str]
) -> None:
    release = container["Config"]["Image"].rpartition(":")[2]
    assert bill["pkg:pypi/pickbox"] == release.rsplit("-", 2)[0]
    assert {"pkg:pypi/cryptography", "pkg:pypi/pysyncobj", "pkg:deb/debian/python3.11"} <= set(bill)
    assert not {"pkg:pypi/pip", "pkg:pypi/pygments"} & set(bill)
