"""Replication and performance: how long changes take, what moves, what fails, who waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.frame import framed
from dashboards.panels import graph, heat
from dashboards.queries import (
    CLUSTER,
    buckets,
    increase,
    mean,
    or_zero,
    quantile,
    query,
    rate,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

    from dashboards.panels import Panel

CLIENTS = f'{CLUSTER},listener="client"'


def dashboard() -> Dashboard:
    """The dashboard "replication and performance"."""
    return framed(
        "replication",
        "replication and performance",
        "How long changes take to be everywhere, what moves, what fails, and who waits for whom.",
        ("How long changes take", _durations()),
        ("What moves", _traffic()),
        ("What goes wrong", _failures()),
        ("What clients see", _http()),
    )


def _durations() -> list[Panel]:
    spread = rate("pickbox_replication_duration_seconds_bucket", by="le")
    return [
        heat(
            "From a change to its being applied",
            "From being taken in on some node to being applied on another, by the clocks of both.",
            buckets(spread),
        ),
        graph(
            "The same, 99 of 100",
            "By the node that applied them.",
            query(quantile(0.99, "pickbox_replication_duration_seconds")),
            unit="s",
        ),
        graph(
            "From an event of the folder to its commit",
            "99 changes of 100 of each node's folder.",
            query(quantile(0.99, "pickbox_change_duration_seconds")),
            unit="s",
        ),
        graph(
            "Commits, 99 of 100",
            "From changes being proposed to their outcome, as the node that proposes sees it.",
            query(quantile(0.99, "pickbox_commit_duration_seconds")),
            unit="s",
        ).span(6),
        graph(
            "Changes in a command",
            "How many changes share one entry of the log, on average.",
            query(mean("pickbox_batch_changes")),
        ).span(6),
        graph(
            "Content that is not there yet",
            "Committed files whose content the node still fetches.",
            query(f"pickbox_pending_content{{{CLUSTER}}}"),
        ).span(6),
        graph(
            "Longest wait for content",
            "For how long the file among them that has waited longest has had no content.",
            query(f"pickbox_pending_content_age_seconds{{{CLUSTER}}}"),
            unit="s",
            bad=900,
        ).span(6),
    ]


def _traffic() -> list[Panel]:
    return [
        graph(
            "Changes of folders",
            "What became of changes that people made in the folders.",
            query(or_zero(rate("pickbox_changes_total", by="result")), "{{result}}"),
            unit="cps",
        ),
        graph(
            "Files placed",
            "Files of other nodes that were placed on a node's disk.",
            query(rate("pickbox_files_replicated_total")),
            unit="cps",
        ),
        graph(
            "Bytes placed",
            "Bytes of these files.",
            query(rate("pickbox_bytes_replicated_total")),
            unit="Bps",
        ),
        graph(
            "Content between nodes",
            "Bytes of content that each node sent and received; small ones travel in the log.",
            query(
                or_zero(rate("pickbox_bytes_transferred_total", by="node, direction")),
                "{{node}} {{direction}}",
            ),
            unit="Bps",
        ),
        graph(
            "What waits",
            "Items in the queues of a node.",
            query(f"pickbox_queue_depth{{{CLUSTER}}}", "{{node}} {{queue}}"),
        ),
        graph(
            "Since a change was placed",
            "Seconds since a node last placed something.",
            query(f"time() - (pickbox_last_replication_timestamp_seconds{{{CLUSTER}}} > 0)"),
            unit="s",
        ),
    ]


def _failures() -> list[Panel]:
    return [
        graph(
            "Replication errors",
            "Failed attempts to stage, commit, fetch or place, within 15 minutes. They are "
            "tried again.",
            query(
                or_zero(f"node:pickbox_replication_errors:increase15m{{{CLUSTER}}} > 0"),
                "{{node}} {{cause}}",
            ),
            bad=10,
        ),
        graph(
            "Conflict copies",
            "People edited the same file on different nodes at the same time.",
            query(increase("pickbox_conflicts_total")),
        ),
        graph(
            "What the watcher tries again",
            "What a node could not read of its folder at once, by cause.",
            query(
                or_zero(increase("pickbox_watcher_errors_total", by="node, cause")),
                "{{node}} {{cause}}",
            ),
        ),
    ]


def _http() -> list[Panel]:
    failed = rate("pickbox_http_requests_total", f'{CLIENTS},code=~"5.."', by="node, code")
    return [
        graph(
            "Requests",
            "Requests of clients that were answered.",
            query(
                rate("pickbox_http_requests_total", CLIENTS, by="node, method"),
                "{{node}} {{method}}",
            ),
            unit="reqps",
        ),
        graph(
            "Requests that failed",
            "Answers 500 and above. A write without a leader is 503, and may be sent again.",
            query(or_zero(failed), "{{node}} {{code}}"),
            unit="reqps",
        ),
        graph(
            "Answers, 99 of 100",
            "From a request's headers to the last byte of its answer, by method.",
            query(
                quantile(0.99, "pickbox_http_request_duration_seconds", CLIENTS, by="method"),
                "{{method}}",
            ),
            unit="s",
        ),
    ]
