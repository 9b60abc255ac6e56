"""Alerts: which fire, which did, whether those who tell of them work, and what each means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from dashboards.frame import framed
from dashboards.panels import (
    GOOD_IF_SO,
    GREEN,
    RED,
    YELLOW,
    Words,
    column,
    figure,
    graph,
    in_words,
    listing,
    prose,
    timeline,
)
from dashboards.queries import CLUSTER, increase, instant, or_zero, query, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grafana_foundation_sdk.builders import statetimeline, table
    from grafana_foundation_sdk.builders.dashboard import Dashboard

    from dashboards.panels import Panel

PAGE = Path(__file__).parents[2] / "docs/operations/alerts.md"

# Some alerts are of no cluster: that Prometheus has no node among its targets is one.
ANY_OF_OURS = 'cluster=~"$cluster|"'
# The heartbeat always fires, and is for nobody.
FOR_PEOPLE = 'severity!="none"'

SEVERITIES: Words = {"critical": ("critical", RED), "warning": ("warning", YELLOW)}
FIRES: Words = {1: ("fires", RED)}


def dashboard() -> Dashboard:
    """The dashboard "alerts"."""
    return framed(
        "alerts",
        "alerts",
        "Which alerts fire, which did, and whether those who watch and tell are well.",
        ("Now", [*_counts(), _active()]),
        ("Before", [_fired()]),
        ("Those who watch", _watching()),
        ("What each alert means, and what to do", [prose("Alerts", "\n".join(_meanings()))]),
        hours=24,
    )


def alerts(*conditions: str) -> str:
    """The alerts of the cluster for which these hold."""
    return f"ALERTS{{{','.join((ANY_OF_OURS, FOR_PEOPLE, *conditions))}}}"


def _counts() -> list[Panel]:
    firing = 'alertstate="firing"'
    critical, warning = alerts(firing, 'severity="critical"'), alerts(firing, 'severity="warning"')
    pending = alerts('alertstate="pending"')
    return [
        figure(
            "Critical",
            "Alerts that fire and are for somebody now.",
            instant(or_zero(f"count({critical})"), "critical"),
            (1, RED),
            first=GREEN,
        ).span(6),
        figure(
            "Warnings",
            "Alerts that fire and are for somebody in working hours.",
            instant(or_zero(f"count({warning})"), "warnings"),
            (1, YELLOW),
            first=GREEN,
        ).span(6),
        figure(
            "Pending",
            "Alerts that will fire if it stays so.",
            instant(or_zero(f"count({pending})"), "pending"),
        ).span(6),
        figure(
            "Targets that do not answer",
            "Nodes, exporters and programs that Prometheus gets no metrics from.",
            instant(or_zero(f"count(up{{{CLUSTER}}} == 0)"), "targets"),
            (1, RED),
            first=GREEN,
        ).span(6),
    ]


def _active() -> table.Panel:
    labels = {
        "alertname": "alert",
        "node": "node",
        "severity": "severity",
        "alertstate": "state",
    }
    panel = listing(
        "Alerts that fire or are pending",
        "Everything that the rules find wrong now. What each means is said below.",
        rows(alerts()),
        labels=labels,
    )
    return column(panel, "severity", in_words(SEVERITIES))


def _fired() -> statetimeline.Panel:
    firing = alerts('alertstate="firing"')
    return timeline(
        "Alerts that fired",
        "What fired when; nothing is shown of what never did.",
        query(f"max by (alertname, node) ({firing})", "{{alertname}} {{node}}"),
        words=FIRES,
    ).span(24)


def _watching() -> list[Panel]:
    return [
        timeline(
            "Targets",
            "Whether Prometheus gets metrics, from nodes and from all else that it reads.",
            query(f"max by (job, instance) (up{{{CLUSTER}}})", "{{job}} {{instance}}"),
            words=GOOD_IF_SO,
        ),
        graph(
            "How long targets take",
            "The slowest target of each job.",
            query(f"max by (job) (scrape_duration_seconds{{{CLUSTER}}})", "{{job}}"),
            unit="s",
        ).span(12),
        graph(
            "Rules that failed",
            "Rules that Prometheus could not evaluate.",
            query(
                increase("prometheus_rule_evaluation_failures_total", by="instance"), "{{instance}}"
            ),
            bad=1,
        ),
        graph(
            "Alerts that Prometheus could not hand over",
            "Errors of sending to Alertmanager, and what was dropped.",
            query(
                or_zero(increase("prometheus_notifications_errors_total", by="alertmanager")),
                "to {{alertmanager}}",
            ),
            query(increase("prometheus_notifications_dropped_total", by="instance"), "dropped"),
            bad=1,
        ),
        graph(
            "Messages that Alertmanager could not send",
            "By what they were sent with.",
            query(
                or_zero(increase("alertmanager_notifications_failed_total", by="integration")),
                "{{integration}}",
            ),
            bad=1,
        ),
    ]


def _meanings() -> Iterator[str]:
    """A table of Markdown: each alert of the page, with its link and its first sentence."""
    yield "| alert | severity | means |"
    yield "|---|---|---|"
    pattern = r"^## (\w+)\n\n\*\*Means:\*\* (\w+)\. (.+?\.)(?=\s)"
    for name, severity, means in re.findall(pattern, PAGE.read_text(), re.MULTILINE | re.DOTALL):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(means.split()))
        yield f"| [{name}](${{runbooks}}#{name.lower()}) | {severity} | {plain} |"
