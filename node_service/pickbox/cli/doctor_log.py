"""``pickbox doctor log``: a node's log and snapshots, read from its disk.

The one command that looks at a node's own files: they are asked when no node answers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pickbox.cli import log_entries, log_findings, machine, render, tables
from pickbox.cli.failures import ExitCode, Failure, local
from pickbox.cli.findings import Level, show
from pickbox.cli.session import Command, pass_session
from pickbox.consensus.log import ReadOnlyDisk, examine
from pickbox.consensus.log.segment import segment_name
from pickbox.consensus.snapshot_store import examine_snapshots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pickbox.cli.findings import Finding
    from pickbox.cli.session import Session
    from pickbox.consensus.log import Examination, SegmentFound
    from pickbox.consensus.snapshot_store import SnapshotFound

_IN_DATA_DIR: Final = "raft/log"
_DATA_DIR: Final = "PICKBOX_DATA_DIR"


@click.command(cls=Command)
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="PICKBOX_CONFIG",
    show_envvar=True,
    help="The node's settings (node.toml), which name its data directory.",
)
@click.option(
    "--entries",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Show what the last N entries say.",
)
@pass_session
def log(session: Session, directory: Path | None, config: Path | None, entries: int) -> None:
    """Read a node's log and snapshots from its disk.

    The node may run or not: nothing is changed, and nothing locked. DIRECTORY is where the log's
    segments are; its snapshots are beside it. Without it, it is raft/log in the data directory
    that PICKBOX_DATA_DIR names, or else --config.

    Exits with 0 if a node can start from what is there, a torn tail included, with 1 if something
    is damaged, and with 78 if the settings are wrong.
    """
    place = directory or _in_data_dir(config)
    found = _examine(place, entries)
    snapshots_place = place.parent / "snapshots"
    snapshots = examine_snapshots(str(snapshots_place)) if snapshots_place.is_dir() else []
    findings = [*log_findings.of_log(found), *log_findings.of_snapshots(snapshots, found)]
    if session.as_json:
        render.as_json(_document(place, found, snapshots, findings))
    else:
        _show(place, found, snapshots)
        show(findings)
    failed = any(finding.level is Level.FAILED for finding in findings)
    raise SystemExit(int(ExitCode.ERROR if failed else ExitCode.OK))


def _in_data_dir(config: Path | None) -> Path:
    """The log of the node on this machine; the environment wins, as it does for the node."""
    data_dir = os.environ.get(_DATA_DIR)
    if data_dir:
        return Path(data_dir) / _IN_DATA_DIR
    parent = click.get_current_context().parent
    config = config or (parent.params.get("config") if parent is not None else None)
    if config is None:
        detail = f"Which log? Name its directory, or its node by --config or {_DATA_DIR}."
        raise Failure(ExitCode.USAGE, {"type": "usage", "detail": detail})
    return machine.settings_of(config).data_dir / _IN_DATA_DIR


def _examine(place: Path, entries: int) -> Examination:
    """Read the log at `place`, which must be one, or be empty.

    Raises:
        Failure: it is something else.
    """
    advice = f"A log is in a directory such as DATA_DIR/{_IN_DATA_DIR}."
    if (place / _IN_DATA_DIR).is_dir():
        advice = f"Its log is in {place / _IN_DATA_DIR}."
    if not place.is_dir():
        raise local(f"{place} is not a directory.", advice)
    found = examine(ReadOnlyDisk(), str(place), last=entries)
    if not found.segments and not found.too_new and set(os.listdir(place)) - {"lock"}:
        raise local(f"{place} holds no log: no file is named like {segment_name(1)}.", advice)
    return found


# -- for people ------------------------------------------------------------------------------------


def _show(place: Path, found: Examination, snapshots: Sequence[SnapshotFound]) -> None:
    click.echo(f"log         {render.printable(str(place))}")
    if found.segments:
        _show_state(found)
        segments = [_segment_row(part) for part in found.segments]
        _show_table(("SEGMENT", "SIZE", "WRITTEN", "FIRST", "LAST", "SEALED"), segments)
    if snapshots:
        rows = [_snapshot_row(one) for one in snapshots]
        _show_table(("SNAPSHOT", "TERM", "SIZE", "MEMBERS"), rows)
    if found.last_entries:
        entries = [_entry_row(log_entries.document(entry)) for entry in found.last_entries]
        _show_table(("ENTRY", "TERM", "KIND", "BYTES", "WHAT"), entries)
    click.echo()


def _show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    click.echo()
    tables.table(columns, rows)


def _show_state(found: Examination) -> None:
    state, (index, term) = found.hard_state, found.compacted
    click.echo(f"term        {state.term}, voted for {state.voted_for or 'nobody'}")
    counted = [f"{count} {kind}" for kind, count in log_entries.counts(found.kinds).items()]
    held = f"{found.first_index} to {found.last_index}: {', '.join(counted)}" if counted else "none"
    click.echo(f"entries     {held}")
    click.echo(f"committed   up to {found.commit}, or later")
    click.echo(f"compacted   {f'up to {index}, of term {term}' if index else 'never'}")
    if found.damages:
        click.echo("            (as far as it can be read up to the first damage)")


def _segment_row(part: SegmentFound) -> list[str]:
    return [
        os.path.basename(part.path),
        render.size(part.size),
        render.size(part.end),
        str(part.first_index or "-"),
        str(part.last_index or "-"),
        "yes" if part.sealed else "no",
    ]


def _snapshot_row(found: SnapshotFound) -> list[str]:
    snapshot = found.snapshot
    if snapshot is None:
        return [os.path.basename(found.path), "-", "-", "-"]
    members = ", ".join(snapshot.configuration.participants)
    return [str(snapshot.index), str(snapshot.term), render.size(snapshot.size), members]


def _entry_row(entry: dict[str, Any]) -> list[str]:
    return [str(entry[name]) for name in ("index", "term", "kind", "bytes", "what")]


# -- for programs ----------------------------------------------------------------------------------


def _document(
    place: Path,
    found: Examination,
    snapshots: Sequence[SnapshotFound],
    findings: Sequence[Finding],
) -> dict[str, Any]:
    return {
        "ok": all(finding.level is not Level.FAILED for finding in findings),
        "directory": str(place),
        "term": found.hard_state.term,
        "voted_for": found.hard_state.voted_for,
        "first_index": found.first_index,
        "last_index": found.last_index,
        "commit_index": found.commit,
        "compacted": {"index": found.compacted[0], "term": found.compacted[1]},
        "entries": log_entries.counts(found.kinds),
        "last_entries": [log_entries.document(entry) for entry in found.last_entries],
        "segments": [_segment_document(part) for part in found.segments],
        "damages": [
            {"file": damage.path, "offset": damage.offset, "found": damage.found}
            for damage in found.damages
        ],
        "snapshots": [_snapshot_document(one) for one in snapshots],
        "checks": [finding.document() for finding in findings],
    }


def _segment_document(part: SegmentFound) -> dict[str, Any]:
    return {
        "file": part.path,
        "format": part.version,
        "size": part.size,
        "written": part.end,
        "first_index": part.first_index,
        "last_index": part.last_index,
        "sealed": part.sealed,
        "torn": part.torn,
    }


def _snapshot_document(found: SnapshotFound) -> dict[str, Any]:
    snapshot = found.snapshot
    shown: dict[str, Any] = {"file": found.path, "ok": not found.trouble, "trouble": found.trouble}
    if snapshot is not None:
        shown |= {
            "index": snapshot.index,
            "term": snapshot.term,
            "size": snapshot.size,
            "members": log_entries.members(snapshot.configuration),
        }
    return shown
