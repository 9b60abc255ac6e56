"""What all dashboards have around their panels: variables, links, and when the leader changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from dashboards.panels import SOURCE
from dashboards.queries import CLUSTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dashboards.panels import Panel

DATA_SOURCE: Final = "pickbox"
"""The uid of the data source that the role provisions."""

RUNBOOKS: Final = "https://github.com/pickbox/pickbox/blob/main/docs/operations/alerts.md"
"""Where alerts are explained; the role puts pickbox_grafana_runbooks in its place."""

Row = tuple[str, "Sequence[Panel]"]


def framed(
    name: str, title: str, description: str, *rows: Row, hours: int = 1, of_node: bool = False
) -> dashboard.Dashboard:
    """A dashboard of these rows of panels; with `of_node` there is a node to be chosen."""
    made = (
        dashboard.Dashboard(f"Pickbox: {title}")
        .uid(f"pickbox-{name}")
        .description(description)
        .tags(["pickbox"])
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time(f"now-{hours}h", "now")
        .refresh("30s")
        .readonly()
        .with_variable(_data_source())
        .with_variable(_chosen("cluster", 'label_values(up{job="pickbox"}, cluster)'))
        .with_variable(dashboard.ConstantVariable("runbooks").value(RUNBOOKS))
        .annotation(_leader_changes())
        .link(_other_dashboards())
        .link(_runbooks())
    )
    if of_node:
        nodes = f'label_values(up{{job="pickbox",{CLUSTER}}}, node)'
        made.with_variable(_chosen("node", nodes))
    for heading, panels in rows:
        made.with_row(dashboard.Row(heading))
        for panel in panels:
            made.with_panel(panel)
    return made


def _data_source() -> dashboard.DatasourceVariable:
    """One of several when several hosts have a Prometheus; the role names them so."""
    usual = model.VariableOption(selected=True, text="Pickbox", value=DATA_SOURCE)
    return (
        dashboard.DatasourceVariable("datasource")
        .label("Prometheus")
        .type("prometheus")
        .regex("/^Pickbox/")
        .current(usual)
    )


def _chosen(name: str, values: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query({"qryType": 1, "query": values, "refId": name})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
    )


def _leader_changes() -> dashboard.AnnotationQuery:
    """A term begins with an election, whichever node saw it."""
    return (
        dashboard.AnnotationQuery()
        .name("Elections")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("purple")
        .expr(f"max by (cluster) (changes(pickbox_term{{{CLUSTER}}}[1m])) > 0")
    )


def _other_dashboards() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Pickbox")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags(["pickbox"])
        .include_vars(True)
        .keep_time(True)
    )


def _runbooks() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("What alerts mean")
        .type(model.DashboardLinkType.LINK)
        .icon("doc")
        .url("${runbooks}")
        .target_blank(True)
    )
