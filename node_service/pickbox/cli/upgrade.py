"""``pickbox upgrade``: which release every member runs, and the end of an upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pickbox.cli import render, tables
from pickbox.cli.session import Command, pass_session, shared_options

if TYPE_CHECKING:
    from pickbox.cli.session import Session


@click.group(invoke_without_command=True, params=shared_options())
@click.pass_context
def upgrade(ctx: click.Context) -> None:
    """Show how far an upgrade is, or finish it (admin API).

    Until it is finished, old and new releases run side by side, nothing new is used, and every
    node can go back.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@upgrade.command(cls=Command)
@pass_session
def show(session: Session) -> None:
    """Show the release of every member, and what the cluster uses."""
    _tell(session, session.admin.json("GET", "/api/v1/upgrade"))


@upgrade.command(cls=Command)
@pass_session
def finish(session: Session) -> None:
    """Use what came with the new release. There is no way back to the old one after this.

    Every member must run the new release; exits with 4 if one does not, and names it. Does nothing
    if the upgrade is finished.
    """
    _tell(session, session.admin.json("POST", "/api/v1/upgrade"))


def _tell(session: Session, answer: dict[str, Any]) -> None:
    if session.as_json:
        render.as_json(answer)
        return
    rows = [
        [node["node_id"], node["version"] or "-", str(node["understands"] or "-"), node["error"]]
        for node in answer["nodes"]
    ]
    tables.table(("NODE", "RELEASE", "LEVEL", ""), rows)
    click.echo(summary(answer["level"], finished=answer["finished"]))


def summary(level: int, *, finished: bool) -> str:
    """What the cluster uses, and what is to be done, in a line."""
    if finished:
        return f"The cluster is at level {level}, the highest that its members understand."
    return (
        f"The cluster is at level {level}, and some members understand more. When all of them do, "
        "and no node shall go back: pickbox upgrade finish"
    )
