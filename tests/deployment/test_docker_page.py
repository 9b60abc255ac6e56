"""What the page about containers says is what the inventory and the roles do."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

PAGE = Path("docs/operations/docker.md").read_text()
BACKUP = Path("roles/backup/vars/main.yml").read_text()
INVENTORY = Path("inventories/docker/hosts.yml").read_text()


@pytest.mark.parametrize("text", [PAGE, INVENTORY], ids=["page", "inventory"])
def test_all_that_is_of_this_machine_is_to_be_left_out_for_other_docker_hosts(text: str) -> None:
    given = yaml.safe_load(INVENTORY)["pickbox"]["vars"]
    local = {name for name in given if name.startswith("ansible_")} - {"ansible_host"}
    (said,) = [part for part in text.split("leave out ")[1:] if "ansible_" in part]
    assert [name for name in local if name not in said.split(";")[0].split(". ")[0]] == []


def test_backups_by_hand_are_made_in_the_container_that_the_role_makes_them_in() -> None:
    (shown,) = re.findall(r"^    (docker run (?:.*\\\n)+.* snapshots)$", PAGE, re.MULTILINE)
    by_hand = shlex.split(shown)
    command = yaml.safe_load(BACKUP)["__backup_container_command"]
    fixed = re.findall(r"'([a-z-][^' \\]*)'", command.partition("regex_replace")[0])
    assert len(fixed) > 10
    assert [word for word in fixed if not any(w.startswith(word) for w in by_hand)] == []
    assert by_hand[by_hand.index("--entrypoint=/bin/sh") + 1] == "$image"


def test_the_image_of_a_node_leads_to_that_of_its_backups() -> None:
    (edit,) = re.findall(r"\| (sed '.*')\)$", PAGE, re.MULTILINE)
    node = "box.example:5000/pickbox:0.1.0-9f80"
    made = subprocess.run(shlex.split(edit), input=node, text=True, capture_output=True, check=True)
    assert made.stdout == "box.example:5000/pickbox-backup:0.1.0-9f80"
