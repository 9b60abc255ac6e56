"""``pickbox members``: who is in the cluster, and adding and removing nodes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from pickbox.cli import render, tables
from pickbox.cli.failures import ExitCode, Failure
from pickbox.cli.session import Command, pass_session, shared_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from pickbox.cli.session import Session

_ASK_AGAIN: Final = 0.5
_TOO_EARLY: Final = "change-too-early"
_MEMBERS: Final = "/api/v1/members"


@click.group(invoke_without_command=True, params=shared_options())
@click.pass_context
def members(ctx: click.Context) -> None:
    """List the members of the cluster, or change them (admin API)."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@members.command(cls=Command)
@pass_session
def show(session: Session) -> None:
    """List the members: voters are counted, learners get the log and are not."""
    _tell(session, session.admin.json("GET", _MEMBERS))


@members.command(cls=Command)
@click.argument("node_id", metavar="NODE")
@click.argument("address", metavar="HOST:PORT")
@click.option("--learner", is_flag=True, help="Do not make it a voter.")
@pass_session
def add(session: Session, node_id: str, address: str, learner: bool) -> None:
    """Add NODE, whose log is at HOST:PORT, and make it a voter once it has caught up.

    Start the node first, with an empty data directory, PICKBOX_BOOTSTRAP=false, and the members
    in PICKBOX_PEERS. Waits for --timeout seconds; run it again to go on waiting.
    """
    body = {"node_id": node_id, "address": address}
    answer = session.admin.json("POST", _MEMBERS, body)
    if not learner:
        answer = _until_it_may_be(
            session, lambda: session.admin.json("POST", f"{_MEMBERS}/{node_id}/promote")
        )
    _tell(session, answer)


@members.command(cls=Command)
@click.argument("node_id", metavar="NODE")
@pass_session
def promote(session: Session, node_id: str) -> None:
    """Make the learner NODE a voter, once it has caught up."""
    _tell(
        session,
        _until_it_may_be(
            session, lambda: session.admin.json("POST", f"{_MEMBERS}/{node_id}/promote")
        ),
    )


@members.command(cls=Command)
@click.argument("node_id", metavar="NODE")
@click.option("--force", is_flag=True, help="Do not wait: lose what only NODE has.")
@pass_session
def remove(session: Session, node_id: str, force: bool) -> None:
    """Let NODE go, once a majority of the others has all content.

    A leader hands over its office first. Waits for --timeout seconds; run it again to go on.
    """
    target = f"{_MEMBERS}/{node_id}" + ("?force=true" if force else "")
    before = session.admin.json("GET", _MEMBERS)["members"]
    try:
        answer = _until_it_may_be(session, lambda: session.admin.json("DELETE", target))
    except Failure as failure:
        was_member = any(member["node_id"] == node_id for member in before)
        if failure.exit_code is not ExitCode.NOT_FOUND or not was_member:
            raise
        answer = session.admin.json("GET", _MEMBERS)  # gone: the answer to a try before was lost
    _tell(session, answer)


def _until_it_may_be(session: Session, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Ask again for as long as the members are not ready for it."""
    deadline = time.monotonic() + session.options.timeout
    while True:
        try:
            return ask()
        except Failure as failure:
            waits = failure.type == _TOO_EARLY or failure.exit_code is ExitCode.TRY_AGAIN
            if not waits or time.monotonic() + _ASK_AGAIN > deadline:
                raise
        time.sleep(_ASK_AGAIN)


def _tell(session: Session, answer: dict[str, Any]) -> None:
    if session.as_json:
        render.as_json(answer)
        return
    rows = [[m["node_id"], m["role"], m["address"]] for m in answer["members"]]
    tables.table(("NODE", "ROLE", "ADDRESS"), rows)
