"""What ``doctor --config`` looks at on the node's own machine: settings, directories, ports."""

from __future__ import annotations

import datetime as dt
import os
import socket
import sqlite3
import stat
from typing import TYPE_CHECKING, Final

import psutil

from pickbox import __version__
from pickbox.cli.failures import ExitCode, Failure
from pickbox.cli.findings import Finding, Level
from pickbox.cli.probe import reachable_host
from pickbox.levels import WrongRelease
from pickbox.settings import Settings, SettingsError, load_settings
from pickbox.storage.catalog_rows import refuse_newer_catalog
from pickbox.storage.release import refuse_newer_major

if TYPE_CHECKING:
    from pathlib import Path

    from pickbox.cli.session import Session


_EXPIRES_SOON: Final = dt.timedelta(days=14)


def settings_of(config: Path | None) -> Settings:
    """Load a node's settings.

    Raises:
        Failure: they are wrong; one line a problem.
    """
    try:
        return load_settings(config)
    except SettingsError as error:
        problem = {"type": "settings", "detail": str(error)}
        raise Failure(ExitCode.CONFIGURATION, problem) from None


def aim(session: Session, settings: Settings) -> None:
    """Point the session at the node that these settings describe."""
    host = reachable_host(settings.host)
    if ":" in host:
        host = f"[{host}]"
    options = session.options
    options.url = (f"http://{host}:{settings.dashboard_port}",)
    scheme = "https" if settings.admin_over_tls else "http"
    options.admin_url = f"{scheme}://{host}:{settings.admin_port}"
    options.monitor_url = f"http://{host}:{settings.monitor_port}"
    options.ca = options.ca or str(settings.tls_ca)
    options.token, options.token_file = settings.tokens[0], None


def directories(settings: Settings) -> list[Finding]:
    """Whether the data directory can be used, the token is kept, and the certificate is good."""
    findings = [_data_dir(settings.data_dir), _release(settings.data_dir), _space(settings)]
    if settings.admin_token_file is not None:
        findings.append(_secret_file("admin_token_file", settings.admin_token_file))
    return [*findings, _certificate(settings)]


def _certificate(settings: Settings) -> Finding:
    try:
        credentials = settings.credentials()
    except SettingsError as error:
        return Finding("certificate", Level.FAILED, str(error))
    left = credentials.expires - dt.datetime.now(dt.UTC)
    detail = f"of {credentials.identity.uri}, good until {credentials.expires.isoformat()}"
    if left < _EXPIRES_SOON:
        advice = "Renew it: playbooks/rotate_certificates.yml"
        return Finding("certificate", Level.WARN, detail, advice)
    host = settings.reached_at
    if settings.admin_over_tls and not credentials.is_for(host):
        detail += f", and not for {host}: clients refuse it at {settings.admin_url}"
        return Finding("certificate", Level.WARN, detail, "Deploy again: playbooks/deploy.yml")
    return Finding("certificate", Level.OK, detail)


def _data_dir(directory: Path) -> Finding:
    if directory.exists():
        if not directory.is_dir():
            return Finding("data_dir", Level.FAILED, f"{directory} is not a directory")
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            advice = f"Give it to the user that runs the node (now {_user()})."
            return Finding("data_dir", Level.FAILED, f"{directory} is not writable", advice)
        return _one_volume(directory)
    parent = _existing_parent(directory)
    if not os.access(parent, os.W_OK | os.X_OK):
        detail = f"{directory} is missing and cannot be made in {parent}"
        return Finding("data_dir", Level.FAILED, detail, f"Make it, for the user {_user()}.")
    return Finding("data_dir", Level.OK, f"{directory} will be made at the first start")


def _one_volume(directory: Path) -> Finding:
    parts = [directory / name for name in ("files", "staging", "versions")]
    elsewhere = [
        part.name
        for part in parts
        if part.exists() and part.stat().st_dev != directory.stat().st_dev
    ]
    if elsewhere:
        detail = f"{', '.join(elsewhere)} is on another volume than {directory}"
        advice = "Files are placed by renaming: keep the whole data directory on one volume."
        return Finding("data_dir", Level.FAILED, detail, advice)
    return Finding("data_dir", Level.OK, f"{directory} is writable and one volume")


def _release(directory: Path) -> Finding:
    """Whether this release may run on what is in the data directory; changes nothing."""
    try:
        refuse_newer_major(directory)
        refuse_newer_catalog(directory / "catalog.db")
    except WrongRelease as error:
        return Finding("release", Level.FAILED, str(error))
    except (OSError, sqlite3.Error) as error:
        return Finding("release", Level.WARN, f"{directory} cannot be read: {error}")
    return Finding("release", Level.OK, f"{__version__} can run on the data that is there")


def _space(settings: Settings) -> Finding:
    volume = os.statvfs(_existing_parent(settings.data_dir))
    free = volume.f_bavail * volume.f_frsize
    reserve = min(settings.disk_reserve, volume.f_blocks * volume.f_frsize // 20)
    detail = f"{free >> 20} MiB free, {reserve >> 20} MiB kept in reserve"
    if free <= reserve:
        return Finding("disk space", Level.FAILED, detail, "Free space, or lower disk_reserve.")
    return Finding("disk space", Level.OK, detail)


def _secret_file(name: str, file: Path) -> Finding:
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        detail = f"{file} has mode {mode:04o}: others on this machine can read it"
        return Finding(name, Level.WARN, detail, f"chmod 600 {file}")
    return Finding(name, Level.OK, f"{file} is readable by its owner only")


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _user() -> str:
    return psutil.Process().username()


def ports(settings: Settings) -> list[Finding]:
    """Whether the four ports are free, this node's own, or taken by somebody else."""
    wanted = {
        "port": settings.port,
        "admin_port": settings.admin_port,
        "monitor_port": settings.monitor_port,
        "dashboard_port": settings.dashboard_port,
    }
    return [_port(name, settings.host, number) for name, number in wanted.items()]


def _port(name: str, host: str, number: int) -> Finding:
    label = f"{name} {number}"
    problem = _cannot_bind(host, number)
    if not problem:
        return Finding(label, Level.OK, "free")
    owner = _owner(number)
    if owner is not None and _is_pickbox(owner):
        return Finding(label, Level.OK, f"a node runs (pid {owner.pid})", source="running")
    detail = f"cannot be used: {problem}"
    if owner is not None:
        detail += f"; it belongs to pid {owner.pid} ({_described(owner)})"
    return Finding(label, Level.FAILED, detail, f"End that process, or set another {name}.")


def _cannot_bind(host: str, number: int) -> str:
    """Why the port cannot be listened on; empty if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections still linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
            probe.listen(1)
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return ""


def _owner(number: int) -> psutil.Process | None:
    """The process that listens on the port; None when it is another user's."""
    for connection in psutil.net_connections(kind="tcp"):
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (number,)
        if listens and connection.pid:
            try:
                return psutil.Process(connection.pid)
            except psutil.NoSuchProcess:
                return None
    return None


def _is_pickbox(process: psutil.Process) -> bool:
    words = _command_line(process)
    return "serve" in words and any("pickbox" in os.path.basename(word) for word in words)


def _described(process: psutil.Process) -> str:
    return " ".join(_command_line(process))[:120]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() or [process.name()]
    except psutil.Error:
        return ["of another user"]
