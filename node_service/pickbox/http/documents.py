"""The domain as JSON: entries, writes, receipts, health and the cluster."""

from __future__ import annotations

import base64
import dataclasses
from typing import TYPE_CHECKING, Any

from pickbox.changes import Kind
from pickbox.observability.history import SECONDS, Reading
from pickbox.storage.paths import display, to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pickbox.changes import Entry, Receipt
    from pickbox.observability.events import Event
    from pickbox.observability.history import Sample
    from pickbox.seams import Written
    from pickbox.status import ClusterStatus, Health


def digest_text(digest: bytes) -> str:
    """A digest with its algorithm; empty for what has no content."""
    return f"blake3:{digest.hex()}" if digest else ""


def entry_document(entry: Entry) -> dict[str, Any]:
    """One entry of a listing; ``target`` is there for symlinks only."""
    document: dict[str, Any] = {
        **to_json(entry.path),
        "kind": entry.kind.name.lower(),
        "size": entry.size,
        "mode": f"{entry.mode:04o}",
        "mtime_ns": entry.mtime_ns,
        "digest": digest_text(entry.digest),
        "version": entry.version,
        "origin": entry.origin,
    }
    if entry.kind is Kind.SYMLINK:
        document.update(target_members(entry.target))
    return document


def target_members(target: bytes) -> dict[str, str]:
    """A symlink's target, in base64 too when text cannot say it."""
    try:
        return {"target": target.decode()}
    except UnicodeDecodeError:
        return {"target": display(target), "target_b64": base64.b64encode(target).decode()}


def written_document(written: Written) -> dict[str, Any]:
    """The answer to a write."""
    return {
        **to_json(written.path),
        "version": written.version,
        "digest": digest_text(written.digest),
        "index": written.index,
        "request_id": written.request_id,
    }


def receipt_document(receipt: Receipt) -> dict[str, Any]:
    """What became of a request."""
    return {
        "request_id": receipt.request_id,
        "index": receipt.index,
        "outcomes": [
            {
                "status": outcome.status.value,
                **to_json(outcome.path),
                "version": outcome.version,
                "reason": outcome.reason,
            }
            for outcome in receipt.outcomes
        ],
    }


def health_document(health: Health) -> dict[str, Any]:
    """Every check of a node."""
    return {
        "node_id": health.node_id,
        "ready": health.ready,
        "reasons": list(health.reasons),
        "checks": [dataclasses.asdict(check) for check in health.checks],
    }


def blocking_reasons(health: Health) -> list[str]:
    """Why the node is not ready; what only warns is left out."""
    return [check.reason for check in health.checks if check.gates_ready and not check.ok]


def cluster_document(cluster: ClusterStatus, node_id: str) -> dict[str, Any]:
    """The cluster, with the predecessor's summary of it as `node_id` sees it."""
    mine = next((node for node in cluster.nodes if node.node_id == node_id), None)
    figures = mine.figures if mine else None
    done = figures.files_replicated + figures.replication_errors if figures else 0
    return {
        **dataclasses.asdict(cluster),
        "upgrade_unfinished": cluster.upgrade_unfinished,
        "node_id": node_id,
        "total_nodes": len(cluster.nodes),
        "leader_node": cluster.leader,
        "current_state": mine.role if mine else "unknown",
        "files_tracked": figures.files if figures else 0,
        "total_bytes": figures.bytes if figures else 0,
        "error_rate": figures.replication_errors / done if figures and done else 0.0,
        "avg_repl_time": figures.replication_seconds_avg if figures else 0.0,
    }


def history_document(samples: Sequence[Sample], node_id: str) -> dict[str, Any]:
    """Samples in columns: a list of times and, of each node, one list as long for each figure."""
    nodes = sorted({name for sample in samples for name in sample.nodes})
    absent = Reading()
    return {
        "node_id": node_id,
        "seconds": SECONDS,
        "times": [round(sample.at, 3) for sample in samples],
        "nodes": {
            name: {
                field.name: [
                    getattr(sample.nodes.get(name, absent), field.name) for sample in samples
                ]
                for field in dataclasses.fields(Reading)
            }
            for name in nodes
        },
    }


def event_document(event: Event) -> dict[str, Any]:
    """One thing that happened."""
    found = event.finding
    return {
        "id": event.id,
        "timestamp": round(event.at, 3),
        "kind": found.kind,
        "node_id": found.node_id or None,
        "text": found.text,
        "paths": list(found.paths),
    }
