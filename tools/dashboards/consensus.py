"""Consensus: who leads, how far each log is, what disks and links do to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.frame import framed
from dashboards.panels import BAD_IF_SO, GOOD_IF_SO, STATES, figure, graph, timeline, word
from dashboards.queries import (
    CLUSTER,
    increase,
    instant,
    mean,
    or_zero,
    quantile,
    query,
    rate,
    state,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

    from dashboards.panels import Panel


def dashboard() -> Dashboard:
    """The dashboard "consensus"."""
    return framed(
        "consensus",
        "consensus",
        "Who leads, how far each node's log is, and what disks and links do to it.",
        ("Leadership", _leadership()),
        ("The log", _log()),
        ("What it waits for", _disks()),
        ("Links", _links()),
    )


def _leadership() -> list[Panel]:
    stands_aside = f"max(pickbox_stands_aside{{{CLUSTER}}})"
    return [
        word("Leader", "The node that leads.", instant(f"pickbox_is_leader{{{CLUSTER}}} == 1")),
        figure("Term", "The term of the log.", instant(f"max(pickbox_term{{{CLUSTER}}})")),
        figure("Voters", "Voters of the cluster.", instant(f"max(pickbox_members{{{CLUSTER}}})")),
        figure(
            "Majority",
            "Whether a node reaches a majority.",
            instant(f"max(pickbox_has_quorum{{{CLUSTER}}})"),
            words=GOOD_IF_SO,
        ),
        figure(
            "Stands aside",
            "Whether a node was removed, wiped, found to differ or is of too old a release.",
            instant(stands_aside),
            words=BAD_IF_SO,
        ),
        figure(
            "Level",
            "What the cluster uses of what its releases understand.",
            instant(f"max(pickbox_level{{{CLUSTER}}})"),
        ),
        timeline("State of the nodes", "Who led when.", query(state()), words=STATES),
        graph(
            "Elections",
            "Elections that each node called. One that calls them again and again hears no leader.",
            query(increase("pickbox_elections_total")),
        ).span(12),
    ]


def _log() -> list[Panel]:
    return [
        graph(
            "Entries on their way",
            "Entries that a node has stored and does not know as committed, or has not applied.",
            query(f"pickbox_last_index{{{CLUSTER}}} - pickbox_commit_index", "{{node}} to commit"),
            query(f"pickbox_last_index{{{CLUSTER}}} - pickbox_applied_index", "{{node}} to apply"),
        ),
        graph(
            "Entries behind",
            "Committed entries that a node lacks, as it or the leader says, whichever is more.",
            query(f"node:pickbox_lag_entries:max{{{CLUSTER}}}"),
            bad=500,
        ),
        graph(
            "Since the leader was heard",
            "Seconds since a node last heard of a leader with a majority.",
            query(f"pickbox_lag_seconds{{{CLUSTER}}}"),
            unit="s",
        ),
        graph(
            "Commits",
            "Entries that were committed in a second, as each node sees it.",
            query(rate("pickbox_commits_total")),
            unit="cps",
        ),
        graph(
            "Size of the log",
            "Bytes on each node's disk. A snapshot makes it short.",
            query(f"pickbox_log_bytes{{{CLUSTER}}}"),
            unit="bytes",
        ),
        graph(
            "Snapshots",
            "How long the snapshots of the catalog took that were written, all together.",
            query(increase("pickbox_snapshot_duration_seconds_sum")),
            unit="s",
        ),
    ]


def _disks() -> list[Panel]:
    log = f'{CLUSTER},target="log"'
    return [
        graph(
            "Syncs of the log, 99 of 100",
            "Every write waits for a majority of these.",
            query(quantile(0.99, "pickbox_fsync_duration_seconds", log)),
            unit="s",
            bad=0.1,
        ),
        graph(
            "Entries in a sync",
            "How many entries one sync made durable, on average.",
            query(mean("pickbox_log_sync_entries")),
        ),
        graph(
            "Ticks, 99 of 100",
            "How long the log's loop takes for one round, its waits not counted.",
            query(quantile(0.99, "pickbox_tick_duration_seconds")),
            unit="s",
        ),
        graph(
            "Commits as the leader sees them, 99 of 100",
            "From a command being proposed to its being committed and applied.",
            query(quantile(0.99, "pickbox_append_commit_duration_seconds")),
            unit="s",
        ).span(24),
    ]


def _links() -> list[Panel]:
    refused = rate("pickbox_peers_refused_total", by="node, cause")
    return [
        graph(
            "Bytes of the log between nodes",
            "What each node sent to each other.",
            query(
                rate("pickbox_peer_bytes_total", f'{CLUSTER},direction="sent"', by="node, peer"),
                "{{node}} to {{peer}}",
            ),
            unit="Bps",
        ).span(6),
        graph(
            "Links made anew",
            "Links to a peer that took the place of one before.",
            query(
                increase("pickbox_peer_reconnects_total", by="node, peer"), "{{node}} to {{peer}}"
            ),
        ).span(6),
        graph(
            "Connections refused",
            "Connections that were not let in: a certificate, another cluster, a removed node.",
            query(or_zero(refused), "{{node}} {{cause}}"),
            unit="cps",
        ).span(6),
        graph(
            "Clocks",
            "How far each peer's clock is from a node's own. Times of replication are that wrong.",
            query(f"abs(pickbox_clock_offset_seconds{{{CLUSTER}}})", "{{node}} and {{peer}}"),
            unit="s",
            bad=2,
        ).span(6),
    ]
