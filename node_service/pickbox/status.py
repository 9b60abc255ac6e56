"""What a node tells about itself and its cluster: shapes shared by HTTP, CLI and metrics."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Check:
    """One named check of `/health`. `reason` says what is wrong and what to do; empty when ok.

    Attributes:
        gates_ready: whether a failing check makes the node not ready.
    """

    name: str
    ok: bool
    reason: str = ""
    gates_ready: bool = True


@dataclass(frozen=True, slots=True)
class Health:
    """All checks of a node. `ready` and `reasons` are what `/ready` answers."""

    node_id: str
    checks: tuple[Check, ...]

    @property
    def ready(self) -> bool:
        """Whether a load balancer may send requests here."""
        return all(check.ok for check in self.checks if check.gates_ready)

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence a failing check."""
        return tuple(check.reason for check in self.checks if not check.ok)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The names of the failing checks that leave the node ready."""
        return tuple(c.name for c in self.checks if not (c.ok or c.gates_ready))


@dataclass(frozen=True, slots=True)
class Joining:
    """How far a node is with its start.

    Attributes:
        reason: why it has not joined its cluster yet; empty if it has, or waits to be added to one.
        needs_time: it waits for nobody, but has work to do on its folder first.
    """

    reason: str = ""
    needs_time: bool = False


@dataclass(frozen=True, slots=True)
class Figures:
    """A node's own figures, for the dashboard and `/api/metrics` (SI base units).

    Attributes:
        replications: changes that `replication_seconds_avg` is the mean of.
    """

    files: int = 0
    bytes: int = 0
    files_replicated: int = 0
    files_deleted: int = 0
    bytes_replicated: int = 0
    replication_errors: int = 0
    replication_seconds_avg: float = 0.0
    replications: int = 0
    last_replication: float | None = None
    conflicts: int = 0
    pending: int = 0
    memory_bytes: int = 0
    cpu_seconds: float = 0.0
    disk_free_bytes: int = 0
    disk_total_bytes: int = 0
    threads: int = 0
    uptime_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node as itself or a peer sees it. `reachable` is False when it did not answer.

    Attributes:
        level: what the cluster may use, as far as the node has applied it (`pickbox.levels`).
        reasons: a sentence for each failing check.
        warnings: names of the failing checks that leave it ready; a release that knows of no such
            names gives none.
        understands: the highest level that the node's release understands; 0 if it did not answer.
        certificate_expires: when the certificate that it shows its peers ends (ISO 8601, UTC).
        certificate_serial: the certificate's serial number, in hexadecimal.
        certificate_authorities: SHA-256 of each CA whose nodes are let in, in hexadecimal, sorted.
        clock_offset: seconds that its clock is ahead of that of the node that asked it; None if it
            did not say what time it has, and for the node itself.
    """

    node_id: str
    reachable: bool
    version: str = ""
    level: int = 0
    understands: int = 0
    role: str = "unknown"
    leader: str | None = None
    term: int = 0
    commit_index: int = 0
    applied_index: int = 0
    last_index: int = 0
    lag: int = 0
    ready: bool = False
    draining: bool = False
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    client_url: str = ""
    admin_url: str = ""
    monitor_url: str = ""
    certificate_expires: str = ""
    certificate_serial: str = ""
    certificate_authorities: tuple[str, ...] = ()
    clock_offset: float | None = None
    figures: Figures = field(default_factory=Figures)
    error: str = ""


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The cluster as one node sees it: every member asked within the last few seconds.

    Attributes:
        level: what the cluster may use, as far as this node has applied it.
        standing: why this node takes no part (removed, wiped, diverged, not a member); empty if it
            does. What it says of the others is then of no use.
    """

    cluster_name: str
    leader: str | None
    term: int
    quorum: int
    has_quorum: bool
    nodes: tuple[NodeStatus, ...]
    level: int = 0
    standing: str = ""

    @property
    def upgrade_unfinished(self) -> bool:
        """Whether some member understands more than the cluster uses."""
        return any(node.understands > self.level for node in self.nodes)


@dataclass(frozen=True, slots=True)
class HeldDeletes:
    """Deletes that the node does not propose before somebody confirms them. 0 paths: none held."""

    count: int = 0
    known: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UnderstoodBy:
    """What one member understands: its release and highest level, or why it did not answer."""

    node_id: str
    version: str = ""
    understands: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class UpgradeStatus:
    """How far the upgrade to another release is; every member was asked now.

    Attributes:
        level: what the cluster uses.
        target: the highest level that some member understands.
        nodes: all members, learners too.
    """

    level: int
    target: int
    nodes: tuple[UnderstoodBy, ...]

    @property
    def finished(self) -> bool:
        """Whether the cluster uses all that its members understand."""
        return self.level >= self.target
