"""What must hold of nodes, catalogs, folders and logs, whatever was done to the cluster."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from cluster import tree, wait_until

from faults import folders
from faults.linearizability import TooHard, is_linearizable
from faults.receipts import answers, watchers_violations
from faults.witness import violations as against_the_log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cluster import Node

    from faults.nodes import IsolatedCluster
    from faults.record import Record

_QUIET_SECONDS = 4.0
_THE_DISK = re.compile(r"\[Errno (5|28)\]|disk I/O error|database or disk is full")


def histories_violations(record: Record) -> Iterator[str]:
    """What is wrong with what clients were told, whatever has become of the nodes."""
    yield from record.wrong
    yield from against_the_log(record.history.operations())
    for group, operations in record.history.groups().items():
        try:
            if not is_linearizable(operations):
                yield f"{group}: no order of its {len(operations)} operations explains them"
        except TooHard as error:
            yield f"{group}: not judged: {error}"


def nodes_violations(cluster: IsolatedCluster, record: Record) -> Iterator[str]:
    """What is wrong with nodes that are all there, and to whom nobody talks any more."""
    try:
        cluster.wait_settled()
    except AssertionError as error:
        yield f"the nodes never agreed: {error}"
    yield from echoes(list(cluster))
    where: dict[str, list[str]] = defaultdict(list)
    for node in cluster:
        for text in _node_violations(node, record):
            where[text].append(node.node_id)
    yield from (f"{', '.join(nodes)}: {text}" for text, nodes in where.items())
    yield from watchers_violations(answers(next(iter(cluster)).directory / "catalog.db"))


def _node_violations(node: Node, record: Record) -> Iterator[str]:
    yield from folders.violations(folders.tokens_in(node.files), record)
    yield from _not_in_catalog(node)
    yield from logged(node.events())


def logged(events: list[dict[str, Any]]) -> Iterator[str]:
    """What no fault excuses: an error but of the disk, a thread that died, output that is none."""
    for event in events:
        traceback = event.get("exc_info", "").strip()
        unexpected = traceback and not _THE_DISK.search(traceback.splitlines()[-1])
        if unexpected or event["event"] in ("unstructured", "tick_failed"):
            yield f"logged {event}"


def _not_in_catalog(node: Node) -> Iterator[str]:
    """The folder is what the catalog says, content, mode and time included."""
    entries = node.listing()
    for path, found in tree(node.files).items():
        entry = entries.get(path)
        if entry is None or found[0] != "file":
            continue  # paths are compared while waiting for it to settle
        said = (int(entry["mode"], 8), entry["mtime_ns"], entry["digest"].rpartition(":")[2])
        if said != found[1:]:
            yield f"{path!r} is {found[1:]} in the folder and {said} in the catalog"


def echoes(nodes: Sequence[Node]) -> Iterator[str]:
    """With nobody writing, nothing is written: no echo of the cluster's own placements."""
    before: dict[str, dict[str, Any]] = {}

    def agreed() -> bool:
        before.update((node.node_id, node.status()) for node in nodes)
        told = {(told["leader"], told["term"], told["last_index"]) for told in before.values()}
        return len(told) == 1 and None not in told.pop()

    try:
        wait_until(agreed, "with nobody writing, the nodes agree on leader and end of the log")
    except AssertionError as error:
        yield str(error)
        return
    time.sleep(_QUIET_SECONDS)
    for node in nodes:
        then, now = before[node.node_id], node.status()
        # A new leader commits an entry of its own; that is no echo.
        if now["last_index"] != then["last_index"] and now["term"] == then["term"]:
            yield f"{node.node_id} goes on from entry {then['last_index']} with nobody writing"
