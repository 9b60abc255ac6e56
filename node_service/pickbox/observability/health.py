"""Health from named checks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pickbox.status import Check, Health

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Probe:
    """A check to be made. `ask` returns "" when all is well, else what is wrong and what to do."""

    name: str
    ask: Callable[[], str]
    gates_ready: bool = True


def assess(node_id: str, probes: Iterable[Probe]) -> Health:
    """Make every check. One that raises has failed; the others are made all the same."""
    return Health(node_id, tuple(_make(probe) for probe in probes))


def _make(probe: Probe) -> Check:
    try:
        reason = probe.ask()
    except Exception:
        log.exception("health_check_failed", extra={"fields": {"check": probe.name}})
        reason = f"The check {probe.name!r} itself failed; the node's log says why."
    return Check(probe.name, not reason, reason, probe.gates_ready)
