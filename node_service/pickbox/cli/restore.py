"""``pickbox restore``: from a restic repository into a cluster, all of it or one path."""

from __future__ import annotations

import os
import secrets
import time
from typing import TYPE_CHECKING, Any

import click

from pickbox.cli import points, render
from pickbox.cli.failures import ExitCode, Failure
from pickbox.cli.restic import CHECKED, Restic
from pickbox.cli.session import Command, pass_session

if TYPE_CHECKING:
    from pickbox.cli.restic import Snapshot
    from pickbox.cli.session import Session


@click.command(cls=Command)
@click.argument("path", default="")
@click.option("--snapshot", default="latest", show_default=True, help="Its id, or latest.")
@click.option("--cluster", help="Name of the cluster that was backed up, if it had another one.")
@click.option("--over", is_flag=True, help="Restore all into a cluster that is not empty.")
@pass_session
def restore(session: Session, path: str, snapshot: str, cluster: str | None, over: bool) -> None:
    """Restore a file or folder PATH, or everything, as changes of the running cluster.

    On the machine of a node, as its user. What is replaced is kept in versions; what is there and
    not in the backup stays.
    """
    began = time.monotonic()
    restic = Restic()
    restic.require_repository()
    name = session.admin.json("GET", "/api/v1/status")["cluster"]["cluster_name"]
    found = _choose(restic.snapshots(CHECKED), cluster or name, snapshot)
    directory = session.admin.json("GET", "/api/v1/restores")["directory"]
    mine = f"run-{secrets.token_hex(8)}"
    target = os.path.join(directory, mine)
    with points.alone_in(directory), points.removed_afterwards(session, f"/api/v1/restores/{mine}"):
        os.mkdir(target, 0o700)
        _fetch(restic, found, target, path.strip("/"))
        done = points.take_in(session, mine, path.strip("/"), over=over)
    done.update(snapshot=found.id[:8], seconds=round(time.monotonic() - began, 2))
    _tell(session, done)


def _choose(found: list[Snapshot], cluster: str, wanted: str) -> Snapshot:
    """The snapshot that is wanted: the latest of `cluster`, or the one with that id."""
    if wanted != "latest":
        chosen = [s for s in found if wanted and s.id.startswith(wanted)]
        if len(chosen) == 1:
            return chosen[0]
        raise _none(f"{len(chosen)} snapshots have an id that begins with {wanted!r}")
    of_cluster = [s for s in found if s.host == cluster]
    if of_cluster:
        return of_cluster[-1]
    others = ", ".join(sorted({s.host for s in found})) or "none"
    raise _none(f"no snapshot is of the cluster {cluster}; clusters that have one: {others}")


def _none(why: str) -> Failure:
    problem = {"type": "not-found", "detail": f"In the repository {why}."}
    return Failure(ExitCode.NOT_FOUND, problem, "List them with: pickbox backup snapshots")


def _fetch(restic: Restic, snapshot: Snapshot, target: str, path: str) -> None:
    """Have in `target` what of the snapshot is needed for `path`."""
    wanted = []
    if path:
        # Content that is beside the tree, because its path is too long for it, is hardly ever much.
        wanted = ["/manifest.json", "/entries.jsonl", "/by-digest", _pattern(f"/files/{path}")]
    restic.run("restore", snapshot.id, "--target", target, *_only(wanted))


def _only(patterns: list[str]) -> list[str]:
    return [word for pattern in patterns for word in ("--include", pattern)]


def _pattern(path: str) -> str:
    """`path` as a pattern of restic that matches nothing else."""
    return "".join(f"\\{c}" if c in "*?[\\" else c for c in path)


def _tell(session: Session, done: dict[str, Any]) -> None:
    if session.as_json:
        render.as_json(done)
    else:
        click.echo(
            f"snapshot {done['snapshot']} of index {done['index']}: {done['applied']} entries "
            f"restored ({render.size(done['bytes'])}), {done['unchanged']} were the same, "
            f"{done['seconds']:g} s"
        )
        for refusal in done["refusals"]:
            render.warning(f"not restored: {refusal['path']}: {refusal['reason']}")
    if done["refused"]:
        raise SystemExit(int(ExitCode.CONFLICT))
