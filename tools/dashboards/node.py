"""One node: what it is, what it uses, its folder, its disk, its links."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.frame import framed
from dashboards.panels import (
    BAD_IF_SO,
    GREEN,
    RED,
    STATES,
    YELLOW,
    figure,
    graph,
    timeline,
    word,
)
from dashboards.queries import NODE, OURS, increase, instant, or_zero, quantile, query, rate, state

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

    from dashboards.panels import Panel

DAY = 86400


def dashboard() -> Dashboard:
    """The dashboard "one node"."""
    return framed(
        "node",
        "one node",
        "What one node is, what it uses, and what its folder, its disk and its links do.",
        ("Now", _figures()),
        ("Process", _process()),
        ("Folder", _folder()),
        ("Disk", _disk()),
        ("Log and links", _links()),
        of_node=True,
    )


def _figures() -> list[Panel]:
    return [
        figure("State", "What it is.", instant(state(NODE)), words=STATES),
        word("Release", "What it runs.", instant(f"pickbox_build_info{{{NODE}}}", "{{version}}")),
        figure(
            "Since its start",
            "How long its process has run.",
            instant(f"time() - process_start_time_seconds{{{NODE},{OURS}}}"),
            unit="dtdurations",
        ),
        figure(
            "Certificate ends in",
            "Without one that is valid the other nodes refuse it.",
            instant(f"pickbox_certificate_expiry_timestamp_seconds{{{NODE}}} - time()"),
            (3 * DAY, YELLOW),
            (30 * DAY, GREEN),
            unit="dtdurations",
            first=RED,
        ),
        figure(
            "Disk free",
            "The part of its data volume that is free.",
            instant(f"node:pickbox_disk_free:ratio{{{NODE}}}"),
            (0.1, GREEN),
            unit="percentunit",
            first=RED,
        ),
        figure(
            "In doubt",
            "Whether its folder is still to be compared with the log after a loss of power.",
            instant(f"pickbox_folder_in_doubt{{{NODE}}}"),
            words=BAD_IF_SO,
        ),
    ]


def _process() -> list[Panel]:
    return [
        timeline("State", "What it was when.", query(state(NODE)), words=STATES).span(6),
        graph(
            "Processors",
            "How many processors it uses.",
            query(f"rate(process_cpu_seconds_total{{{NODE},{OURS}}}[$__rate_interval])", "used"),
        ).span(6),
        graph(
            "Memory",
            "Memory that is its own.",
            query(f"process_resident_memory_bytes{{{NODE},{OURS}}}", "resident"),
            unit="bytes",
        ).span(6),
        graph(
            "Open files",
            "File descriptors that it has open, and may have.",
            query(f"process_open_fds{{{NODE},{OURS}}}", "open"),
            query(f"process_max_fds{{{NODE},{OURS}}}", "allowed"),
        ).span(6),
    ]


def _folder() -> list[Panel]:
    return [
        graph(
            "Events",
            "Events of the file system that it saw.",
            query(rate("pickbox_fs_events_total", NODE), "events"),
            unit="cps",
        ),
        graph(
            "Full scans",
            "How often it read the whole folder, and why.",
            query(or_zero(increase("pickbox_rescans_total", NODE, by="reason")), "{{reason}}"),
        ),
        graph(
            "Dropped events",
            "Times that the kernel dropped events. Each causes a full scan, and nothing is lost.",
            query(increase("pickbox_inotify_overflows_total", NODE), "overflows"),
            bad=1,
        ),
    ]


def _disk() -> list[Panel]:
    return [
        graph(
            "Data volume",
            "Below the reserve it takes no writes.",
            query(f"pickbox_disk_free_bytes{{{NODE}}}", "free"),
            query(f"pickbox_disk_reserve_bytes{{{NODE}}}", "reserve"),
            unit="bytes",
        ),
        graph(
            "Syncs, 99 of 100",
            "Writes made durable: of the log, of contents, and before snapshots.",
            query(
                quantile(0.99, "pickbox_fsync_duration_seconds", NODE, by="target"), "{{target}}"
            ),
            unit="s",
            bad=0.1,
        ),
        graph(
            "Size of the log",
            "Bytes of the log. A snapshot makes it short.",
            query(f"pickbox_log_bytes{{{NODE}}}", "log"),
            unit="bytes",
        ),
    ]


def _links() -> list[Panel]:
    return [
        graph(
            "Behind",
            "Committed entries that it lacks, and committed files without their content.",
            query(f"node:pickbox_lag_entries:max{{{NODE}}}", "entries"),
            query(f"pickbox_pending_content{{{NODE}}}", "contents"),
        ),
        graph(
            "Log messages",
            "Bytes of the log's messages, from and to each peer.",
            query(
                rate("pickbox_peer_bytes_total", NODE, by="peer, direction"),
                "{{peer}} {{direction}}",
            ),
            unit="Bps",
        ),
        graph(
            "Requests",
            "Requests that it answered, by who listens.",
            query(rate("pickbox_http_requests_total", NODE, by="listener"), "{{listener}}"),
            unit="reqps",
        ),
    ]
