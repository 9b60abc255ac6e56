"""Metrics of a node, in Prometheus' terms (https://prometheus.io/docs/practices/naming/).

One `Metrics` belongs to one node and is handed to its parts, which count on its attributes. What
mirrors live state (log indexes, disk space) is not kept up to date but filled in when somebody
looks: see `Metrics.observe_on_scrape`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import psutil
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from pickbox import __version__
from pickbox.levels import LEVEL
from pickbox.observability.before_scrape import BeforeScrape
from pickbox.observability.totals import histogram_totals, lacking, raise_to, total
from pickbox.status import Figures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pickbox.consensus.transport import TransportCounts
    from pickbox.seams import ConsensusStatus, LogFigures
    from pickbox.status import NodeStatus

_REPLICATION_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_COMMIT_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_FAST_BUCKETS: Final = (0.0001, 0.00025, 0.0005, *_COMMIT_BUCKETS)
_HTTP_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30, 120)
_BATCH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """Everything that a node counts and measures. Attributes are prometheus_client metrics.

    Satisfies the protocol in which the watcher says what it counts.
    """

    def __init__(self, node_id: str) -> None:
        # One more time series a counter, which Prometheus itself does not use.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.node_id = node_id
        self.registry = CollectorRegistry()
        self._before_scrape = BeforeScrape()
        # First, so that its callbacks run before any gauge is read.
        self.registry.register(self._before_scrape)
        self._process = psutil.Process()
        self._started = time.monotonic()
        self._add_replication()
        self._add_consensus()
        self._add_transport()
        self._add_folder()
        self._add_http()
        self._add_node()

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"pickbox_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"pickbox_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        return Histogram(f"pickbox_{name}", text, labels, buckets=buckets, registry=self.registry)

    def _add_replication(self) -> None:
        self.files_replicated = self._counter(
            "files_replicated", "Files of other nodes that were placed on this node's disk."
        )
        self.files_deleted = self._counter(
            "files_deleted", "Files removed from this node's disk because another node said so."
        )
        self.bytes_replicated = self._counter(
            "bytes_replicated", "Bytes of the files counted by pickbox_files_replicated_total."
        )
        self.bytes_transferred = self._counter(
            "bytes_transferred",
            "Content bytes sent to and received from peers.",
            ("direction", "peer"),
        )
        self.replication_errors = self._counter(
            "replication_errors", "Failed attempts to stage, fetch or place.", ("cause",)
        )
        self.replication_duration = self._histogram(
            "replication_duration_seconds",
            "From a change being taken in on some node to its being applied on this one, by the "
            "clocks of both: see pickbox_clock_offset_seconds.",
            _REPLICATION_BUCKETS,
        )
        self.last_replication = self._gauge(
            "last_replication_timestamp_seconds", "When a change was last placed here; 0 if never."
        )
        self.conflicts = self._counter("conflicts", "Conflict copies that were made.")
        self.pending_content = self._gauge(
            "pending_content", "Committed files whose content is not on this node yet."
        )
        self.pending_content_age = self._gauge(
            "pending_content_age_seconds",
            "For how long the file of pickbox_pending_content that waits longest has had "
            "no content, since the node's start; 0 if there is none.",
        )
        self.queue_depth = self._gauge("queue_depth", "Items waiting, by queue.", ("queue",))

    def _add_consensus(self) -> None:
        self.is_leader = self._gauge("is_leader", "1 on the leader, else 0.")
        self.has_quorum = self._gauge("has_quorum", "1 if a majority is reached, else 0.")
        self.term = self._gauge("term", "Current Raft term.")
        self.commit_index = self._gauge("commit_index", "Highest log index known as committed.")
        self.applied_index = self._gauge("applied_index", "Highest log index applied here.")
        self.last_index = self._gauge("last_index", "Highest log index stored here.")
        self.lag_entries = self._gauge(
            "lag_entries",
            "Committed entries that a node has not applied (itself) or not stored (its peers, as "
            "the leader sees them).",
            ("peer",),
        )
        self.lag_seconds = self._gauge(
            "lag_seconds", "Seconds since the node last heard of a leader with a majority."
        )
        self.members = self._gauge("members", "Voters of the cluster.")
        self.leader_changes = self._counter("leader_changes", "Changes of leader that were seen.")
        self.commit_duration = self._histogram(
            "commit_duration_seconds", "From proposing changes to their outcome.", _COMMIT_BUCKETS
        )
        self.batch_changes = self._histogram(
            "batch_changes", "Changes in one committed command.", _BATCH_BUCKETS
        )
        self.fsync_duration = self._histogram(
            "fsync_duration_seconds",
            "Writes made durable: the log, a staged content, or the volume before a snapshot.",
            _FAST_BUCKETS,
            ("target",),
        )
        self._log_synced = self.fsync_duration.labels(target="log")
        self.sync_entries = self._histogram(
            "log_sync_entries", "Log entries made durable by one sync.", _BATCH_BUCKETS
        )
        self.append_commit_duration = self._histogram(
            "append_commit_duration_seconds",
            "As the leader: from a command being proposed to its being committed and applied.",
            _FAST_BUCKETS,
        )
        self.tick_duration = self._histogram(
            "tick_duration_seconds", "Ticks of the log, their waits not counted.", _FAST_BUCKETS
        )
        self.snapshot_duration = self._histogram(
            "snapshot_duration_seconds", "Snapshots of the catalog being written.", _COMMIT_BUCKETS
        )
        self.commits = self._counter("commits", "Log entries that were committed, as seen here.")
        self.elections = self._counter("elections", "Elections that this node called.")
        self.stands_aside = self._gauge(
            "stands_aside",
            "1 if the node was removed, wiped, found to differ or is of too old a release, else 0.",
        )
        self.log_bytes = self._gauge("log_bytes", "Bytes of the log on this node's disk.")

    def _add_transport(self) -> None:
        by_peer = ("peer", "direction")
        self.peer_bytes = self._counter("peer_bytes", "Bytes of log messages, by peer.", by_peer)
        self.peer_frames = self._counter("peer_frames", "Log messages, by peer.", by_peer)
        self.peer_reconnects = self._counter(
            "peer_reconnects", "Links to a peer that took the place of one before.", ("peer",)
        )
        self.peers_refused = self._counter(
            "peers_refused", "Connections that were not let in, by cause.", ("cause",)
        )
        self.refused_by_peers = self._counter(
            "refused_by_peers", "Connections that a peer did not let in, by cause.", ("cause",)
        )
        self.certificate_expiry = self._gauge(
            "certificate_expiry_timestamp_seconds", "When this node's certificate ends."
        )
        self.clock_offset = self._gauge(
            "clock_offset_seconds",
            "Seconds that a peer's clock is ahead of this node's, to within half the time that the "
            "peer took to tell it; none for a peer that does not answer.",
            ("peer",),
        )

    def _add_folder(self) -> None:
        self.files = self._gauge("files", "Files in the catalog.")
        self.bytes = self._gauge("bytes", "Bytes of the files in the catalog.")
        self.folder_in_doubt = self._gauge(
            "folder_in_doubt",
            "1 after a loss of power, until the folder was compared with the log, else 0.",
        )
        self.fs_events = self._counter("fs_events", "Events of the file system.")
        self.changes = self._counter(
            "changes", "Changes of this folder, by what became of them.", ("result",)
        )
        self.change_duration = self._histogram(
            "change_duration_seconds",
            "From a change of this folder being seen to its being committed.",
            _REPLICATION_BUCKETS,
        )
        self.special_files_skipped = self._counter(
            "special_files_skipped", "Devices, pipes and sockets that were left alone."
        )
        self.watcher_errors = self._counter(
            "watcher_errors", "What the watcher could not do at once and tries again.", ("cause",)
        )
        self.scan_duration = self._histogram(
            "scan_duration_seconds", "Full scans of the folder.", _REPLICATION_BUCKETS
        )
        self.rescans = self._counter("rescans", "Full scans of the folder.", ("reason",))
        self.inotify_overflows = self._counter(
            "inotify_overflows", "Times that the kernel dropped events; each causes a full scan."
        )
        self.disk_free_bytes = self._gauge("disk_free_bytes", "Free bytes of the data volume.")
        self.disk_reserve_bytes = self._gauge(
            "disk_reserve_bytes", "Free bytes of the data volume below which writes are refused."
        )
        self.disk_size_bytes = self._gauge("disk_size_bytes", "Bytes of the data volume.")

    def _add_http(self) -> None:
        self.http_requests = self._counter(
            "http_requests",
            "Requests answered, by listener, method, route template and status code.",
            ("listener", "method", "route", "code"),
        )
        self.http_duration = self._histogram(
            "http_request_duration_seconds",
            "From a request's headers to the last byte of its answer.",
            _HTTP_BUCKETS,
            ("listener", "method", "route"),
        )
        self.http_in_flight = self._gauge(
            "http_requests_in_flight", "Requests being answered.", ("listener",)
        )

    def _add_node(self) -> None:
        self.ready = self._gauge("ready", "1 if the node answers 200 at /ready, else 0.")
        self.build = Info("pickbox_build", "Version that runs.", registry=self.registry)
        self.build.info({"version": __version__, "node": self.node_id})
        self.level = self._gauge("level", "What the cluster uses of what its releases understand.")
        self._gauge("understood_level", "Highest level that the release understands.").set(LEVEL)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def observe_on_scrape(self, callback: Callable[[], None]) -> None:
        """Call `callback` before each scrape, to fill gauges; one that raises is only logged."""
        self._before_scrape.callbacks.append(callback)

    def set_status(self, status: ConsensusStatus) -> None:
        """Fill the consensus gauges from a picture of the log."""
        self.is_leader.set(status.role == "leader")
        self.has_quorum.set(status.has_quorum)
        self.term.set(status.term)
        self.commit_index.set(status.commit_index)
        self.applied_index.set(status.applied_index)
        self.last_index.set(status.last_index)
        self.lag_seconds.set(status.last_contact)
        self.lag_entries.clear()
        self.lag_entries.labels(peer=self.node_id).set(status.lag)
        for peer, index in status.match_index.items():
            if peer != self.node_id:
                self.lag_entries.labels(peer=peer).set(max(0, status.commit_index - index))

    def set_transport(self, counts: TransportCounts) -> None:
        """Bring the counters of the links up to what the transport has counted."""
        for peer, traffic in counts.peers.items():
            raise_to(self.peer_bytes.labels(peer, "sent"), traffic.bytes_sent)
            raise_to(self.peer_bytes.labels(peer, "received"), traffic.bytes_received)
            raise_to(self.peer_frames.labels(peer, "sent"), traffic.frames_sent)
            raise_to(self.peer_frames.labels(peer, "received"), traffic.frames_received)
            raise_to(self.peer_reconnects.labels(peer), traffic.reconnects)
        for cause, count in counts.refused.items():
            raise_to(self.peers_refused.labels(cause), count)
        for cause, count in counts.turned_away.items():
            raise_to(self.refused_by_peers.labels(cause), count)

    def set_clocks(self, nodes: Iterable[NodeStatus]) -> None:
        """Say how the clocks of those `nodes` differ that told the time."""
        self.clock_offset.clear()
        for node in nodes:
            if node.clock_offset is not None:
                self.clock_offset.labels(peer=node.node_id).set(node.clock_offset)

    def set_log(self, figures: LogFigures) -> None:
        """Bring the counters of the log up to what it has counted since the node's start."""
        self.leader_changes.inc(lacking(self.leader_changes, figures.leader_changes))
        self.elections.inc(lacking(self.elections, figures.elections))
        self.commits.inc(lacking(self.commits, figures.commits))
        self.log_bytes.set(figures.bytes_on_disk)

    # -- what the log counts: pickbox.consensus.raft.LogMetrics ----------------------------------

    def log_synced(self, seconds: float, entries: int) -> None:
        """The log was made durable, with `entries` new ones."""
        self._log_synced.observe(seconds)
        self.sync_entries.observe(entries)

    def ticked(self, seconds: float) -> None:
        """A tick of the log took `seconds`."""
        self.tick_duration.observe(seconds)

    def entry_committed(self, seconds: float) -> None:
        """A command was committed and applied, `seconds` after it was proposed here."""
        self.append_commit_duration.observe(seconds)

    def snapshot_made(self, seconds: float) -> None:
        """A snapshot of the catalog was written."""
        self.snapshot_duration.observe(seconds)

    def file_replicated(self, size: int) -> None:
        """A file of another node, `size` bytes, was placed on this node's disk."""
        self.files_replicated.inc()
        self.bytes_replicated.inc(size)
        self.last_replication.set_to_current_time()

    # -- what the watcher counts: pickbox.watcher.metrics.WatcherMetrics ------------------------

    def scanned(self, reason: str, seconds: float) -> None:
        """A full scan of the folder ended."""
        self.rescans.labels(reason=reason).inc()
        self.scan_duration.observe(seconds)

    def overflowed(self) -> None:
        """The kernel dropped file events."""
        self.inotify_overflows.inc()

    def event_seen(self) -> None:
        """A file event arrived."""
        self.fs_events.inc()

    def change_settled(self, result: str, seconds: float) -> None:
        """A change of this folder was answered, `seconds` after it was first seen."""
        self.changes.labels(result=result).inc()
        self.change_duration.observe(max(0.0, seconds))

    def conflict_taken(self) -> None:
        """An edit of this folder became a conflict copy."""
        self.conflicts.inc()

    def skipped(self) -> None:
        """A device, pipe or socket was left alone."""
        self.special_files_skipped.inc()

    def failed(self, cause: str) -> None:
        """The watcher could not do something and tries again."""
        self.watcher_errors.labels(cause=cause).inc()

    def figures(self) -> Figures:
        """What this object knows of `Figures`; files, bytes, pending and disk are the caller's."""
        count, seconds = histogram_totals(self.replication_duration)
        with self._process.oneshot():
            cpu = self._process.cpu_times()
            memory = self._process.memory_info().rss
            threads = self._process.num_threads()
        return Figures(
            files_replicated=int(total(self.files_replicated)),
            files_deleted=int(total(self.files_deleted)),
            bytes_replicated=int(total(self.bytes_replicated)),
            replication_errors=int(total(self.replication_errors)),
            replication_seconds_avg=seconds / count if count else 0.0,
            replications=int(count),
            last_replication=total(self.last_replication) or None,
            conflicts=int(total(self.conflicts)),
            memory_bytes=memory,
            cpu_seconds=cpu.user + cpu.system,
            threads=threads,
            uptime_seconds=time.monotonic() - self._started,
        )
