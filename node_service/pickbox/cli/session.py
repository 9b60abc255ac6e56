"""The options that every command takes, and what they open: the node's three APIs and the output.

Each option may stand before or after the command's name; after it wins over before it, and both
win over the environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import click
from click.core import ParameterSource

from pickbox.cli.api import Endpoint
from pickbox.cli.failures import ExitCode, Failure
from pickbox.cli.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_URL: Final = "http://127.0.0.1:8080"
DEFAULT_ADMIN_URL: Final = "http://127.0.0.1:9001"
DEFAULT_MONITOR_URL: Final = "http://127.0.0.1:6001"
DEFAULT_TIMEOUT: Final = 60.0
"""Seconds; above a node's own ``request_timeout``, so that its answer is heard."""


@dataclass
class Options:
    """Values of the global options. `timeout` is in seconds."""

    url: tuple[str, ...] = (DEFAULT_URL,)
    admin_url: str = DEFAULT_ADMIN_URL
    monitor_url: str = DEFAULT_MONITOR_URL
    ca: str | None = None
    token: str | None = None
    token_file: str | None = None
    as_json: bool = False
    timeout: float = DEFAULT_TIMEOUT


class Session:
    """One run of a command: its options, and the APIs they lead to."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def as_json(self) -> bool:
        """Whether the answer is for a program."""
        return self.options.as_json

    @cached_property
    def client(self) -> Endpoint:
        """The client API: files and the cluster's state."""
        return self.endpoint(*self.options.url)

    @cached_property
    def admin(self) -> Endpoint:
        """The admin API, with the token if there is one."""
        trust = self.options.ca and Trust(self.options.ca, alone=True)
        return Endpoint(
            (self.options.admin_url,), self.options.timeout, token=self.token(), trust=trust or None
        )

    @cached_property
    def monitor(self) -> Endpoint:
        """The monitoring endpoints."""
        return self.endpoint(self.options.monitor_url)

    def endpoint(self, *urls: str, timeout: float | None = None) -> Endpoint:
        """An API that wants no token; a load balancer may have a certificate of a public CA."""
        trust = Trust(self.options.ca) if self.options.ca else None
        return Endpoint(urls, timeout or self.options.timeout, trust=trust)

    def token(self) -> str | None:
        """The admin token, from the option or its file's first line; None when neither is given.

        Raises:
            Failure: the file cannot be read or is empty.
        """
        if self.options.token:
            return self.options.token
        if not self.options.token_file:
            return None
        name = self.options.token_file
        try:
            with open(name, encoding="utf-8") as file:
                tokens = file.read().split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise _token_failure(f"The token file {name} cannot be read: {reason}.") from error
        token = next((line.strip() for line in tokens if line.strip()), "")
        if not token:
            raise _token_failure(f"The token file {name} is empty.")
        return token


def _token_failure(detail: str) -> Failure:
    problem = {"type": "unauthorized", "detail": detail, "field": "token_file"}
    return Failure(ExitCode.UNAUTHORIZED, problem)


def pass_session(command: Callable[Concatenate[Session, P], R]) -> Callable[P, R]:
    """Give a command its `Session` as the first argument."""

    def with_session(*args: P.args, **kwargs: P.kwargs) -> R:
        return command(Session(_options(click.get_current_context())), *args, **kwargs)

    return update_wrapper(with_session, command)


class Command(click.Command):
    """A command that also takes the global options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(shared_options())


def shared_options() -> list[click.Parameter]:
    """The global options, for the group and for each command."""
    return [
        _option(
            "--url",
            multiple=True,
            default=(DEFAULT_URL,),
            callback=_take_urls,
            envvar="PICKBOX_URL",
            help="Client API of a node. Repeat it or separate with commas: the next one is "
            "tried when one cannot be reached or is not ready.",
        ),
        _option(
            "--admin-url",
            default=DEFAULT_ADMIN_URL,
            callback=_take_url,
            envvar="PICKBOX_ADMIN_URL",
            help="Admin API of a node.",
        ),
        _option(
            "--monitor-url",
            default=DEFAULT_MONITOR_URL,
            callback=_take_url,
            envvar="PICKBOX_MONITOR_URL",
            help="Monitoring endpoints of a node.",
        ),
        _option(
            "--ca",
            callback=_take,
            envvar="PICKBOX_CA",
            metavar="FILE",
            help="CA of the cluster, in PEM: whose certificates https:// addresses must show.",
        ),
        _option(
            "--token",
            callback=_take,
            envvar="PICKBOX_ADMIN_TOKEN",
            help="Admin token. Others on the machine can see it here; prefer the file.",
        ),
        _option(
            "--token-file",
            callback=_take,
            envvar="PICKBOX_ADMIN_TOKEN_FILE",
            help="File that holds the admin token; of several, one a line, the first.",
        ),
        _option(
            "--json",
            "as_json",
            is_flag=True,
            callback=_take,
            help="Answer in JSON on stdout; a failure is its problem document.",
        ),
        _option(
            "--timeout",
            type=click.FloatRange(min=0.1),
            default=DEFAULT_TIMEOUT,
            callback=_take,
            metavar="SECONDS",
            help="How long to wait for a node and to go on retrying.",
        ),
    ]


def _option(*names: str, **settings: Any) -> click.Option:
    settings.update(show_default="default" in settings, show_envvar="envvar" in settings)
    return click.Option(names, expose_value=False, **settings)


def _options(context: click.Context) -> Options:
    return context.ensure_object(Options)


def _take(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Remember an option. A command's own default or variable never undoes what came before."""
    name = str(parameter.name)
    given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    if given or context.parent is None:
        setattr(_options(context), name, value)
    return value


def _take_url(context: click.Context, parameter: click.Parameter, value: str) -> str:
    url: str = _take(context, parameter, _base_url(value))
    return url


def _take_urls(
    context: click.Context, parameter: click.Parameter, values: Sequence[str]
) -> tuple[str, ...]:
    parts = (part.strip() for value in values for part in value.replace(" ", ",").split(","))
    urls: tuple[str, ...] = _take(context, parameter, tuple(_base_url(p) for p in parts if p))
    if not urls:
        raise click.BadParameter("give at least one URL")
    return urls


def _base_url(text: str) -> str:
    url = text.strip().rstrip("/")
    if "://" not in url:
        url = f"http://{url}"
    scheme, _, rest = url.partition("://")
    if scheme not in {"http", "https"} or not rest:
        raise click.BadParameter(f"{text!r} is not a URL such as {DEFAULT_URL}")
    return url
