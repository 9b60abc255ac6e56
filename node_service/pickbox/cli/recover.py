"""``pickbox recover``: the ways out for a stopped node that cannot go on by itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pickbox.cli.failures import ExitCode, Failure, local
from pickbox.cli.machine import settings_of
from pickbox.consensus import identity as identities
from pickbox.consensus import recovering
from pickbox.consensus.assembly import UNUSABLE, open_log
from pickbox.levels import WrongRelease
from pickbox.storage.hold import hold
from pickbox.storage.release import refuse_newer_major

if TYPE_CHECKING:
    from pickbox.settings import Settings


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="PICKBOX_CONFIG",
    show_envvar=True,
    help="The node's settings, a node.toml. PICKBOX_* variables win over it.",
)
@click.option(
    "--force-new-cluster",
    is_flag=True,
    help="Make this node a cluster of its own: a majority of the voters is lost for good.",
)
@click.option(
    "--accept-copy",
    is_flag=True,
    help="Let this data directory, which is a copy, be the node's: the original is gone for good.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def recover(config: Path | None, force_new_cluster: bool, accept_copy: bool, yes: bool) -> None:
    """Repair a node that is stopped, on its own machine.

    Each of these can lose acknowledged writes when its condition does not hold. Read
    docs/operations/recover.md first.
    """
    if force_new_cluster == accept_copy:
        raise click.UsageError("Give one of --force-new-cluster and --accept-copy.")
    settings = settings_of(config)
    try:
        hold(settings.data_dir)
        refuse_newer_major(settings.data_dir)
    except OSError as error:
        raise local(f"{error}.") from error
    except WrongRelease as error:
        problem = {"type": "wrong-release", "detail": f"{error}."}
        raise Failure(ExitCode.CONFIGURATION, problem) from error
    if force_new_cluster:
        _begin_anew(settings, sure=yes)
    else:
        _accept_copy(settings, sure=yes)


def _begin_anew(settings: Settings, *, sure: bool) -> None:
    click.echo(
        f"{settings.node_id} becomes a cluster of one, with all that is in {settings.data_dir}.\n"
        "What only the lost nodes had is gone, acknowledged or not. None of them may ever be\n"
        "started with its old data directory again: they could be a second cluster. Choose the\n"
        "survivor with the highest log (`pickbox doctor log`, or applied_index of `pickbox "
        "status`)."
    )
    _confirm(settings, sure=sure)
    try:
        identity = identities.claim_identity(
            settings.data_dir, settings.node_id, settings.cluster_name
        )
        log, store = open_log(settings)
        before = recovering.force_new_cluster(
            log, store, identity, settings.peers[settings.node_id].address
        )
        log.close()
    except (*UNUSABLE, recovering.NothingToRecover) as error:
        raise local(f"{error}.") from error
    lost = sorted(before.voters.keys() - {settings.node_id})
    click.echo(
        f"Done: {settings.node_id} is the only voter; {', '.join(lost) or 'nobody'} was one before."
        "\nStart it, then add empty nodes with `pickbox members add`."
    )


def _accept_copy(settings: Settings, *, sure: bool) -> None:
    click.echo(
        f"{settings.data_dir} is taken for {settings.node_id}'s own. The directory that it was\n"
        "copied from must never be used by a node again."
    )
    _confirm(settings, sure=sure)
    try:
        identities.accept_copy(settings.data_dir)
    except identities.WrongIdentity as error:
        raise local(f"{error}.") from error
    click.echo("Done: start the node.")


def _confirm(settings: Settings, *, sure: bool) -> None:
    if sure:
        return
    answer = click.prompt(f"Type the node's id ({settings.node_id}) to go on", default="")
    if answer != settings.node_id:
        problem = {"type": "not-confirmed", "detail": "Nothing was changed."}
        raise Failure(ExitCode.ERROR, problem)
