"""``pickbox doctor``: what is wrong with a node, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pickbox.cli import endpoints, machine, render
from pickbox.cli.failures import ExitCode, Failure
from pickbox.cli.findings import Finding, Level, show
from pickbox.cli.lazy import LazyGroup
from pickbox.cli.probe import PROBE_TIMEOUT, node_is_ready
from pickbox.cli.session import Session, pass_session, shared_options

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(
    cls=LazyGroup,
    modules={"log": "pickbox.cli.doctor_log"},
    invoke_without_command=True,
    params=shared_options(),
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="PICKBOX_CONFIG",
    show_envvar=True,
    help="Check these settings too (node.toml), with directories and ports, on the node's machine.",
)
@click.option("--probe", is_flag=True, help="Print nothing; exit 0 if the node is ready, else 1.")
@pass_session
def doctor(session: Session, config: Path | None, probe: bool) -> None:
    """Check a node: its endpoints, health, versions, clock and lag.

    Exits with 0 if nothing failed, 1 if something did, 69 if no endpoint answered, and 78 if the
    settings are wrong.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    if probe:
        raise SystemExit(0 if _is_ready(session, config) else 1)
    findings = endpoints.examine(session) if config is None else _examine_here(session, config)
    _tell(session, findings)
    raise SystemExit(int(_exit_code(findings)))


def _is_ready(session: Session, config: Path | None) -> bool:
    session.options.timeout = min(session.options.timeout, PROBE_TIMEOUT)
    if config is not None:
        return node_is_ready(config, session.options.timeout)
    try:
        session.monitor.call("GET", "/ready")
    except Failure:
        return False
    return True


def _examine_here(session: Session, config: Path) -> list[Finding]:
    try:
        settings = machine.settings_of(config)
    except Failure as failure:
        lines = failure.detail.splitlines()
        return [Finding("settings", Level.FAILED, line, source="settings") for line in lines]
    findings = [Finding("settings", Level.OK, f"{config} is valid")]
    findings += machine.directories(settings)
    ports = machine.ports(settings)
    findings += ports
    if any(finding.source == "running" for finding in ports):
        machine.aim(session, settings)
        findings += endpoints.examine(session)
    return findings


def _tell(session: Session, findings: Sequence[Finding]) -> None:
    if session.as_json:
        ok = all(finding.level is not Level.FAILED for finding in findings)
        render.as_json({"ok": ok, "checks": [finding.document() for finding in findings]})
        return
    show(findings)


def _exit_code(findings: Sequence[Finding]) -> ExitCode:
    failed = [finding for finding in findings if finding.level is Level.FAILED]
    if not failed:
        return ExitCode.OK
    if any(finding.source == "settings" for finding in failed):
        return ExitCode.CONFIGURATION
    reach = [finding for finding in findings if finding.source == "reach"]
    if reach and all(finding.level is Level.FAILED for finding in reach):
        return ExitCode.UNREACHABLE
    return ExitCode.ERROR
