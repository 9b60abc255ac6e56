"""The command group: names the commands, and turns what goes wrong into an exit code."""

from __future__ import annotations

import errno
from typing import Any, Final

import click

from pickbox import __version__
from pickbox.cli import failures, render
from pickbox.cli.failures import EXIT_CODES_HELP, Failure
from pickbox.cli.lazy import LazyGroup
from pickbox.cli.session import Options, shared_options

_COMMANDS: Final = {
    "serve": "pickbox.cli.serve",
    "status": "pickbox.cli.cluster",
    "members": "pickbox.cli.members",
    "leader": "pickbox.cli.cluster",
    "drain": "pickbox.cli.cluster",
    "upgrade": "pickbox.cli.upgrade",
    "deletes": "pickbox.cli.cluster",
    "ls": "pickbox.cli.files",
    "put": "pickbox.cli.files",
    "get": "pickbox.cli.files",
    "rm": "pickbox.cli.files",
    "mv": "pickbox.cli.files",
    "mkdir": "pickbox.cli.files",
    "backup": "pickbox.cli.backup",
    "restore": "pickbox.cli.restore",
    "doctor": "pickbox.cli.doctor",
    "recover": "pickbox.cli.recover",
}


class App(LazyGroup):
    """The command line as a whole: what goes wrong in a command becomes an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a failure is told and becomes the exit code."""
        try:
            return super().invoke(ctx)
        except Failure as failure:
            self._fail(ctx, failure)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has gone: click's business
                raise
            name = f"{render.printable(error.filename)}: " if error.filename else ""
            self._fail(ctx, failures.local(f"{name}{error.strerror or error}."))

    def _fail(self, ctx: click.Context, failure: Failure) -> None:
        render.failure(failure, as_json=ctx.ensure_object(Options).as_json)
        ctx.exit(int(failure.exit_code))


@click.group(
    cls=App,
    modules=_COMMANDS,
    epilog=EXIT_CODES_HELP,
    params=shared_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="pickbox")
def app() -> None:
    """Keep one directory identical on every node of a cluster.

    The commands talk to a node over HTTP. The options below may stand before or after the
    command's name. Failures are one sentence on stderr, and with --json the problem document
    (RFC 9457) on stdout too.
    """
