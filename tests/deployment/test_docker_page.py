"""What the page about containers says is what the inventory and the roles do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

PAGE = Path("docs/operations/docker.md").read_text()
INVENTORY = Path("inventories/docker/hosts.yml").read_text()


@pytest.mark.parametrize("text", [PAGE, INVENTORY], ids=["page", "inventory"])
def test_all_that_is_of_this_machine_is_to_be_left_out_for_other_docker_hosts(text: str) -> None:
    given = yaml.safe_load(INVENTORY)["pickbox"]["vars"]
    local = {name for name in given if name.startswith("ansible_")} - {"ansible_host"}
    (said,) = [part for part in text.split("leave out ")[1:] if "ansible_" in part]
    assert [name for name in local if name not in said.split(";")[0].split(". ")[0]] == []
