"""The roles say what they take, and what they say is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

COLLECTION = Path("collections/ansible_collections/pickbox/cluster")
ROLES = sorted(path.name for path in (COLLECTION / "roles").iterdir())


def read(role: str, file: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((COLLECTION / "roles" / role / file).read_text())
    return document


DEFAULTS = {role: read(role, "defaults/main.yml") for role in ROLES}
SPECS = {role: read(role, "meta/argument_specs.yml")["argument_specs"] for role in ROLES}
OPTIONS = {
    role: {
        name: option for spec in SPECS[role].values() for name, option in spec["options"].items()
    }
    for role in ROLES
}


def includes(node: Any) -> set[tuple[str, str]]:
    """Role of this collection and entry point, of every inclusion in a YAML document."""
    if isinstance(node, list):
        return {found for item in node for found in includes(item)}
    if not isinstance(node, dict):
        return set()
    found = {pair for value in node.values() for pair in includes(value)}
    role = node.get("ansible.builtin.include_role")
    if role and role["name"].startswith("pickbox.cluster."):
        found.add((role["name"].removeprefix("pickbox.cluster."), role.get("tasks_from", "main")))
    return found


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_described_and_everything_described_has_a_default(role: str) -> None:
    assert OPTIONS[role].keys() == DEFAULTS[role].keys()


@pytest.mark.parametrize(("role", "name"), [(r, n) for r in ROLES for n in sorted(DEFAULTS[r])])
def test_a_described_default_is_the_default(role: str, name: str) -> None:
    for entry_point in SPECS[role].values():
        if name in entry_point["options"]:
            assert entry_point["options"][name]["default"] == DEFAULTS[role][name]
            assert entry_point["options"][name]["description"].strip()


@pytest.mark.parametrize(("role", "name"), [(r, n) for r in ROLES for n in sorted(DEFAULTS[r])])
def test_every_entry_point_takes_the_same_values(role: str, name: str) -> None:
    options = [spec["options"][name] for spec in SPECS[role].values() if name in spec["options"]]
    assert all(option == options[0] for option in options)


def test_no_two_roles_have_a_variable_of_the_same_name() -> None:
    names = [name for role in ROLES for name in DEFAULTS[role]]
    assert len(names) == len(set(names))


def test_secrets_are_kept_out_of_the_output_of_the_argument_check() -> None:
    options = {name: option for role in ROLES for name, option in OPTIONS[role].items()}
    urls = ("_webhook_url", "_slack_url", "_watchdog_url")
    ends = ("_token", "_password", "_backup_environment", *urls)
    secrets = {name for name in options if name.endswith(ends)}
    assert {name for name, option in options.items() if option.get("no_log")} == secrets
    assert secrets


def test_every_entry_point_that_is_used_is_specified_and_every_other_has_a_use() -> None:
    files = [*COLLECTION.glob("playbooks/**/*.yml"), *COLLECTION.glob("roles/*/tasks/**/*.yml")]
    used = {pair for file in files for pair in includes(yaml.safe_load(file.read_text()))}
    assert used == {(role, name) for role in ROLES for name in SPECS[role]}


@pytest.mark.parametrize("role", ROLES)
def test_every_specified_entry_point_exists(role: str) -> None:
    tasks = COLLECTION / "roles" / role / "tasks"
    assert all((tasks / f"{name}.yml").is_file() for name in SPECS[role])


def test_every_runtime_can_do_what_the_entry_points_ask_for() -> None:
    tasks = COLLECTION / "roles/node/tasks"
    asked = {
        line.partition("{{ pickbox_runtime }}/")[2].rstrip('"')
        for file in tasks.glob("*.yml")
        for line in file.read_text().splitlines()
        if "{{ pickbox_runtime }}/" in line
    }
    assert asked
    for runtime in OPTIONS["node"]["pickbox_runtime"]["choices"]:
        assert asked <= {path.name for path in (tasks / runtime).iterdir()}
