"""The commands about the cluster: how it is, who leads, what a node holds back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pickbox.cli import render, tables
from pickbox.cli.failures import ExitCode, Failure
from pickbox.cli.session import Command, pass_session, shared_options
from pickbox.cli.upgrade import summary

if TYPE_CHECKING:
    from pickbox.cli.session import Session


@click.command(cls=Command)
@pass_session
def status(session: Session) -> None:
    """Show the cluster, node by node.

    Exits with 5 when there is no leader or no majority.
    """
    cluster = session.client.json("GET", "/api/cluster")
    if session.as_json:
        render.as_json(cluster)
    else:
        _show_cluster(cluster)
    if not (cluster["leader"] and cluster["has_quorum"]):
        raise SystemExit(int(ExitCode.TRY_AGAIN))


def _show_cluster(cluster: dict[str, Any]) -> None:
    nodes = cluster["nodes"]
    up = sum(1 for node in nodes if node["reachable"])
    click.echo(
        f"cluster {cluster['cluster_name']}: leader {cluster['leader'] or 'none'}, "
        f"term {cluster['term']}, {up} of {len(nodes)} nodes up, "
        f"{'quorum' if cluster['has_quorum'] else 'NO QUORUM'} ({cluster['quorum']} needed), "
        f"level {cluster['level']}"
    )
    columns = ("NODE", "ROLE", "STATE", "APPLIED", "LAG", "FILES", "PENDING", "VERSION", "URL")
    tables.table(columns, [_node_row(node) for node in nodes])
    if cluster["upgrade_unfinished"]:
        click.echo(summary(cluster["level"], finished=False))
    for node in nodes:
        for reason in [*node["reasons"], *([node["error"]] if node["error"] else [])]:
            click.echo(f"{node['node_id']}: {render.printable(reason)}")


def _node_row(node: dict[str, Any]) -> list[str]:
    if not node["reachable"]:
        return [node["node_id"], "-", "down", "-", "-", "-", "-", "-", node["client_url"]]
    figures = node["figures"]
    return [
        node["node_id"],
        node["role"],
        _state_of(node),
        str(node["applied_index"]),
        str(node["lag"]),
        str(figures["files"]),
        str(figures["pending"]),
        node["version"],
        node["client_url"],
    ]


def _state_of(node: dict[str, Any]) -> str:
    if node["draining"]:
        return "draining"
    return "ready" if node["ready"] else "not ready"


@click.command(cls=Command)
@click.option("--transfer-to", metavar="NODE", help="Hand leadership over to this node.")
@click.option("--transfer", is_flag=True, help="Hand leadership over to the best follower.")
@pass_session
def leader(session: Session, transfer_to: str | None, transfer: bool) -> None:
    """Show the leader, or hand its office over (admin API).

    Exits with 5 when there is no leader.
    """
    if transfer_to and transfer:
        raise click.UsageError("--transfer-to names the node; --transfer leaves it open.")
    if transfer_to or transfer:
        answer = session.admin.json("POST", "/api/v1/leader", {"target": transfer_to})
    else:
        cluster = session.client.json("GET", "/api/cluster")
        answer = {"leader": cluster["leader"], "term": cluster["term"]}
    if not answer["leader"]:
        detail = "The cluster has no leader now."
        raise Failure(ExitCode.TRY_AGAIN, {"type": "no-leader", "detail": detail})
    if session.as_json:
        render.as_json(answer)
    else:
        click.echo(answer["leader"])


@click.command(cls=Command)
@click.option("--undo", is_flag=True, help="Let the node take requests again.")
@pass_session
def drain(session: Session, undo: bool) -> None:
    """Take a node out of service without stopping it (admin API).

    It becomes not ready, hands over leadership, and finishes what is in flight.
    """
    answer = session.admin.json("DELETE" if undo else "POST", "/api/v1/drain")
    if session.as_json:
        render.as_json(answer)
    else:
        click.echo("in service" if undo else "draining")


@click.group(invoke_without_command=True, params=shared_options())
@click.pass_context
def deletes(ctx: click.Context) -> None:
    """Show, approve or undo held deletes (admin API).

    A node whose folder suddenly lacks most of its files proposes no deletes: it stops and asks.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@deletes.command(cls=Command)
@pass_session
def show(session: Session) -> None:
    """Show the deletes that are held."""
    held = session.admin.json("GET", "/api/v1/deletes")
    if session.as_json:
        render.as_json(held)
        return
    if not held["count"]:
        click.echo("No deletes are held.")
        return
    click.echo(f"{held['count']} of {held['known']} files are missing; for example:")
    for example in held["examples"]:
        click.echo(f"  {render.printable(example)}")
    click.echo("Delete them everywhere: pickbox deletes approve")
    click.echo("Put them back here:     pickbox deletes restore")


@deletes.command(cls=Command)
@pass_session
def approve(session: Session) -> None:
    """Delete the missing files on every node."""
    answer = session.admin.json("POST", "/api/v1/deletes")
    _tell_count(session, answer, "deleted everywhere")


@deletes.command(cls=Command)
@pass_session
def restore(session: Session) -> None:
    """Put the missing files back on this node's disk."""
    answer = session.admin.json("DELETE", "/api/v1/deletes")
    _tell_count(session, answer, "put back")


def _tell_count(session: Session, answer: dict[str, Any], done: str) -> None:
    if session.as_json:
        render.as_json(answer)
    else:
        click.echo(f"{answer['count']} {done}")
