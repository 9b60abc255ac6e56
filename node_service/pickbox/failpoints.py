"""Failpoints: named places where a test makes a node die, wait, or find its disk refusing.

A place is one line, ``failpoint("append_before_sync")``. Without ``PICKBOX_FAILPOINTS`` in the
environment when this module is imported, `failpoint` is an empty function and nothing can arm it.
With it, `arm` reads what is asked for. ``docs/reference/failpoints.md`` has the places and the
syntax.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

VARIABLE: Final = "PICKBOX_FAILPOINTS"

EXIT_CODE: Final = 99
"""What a node exits with that a failpoint has ended."""

Failpoint: TypeAlias = Literal[
    "ack_before_send",
    "append_after_sync",
    "append_before_sync",
    "apply_mid",
    "commit_before_apply",
    "configuration_before_apply",
    "content_after_rename",
    "content_before_fsync",
    "dirty_before_mark",
    "place_after_rename",
    "place_before_rename",
    "propose_after",
    "propose_before",
    "scan_mid",
    "snapshot_after_load",
    "snapshot_after_rename",
    "snapshot_before_rename",
    "snapshot_receive_mid",
    "state_before_commit",
    "sweep_after_delete",
    "sweep_before_delete",
    "truncate_before",
]
NAMES: Final[tuple[str, ...]] = get_args(Failpoint)

_ACTION: Final = re.compile(r"(?P<kind>[a-z]+)(\((?P<argument>[^()]*)\))?(@(?P<hit>[1-9]\d*))?")
_ALLOWED: Final = (
    "allowed are exit, sleep(SECONDS), error and error(ERRNO), such as error(ENOSPC), each with "
    "@N behind it to act at the Nth hit alone"
)


class FailpointsError(Exception):
    """``PICKBOX_FAILPOINTS`` is wrong; the text says what was found and what is allowed."""


@dataclass(frozen=True, slots=True)
class Action:
    """What happens at a failpoint.

    Attributes:
        kind: ``exit``, ``sleep`` or ``error``.
        argument: seconds to sleep, or the errno of the `OSError` that is raised.
        hit: the one hit at which it happens, counted from 1; None for each.
    """

    kind: str
    argument: float = 0.0
    hit: int | None = None


def parse(text: str) -> dict[str, Action]:
    """Read ``name=action;name=action``.

    Raises:
        FailpointsError: a name or an action is not one of those that there are.
    """
    actions: dict[str, Action] = {}
    for item in filter(None, map(str.strip, text.split(";"))):
        name, _, action = map(str.strip, item.partition("="))
        if name not in NAMES:
            raise FailpointsError(
                f"{VARIABLE}: {name!r} is not a failpoint; there are {', '.join(NAMES)}"
            )
        if name in actions:
            raise FailpointsError(f"{VARIABLE}: {name} is given twice; give it once")
        actions[name] = _parse_action(name, action)
    return actions


def _parse_action(name: str, text: str) -> Action:
    match = _ACTION.fullmatch(text)
    if match is not None:
        hit = int(match["hit"]) if match["hit"] else None
        match match["kind"], match["argument"]:
            case "exit", None:
                return Action("exit", 0.0, hit)
            case "sleep", str(seconds) if re.fullmatch(r"\d+(\.\d+)?", seconds):
                return Action("sleep", float(seconds), hit)
            case "error", None:
                return Action("error", errno.EIO, hit)
            case "error", str(symbol) if symbol in errno.errorcode.values():
                return Action("error", getattr(errno, symbol), hit)
    raise FailpointsError(f"{VARIABLE}: {name}: found {text!r}; {_ALLOWED}")


_asked: Final = os.environ.get(VARIABLE, "")
_armed: dict[str, tuple[Action, Iterator[int]]] = {}


def arm() -> None:
    """Arm what the environment asks for, and say so loudly. Called once, before anything starts.

    Raises:
        FailpointsError: it asks for what is not there.
    """
    for name, action in parse(_asked).items():
        _armed[name] = action, itertools.count(1)
    if _armed:
        fields = {"failpoints": _asked, "why": f"{VARIABLE} is set: this node is to fail in a test"}
        log.critical("failpoints_armed", extra={"fields": fields})


def _meet(name: Failpoint) -> None:
    """Do what the environment asks for at `name`."""
    if name not in _armed:
        return
    action, hits = _armed[name]
    hit = next(hits)
    if action.hit not in (None, hit):
        return
    fields = {"failpoint": name, "action": action.kind, "hit": hit}
    log.warning("failpoint_hit", extra={"fields": fields})
    match action.kind:
        case "exit":
            os._exit(EXIT_CODE)
        case "sleep":
            time.sleep(action.argument)
        case "error":
            number = int(action.argument)
            raise OSError(number, f"{os.strerror(number)} (failpoint {name})")


def _pass(name: Failpoint) -> None:
    """Nothing: no failpoint was asked for."""


failpoint: Final[Callable[[Failpoint], None]] = _meet if _asked else _pass
