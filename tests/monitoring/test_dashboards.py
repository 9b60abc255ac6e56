"""The dashboards are whole: each panel says what it shows, of metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dashboards
import pytest
from dashboard_queries import FILES, Asked, asked, offered, panels, read

from pickbox.observability import Metrics

ROLE = Path("roles/grafana")
RULES = Path("roles/prometheus/templates/pickbox.rules.yml.j2").read_text()
RECORDS = set(re.findall(r"- record: (\S+)", RULES))
ALERTS = re.findall(r"- alert: (\w+)", RULES)

OF_PROMETHEUS = re.compile(r"up|ALERTS|scrape_duration_seconds|(?:prometheus|alertmanager)_\w+")
"""What Prometheus and Alertmanager say themselves; that they do is seen with real ones."""

WORDS = {"sum", "max", "min", "count", "by", "on", "or", "rate", "increase", "changes", "floor"}
WORDS |= {"abs", "time", "vector", "histogram_quantile"}


def names_in(expression: str) -> set[str]:
    """The metrics that a query asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on) \([^)]*\)", " ", expression)
    return set(re.findall(r"[A-Za-z_][\w:]*", bare)) - WORDS


def test_there_is_a_file_for_each_dashboard_and_for_nothing_else() -> None:
    made = dict(dashboards.documents())
    assert {file.name: file.read_text() for file in FILES} == made
    assert [file.stem for file in FILES] == [
        f"pickbox-{name}" for name in ("alerts", "consensus", "node", "overview", "replication")
    ]


def test_no_two_dashboards_have_a_uid_or_a_title_in_common() -> None:
    for key in ("uid", "title"):
        assert len({read(file)[key] for file in FILES}) == len(FILES)
    assert all(read(file)["uid"] == file.stem for file in FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_panel_asks_the_data_source_that_is_provisioned(file: Path) -> None:
    dashboard = read(file)
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["current"]["value"] == dashboards.frame.DATA_SOURCE
    assert f"'uid': '{dashboards.frame.DATA_SOURCE}'" in (ROLE / "templates/sources.j2").read_text()
    source = {"type": "prometheus", "uid": "${datasource}"}
    asking = [panel for panel in panels(dashboard) if panel["type"] != "text"]
    assert asking
    asking += dashboard["annotations"]["list"]
    asking += [variable for variable in variables.values() if variable["type"] == "query"]
    assert all(one["datasource"] == source for one in asking)
    assert not any(
        "datasource" in target for panel in asking for target in panel.get("targets", ())
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_panel_says_what_it_shows(file: Path) -> None:
    dashboard = read(file)
    assert dashboard["description"].endswith(".")
    for panel in panels(dashboard):
        assert panel["title"]
        if panel["type"] == "text":
            continue
        assert panel["description"].endswith("."), panel["title"]
        assert [target["refId"] for target in panel["targets"]] == sorted(
            {target["refId"] for target in panel["targets"]}
        )
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        if len(panel["targets"]) > 1 and panel["type"] == "timeseries":
            legends = [target["legendFormat"] for target in panel["targets"]]
            assert len(set(legends)) == len(legends), panel["title"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_panels_fill_their_lines_and_do_not_overlap(file: Path) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in read(file)["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) is panel["title"]
    lines = {y for _, y in taken}
    assert lines == set(range(max(lines) + 1))
    assert taken.keys() == {(x, y) for x in range(24) for y in lines}


@pytest.mark.parametrize("query", [*asked()], ids=lambda query: query.where)
def test_a_query_asks_for_what_there_is(query: Asked) -> None:
    node = {family.name for family in Metrics("node1").registry.collect()}
    names = names_in(query.expression)
    assert names
    for name in names:
        known = re.sub(r"_(total|bucket|sum|count|info)$", "", name) in node
        assert known or name in RECORDS or OF_PROMETHEUS.fullmatch(name), name


@pytest.mark.parametrize("query", [*asked()], ids=lambda query: query.where)
def test_a_query_asks_for_the_cluster_that_was_chosen(query: Asked) -> None:
    selected = re.findall(r"\{([^}]*)\}", query.expression)
    assert selected
    alone = 'job="pickbox"'
    for selector in selected:
        assert re.search(r'\bcluster=(?:"\$cluster"|~"\$cluster\|")', selector) or selector == alone
    assert ('node="$node"' in query.expression) == (
        query.where.startswith("pickbox-node") and not query.where.endswith(": Elections")
    )


def test_the_names_in_a_query_are_found() -> None:
    asks = (
        'histogram_quantile(0.9, sum by (node, le) (rate(a_bucket{x="y"}[5m]))) or on() vector(0)'
    )
    assert names_in(asks) == {"a_bucket"}
    assert names_in("time() - (max by (node) (a:b:sum{x=~'y|'}) > 0) / c") == {"a:b:sum", "c"}


def test_variables_are_taken_of_the_nodes_that_are_watched() -> None:
    chosen = {name: (series, label) for name, series, label in offered()}
    assert chosen == {
        "cluster": ('up{job="pickbox"}', "cluster"),
        "node": ('up{job="pickbox",cluster="$cluster"}', "node"),
    }


def links_in(node: Any) -> set[str]:
    """Every URL in a dashboard."""
    if isinstance(node, list):
        return {found for item in node for found in links_in(item)}
    if not isinstance(node, dict):
        return set()
    found = {node["url"]} if node.get("url") else set()
    return found | {url for value in node.values() for url in links_in(value)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_dashboard_leads_to_the_others_and_to_the_page_of_alerts(file: Path) -> None:
    dashboard = read(file)
    others = [link for link in dashboard["links"] if link["type"] == "dashboards"]
    assert [link["tags"] for link in others] == [["pickbox"]]
    assert all(link["includeVars"] and link["keepTime"] for link in others)
    assert dashboard["tags"] == ["pickbox"]
    urls = links_in(dashboard)
    assert "${runbooks}" in urls
    for url in urls - {"${runbooks}"}:
        found = re.match(r"/d/([\w-]+)\?", url)
        assert found
        assert found[1] in {other.stem for other in FILES}
    (page,) = (v for v in dashboard["templating"]["list"] if v["name"] == "runbooks")
    assert page["query"] == dashboards.frame.RUNBOOKS


def test_the_dashboard_of_alerts_explains_every_alert() -> None:
    (shown,) = (panel for panel in panels(read(FILES[0])) if panel["type"] == "text")
    rows = re.findall(
        r"^\| \[(\w+)\]\(\$\{runbooks\}#(\w+)\) \| (critical|warning|none) \| [A-Z].*\. \|$",
        shown["options"]["content"],
        re.MULTILINE,
    )
    assert sorted(name for name, _, _ in rows) == sorted(ALERTS)
    for name, anchor, severity in rows:
        assert anchor == name.lower()
        rule = RULES.partition(f"- alert: {name}\n")[2]
        assert re.search(r"severity: (\w+)", rule)[1] == severity  # type: ignore[index]
