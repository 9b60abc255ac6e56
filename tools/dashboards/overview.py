"""The cluster at a glance: who is there, who leads, whether it writes, what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.alerts import alerts
from dashboards.frame import framed
from dashboards.panels import (
    GREEN,
    RED,
    STATES,
    YELLOW,
    column,
    figure,
    graph,
    grid,
    in_words,
    timeline,
    word,
)
from dashboards.queries import CLUSTER, OURS, instant, or_zero, query, rows, state

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import table
    from grafana_foundation_sdk.builders.dashboard import Dashboard

    from dashboards.panels import Panel

NODE_LINK = "/d/pickbox-node?var-cluster=${cluster}&var-node=${__value.text}&${__url_time_range}"


def dashboard() -> Dashboard:
    """The dashboard "cluster overview"."""
    return framed(
        "overview",
        "cluster overview",
        "The cluster at a glance. The other dashboards say more of each part.",
        ("Now", _figures()),
        ("Nodes", [_nodes(), *_over_time()]),
    )


def _figures() -> list[Panel]:
    up, count = (
        f"cluster:pickbox_nodes_up:sum{{{CLUSTER}}}",
        f"cluster:pickbox_nodes:count{{{CLUSTER}}}",
    )
    firing = alerts('alertstate="firing"')
    age = f"cluster:pickbox_backup_age_seconds:min{{{CLUSTER}}} or on() vector(-1)"
    return [
        word("Leader", "The node that leads.", instant(f"pickbox_is_leader{{{CLUSTER}}} == 1")),
        figure(
            "Nodes that are down",
            "Nodes among the targets of Prometheus that do not answer it.",
            instant(f"{count} - {up}"),
            (1, RED),
            first=GREEN,
        ),
        figure(
            "More may fail",
            "How many more nodes may fail before nothing can be written.",
            instant(f"{up} - floor({count} / 2) - 1"),
            (0, YELLOW),
            (1, GREEN),
            first=RED,
        ),
        figure(
            "Alerts",
            "Alerts that fire; the dashboard of alerts lists them.",
            instant(or_zero(f"count({firing})")),
            (1, RED),
            first=GREEN,
        ),
        figure(
            "Last backup",
            "How long ago a backup was made, if a host tells.",
            instant(age),
            (0, GREEN),
            (129600, RED),
            unit="s",
            words={-1: ("not told", "text")},
        ),
        figure(
            "Size of the files",
            "Bytes of all files in the catalog.",
            instant(f"max(pickbox_bytes{{{CLUSTER}}})"),
            unit="bytes",
        ),
    ]


def _nodes() -> table.Panel:
    def each(metric: str) -> str:
        return f"max by (node) ({metric}{{{CLUSTER}}})"

    columns = {
        "state": rows(state()),
        "applied": rows(each("pickbox_applied_index")),
        "entries behind": rows(each("node:pickbox_lag_entries:max")),
        "without content": rows(each("pickbox_pending_content")),
        "disk free": rows(each("node:pickbox_disk_free:ratio")),
        "memory": rows(f"max by (node) (process_resident_memory_bytes{{{CLUSTER},{OURS}}})"),
        "release": rows(f"max by (node, version) (pickbox_build_info{{{CLUSTER}}})"),
    }
    labels = {"node": "node", "version": "version"}
    about = "Every node; its name leads to the dashboard of it."
    panel = grid("Nodes", about, columns, labels=labels)
    column(panel, "node", {"links": [{"title": "This node", "url": NODE_LINK}]})
    column(panel, "state", in_words(STATES))
    column(panel, "disk free", {"unit": "percentunit"})
    column(panel, "memory", {"unit": "bytes"})
    return column(panel, "release", {"custom.hidden": True})


def _over_time() -> list[Panel]:
    lag = f"node:pickbox_lag_entries:max{{{CLUSTER}}}"
    slow = f"node:pickbox_replication_seconds:p99_5m{{{CLUSTER}}}"
    return [
        timeline("State of the nodes", "What each node was when.", query(state()), words=STATES),
        graph(
            "Commits",
            "Entries of the log that were committed in a second, over five minutes.",
            query(f"cluster:pickbox_commits:rate5m{{{CLUSTER}}}", "commits"),
            unit="cps",
        ).span(12),
        graph(
            "Entries behind",
            "Committed entries that a node lacks, as it or the leader says, whichever is more.",
            query(lag),
            bad=500,
        ),
        graph(
            "From a change to everywhere",
            "99 changes of 100 were applied on the node within this, over five minutes.",
            query(slow),
            unit="s",
        ),
        graph(
            "Disk free",
            "The part of the data volume that is free. Below the reserve a node takes no writes.",
            query(f"node:pickbox_disk_free:ratio{{{CLUSTER}}}"),
            unit="percentunit",
        ),
    ]
