"""What a node's endpoints say about it: the part of ``doctor`` that needs only the network."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from pickbox import __version__
from pickbox.cli.failures import ExitCode, Failure
from pickbox.cli.findings import Finding, Level

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from pickbox.cli.api import Endpoint
    from pickbox.cli.session import Session

CLOCK_TOLERANCE: Final = 2.0
"""Seconds between two clocks. A ``Date`` header has whole seconds, so one is lost to rounding."""

LAG_TOLERANCE: Final = 1000
"""Entries not yet applied; more than a busy node has for a moment."""


def examine(session: Session) -> list[Finding]:
    """Look at the node's three APIs and at the cluster as the node sees it."""
    findings = [*_monitor(session), *_client(session), *_admin(session)]
    cluster = _cluster(session)
    return findings if cluster is None else findings + _cluster_findings(session, cluster)


def _monitor(session: Session) -> list[Finding]:
    found = _reach("monitor API", session.monitor, "/live")
    if isinstance(found, Finding):
        return [found]
    health = _even_if_failing(session.monitor, "/health")
    findings = [_reached("monitor API", session.monitor), _clock("clock", found)]
    if "checks" in health:
        findings += [_check(check) for check in health["checks"]]
    return [*findings, _ready(session)]


def _ready(session: Session) -> Finding:
    try:
        session.monitor.call("GET", "/ready")
    except Failure as failure:
        reasons = failure.problem.get("reasons") or [failure.detail]
        return Finding("ready", Level.FAILED, " ".join(reasons), "See the checks above.")
    return Finding("ready", Level.OK, "the node takes requests")


def _check(check: dict[str, Any]) -> Finding:
    name = f"check {check['name']}"
    if check["ok"]:
        return Finding(name, Level.OK, "passes")
    level = Level.FAILED if check.get("gates_ready", True) else Level.WARN
    return Finding(name, level, check["reason"])


def _client(session: Session) -> list[Finding]:
    findings = []
    for url in session.options.url:
        endpoint = session.endpoint(url)
        found = _reach("client API", endpoint, "/api/health")
        findings.append(found if isinstance(found, Finding) else _reached("client API", endpoint))
    return findings


def _admin(session: Session) -> list[Finding]:
    found = _reach("admin API", session.admin, "/api/v1/status")
    if isinstance(found, Finding):
        return [found]
    return [_reached("admin API", session.admin)]


def _reach(name: str, endpoint: Endpoint, path: str) -> Finding | BaseHTTPResponse:
    """The answer at `path`, or what keeps it from being had; a node may answer 503 for itself."""
    try:
        return endpoint.call("GET", path)
    except Failure as failure:
        if failure.exit_code is ExitCode.UNAUTHORIZED:
            return Finding(name, Level.FAILED, failure.detail, failure.advice)
        answered = "status" in failure.problem
        source = "" if answered else "reach"
        busy = answered and failure.exit_code is ExitCode.TRY_AGAIN
        level = Level.WARN if busy else Level.FAILED
        return Finding(name, level, failure.detail, failure.advice, source)


def _reached(name: str, endpoint: Endpoint) -> Finding:
    return Finding(name, Level.OK, f"answers at {endpoint.url}", source="reach")


def _even_if_failing(endpoint: Endpoint, path: str) -> dict[str, Any]:
    """The JSON at `path`, which a node sends with status 503 when a check fails."""
    try:
        document: dict[str, Any] = endpoint.json("GET", path)
    except Failure as failure:
        return failure.problem
    return document


def _clock(name: str, response: BaseHTTPResponse) -> Finding:
    stated = response.headers.get("Date")
    if stated is None:
        return Finding(name, Level.WARN, "the node does not say what time it has")
    # The header was cut to whole seconds: on average half a second is missing.
    offset = parsedate_to_datetime(stated).timestamp() + 0.5 - time.time()
    if abs(offset) <= CLOCK_TOLERANCE:
        return Finding(name, Level.OK, f"agrees with this machine's within {CLOCK_TOLERANCE:.0f} s")
    return Finding(
        name,
        Level.WARN,
        f"is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} this machine's",
        "Set both by NTP: times in conflict copies' names and logs come from it.",
    )


def _cluster(session: Session) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = session.client.json("GET", "/api/cluster")
    except Failure:
        return None  # said already: the client API does not answer
    return document


def _cluster_findings(session: Session, cluster: dict[str, Any]) -> list[Finding]:
    nodes = cluster["nodes"]
    up = [node for node in nodes if node["reachable"]]
    findings = [_leader(cluster), _quorum(cluster, len(up)), _versions(up)]
    for node in nodes:
        findings += _node(session, node)
    return findings


def _leader(cluster: dict[str, Any]) -> Finding:
    if cluster["leader"]:
        return Finding("leader", Level.OK, f"{cluster['leader']}, term {cluster['term']}")
    return Finding(
        "leader", Level.FAILED, "there is none", "Writes wait until a majority of the nodes is up."
    )


def _quorum(cluster: dict[str, Any], up: int) -> Finding:
    detail = f"{up} of {len(cluster['nodes'])} nodes up, {cluster['quorum']} needed"
    if not cluster["has_quorum"]:
        return Finding("quorum", Level.FAILED, detail, "Start the nodes that are down.")
    return Finding("quorum", Level.OK, detail)


def _versions(up: list[dict[str, Any]]) -> Finding:
    versions = {node["version"] for node in up}
    described = ", ".join(f"{node['node_id']} {node['version']}" for node in up)
    if len(versions) > 1:
        advice = "Finish the upgrade: new features wait until all nodes have one version."
        return Finding("versions", Level.WARN, described, advice)
    if versions and versions != {__version__}:
        detail = f"the nodes run {versions.pop()}, this command is {__version__}"
        return Finding("versions", Level.WARN, detail, "Use the command of the nodes' release.")
    return Finding("versions", Level.OK, f"all run {__version__}")


def _node(session: Session, node: dict[str, Any]) -> list[Finding]:
    name = f"node {node['node_id']}"
    if not node["reachable"]:
        detail = f"cannot be reached: {node['error'] or 'no reason is known'}"
        return [Finding(name, Level.FAILED, detail, "Start it, or see its log.")]
    findings = [_node_state(name, node)]
    if node["monitor_url"]:
        findings.append(_node_clock(session, node))
    return findings


def _node_state(name: str, node: dict[str, Any]) -> Finding:
    pending = node["figures"]["pending"]
    detail = f"{node['role']}, {node['lag']} entries behind, {pending} contents pending"
    if not node["ready"]:
        reasons = " ".join(node["reasons"]) or "it does not say why"
        return Finding(name, Level.FAILED, f"{detail}; not ready: {reasons}")
    if node["lag"] > LAG_TOLERANCE:
        return Finding(name, Level.WARN, detail, "It is catching up, or its disk is slow.")
    return Finding(name, Level.OK, detail)


def _node_clock(session: Session, node: dict[str, Any]) -> Finding:
    name = f"clock {node['node_id']}"
    timeout = min(session.options.timeout, 5.0)
    monitor = session.endpoint(node["monitor_url"].rstrip("/"), timeout=timeout)
    try:
        return _clock(name, monitor.call("GET", "/live"))
    except Failure as failure:
        detail = f"cannot be read: {failure.detail}"
        return Finding(name, Level.WARN, detail, "Its monitoring port may be closed to here.")
