"""What ansible-test sanity asks of a collection, without a download.

Of its 24 tests, 16 run as they are. The other 8 want to install what they need from the network
first. Of these the programs of four (validate-modules, runtime-metadata, yamllint, pep8) are run
directly here. ansible-doc is run by test_collection.py for modules and here for other plugins. What
import and pylint are for is seen to by other means, below and by ruff and mypy in tools/lint.
changelog looks at fragments of antsibull-changelog, and there are none.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COLLECTION = Path("collections/ansible_collections/pickbox/cluster")
NEED_DOWNLOAD = (
    "ansible-doc",
    "changelog",
    "import",
    "pep8",
    "pylint",
    "runtime-metadata",
    "validate-modules",
    "yamllint",
)
LICENSE = "missing-gplv3-license # the project is under Apache-2.0"
DOCUMENTED = ("inventory", "lookup", "modules")
"""Kinds of plugins, one a file, that validate-modules looks at."""


def plugins(*kinds: str) -> list[str]:
    """Paths of the plugins of these kinds in the collection."""
    found = [path for kind in kinds for path in COLLECTION.glob(f"plugins/{kind}/*.py")]
    return sorted(str(path.relative_to(COLLECTION)) for path in found)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection where ansible-test wants it, in a git tree of its own."""
    root = tmp_path_factory.mktemp("sanity") / "ansible_collections/pickbox/cluster"
    shutil.copytree(
        COLLECTION, root, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.tar.gz")
    )
    for command in (["git", "init", "--quiet"], ["git", "add", "--all"]):
        subprocess.run(command, cwd=root, check=True)
    return root


def run(tree: Path, *command: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in the collection, which is found by its name."""
    return subprocess.run(
        command,
        cwd=tree,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(tree.parents[2]),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


def check(tree: Path, program: str, *arguments: str, given: str = "") -> str:
    """What one of the programs of ansible-test finds."""
    package = importlib.util.find_spec("ansible_test")
    assert package is not None
    assert package.submodule_search_locations
    sanity = Path(package.submodule_search_locations[0]) / "_util/controller/sanity"
    done = run(tree, sys.executable, str(sanity / program), *arguments, given=given)
    assert not done.stderr
    return done.stdout


def test_ansible_test_finds_nothing(tree: Path) -> None:
    python = f"--python={sys.version_info.major}.{sys.version_info.minor}"
    skipped = [f"--skip-test={name}" for name in NEED_DOWNLOAD]
    done = run(tree, "ansible-test", "sanity", "--color=no", python, *skipped)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = run(tree, "ansible-test", "sanity", "--list-tests").stdout.split()
    ran = [name for name in listed if f'"{name}"' in done.stdout + done.stderr]
    assert sorted([*ran, *NEED_DOWNLOAD]) == sorted(listed)


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_descriptions_are_valid_and_only_the_license_is_another(tree: Path, kind: str) -> None:
    paths = plugins(kind)
    options = ["--format=json", "--arg-spec", "--collection-version=0.1.0"]
    options += ["--collection", "ansible_collections/pickbox/cluster"]  # it looks for two words
    if kind != "modules":
        options.append(f"--plugin-type={kind}")
    found = json.loads(check(tree, "validate-modules/validate.py", *options, *paths))
    told = [(path, error["code"]) for path, errors in found.items() for error in errors["errors"]]
    assert sorted(told) == [(path, "missing-gplv3-license") for path in paths]


def test_what_is_ignored_is_the_license_alone_and_says_why() -> None:
    for file in (COLLECTION / "tests/sanity").iterdir():
        for line in file.read_text().splitlines():
            assert line.endswith(f" validate-modules:{LICENSE}")


def test_the_runtime_metadata_are_valid(tree: Path) -> None:
    assert not check(tree, "code-smell/runtime-metadata.py", given="meta/runtime.yml")


def test_the_yaml_is_valid_inside_of_plugins_too(tree: Path) -> None:
    tracked = run(tree, "git", "ls-files", "*.yml", "plugins/*/*.py").stdout
    paths = [path for path in tracked.split() if "module_utils" not in path]
    found = json.loads(check(tree, "yamllint/yamllinter.py", given="\n".join(paths)))
    assert found["messages"] == []


def test_the_style_is_that_of_pep_8(tree: Path) -> None:
    # The codes are those that ansible-test ignores: they contradict each other, or formatters.
    ignored = "--ignore=E203,E402,E701,E704,E741,W503,W504"
    options = ("--max-line-length=160", "--config=/dev/null", ignored)
    done = run(tree, sys.executable, "-m", "pycodestyle", *options, "plugins")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("kind", ["inventory", "lookup"])
def test_a_plugin_is_shown_by_ansible_doc_with_examples(tree: Path, kind: str) -> None:
    names = [f"pickbox.cluster.{Path(path).stem}" for path in plugins(kind)]
    done = run(tree, "ansible-doc", f"--type={kind}", "--json", *names)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert sorted(shown) == names
    assert all(about["examples"] for about in shown.values())


def imported(path: Path) -> set[str]:
    """What a file imports at its top, outside of any try and if."""
    names: set[str] = set()
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Import):
            names.update(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            names.add(str(statement.module))
    return names


@pytest.mark.parametrize("path", plugins("modules", "module_utils"))
def test_what_runs_on_a_target_needs_only_python_and_ansible(path: str) -> None:
    ours = ("ansible.module_utils.", "ansible_collections.pickbox.cluster.plugins.module_utils")
    for name in imported(COLLECTION / path):
        known = name.partition(".")[0] in sys.stdlib_module_names
        assert known or name.startswith(ours), name
