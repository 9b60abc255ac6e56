"""The reference says what there is: every command, exit code, option, route, error, ignore rule."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from http_node import running

from pickbox.cli.app import app
from pickbox.cli.failures import EXIT_CODES_HELP, ExitCode
from pickbox.cli.session import shared_options
from pickbox.errors import PickboxError
from pickbox.watcher.ignore import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs"
COMMAND = (DOCS / "reference/command.md").read_text()
HTTP = (DOCS / "reference/http.md").read_text()
FOLDER = (DOCS / "operations/folder.md").read_text()
LISTENERS = {"client": "Client port", "admin": "Admin port", "monitor": "Monitoring port"}


def first_cells(text: str) -> list[str]:
    """The first column of every table in `text`, without its head and rule."""
    rows = re.findall(r"^\| (.*?) \|.*\n", text, re.MULTILINE)
    return [cell for cell in rows if re.match(r"`|\d", cell)]


def section(title: str) -> str:
    """What is under the heading in the HTTP reference that starts with `title`."""
    found = re.search(rf"^## {title}.*?$(.*?)(?=^## |\Z)", HTTP, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def test_every_command_is_listed_in_the_order_of_the_help() -> None:
    listed = [cell for cell in first_cells(COMMAND) if cell.startswith("`pickbox ")]
    assert listed == [f"`pickbox {name}`" for name in app.list_commands(click.Context(app))]


def test_every_exit_code_is_listed_as_the_help_says_it() -> None:
    helped = re.findall(r"^ +(\d+)  (.*)$", EXIT_CODES_HELP, re.MULTILINE)
    assert [int(code) for code, _ in helped] == sorted(ExitCode)
    assert re.findall(r"^\| (\d+) \| (.*) \|$", COMMAND, re.MULTILINE) == helped


def test_every_shared_option_is_listed_with_its_variable() -> None:
    for option in shared_options():
        variable = f"`{option.envvar}`" if option.envvar else ""
        row = " ".join(f"| `{option.opts[0]}` | {variable} |".split())
        assert row in " ".join(COMMAND.split()), row


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """Method and path of every route, by listener."""
    with running(tmp_path_factory.mktemp("node")) as node:
        yield {
            server.name: {
                f"{method} " + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
                for rule in server.wsgi_app.url_map.iter_rules()
                for method in rule.methods - {"OPTIONS", "HEAD"}
            }
            for server in node.listeners._servers
        }


@pytest.mark.parametrize("listener", LISTENERS)
def test_every_route_is_listed_under_its_port(routes: dict[str, set[str]], listener: str) -> None:
    shown = re.findall(r"`((?:GET|PUT|POST|DELETE) /[^`]*)`", section(LISTENERS[listener]))
    assert set(shown) == routes[listener]


def errors(kind: type[PickboxError] = PickboxError) -> dict[str, int]:
    """Name and status of every error of the package."""
    found = {kind.type: kind.status} if kind.__module__.startswith("pickbox.") else {}
    for child in kind.__subclasses__():
        found |= errors(child)
    return found


def test_every_error_is_listed_with_its_status() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", section("Errors"), re.MULTILINE)
    assert {name: int(status) for name, status in listed} == errors()


def test_every_built_in_ignore_rule_is_listed() -> None:
    assert "    " + "  ".join(BUILT_IN) + "\n" in FOLDER
