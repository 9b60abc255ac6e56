"""What operators and probes ask of a node: health, status, leadership, drain."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from pickbox import __version__
from pickbox.errors import NoLeader, NotFound, OutcomeUnknown
from pickbox.levels import LEVEL
from pickbox.observability.health import Probe, assess
from pickbox.replication.peers import PeerError
from pickbox.replication.roll_call import RollCall
from pickbox.status import ClusterStatus, Joining, NodeStatus
from pickbox.storage.paths import display

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pickbox.consensus import RaftConsensus
    from pickbox.observability.metrics import Metrics
    from pickbox.replication.peers import Peers
    from pickbox.replication.placer import Placer
    from pickbox.replication.proposer import Proposer
    from pickbox.settings import Settings
    from pickbox.status import Figures, Health, HeldDeletes
    from pickbox.storage.catalog import Catalog
    from pickbox.storage.disk import DiskGuard
    from pickbox.tls import Credentials
    from pickbox.watcher import Watcher
    from pickbox.watcher.after_power_loss import AfterPowerLoss

log = logging.getLogger(__name__)

_STATUS_AGE: Final = 1.0
_TOTALS_AGE: Final = 2.0
_TOTALS_SHARE: Final = 50
"""A count of a large folder is kept for so many times what it took: it costs 2 % of a core."""
_TRANSFER_SECONDS: Final = 5.0
_OUTSIDE: Final = "this node takes no part in the cluster, and the check `log` says why"
_READY_LAG: Final = 500
"""Entries behind the leader beyond which a node is not ready; a busy follower is a few behind."""


class Control:
    """Implements `pickbox.seams.NodeControl`."""

    def __init__(
        self,
        settings: Settings,
        consensus: RaftConsensus,
        catalog: Catalog,
        watcher: Watcher,
        placer: Placer,
        proposer: Proposer,
        disk: DiskGuard,
        peers: Peers,
        credentials: Credentials,
        metrics: Metrics,
        after_power_loss: AfterPowerLoss,
    ) -> None:
        self._settings = settings
        self._consensus = consensus
        self._catalog = catalog
        self._watcher = watcher
        self._placer = placer
        self._proposer = proposer
        self._disk = disk
        self._peers = peers
        self._credentials = credentials
        self._metrics = metrics
        self._after_power_loss = after_power_loss
        self._draining = False
        self._totals: tuple[float, tuple[int, int]] = (0.0, (0, 0))
        self._cluster: tuple[float, ClusterStatus] | None = None
        self._cluster_lock = threading.Lock()
        self._roll_call = RollCall(peers)
        self._probes: Sequence[Probe] = self._make_probes()
        metrics.observe_on_scrape(self.fill_metrics)

    # -- probes -----------------------------------------------------------------------------

    def live(self) -> bool:
        """Whether the node's own threads still turn."""
        folder = self._after_power_loss
        if not (self._consensus.alive() and self._proposer.alive() and folder.alive()):
            return False
        # Who waits for a leader after a loss of power has neither begun yet, and is well.
        return not folder.opened or (self._watcher.alive() and self._placer.alive())

    def health(self) -> Health:
        """Every check, made now."""
        return assess(self._settings.node_id, self._probes)

    def joining(self) -> Joining:
        """How far the node is with its start: it has joined with a leader and an open folder."""
        consensus, folder = self._consensus, self._after_power_loss
        if consensus.standing:
            return Joining(consensus.standing)
        if not (self._settings.bootstrap or consensus.members().nodes):
            return Joining()  # it waits to be added, which needs it to run
        no_leader = self._leader_check()
        if no_leader or folder.opened:
            return Joining(consensus.trouble or no_leader)
        return Joining(folder.reason, needs_time=True)

    def summary(self) -> str:
        """How the node is, in a sentence."""
        blocking = [c.reason for c in self.health().checks if c.gates_ready and not c.ok]
        if blocking:
            return f"not ready: {'; '.join(blocking)}"
        status = self._consensus.status()
        return "ready, and leads" if status.role == "leader" else f"ready, follows {status.leader}"

    def not_accepting(self) -> str:
        """Why no writes are taken here; empty if they are."""
        return self._consensus.standing or self._drain_check()

    def not_serving(self) -> str:
        """Why nothing is served here, not even what is known; empty if it is."""
        return self._consensus.standing

    def _make_probes(self) -> Sequence[Probe]:
        return (
            Probe("threads", self._thread_check),
            Probe("log", lambda: self._consensus.trouble),
            Probe("leader", self._leader_check),
            Probe("quorum", self._quorum_check),
            Probe("caught_up", self._lag_check),
            Probe("power", lambda: self._after_power_loss.reason),
            Probe("scan", self._scan_check),
            Probe("folder", self._folder_check),
            Probe("held_deletes", self._held_check),
            Probe("in_service", self._drain_check),
            Probe("disk", self._disk_check, gates_ready=False),
            Probe("content", self._content_check, gates_ready=False),
            Probe("paths", self._paths_check, gates_ready=False),
        )

    def _thread_check(self) -> str:
        return "" if self.live() else "a thread of the node has stopped: restart it, read its log"

    def _leader_check(self) -> str:
        if self._consensus.status().leader is not None:
            return ""
        remedy = "a majority of the nodes must run and reach each other"
        return f"no leader is known: {_OUTSIDE if self._consensus.outside else remedy}"

    def _quorum_check(self) -> str:
        status = self._consensus.status()
        if status.has_quorum:
            return ""
        reached = ", ".join(status.connected) or "none"
        remedy = _OUTSIDE if self._consensus.outside else "start the other nodes"
        return f"no majority is reached (connected peers: {reached}): {remedy}"

    def _lag_check(self) -> str:
        lag = self._consensus.status().lag
        if lag <= _READY_LAG:
            return ""
        return f"{lag} log entries behind the leader: wait until the node has caught up"

    def _scan_check(self) -> str:
        return "" if self._watcher.scan_done else "the first scan of the folder is not done yet"

    def _folder_check(self) -> str:
        return " ".join(self._watcher.alarms())

    def _held_check(self) -> str:
        held = self._watcher.held_deletes()
        if held.count == 0:
            return ""
        return (
            f"{held.count} of {held.known} files vanished from the folder unseen, and their "
            "deletes are held: `pickbox deletes approve` or `pickbox deletes restore`"
        )

    def _drain_check(self) -> str:
        return "the node is draining: use another one" if self._draining else ""

    def _disk_check(self) -> str:
        if self._disk.ok():
            return ""
        return f"the volume is nearly full ({self._disk.free() >> 20} MiB free): free some space"

    def _content_check(self) -> str:
        pending = self._placer.pending
        return f"the content of {pending} files is still on its way here" if pending else ""

    def _paths_check(self) -> str:
        """Files of the folder that are not replicated now, with the first few by name."""
        troubled = [f"{display(path)!r} ({why})" for path, why in self._watcher.errors()]
        troubled += [f"{display(path)!r} (open for writing)" for path in self._watcher.busy()]
        if not troubled:
            return ""
        return f"{len(troubled)} paths of the folder are not taken in: {', '.join(troubled[:3])}"

    # -- status -----------------------------------------------------------------------------

    def status(self) -> NodeStatus:
        """This node, now."""
        settings, log_status = self._settings, self._consensus.status()
        health = self.health()
        return NodeStatus(
            node_id=settings.node_id,
            reachable=True,
            version=__version__,
            level=self._catalog.level,
            understands=LEVEL,
            role=log_status.role,
            leader=log_status.leader,
            term=log_status.term,
            commit_index=log_status.commit_index,
            applied_index=log_status.applied_index,
            last_index=log_status.last_index,
            lag=log_status.lag,
            ready=health.ready,
            draining=self._draining,
            reasons=health.reasons,
            warnings=health.warnings,
            client_url=settings.client_url,
            admin_url=settings.admin_url,
            monitor_url=settings.monitor_url,
            certificate_expires=self._credentials.expires.isoformat(),
            certificate_serial=self._credentials.serial,
            certificate_authorities=self._credentials.authorities,
            figures=self._figures(),
        )

    def mark(self) -> object:
        """What differs whenever this node sees another cluster than before; asks nobody."""
        log_status = self._consensus.status()
        connected = frozenset(log_status.connected)
        standing = self._consensus.outside
        return log_status.leader, log_status.has_quorum, connected, standing, self._draining

    def cluster(self) -> ClusterStatus:
        """Every member, asked within the last second or so."""
        with self._cluster_lock:
            if self._cluster is None or time.monotonic() - self._cluster[0] > _STATUS_AGE:
                found = self._ask_everyone()
                self._cluster = (time.monotonic(), found)
            return self._cluster[1]

    def _ask_everyone(self) -> ClusterStatus:
        mine = self.status()
        nodes = [mine, *self._roll_call.statuses()]
        return ClusterStatus(
            cluster_name=self._settings.cluster_name,
            leader=mine.leader,
            term=mine.term,
            quorum=self._consensus.members().quorum,
            has_quorum=self._consensus.status().has_quorum,
            nodes=tuple(sorted(nodes, key=lambda node: node.node_id)),
            level=mine.level,
            standing=self._consensus.outside,
        )

    def _figures(self) -> Figures:
        files, size = self._catalog_totals()
        return dataclasses.replace(
            self._metrics.figures(),
            files=files,
            bytes=size,
            pending=self._placer.pending,
            disk_free_bytes=self._disk.free(),
            disk_total_bytes=self._disk.size(),
        )

    def _catalog_totals(self) -> tuple[int, int]:
        until, totals = self._totals
        if time.monotonic() > until:
            began = time.thread_time()  # without what others did meanwhile on a busy machine
            totals = self._catalog.totals()
            took = time.thread_time() - began
            self._totals = (time.monotonic() + max(_TOTALS_AGE, _TOTALS_SHARE * took), totals)
        return totals

    def fill_metrics(self) -> None:
        """Bring the gauges that mirror live state up to date."""
        metrics, counts = self._metrics, self._consensus.transport_counts()
        metrics.ready.set(self.health().ready)  # first: what follows may fail, as with a bad disk
        metrics.set_status(self._consensus.status())
        metrics.set_log(self._consensus.figures())
        metrics.level.set(self._catalog.level)
        metrics.stands_aside.set(bool(self._consensus.standing))
        metrics.folder_in_doubt.set(self._after_power_loss.in_doubt)
        if counts is not None:
            metrics.set_transport(counts)
        if self._cluster is not None:  # the observer looks every few seconds
            metrics.set_clocks(self._cluster[1].nodes)
        metrics.certificate_expiry.set(self._credentials.expires.timestamp())
        metrics.members.set(len(self._consensus.members().voters))
        files, size = self._catalog_totals()
        metrics.files.set(files)
        metrics.bytes.set(size)
        metrics.pending_content.set(self._placer.pending)
        metrics.pending_content_age.set(self._placer.pending_seconds)
        metrics.queue_depth.labels(queue="proposals").set(self._proposer.queued)
        metrics.queue_depth.labels(queue="placement").set(self._placer.queued)
        metrics.disk_free_bytes.set(self._disk.free())
        metrics.disk_reserve_bytes.set(self._disk.reserve())
        metrics.disk_size_bytes.set(self._disk.size())

    # -- operations -------------------------------------------------------------------------

    def transfer_leadership(self, target: str | None) -> str:
        """Hand over leadership, from whichever node leads; return the new leader's id."""
        voters = self._consensus.members().voters
        if target is not None and target not in voters:
            known = ", ".join(voters)
            raise NotFound(f"{target} is not a voter; voters are {known}", field="target")
        leader = self._consensus.status().leader
        if leader is None:
            raise NoLeader("there is no leader to hand over from: wait for an election")
        if leader == target:
            return leader
        if leader == self._settings.node_id:
            return self._consensus.transfer_leadership(target, _TRANSFER_SECONDS)
        try:
            return self._peers.expect(leader).transfer_leadership(target, _TRANSFER_SECONDS)
        except PeerError as error:
            raise NoLeader(f"the leader did not hand over: {error}") from error

    def drain(self) -> None:
        """Become not ready and hand over leadership."""
        self._draining = True
        log.info("draining")
        if self._consensus.status().role == "leader" and self._peers:
            try:
                self._consensus.transfer_leadership(None, _TRANSFER_SECONDS)
            except (NoLeader, OutcomeUnknown) as error:
                log.warning("leadership_kept", extra={"fields": {"why": error.detail}})

    def undrain(self) -> None:
        """Take requests again."""
        self._draining = False
        log.info("undrained")

    def held_deletes(self) -> HeldDeletes:
        """Deletes that wait for a person."""
        return self._watcher.held_deletes()

    def approve_deletes(self) -> int:
        """Propose them after all."""
        return self._watcher.approve_deletes()

    def restore_deletes(self) -> int:
        """Put the files back."""
        return self._watcher.restore_deletes()

    def snapshot(self) -> int:
        """Compact the log; return the index that the snapshot covers at least."""
        return self._consensus.compact()
