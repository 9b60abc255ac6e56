"""The composition root: builds every part from `Settings`, starts and stops them in order."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from typing import TYPE_CHECKING

from pickbox.admin_tokens import AdminTokens
from pickbox.backup.assembly import assemble_backups
from pickbox.consensus import RaftConsensus
from pickbox.control import Control
from pickbox.http.apps import (
    create_admin_app,
    create_client_app,
    create_monitor_app,
    create_peer_app,
)
from pickbox.http.event_stream import Viewers
from pickbox.http.peer_server import PeerServer
from pickbox.http.server import Listeners
from pickbox.membership import MemberChanges
from pickbox.observability.counts import ReplicationCounts
from pickbox.observability.figures_log import FiguresLog
from pickbox.observability.file_changes import FileChanges
from pickbox.observability.metrics import Metrics
from pickbox.observability.observer import Observer
from pickbox.replication.content import LocalContent
from pickbox.replication.inline import InlineContent
from pickbox.replication.intake import Intake
from pickbox.replication.peering import LeaderBarrier, Peering
from pickbox.replication.peers import Forwarder, Peers
from pickbox.replication.placement_steps import PlacementSteps
from pickbox.replication.placer import Placer
from pickbox.replication.proposer import TO_ANSWER, Proposer
from pickbox.replication.service import Files
from pickbox.replication.state_machine import StateMachine
from pickbox.replication.swaps import Swaps
from pickbox.replication.transfer import Fetcher, Stager
from pickbox.storage.catalog import Catalog
from pickbox.storage.disk import DiskGuard, sync_filesystem
from pickbox.storage.hold import hold
from pickbox.storage.housekeeping import Housekeeping
from pickbox.storage.power import PowerRecord
from pickbox.storage.release import claim_release
from pickbox.storage.staging import Staging
from pickbox.storage.state import StateDatabase
from pickbox.storage.synced import SyncedFolder
from pickbox.storage.tree import FileTree
from pickbox.storage.versions import Versions
from pickbox.upgrades import ClusterUpgrade
from pickbox.waker import Waker
from pickbox.watcher import Watcher
from pickbox.watcher.after_power_loss import AfterPowerLoss
from pickbox.watcher.doubt import Doubts

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Sequence

    from pickbox.changes import Entry, Submission
    from pickbox.members import Members
    from pickbox.settings import Settings
    from pickbox.tls import Credentials

log = logging.getLogger(__name__)


class Node:
    """One Pickbox node.

    Raises:
        CatalogError, OSError: something on the disk cannot be used, or another process has it.
        WrongRelease: it can, by a newer release than this one.
    """

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        self.settings = settings
        self.credentials = credentials
        self.tokens = AdminTokens(settings)
        self.failed = ""
        self._asked = Waker()
        self._stop_asked = threading.Event()
        self.metrics = Metrics(settings.node_id)
        self.counts = counts = ReplicationCounts(self.metrics)
        self._open_volume(settings)
        self.file_changes = FileChanges(self.catalog.get)
        self.peers = Peers(settings.node_id, credentials)

        self.content = LocalContent(
            self.tree,
            self.inline,
            self.staging,
            self.state,
            self.versions,
            self._offered,
            settings.node_id,
            self._in_doubt,
        )
        self.fetcher = Fetcher(self.peers, self.staging, self.content, self.disk, counts)
        steps = PlacementSteps(
            self.tree,
            self.inline,
            self.staging,
            self.state,
            self.versions,
            self.catalog,
            self.content,
            self.disk,
            Swaps(self.tree, settings.node_id, settings.settle_limit),
        )
        self.placer = Placer(
            steps,
            self.catalog,
            self.fetcher,
            sources=self._sources,
            blocked=self.tree.intact,
            metrics=counts,
        )
        machine = StateMachine(
            self.catalog,
            self.inline,
            in_folder=self.content.is_in_folder,
            on_applied=self._applied,
            on_loaded=self._loaded,
            before_snapshot=self._sync_folder,
            on_recalled=self._recalled,
            on_recalled_from=self.doubts.note_snapshot if self.lost_power else None,
        )
        self.consensus = RaftConsensus(
            settings,
            credentials,
            machine,
            self.metrics,
            hand_over=self._hand_over,
            on_members=self._members_changed,
            on_fatal=self._fail,
        )
        self.stager = stager = Stager(
            settings.node_id, self.consensus.members, self.peers, self.staging
        )
        self.proposer = Proposer(
            settings.node_id,
            self.consensus,
            Forwarder(self.peers),
            stager,
            counts,
            self._level,
        )
        self.watcher = Watcher(
            settings,
            self.tree,
            self.state,
            self.catalog,
            self.proposer,
            self.placer,
            self.staging,
            self.disk,
            self.metrics,
        )
        self.barrier = LeaderBarrier(settings.node_id, self.consensus, self.peers)
        self.after_power_loss = AfterPowerLoss(
            self.power,
            self.doubts,
            self.synced,
            in_doubt=self.lost_power,
            barrier=self.barrier,
            wants=self.placer.wants,
            open_folder=self._open_folder,
        )
        self.control = Control(
            settings,
            self.consensus,
            self.catalog,
            self.watcher,
            self.placer,
            self.proposer,
            self.disk,
            self.peers,
            credentials,
            self.metrics,
            self.after_power_loss,
        )
        self.observer = Observer(
            self.control.cluster, self.control.mark, self.file_changes, self._stop_asked
        )
        self.viewers = Viewers(self.control, self.observer)
        self.membership = MemberChanges(settings, self.consensus, self.control, self.peers)
        self.upgrade = ClusterUpgrade(
            settings, self.consensus, self.control, self.peers, self.proposer, self.barrier
        )
        self.backups = assemble_backups(
            settings,
            self.catalog,
            self.content,
            self.fetcher,
            self.proposer,
            self.staging,
            self.disk,
            self.barrier,
            sources=self._sources,
            not_now=lambda: self.control.not_serving() or self.after_power_loss.reason,
        )
        self.housekeeping = Housekeeping(
            self.staging, self.versions, self._is_awaited, self._in_doubt, self._stop_asked
        )
        self._build_listeners(settings)

    # -- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every part; the listeners first, so that a taken port stops it all."""
        self.listeners.start()
        self._check_name()
        self.consensus.start()
        self.membership.start()
        self.proposer.start()
        self.after_power_loss.start()
        self.backups.start()
        self.housekeeping.start()
        self.tokens.watch(self._stop_asked)
        FiguresLog(self.control.status, self._stop_asked).start()
        self.observer.start()

    def stop(self) -> None:
        """Drain, finish what is in flight, stop; within the drain timeout.

        The databases stay open: threads that nobody waits for read them, and a connection that is
        closed under a reader takes the process down. What was committed is on the disk with the
        volume.
        """
        deadline = time.monotonic() + self.settings.drain_timeout

        def half_of_the_rest() -> float:
            return max(0.5, (deadline - time.monotonic()) / 2)

        self.control.drain()
        self.after_power_loss.stop(half_of_the_rest() / 2)
        self.watcher.stop()
        self.backups.stop(half_of_the_rest() / 2)
        self.viewers.close()
        # Without a leader, who waits for one hears so while there is still a connection to say it.
        self.proposer.give_up_in(half_of_the_rest() - TO_ANSWER)
        self.listeners.stop(half_of_the_rest())
        self.proposer.stop(half_of_the_rest())
        self.stager.stop()
        self.membership.stop()
        self.placer.stop()
        self.consensus.stop()
        with contextlib.suppress(OSError):  # then the next start looks twice
            sync_filesystem(os.fsencode(self.settings.data_dir))
            if not self.after_power_loss.in_doubt:
                self.power.note_clean_stop()
        log.info("stopped")

    def ask_to_stop(self) -> None:
        """Have `wait` return. For any thread, and for signals, which may come in one another."""
        self._asked.wake()

    def wait(self) -> None:
        """Return when somebody asked to stop, or the node failed."""
        select.select([self._asked], [], [])
        self._stop_asked.set()

    def _check_name(self) -> None:
        """Say so if nobody can verify the admin API of this node."""
        settings = self.settings
        host = settings.reached_at
        if settings.admin_over_tls and not self.credentials.is_for(host):
            why = f"clients of {settings.admin_url} refuse the certificate: it is not for {host}"
            fields = {"why": why, "todo": "a deployment (playbooks/deploy.yml) makes one that is"}
            log.warning("certificate_lacks_host", extra={"fields": fields})

    # -- building ---------------------------------------------------------------------------

    def _open_volume(self, settings: Settings) -> None:
        self._hold = hold(settings.data_dir)
        claim_release(settings.data_dir)
        base = os.fsencode(settings.data_dir)
        self.power = PowerRecord(os.path.join(base, b"boot"))
        self.disk = DiskGuard(base, settings.disk_reserve)
        self.state = StateDatabase(os.path.join(base, b"state.db"))
        self.tree = FileTree(os.path.join(base, b"files"))
        # A folder that had files and has no marker now is not this node's folder: not mounted, say.
        self.tree.prepare(settings.node_id, expect_marker=self.state.count() > 0)
        content_synced = self.metrics.fsync_duration.labels(target="content").observe
        self.staging = Staging(os.path.join(base, b"staging"), content_synced)
        self.inline = InlineContent(self.staging)
        self.versions = Versions(
            os.path.join(base, b"versions"), self.state, settings.versions_keep
        )
        self.catalog = Catalog(os.fsdecode(os.path.join(base, b"catalog.db")))
        used = self.state.count() > 0 or self.catalog.applied_index > 0
        self.lost_power = self.power.may_have_failed(used=used)
        self.staging.recover(self.catalog.has_content, in_doubt=self.lost_power)
        self.synced = SyncedFolder(base, self.state, self.catalog, self._sync_volume)
        self.doubts = Doubts(self.tree, self.state, self.catalog, self.staging, self.synced)

    def _build_listeners(self, settings: Settings) -> None:
        files = Files(
            settings,
            self.catalog,
            self.content,
            self.proposer,
            Intake(settings, self.staging, self.disk),
            bring=self._bring,
            barrier=self.barrier,
            accepting=self.control.not_accepting,
            serving=self.control.not_serving,
        )
        peering = Peering(self.consensus, self.fetcher, self.content, self.counts, self._level)
        self.peer_server = PeerServer(create_peer_app(peering, self.control, self.metrics))
        self.listeners = Listeners(
            settings,
            create_client_app(
                files, self.control, self.observer, self.viewers, self.metrics, settings
            ),
            create_admin_app(
                self.control,
                self.membership,
                self.upgrade,
                self.backups,
                self.tokens,
                self.metrics,
            ),
            create_monitor_app(self.control, self.metrics.registry, self.metrics),
            [self.peer_server],
            self.credentials.https_context if settings.admin_over_tls else None,
        )

    # -- what the parts call ----------------------------------------------------------------

    def _offered(self, digest: bytes) -> bytes | None:
        return self.watcher.offered(digest)

    def _level(self) -> int:
        return self.catalog.level

    def _in_doubt(self) -> bool:
        """Whether the folder may be other than this node knows."""
        return self.after_power_loss.in_doubt

    def _recalled(self, index: int, submissions: Sequence[Submission]) -> None:
        if self._in_doubt():
            self.doubts.note(index, submissions)

    def _open_folder(self, wrong: Collection[bytes]) -> None:
        """Begin to place and to watch; the paths `wrong` are not what they should be."""
        self.placer.request(wrong)
        self.placer.start(self.watcher)
        self.watcher.start()

    def _hand_over(self, sock: ssl.SSLSocket, node_id: str, address: str) -> None:
        self.peer_server.hand_over(sock, node_id, address)

    def _members_changed(self, members: Members) -> None:
        self.peers.follow(members)
        self.membership.check_address(members)

    def _sources(self, entry: Entry) -> Sequence[str]:
        """Whom to ask for content: the node that took it in, then the others."""
        ids = [peer.node_id for peer in self.peers]
        return sorted(ids, key=lambda node_id: (node_id != entry.origin, node_id))

    def _bring(self, entry: Entry) -> bool:
        """Have the content of `entry` here: where it is being placed, and else from a peer."""
        if self.placer.has_in_hand(entry.path):
            return self.placer.wait_for(entry.path, self.settings.request_timeout)
        return self.fetcher.fetch(entry.digest, entry.size, self._sources(entry))

    def _applied(
        self, index: int, touched: Sequence[bytes], submissions: Sequence[Submission]
    ) -> None:
        """On the tick thread: note what to place; count how long changes took to get here."""
        if self._in_doubt():
            self.doubts.note_touched(index, touched)
        self.placer.request(touched)
        self.file_changes.note(touched)
        now = time.time()
        for submission in submissions:
            self.metrics.replication_duration.observe(max(0.0, now - submission.taken_at / 1000))

    def _is_awaited(self, digest: bytes) -> bool:
        """Whether content in staging is to be committed, or placed: none is kept there for good."""
        if self.stager.is_under_way(digest):
            return True
        return self.catalog.has_content(digest) and not self.content.is_placed(digest)

    def _loaded(self) -> None:
        """Another node's snapshot says what is to be placed: no log entry will."""
        self.watcher.rescan("snapshot")
        if not self._in_doubt():
            self.synced.sync_soon()

    def _sync_folder(self) -> None:
        """Before log entries are let go: what they placed must be on the disk."""
        self.after_power_loss.wait_settled()
        self.synced.sync()

    def _sync_volume(self) -> None:
        """Have on the disk what was written, and what the log's entries carried."""
        with self.metrics.fsync_duration.labels(target="volume").time():
            self.inline.flush()
            sync_filesystem(os.fsencode(self.settings.data_dir))

    def _fail(self, why: str) -> None:
        self.failed = why
        log.critical("node_failed", extra={"fields": {"why": why}})
        self.ask_to_stop()
