"""Every setting of a node, validated once.

Settings come from ``PICKBOX_*`` variables and from ``node.toml`` (the file that ``--config`` or
``PICKBOX_CONFIG`` names); the environment wins. A wrong value raises `SettingsError`, whose text
names the variable, says what was found and what is allowed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from pickbox.tls import Credentials, CredentialsError, CredentialsFiles, NodeIdentity

Port = Annotated[int, Field(ge=1, le=65535)]
HEARTBEATS_BEFORE_DOUBT = 3
"""An election timeout is at least this many heartbeats: one that is late must not cost a leader."""

_TOKEN_LENGTH = 16
_NODE_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_HOST = r"[^\s/:]+|\[[0-9a-fA-F:]+\]"
_PEER = re.compile(rf"(?P<host>{_HOST}):(?P<port>\d{{1,5}})")


def is_node_id(text: str) -> bool:
    """Whether a node may have this id."""
    return _NODE_ID.fullmatch(text) is not None


class SettingsError(Exception):
    """The settings are wrong; the text has one line a problem."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a node of the cluster listens for the others: log and content, over mutual TLS."""

    node_id: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, node_id: str, text: str) -> Peer:
        """Read ``host:port``.

        Raises:
            ValueError: the text has another form.
        """
        match = _PEER.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not host:port")
        port = int(match["port"])
        if not 1 <= port <= 65535:
            raise ValueError(f"{text!r} has port {port}, which is not within 1-65535")
        return cls(node_id, match["host"], port)


class Settings(BaseSettings):
    """What a node is told at its start. Field names are the keys of ``node.toml``."""

    model_config = SettingsConfigDict(env_prefix="PICKBOX_", extra="forbid", frozen=True)

    node_id: str = Field(description="Name of this node, unique in the cluster.")
    data_dir: Path = Field(description="Where files, catalog, log and staging live: one volume.")
    peers: Annotated[dict[str, Peer], NoDecode] = Field(
        description="All nodes, this one too: node1=host:port,node2=…"
    )
    bootstrap: bool = Field(
        True,
        description="On an empty data_dir begin a new cluster of peers; else wait to be added.",
    )
    host: str = Field("127.0.0.1", description="Address that the four ports listen on.")
    advertised_host: str | None = Field(
        None, description="Where people and programs reach the node; not set: its host in peers."
    )
    port: Port = Field(8001, description="Log and content between nodes, mutual TLS.")
    admin_port: Port = Field(9001, description="Admin API.")
    monitor_port: Port = Field(6001, description="/health /ready /live /metrics.")
    dashboard_port: Port = Field(8080, description="Dashboard, API and files.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug, info, warning or error."
    )

    cluster_name: str = Field("pickbox", description="Nodes of another name are refused.")
    admin_token: SecretStr | None = Field(None, description="Bearer token of the admin API.")
    admin_token_file: Path | None = Field(
        None,
        description="File of the admin tokens, one a line; read anew when it changes.",
    )

    tls_ca: Path = Field(description="PEM file of the CAs whose nodes are let in.")
    tls_certificate: Path = Field(
        description="PEM file of this node's certificate, with the URI pickbox://<cluster>/<node>."
    )
    tls_key: Path = Field(description="PEM file of its key, for its owner alone.")

    admin_tls: bool | None = Field(
        None, description="Admin API over HTTPS; not set: unless host is a loopback address."
    )

    inline_limit: int = Field(
        32 * 1024, ge=0, le=256 * 1024, description="Bytes up to which content is in the log."
    )
    max_file_size: int = Field(1 << 40, ge=1, description="Largest file taken, in bytes.")
    scan_interval: float = Field(300.0, ge=1.0, description="Seconds between full scans, jittered.")
    settle_seconds: float = Field(0.3, ge=0.0, description="Quiet time of files without a close.")
    settle_limit: float = Field(
        30.0, ge=1.0, description="Seconds after which an open file is taken or replaced, if quiet."
    )
    disk_reserve: int = Field(
        256 << 20, ge=0, description="Free bytes kept; at most 5 % of the volume."
    )
    versions_keep: float = Field(
        7 * 86400.0, ge=0.0, description="Seconds that replaced and deleted files are kept."
    )
    request_timeout: float = Field(30.0, ge=1.0, description="Seconds a write may take to commit.")
    heartbeat_interval: float = Field(
        0.075, ge=0.01, description="Seconds between two messages of an idle leader."
    )
    election_timeout: float = Field(
        0.4, ge=0.1, description="Shortest silence of a leader, in seconds, that is doubted."
    )
    drain_timeout: float = Field(8.0, ge=0.5, le=9.0, description="Seconds that a stop may take.")
    compact_bytes: int = Field(
        32 << 20, ge=1 << 20, description="Bytes of new log entries that start a snapshot."
    )
    compact_keep: int = Field(
        2_000, ge=0, description="Log entries kept before a snapshot, for nodes that lag."
    )
    compact_entries: int = Field(
        20_000, ge=10, description="New log entries that start a snapshot."
    )

    @field_validator("node_id")
    @classmethod
    def _node_id_is_a_name(cls, value: str) -> str:
        if not is_node_id(value):
            raise ValueError("1 to 32 of a-z, 0-9 and '-', not at either end")
        return value

    @field_validator("advertised_host")
    @classmethod
    def _advertised_host_is_a_host(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_HOST, value):
            raise ValueError("a name or an address without a port; an IPv6 address is in []")
        return value

    @field_validator("peers", mode="before")
    @classmethod
    def _read_peers(cls, value: Any) -> dict[str, Peer]:
        if isinstance(value, str):
            pairs = [item.strip().partition("=") for item in value.split(",") if item.strip()]
            if len({name for name, _, _ in pairs}) != len(pairs):
                raise ValueError("a node is listed twice")
            value = {name: address for name, _, address in pairs}
        if not isinstance(value, dict) or not value:
            raise ValueError("a list such as node1=10.0.0.1:8001,node2=10.0.0.2:8001")
        return {
            name: address if isinstance(address, Peer) else Peer.parse(name, str(address))
            for name, address in value.items()
        }

    @model_validator(mode="after")
    def _check_together(self) -> Settings:
        if self.node_id not in self.peers:
            raise ValueError(f"peers: {self.node_id} (node_id) is missing; it lists all nodes")
        ports = [self.port, self.admin_port, self.monitor_port, self.dashboard_port]
        if len(set(ports)) != len(ports):
            raise ValueError(f"port: the four ports must differ, found {ports}")
        mine = self.peers[self.node_id]
        if mine.port != self.port:
            raise ValueError(
                f"peers: {self.node_id} is at port {mine.port} there, but port says {self.port}"
            )
        least = HEARTBEATS_BEFORE_DOUBT * self.heartbeat_interval
        if self.election_timeout < least:
            raise ValueError(
                f"election_timeout: found {self.election_timeout:g}; with a heartbeat_interval of "
                f"{self.heartbeat_interval:g} at least {least:g} is allowed"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over ``node.toml``."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    def credentials(self) -> Credentials:
        """The node's certificate, loaded and checked.

        Raises:
            SettingsError: the files cannot be used.
        """
        files = CredentialsFiles(self.tls_ca, self.tls_certificate, self.tls_key)
        try:
            return Credentials(files, NodeIdentity(self.cluster_name, self.node_id))
        except CredentialsError as error:
            raise SettingsError(str(error)) from None

    def make_data_dir(self) -> None:
        """Make `data_dir`, if it is missing.

        Raises:
            SettingsError: it cannot be made, or not be written.
        """
        found = f"PICKBOX_DATA_DIR: found {str(self.data_dir)!r}"
        allowed = "allowed is a directory that this user can write"
        try:
            self.data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            reason = f"which cannot be made ({error.strerror})"
            raise SettingsError(f"{found}, {reason}; {allowed}") from None
        if not os.access(self.data_dir, os.W_OK | os.X_OK):
            raise SettingsError(f"{found}, which cannot be written; {allowed}")

    @property
    def admin_over_tls(self) -> bool:
        """Whether the admin API is served over HTTPS."""
        return not _is_loopback(self.host) if self.admin_tls is None else self.admin_tls

    @property
    def reached_at(self) -> str:
        """The host of this node's URLs, which are for all but the other nodes.

        That is not what it listens on: 0.0.0.0 leads nowhere.
        """
        return self.advertised_host or self.peers[self.node_id].host

    @property
    def client_url(self) -> str:
        """Where dashboard, client API and files are."""
        return f"http://{self.reached_at}:{self.dashboard_port}"

    @property
    def admin_url(self) -> str:
        """Where the admin API is."""
        scheme = "https" if self.admin_over_tls else "http"
        return f"{scheme}://{self.reached_at}:{self.admin_port}"

    @property
    def monitor_url(self) -> str:
        """Where probes and metrics are."""
        return f"http://{self.reached_at}:{self.monitor_port}"

    @property
    def tokens(self) -> tuple[str, ...]:
        """The admin tokens, from their setting or their file; the first is the one to use.

        Raises:
            SettingsError: there is none, or one that cannot be used.
        """
        if self.admin_token is not None:
            return (_checked("PICKBOX_ADMIN_TOKEN", self.admin_token.get_secret_value()),)
        if self.admin_token_file is not None:
            return tokens_in(self.admin_token_file)
        raise SettingsError(
            "PICKBOX_ADMIN_TOKEN: not set; give the secret itself or name its file in "
            "PICKBOX_ADMIN_TOKEN_FILE"
        )


def load_settings(config: Path | None = None) -> Settings:
    """Read the settings from the environment and, if given, from the TOML file `config`.

    Raises:
        SettingsError: something is missing, unknown, or not allowed.
    """
    if config is not None and not config.is_file():
        raise SettingsError(f"PICKBOX_CONFIG: found {str(config)!r}, which is not a file")

    class _FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    try:
        settings = _FromFile()  # filled from the environment
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(item) for item in error.errors())) from None
    except ValueError as error:  # malformed TOML
        raise SettingsError(f"PICKBOX_CONFIG: {config}: {error}") from None
    _ = settings.tokens
    return settings


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def tokens_in(file: Path) -> tuple[str, ...]:
    """The admin tokens in `file`, one a line.

    Raises:
        SettingsError: it cannot be read, holds none, or one that cannot be used.
    """
    variable = "PICKBOX_ADMIN_TOKEN_FILE"
    try:
        lines = file.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(
            f"{variable}: found {str(file)!r}, which cannot be read ({reason})"
        ) from None
    found = {number: line.strip() for number, line in enumerate(lines, start=1) if line.strip()}
    if not found:
        raise SettingsError(f"{variable}: found {str(file)!r}, which has no token; one is needed")
    return tuple(_checked(f"{variable}, line {number}", token) for number, token in found.items())


def _checked(place: str, token: str) -> str:
    if len(token) < _TOKEN_LENGTH:
        raise SettingsError(
            f"{place}: found {len(token)} characters; allowed are {_TOKEN_LENGTH} or more"
        )
    if not (token.isascii() and token.isprintable()):
        raise SettingsError(
            f"{place}: found a character that no header carries; allowed is printable ASCII"
        )
    return token


def _explain(problem: Any) -> str:
    place, message = problem["loc"], problem["msg"].removeprefix("Value error, ")
    if not place:
        name, _, rest = message.partition(": ")
        return f"PICKBOX_{name.upper()}: {rest}"
    variable = f"PICKBOX_{str(place[0]).upper()}"
    if problem["type"] == "missing":
        described = Settings.model_fields[str(place[0])].description
        return f"{variable}: not set; it is required. {described}"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(Settings.model_fields))
        return f"{variable}: not a setting; allowed are {known}"
    secret = Settings.model_fields[str(place[0])].annotation == SecretStr | None
    found = "a value that is not shown" if secret else repr(problem["input"])
    return f"{variable}: found {found}; {message[0].lower()}{message[1:]}"
