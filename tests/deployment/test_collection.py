"""The collection is whole: versions agree, what it uses is declared, what it offers described."""

from __future__ import annotations

import functools
import importlib
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import pickbox

COLLECTION = Path("collections/ansible_collections/pickbox/cluster")
MODULES = sorted(path.stem for path in (COLLECTION / "plugins/modules").glob("*.py"))


def tasks_in(node: Any) -> list[dict[str, Any]]:
    """Every mapping in a YAML document."""
    if isinstance(node, dict):
        return [node] + [task for value in node.values() for task in tasks_in(value)]
    if isinstance(node, list):
        return [task for item in node for task in tasks_in(item)]
    return []


def collections_used() -> set[str]:
    """The collections whose modules tasks call, and whose roles they include, by full names."""
    files = [*COLLECTION.glob("playbooks/**/*.yml"), *COLLECTION.glob("roles/*/tasks/**/*.yml")]
    files += Path("molecule").glob("*/*.yml")
    return {
        name.rpartition(".")[0]
        for file in files
        for task in tasks_in(yaml.safe_load(file.read_text()))
        for name in [*map(str, task), task.get("ansible.builtin.include_role", {}).get("name", "")]
        if re.fullmatch(r"[a-z_]+\.[a-z_]+\.[a-z_]+", name)
    }


def test_the_collection_has_the_version_of_the_package() -> None:
    galaxy = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())
    assert galaxy["version"] == pickbox.__version__


def core_of(ansible: str) -> str:
    """The versions of ansible-core in a range of the package ansible: 12 has 2.19, 13 has 2.20."""
    return re.sub(r"\d+", lambda major: f"2.{int(major[0]) + 7}.0", ansible)


def required_collections() -> dict[str, str]:
    """What requirements.yml wants: a range of versions, by the collection's name."""
    required = yaml.safe_load(Path("requirements.yml").read_text())["collections"]
    return {collection["name"]: collection["version"] for collection in required}


def test_every_collection_that_is_used_is_required_in_the_same_versions() -> None:
    required = required_collections()
    assert required == yaml.safe_load((COLLECTION / "galaxy.yml").read_text())["dependencies"]
    assert collections_used() == {"ansible.builtin", "pickbox.cluster", *required}


@pytest.mark.parametrize("name", required_collections())
def test_a_required_collection_comes_with_the_package_ansible(name: str) -> None:
    manifest = f"ansible_collections/{name.replace('.', '/')}/MANIFEST.json"
    described = json.loads(Path(str(distribution("ansible").locate_file(manifest))).read_text())
    found = described["collection_info"]["version"]
    assert SpecifierSet(required_collections()[name]).contains(found)


def test_the_collection_and_the_package_want_the_same_ansible() -> None:
    runtime = yaml.safe_load((COLLECTION / "meta/runtime.yml").read_text())["requires_ansible"]
    extras = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    (wanted,) = (name for name in extras["deploy"] if name.startswith("ansible"))
    assert core_of(wanted.removeprefix("ansible")) == runtime


def test_the_package_ansible_has_the_core_that_is_expected_of_it() -> None:
    core, (major, *_) = version("ansible-core"), version("ansible").split(".")
    assert core.startswith(core_of(major).removesuffix("0"))


@functools.cache
def descriptions() -> dict[str, Any]:
    """What ansible-doc has on every module, by its full name."""
    shown = subprocess.run(
        [
            Path(sys.executable).parent / "ansible-doc",
            "--json",
            *(f"pickbox.cluster.{name}" for name in MODULES),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def description_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = descriptions()[f"pickbox.cluster.{name}"]
    return found


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_described_and_says_how_it_behaves_in_check_mode(name: str) -> None:
    description = description_of(name)
    assert description["doc"]["attributes"]["check_mode"]["support"] == "full"
    assert f"pickbox.cluster.{name}" in description["examples"]
    assert description["return"]


class Specified(Exception):
    """What a module tells AnsibleModule when it begins."""

    def __init__(self, argument_spec: dict[str, dict[str, Any]], **others: Any) -> None:
        super().__init__()
        self.options = argument_spec
        self.checks = others["supports_check_mode"]


def in_full(options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What options take, whether it is said or goes without saying."""
    usual = {"type": "str", "required": False, "default": None, "choices": None, "elements": None}
    return {
        name: {key: option.get(key, other) for key, other in usual.items()}
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_a_module_takes_what_its_description_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def specify(**specification: Any) -> None:
        raise Specified(**specification)

    module = importlib.import_module(f"ansible_collections.pickbox.cluster.plugins.modules.{name}")
    monkeypatch.setattr(module, "AnsibleModule", specify)
    with pytest.raises(Specified) as caught:
        module.main()
    assert caught.value.checks
    assert in_full(caught.value.options) == in_full(description_of(name)["doc"]["options"])


def test_the_changelog_names_every_module() -> None:
    changelog = (COLLECTION / "CHANGELOG.md").read_text()
    listed = re.search(r"^- Modules (.*); filter", changelog, re.MULTILINE)
    assert listed
    assert sorted(re.findall(r"`(\w+)`", listed[1])) == MODULES


def test_the_links_at_the_top_lead_into_the_collection() -> None:
    for name in ("roles", "playbooks"):
        assert Path(name).readlink() == COLLECTION / name


@pytest.mark.parametrize("kind", ["playbooks", "roles", "modules", "inventory", "lookup", "filter"])
def test_the_readme_names_everything_that_is_offered(kind: str) -> None:
    readme = (COLLECTION / "README.md").read_text()
    below = COLLECTION / (kind if kind in ("playbooks", "roles") else f"plugins/{kind}")
    names = [path.stem for path in below.iterdir() if kind == "roles" or path.is_file()]
    assert names
    for name in names:
        assert f"`pickbox.cluster.{name}`" in readme or f"`{name}`" in readme, name


def test_what_is_made_of_other_files_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "tools/generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_modules_that_take_the_admin_token_can_be_given_it_once() -> None:
    groups = yaml.safe_load((COLLECTION / "meta/runtime.yml").read_text())["action_groups"]
    paths = [COLLECTION / f"plugins/modules/{name}.py" for name in MODULES]
    assert groups == {
        "admin": [p.stem for p in paths if "- pickbox.cluster.admin_api\n" in p.read_text()]
    }


def test_an_execution_environment_has_what_the_control_node_needs() -> None:
    schemas = Path(str(distribution("ansible-lint").locate_file("ansiblelint/schemas")))
    described = yaml.safe_load((COLLECTION / "meta/execution-environment.yml").read_text())
    schema = json.loads((schemas / "execution-environment.json").read_text())
    jsonschema.validate(described, schema)
    needs = described["dependencies"]
    python = [line for line in read_lines(COLLECTION / needs["python"]) if line[0] != "#"]
    assert [Requirement(line).name for line in python] == ["cryptography", "pip", "requests"]
    package = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
    assert python[0] in package
    assert all(" [platform:" in line for line in read_lines(COLLECTION / needs["system"]))


def read_lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_no_task_asks_our_own_hosts_through_a_proxy_of_theirs() -> None:
    asking = [
        (str(file), task["name"], task["ansible.builtin.uri"].get("use_proxy"))
        for file in COLLECTION.glob("roles/*/tasks/**/*.yml")
        for task in tasks_in(yaml.safe_load(file.read_text()))
        if "ansible.builtin.uri" in task
    ]
    assert asking
    assert [task for task in asking if task[2] is not False] == []


def test_what_is_done_on_the_control_node_is_never_done_as_root() -> None:
    """An inventory's ansible_become would win over the keyword, and loses to a task's variable."""
    here = [
        (str(file), task["name"], task.get("become"), task.get("vars", {}).get("ansible_become"))
        for folder in ("roles/*/tasks", "playbooks")
        for file in COLLECTION.glob(f"{folder}/**/*.yml")
        for task in tasks_in(yaml.safe_load(file.read_text()))
        if task.get("delegate_to") == "localhost"
    ]
    assert here
    assert [task for task in here if task[2:] != (False, False)] == []


def test_no_test_lets_facts_be_variables() -> None:
    off = "ANSIBLE_INJECT_FACT_VARS"
    assert "inject_facts_as_vars = false" in read_lines(Path("ansible.cfg"))
    for scenario in Path("molecule").glob("*/molecule.yml"):
        assert yaml.safe_load(scenario.read_text())["ansible"]["env"][off] == "false"
    for helper in ("deployed.py", "control_node.py"):
        assert f'"{off}": "false"' in (Path("tests/deployment") / helper).read_text()


def test_the_practices_are_where_the_page_says() -> None:
    rows = re.findall(
        r"^\| \d+ \|.*$", Path("docs/reference/ansible-practices.md").read_text(), re.MULTILINE
    )
    assert [int(row.split("|")[1]) for row in rows] == [*range(1, 26), *range(1, 11)]
    for row in rows:
        if "branch" not in row:
            for name in re.findall(r"`([\w.-]+/[\w./-]+)`", row):
                assert Path(name).exists() or (COLLECTION / name).exists(), name
