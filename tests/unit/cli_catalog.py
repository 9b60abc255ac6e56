"""What the node of the command line's tests has, has seen, and is told to do wrong."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

import pickbox


@dataclass
class Stored:
    """An entry of the catalog, with its content."""

    kind: str
    content: bytes
    mode: int
    mtime_ns: int
    version: int
    target: str = ""

    @property
    def digest(self) -> str:
        return f"blake3:{blake3(self.content).hexdigest()}" if self.kind != "directory" else ""


@dataclass
class Seen:
    """A request that reached the node."""

    method: str
    path: str
    headers: dict[str, str]
    size: int = 0


@dataclass
class Fault:
    """What to do wrong with the next request that `matches` (a method)."""

    matches: str
    status: int = 503
    type: str = "no-leader"
    detail: str = "No leader was there in time."
    lose_answer: bool = False
    hang_up: bool = False
    applied: bool = False
    cut_after: int | None = None
    refuse_unread: bool = False
    break_upload: bool = False
    other_bytes: bool = False


@dataclass
class Node:
    """The catalog and what was asked of it."""

    url: str = ""
    admin_url: str = ""
    monitor_url: str = ""
    entries: dict[bytes, Stored] = field(default_factory=dict)
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    version: int = 0
    applied: int = 0
    draining: bool = False
    leader: str | None = "node1"
    members: list[str] = field(default_factory=lambda: ["node1", "node2", "node3"])
    held: int = 0
    page_limit: int = 1000
    clock_offset: float = 0.0
    node_versions: tuple[str, ...] = (pickbox.__version__,) * 3
    level: int = 1
    levels: tuple[int, ...] = (1, 1, 1)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def store(self, path: bytes, content: bytes, **changes: Any) -> Stored:
        self.version += 1
        values: dict[str, Any] = {"kind": "file", "mode": 0o644, "mtime_ns": 10**18, **changes}
        self.entries[path] = Stored(content=content, version=self.version, **values)
        return self.entries[path]

    def fault(self, method: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.matches == method:
                    self.faults.remove(fault)
                    return fault
        return None

    def requests(self, method: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method]

    def health(self) -> dict[str, Any]:
        reasons = [] if self.leader else ["No leader is known."]
        reasons += ["The node is draining."] if self.draining else []
        checks = [
            {"name": "leader", "ok": bool(self.leader), "reason": "".join(reasons[:1])},
            {"name": "service", "ok": not self.draining, "reason": "".join(reasons[-1:])},
        ]
        for check in checks:
            check["gates_ready"] = True
            check["reason"] = "" if check["ok"] else check["reason"]
        ready = not reasons
        return {"node_id": "node1", "ready": ready, "reasons": reasons, "checks": checks}

    def cluster(self) -> dict[str, Any]:
        return {
            "cluster_name": "pickbox",
            "leader": self.leader,
            "term": 7,
            "quorum": 2,
            "has_quorum": self.leader is not None,
            "level": self.level,
            "upgrade_unfinished": max(self.levels) > self.level,
            "nodes": [self._node(f"node{n}", v) for n, v in enumerate(self.node_versions, 1)],
        }

    def _node(self, name: str, version: str) -> dict[str, Any]:
        return {
            "node_id": name,
            "reachable": True,
            "version": version,
            "role": "leader" if name == self.leader else "follower",
            "leader": self.leader,
            "term": 7,
            "commit_index": 9,
            "applied_index": 9,
            "last_index": 9,
            "lag": 0,
            "ready": self.leader is not None,
            "draining": self.draining,
            "reasons": [] if self.leader else ["No leader is known."],
            "client_url": self.url,
            "admin_url": self.admin_url,
            "monitor_url": self.monitor_url,
            "figures": {"files": len(self.entries), "pending": 0},
            "error": "",
        }
