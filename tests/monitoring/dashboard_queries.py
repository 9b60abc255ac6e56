"""What the dashboards ask of Prometheus, as Grafana would ask it, for tests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = sorted(Path("roles/grafana/files/dashboards").glob("*.json"))

INTERVAL = "1m"
"""What stands for the interval that Grafana derives of the time that is shown."""


@dataclass(frozen=True)
class Asked:
    """A query, where it is, and what it asks with nothing but Prometheus' own words in it."""

    where: str
    expression: str

    @property
    def waits_for_events(self) -> bool:
        """Whether it lists what only sometimes is: alerts, or elections."""
        listed = "ALERTS{" in self.expression and "or on() vector" not in self.expression
        return listed or "changes(" in self.expression

    def filled_in(self, **variables: str) -> str:
        """The expression with the variables of the dashboard in it."""
        filled = self.expression.replace("$__rate_interval", INTERVAL)
        for name, value in variables.items():
            filled = filled.replace(f"${name}", value)
        assert "$" not in filled, f"{self.where}: nobody chooses what is left in {filled}"
        return filled


def read(file: Path) -> dict[str, Any]:
    """A dashboard."""
    dashboard: dict[str, Any] = json.loads(file.read_text())
    return dashboard


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel, those of rows too, and no row."""
    for panel in dashboard["panels"]:
        yield from panels(panel) if panel["type"] == "row" and panel["panels"] else ()
        if panel["type"] != "row":
            yield panel


def asked() -> Iterator[Asked]:
    """Every query of every panel and of every annotation."""
    for file in FILES:
        dashboard = read(file)
        for panel in panels(dashboard):
            for target in panel.get("targets", ()):
                where = f"{file.stem}: {panel['title']}: {target['refId']}"
                yield Asked(where, target["expr"])
        for annotation in dashboard["annotations"]["list"]:
            yield Asked(f"{file.stem}: {annotation['name']}", annotation["expr"])


def offered() -> Iterator[tuple[str, str, str]]:
    """Of every variable that is chosen: its name, and the series and the label it is taken from."""
    for file in FILES:
        for variable in read(file)["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                assert found, variable
                yield variable["name"], found[1], found[2]
