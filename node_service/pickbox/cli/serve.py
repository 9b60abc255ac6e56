"""``pickbox serve``: run a node in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from pickbox import failpoints
from pickbox.cli.failures import ExitCode
from pickbox.failpoints import FailpointsError
from pickbox.observability.logs import configure
from pickbox.running import run
from pickbox.settings import SettingsError, load_settings


@click.command(epilog="Exits with 78 if a setting is wrong.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="PICKBOX_CONFIG",
    show_envvar=True,
    help="The node's settings, a node.toml. PICKBOX_* variables win over it.",
)
def serve(config: Path | None) -> None:
    """Run a node in the foreground.

    SIGTERM and SIGINT drain it first: it hands over leadership and finishes what is in flight.
    Settings are read from --config and from PICKBOX_* variables.
    """
    try:
        settings = load_settings(config)
        configure(settings.log_level, settings.node_id)
        failpoints.arm()
        credentials = settings.credentials()
        settings.make_data_dir()
    except (SettingsError, FailpointsError) as error:
        for line in str(error).splitlines():
            click.echo(line, err=True)
        raise SystemExit(int(ExitCode.CONFIGURATION)) from None
    raise SystemExit(run(settings, credentials))
