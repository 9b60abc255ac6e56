"""What is wrong with a log and its snapshots, and the ways out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pickbox.cli.findings import Finding, Level
from pickbox.consensus import snapshot_store
from pickbox.consensus.log import segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pickbox.consensus.log import Examination, SegmentFound
    from pickbox.consensus.snapshot_store import SnapshotFound


def of_log(found: Examination) -> list[Finding]:
    """What is to be said of the log: damage, a torn tail, a format of a newer release."""
    findings = [
        Finding(
            os.path.basename(damage.path),
            Level.FAILED,
            f"damaged at offset {damage.offset}: {damage.found}",
            f"{segment.WAYS_OUT}.",
        )
        for damage in found.damages
    ]
    findings += [finding for part in found.segments for finding in _of_segment(part)]
    if found.too_new:
        findings.append(Finding("format", Level.FAILED, found.too_new))
    elif not found.segments:
        detail = "nothing was ever written here: a node that starts begins a new log"
        advice = "If this node had a log, put back its whole data directory before you start it."
        findings.append(Finding("log", Level.WARN, detail, advice))
    elif found.is_sound:
        findings.append(Finding("log", Level.OK, "every byte is as it was written"))
    return findings


def _of_segment(part: SegmentFound) -> list[Finding]:
    name = os.path.basename(part.path)
    if part.unfinished:
        detail = "a crash cut its making short, before anything was written to it"
        return [Finding(name, Level.WARN, detail, "The next start removes it.")]
    if part.torn:
        detail = f"a crash has torn the last write, at offset {part.end}: {part.reason}"
        advice = (
            f"The next start cuts {part.torn} bytes from there on; nobody was promised anything "
            "about them."
        )
        return [Finding(name, Level.WARN, detail, advice)]
    return []


def of_snapshots(snapshots: Sequence[SnapshotFound], log: Examination) -> list[Finding]:
    """What is to be said of the snapshots, and whether the log goes on from the newest."""
    findings = []
    for found in snapshots:
        name = os.path.basename(found.path)
        if found.trouble:
            advice = f"{snapshot_store.WAYS_OUT}."
            findings.append(Finding(name, Level.FAILED, f"damaged: {found.trouble}", advice))
        else:
            findings.append(Finding(name, Level.OK, "its checksum is right"))
    newest = snapshots[0].snapshot if snapshots else None
    covered = newest.index if newest is not None else 0
    if log.segments and log.first_index > covered + 1:
        findings.append(_gap(log.first_index, covered))
    return findings


def _gap(first: int, covered: int) -> Finding:
    detail = f"the log begins at entry {first}, and no snapshot that can be read holds "
    detail += f"entries {covered + 1} to {first - 1}"
    if covered:
        return Finding("snapshots", Level.FAILED, detail, f"{snapshot_store.WAYS_OUT}.")
    advice = "A node can go on from it only if its catalog has them all."
    return Finding("snapshots", Level.WARN, detail, advice)
