"""No task prints a secret: one that handles it has no_log, or shows no difference of the file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTION = Path("collections/ansible_collections/pickbox/cluster")
FILES = sorted([*COLLECTION.glob("playbooks/**/*.yml"), *COLLECTION.glob("roles/*/tasks/**/*.yml")])

SECRET = re.compile(r"(?i)[a-z_]*(?:token|password|passphrase|secret)[a-z_]*")
"""A name that speaks of a secret."""

ABOUT = ("_dir", "_file", "_path", "_user", "_timeout", "_line", "_step", "_steps")
"""Ends of names that only say something about it, such as where it is."""

PRINTS_NOTHING = ("include_role", "import_role", "include_tasks", "import_tasks", "assert", "meta")


def handled(text: str) -> set[str]:
    """The variables with secrets that are used in the expressions of a text."""
    names: set[str] = set()
    for expression in re.findall(r"\{\{.*?\}\}", text, re.DOTALL):
        if "| hash(" not in expression:
            # What decides between two values is not printed, and neither is a text in quotes.
            printed = re.sub(r"\bif\b.*?\belse\b|'[^']*(?<!builtin\.password)'", "", expression)
            names |= set(SECRET.findall(printed))
    return {name for name in names if not name.endswith(ABOUT)}


def tasks_in(node: Any, inherited: bool = False) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every task, and whether it or a block around it has no_log."""
    if isinstance(node, list):
        for item in node:
            yield from tasks_in(item, inherited)
    elif isinstance(node, dict):
        silent = inherited or node.get("no_log") is True
        parts = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")
        inner = [node[part] for part in parts if part in node]
        if not inner:
            yield node, silent
        for part in inner:
            yield from tasks_in(part, silent)


def shown(task: dict[str, Any], templates: Path) -> set[str]:
    """The secrets that a task may print: what its module is given, loops over, or writes."""
    module = next(key for key in task if "." in key)
    ours = module.startswith("pickbox.cluster.")  # they hide what their options call no_log
    short = module.rpartition(".")[2]
    names = handled(str({key: task[key] for key in ("loop", "with_items") if key in task}))
    if short in PRINTS_NOTHING or ours:
        return names
    arguments = task[module] if isinstance(task[module], dict) else {"": task[module]}
    names |= handled(str(arguments))
    if short == "slurp" and re.search(r"(?i)token|passw|secret|\.key", str(arguments)):
        names.add(str(arguments))
    if short == "template" and "diff" not in task:
        # One that is named by an expression may be any.
        known = templates / arguments["src"]
        for template in [known] if known.is_file() else templates.iterdir():
            names |= handled(template.read_text())
    return names


def leaks(document: Any, templates: Path) -> list[str]:
    """The tasks that may print a secret, with its name."""
    return [
        f"{task.get('name')}: {', '.join(sorted(names))}"
        for task, silent in tasks_in(document)
        if not silent and any("." in key for key in task)
        for names in [shown(task, templates)]
        if names
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(COLLECTION)))
def test_no_task_prints_a_secret(file: Path) -> None:
    above = next(path for path in file.parents if path.parent.name in ("cluster", "roles"))
    assert leaks(yaml.safe_load(file.read_text()), above / "templates") == []


@pytest.mark.parametrize(
    "task",
    [
        {"ansible.builtin.set_fact": {"a": "{{ pickbox_admin_token }}"}},
        {"ansible.builtin.uri": {"headers": {"Authorization": "Bearer {{ x_token }}"}}},
        {
            "ansible.builtin.command": {
                "argv": ["x", "{{ lookup('ansible.builtin.password', 'y') }}"]
            }
        },
        {"ansible.builtin.slurp": {"path": "/etc/pickbox/admin_token"}},
        {"ansible.builtin.debug": {"msg": "x"}, "loop": "{{ backup_passwords }}"},
        {"block": [{"ansible.builtin.shell": "x {{ backup_password }}"}]},
    ],
    ids=lambda task: next(iter(task)),
)
def test_a_task_that_would_print_a_secret_is_found(task: dict[str, Any], tmp_path: Path) -> None:
    assert leaks([task], tmp_path)
    assert not leaks([{**task, "no_log": True}], tmp_path)


def test_a_template_with_a_secret_is_found_unless_it_shows_no_difference(tmp_path: Path) -> None:
    (tmp_path / "x.j2").write_text("password = {{ backup_password }}\n")
    task = {"ansible.builtin.template": {"src": "x.j2"}}
    assert leaks([task], tmp_path)
    assert not leaks([{**task, "diff": False}], tmp_path)


def test_where_a_secret_is_may_be_said(tmp_path: Path) -> None:
    path = {"path": "{{ __node_secrets_dir }}/{{ x_token_file }}"}
    assert not leaks([{"ansible.builtin.file": path}], tmp_path)


@pytest.mark.parametrize("said", ["(a ~ x_token) | hash('sha256')", "'new' if x_token else 'old'"])
def test_what_does_not_tell_the_secret_may_be_said(said: str, tmp_path: Path) -> None:
    assert not leaks([{"ansible.builtin.debug": {"msg": f"{{{{ {said} }}}}"}}], tmp_path)


@pytest.mark.parametrize("login", ["ann:secret@", "ann:s@cr@t@", "ann@", ""])
def test_where_a_repository_is_may_be_said_without_who_logs_in(login: str) -> None:
    texts = [file.read_text() for file in COLLECTION.glob("playbooks/*.yml")]
    said = r"pickbox_backup_repository [^}]*regex_replace\('(.*?)', '(.*?)'\) }}"
    shown = [pair for text in texts for pair in re.findall(said, text)]
    assert len(shown) == 3
    for pattern, instead in shown:
        place = re.sub(pattern, instead, f"rest:https://{login}host:8000/re@po")
        assert place == "rest:https://host:8000/re@po"
