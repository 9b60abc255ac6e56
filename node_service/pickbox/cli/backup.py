"""``pickbox backup``: points of a node, and keeping them in a restic repository."""

from __future__ import annotations

import datetime as dt
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pickbox.cli import points, render, tables
from pickbox.cli.failures import ExitCode, Failure
from pickbox.cli.restic import CHECKED, UNCHECKED, Restic
from pickbox.cli.session import Command, pass_session, shared_options

if TYPE_CHECKING:
    from pickbox.cli.restic import Snapshot
    from pickbox.cli.session import Session

_PARTS: Final = ("files", "by-digest", "manifest.json", "entries.jsonl")
_LISTS: Final = 2
"""Files of a point beside those of the folder: its manifest and its entries."""

_PREFIX: Final = "run-"
_UNCHECKED_SECONDS: Final = 86400.0
_PERIODS: Final = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


@click.group(invoke_without_command=True, params=shared_options())
@click.pass_context
def backup(ctx: click.Context) -> None:
    """Make consistent backups of the folder, and keep them with restic (admin API).

    Where the repository is and what its password is, restic is told in its own environment
    variables: RESTIC_REPOSITORY and RESTIC_PASSWORD_FILE, say.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@backup.command(cls=Command)
@pass_session
def show(session: Session) -> None:
    """List the points that the node has now."""
    answer = session.admin.json("GET", "/api/v1/backups")
    if session.as_json:
        render.as_json(answer)
        return
    rows = [
        [p["name"], p["state"], str(p.get("index", "-")), str(p.get("files", "-")), p["directory"]]
        for p in answer["backups"]
    ]
    tables.table(("NAME", "STATE", "INDEX", "FILES", "DIRECTORY"), rows)


@backup.command(cls=Command)
@click.argument("name")
@click.option("--wait", type=float, metavar="SECONDS", help="For content that is on its way.")
@pass_session
def create(session: Session, name: str, wait: float | None) -> None:
    """Make the point NAME on the node, for a backup program of your own."""
    made = points.make(session, name, wait)
    if session.as_json:
        render.as_json(made)
    else:
        click.echo(made["directory"])


@backup.command(cls=Command)
@click.argument("name")
@pass_session
def remove(session: Session, name: str) -> None:
    """Remove the point NAME from the node."""
    answer = session.admin.json("DELETE", f"/api/v1/backups/{name}")
    if session.as_json:
        render.as_json(answer)


@backup.command(cls=Command)
@pass_session
def init(session: Session) -> None:
    """Make the restic repository, if it is not there."""
    made = Restic().make_repository()
    if session.as_json:
        render.as_json({"changed": made})
    else:
        click.echo("made the repository" if made else "the repository is there")


@backup.command(cls=Command)
@click.option("--read", metavar="PART", help="Read content too: a share such as 5%, or 100%.")
@pass_session
def check(session: Session, read: str | None) -> None:
    """See that the repository is whole."""
    Restic().run("check", *(["--read-data-subset", read] if read else []))
    if session.as_json:
        render.as_json({"whole": True})
    else:
        click.echo("the repository is whole")


@backup.command(cls=Command)
@pass_session
def snapshots(session: Session) -> None:
    """List what is in the repository."""
    found = [snapshot.document() for snapshot in Restic().snapshots(CHECKED)]
    if session.as_json:
        render.as_json({"snapshots": found})
        return
    columns = ("snapshot", "time", "cluster", "index", "node")
    tables.table(
        [column.upper() for column in columns], [[s[column] for column in columns] for s in found]
    )


@backup.command(cls=Command)
@click.option("--if-chosen", is_flag=True, help="Only on the one node whose turn it is.")
@click.option(
    "--keep",
    type=(click.Choice(_PERIODS), click.IntRange(min=1)),
    multiple=True,
    metavar="PERIOD COUNT",
    help="How many snapshots of each period to keep; repeat it. Without, none is removed.",
)
@click.option("--metrics", type=click.Path(path_type=Path), help="Write a Prometheus text file.")
@click.option("--wait", type=float, metavar="SECONDS", help="For content that is on its way.")
@pass_session
def run(
    session: Session,
    if_chosen: bool,
    keep: tuple[tuple[str, int], ...],
    metrics: Path | None,
    wait: float | None,
) -> None:
    """Make a point, keep it in the repository, and remove it and what is too old.

    On the machine of the node, as its user. With --if-chosen it may be started on all nodes at
    once: the first follower that is ready does it.
    """
    began = time.monotonic()
    status = session.admin.json("GET", "/api/v1/status")
    chosen = chosen_node(status["cluster"])
    if if_chosen and chosen != status["node"]["node_id"]:
        _tell(session, {"made": False, "by": chosen})
        return
    restic = Restic()
    restic.require_repository()
    directory = session.admin.json("GET", "/api/v1/backups")["directory"]
    with points.alone_in(directory):
        _clear(session)
        kept = _keep_a_point(session, restic, wait)
        removed = _forget(restic, kept["cluster"], keep)
    kept.update(removed=removed, seconds=round(time.monotonic() - began, 2))
    if metrics is not None:
        _write_metrics(metrics, kept)
    _tell(session, {"made": True, **kept})


def chosen_node(cluster: dict[str, Any]) -> str | None:
    """Who makes the backup: the first follower that is ready, or else the leader."""
    able = [n for n in cluster["nodes"] if n["reachable"] and n["ready"] and not n["draining"]]
    followers = sorted(str(n["node_id"]) for n in able if n["role"] == "follower")
    candidates = followers or [str(n["node_id"]) for n in able]
    return candidates[0] if candidates else None


def _clear(session: Session) -> None:
    """Remove points of runs that were killed: this is the only one now."""
    for point in session.admin.json("GET", "/api/v1/backups")["backups"]:
        if point["name"].startswith(_PREFIX) and point["state"] == "ready":
            session.admin.json("DELETE", f"/api/v1/backups/{point['name']}")


def _keep_a_point(session: Session, restic: Restic, wait: float | None) -> dict[str, Any]:
    """Make a point and have it in the repository; what is told of it."""
    restic.run("unlock")  # removes only locks whose owner is gone
    name = _PREFIX + secrets.token_hex(8)
    with points.removed_afterwards(session, f"/api/v1/backups/{name}"):
        point = points.make(session, name, wait)
        tags = (UNCHECKED, name)
        summary = restic.backup(point["directory"], _PARTS, point["cluster"], tags)
        _see_that_it_is_whole(session, point, summary)
    named = (CHECKED, f"index-{point['index']}", f"node-{point['node']}", name)
    marks = [mark for tag in named for mark in ("--set", tag)]
    restic.run("tag", *marks, summary["snapshot_id"])
    (snapshot,) = restic.snapshots(CHECKED, name)
    members = ("cluster", "node", "index", "files", "directories", "symlinks", "bytes")
    return {
        "snapshot": snapshot.id[:8],
        **{member: point[member] for member in members},
        "bytes_added": summary["data_added"],
        "point_seconds": point["seconds"],
    }


def _see_that_it_is_whole(session: Session, point: dict[str, Any], summary: Any) -> None:
    """A node that was restarted has removed the point, perhaps while it was being read.

    Raises:
        Failure: the snapshot lacks something; it is left without the tag of a whole one.
    """
    still = session.admin.json("GET", f"/api/v1/backups/{point['name']}")
    read = summary["total_files_processed"]
    if still["state"] != "ready" or read < point["files"] + _LISTS:
        detail = f"restic read {read} files of {point['files'] + _LISTS}: this is no backup."
        raise Failure(ExitCode.ERROR, {"type": "backup-incomplete", "detail": detail})


def _forget(restic: Restic, cluster: str, keep: tuple[tuple[str, int], ...]) -> int:
    """Remove snapshots that are too old, and those of runs that were cut off; return how many."""
    before = restic.snapshots(CHECKED)
    oldest = time.time() - _UNCHECKED_SECONDS
    cut_off = [s.id for s in restic.snapshots(UNCHECKED) if _made_at(s) < oldest]
    if cut_off:
        restic.run("forget", *cut_off)
    if keep:
        rules = [word for period, count in keep for word in (f"--keep-{period}", str(count))]
        restic.run(
            *("forget", "--prune", "--tag", CHECKED, "--host", cluster, "--group-by", "host"),
            *rules,
        )
    return len(before) - len(restic.snapshots(CHECKED)) + len(cut_off)


def _made_at(snapshot: Snapshot) -> float:
    # restic writes nanoseconds, and Python reads microseconds.
    seconds, _, rest = snapshot.time.partition(".")
    zone = rest.lstrip("0123456789") if rest else ""
    return dt.datetime.fromisoformat(seconds + zone).timestamp()


_METRICS: Final = (
    ("last_success_timestamp_seconds", "When the last backup was in the repository."),
    ("duration_seconds", "How long it took, the point included."),
    ("point_seconds", "How long the consistent point took."),
    ("files", "Files in it."),
    ("size_bytes", "Bytes of these files."),
    ("added_bytes", "Bytes that the repository grew by."),
)


def _write_metrics(path: Path, kept: dict[str, Any]) -> None:
    """Write what node_exporter's textfile collector reads, whole or not at all."""
    values = (
        time.time(),
        kept["seconds"],
        kept["point_seconds"],
        kept["files"],
        kept["bytes"],
        kept["bytes_added"],
    )
    label = f'{{cluster="{kept["cluster"]}"}}'
    lines = [
        f"# HELP pickbox_backup_{name} {text}\n# TYPE pickbox_backup_{name} gauge\n"
        f"pickbox_backup_{name}{label} {value:.17g}\n"
        for (name, text), value in zip(_METRICS, values, strict=True)
    ]
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text("".join(lines))
    new.chmod(0o644)  # the collector is another user
    new.replace(path)


def _tell(session: Session, kept: dict[str, Any]) -> None:
    if session.as_json:
        render.as_json(kept)
    elif not kept["made"]:
        click.echo(f"nothing to do here: {kept['by'] or 'no node'} makes the backup")
    else:
        click.echo(
            f"snapshot {kept['snapshot']}: {kept['files']} files ({render.size(kept['bytes'])}) at "
            f"index {kept['index']} by {kept['node']}, {render.size(kept['bytes_added'])} added, "
            f"{kept['removed']} old removed, {kept['seconds']:g} s"
        )
