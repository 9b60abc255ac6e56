"""What can go wrong for a command, how it is told, and the exit code that it ends with.

A `Failure` carries a problem document (RFC 9457): the node's own, or one made here for what
happened before a node answered. On stderr it is one sentence and, where there is one, the thing to
do about it. With ``--json`` the problem document goes to stdout as well, with the extra members
``exit_code`` and ``advice``, so that a script reads one stream whatever happened.
"""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class ExitCode(enum.IntEnum):
    """Exit codes of the ``pickbox`` command. 69 and 78 are those of sysexits.h."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    TRY_AGAIN = 5
    UNAUTHORIZED = 6
    UNREACHABLE = 69
    CONFIGURATION = 78


EXIT_CODES_HELP: Final = """\b
Exit codes:
   0  done
   1  failed
   2  wrong usage
   3  nothing has this path, node or request id
   4  a precondition failed, or something else is in the way
   5  not ready, no leader, or no answer in time: try again
   6  the token is missing or wrong
  69  no node could be reached
  78  the configuration is wrong
"""

AGAIN: Final = frozenset({408, 429, 502, 503, 504})
"""HTTP statuses after which the same request may succeed a moment later."""

_CODES: Final = {
    401: ExitCode.UNAUTHORIZED,
    403: ExitCode.UNAUTHORIZED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    412: ExitCode.CONFLICT,
    422: ExitCode.CONFLICT,
    **dict.fromkeys(AGAIN, ExitCode.TRY_AGAIN),
}

_ADVICE: Final = {
    "unauthorized": "Name the file that holds the admin token with --token-file or "
    "PICKBOX_ADMIN_TOKEN_FILE.",
    "https-required": "Begin its address with https://, and name the CA of the cluster with "
    "--ca or PICKBOX_CA.",
    "precondition-failed": "See the version that is there now with: pickbox ls -l PATH",
    "directory-not-empty": "Add -r to remove everything in it.",
    "not-a-file": "Add -r to take a directory with everything in it.",
    "no-leader": "Try again in a moment, and see: pickbox status",
    "not-ready": "Try again in a moment or another node, and see: pickbox doctor",
    "content-pending": "Try again in a moment, or ask another node with --url.",
    "not-staged": "Too few nodes are up to hold it safely; see: pickbox status",
    "disk-full": "Free space on the node's volume, or lower disk_reserve.",
    "disk-failed": "Name another node with --url, and look at the disk of this one.",
    "no-answer": "Try again in a moment, or give it longer with --timeout; see: pickbox status",
    "unreachable": "Check that the node runs and that its address is right; see: pickbox doctor",
}


class Failure(Exception):
    """A command cannot do what it was asked. See the module's text for how it is shown."""

    def __init__(self, exit_code: ExitCode, problem: Mapping[str, Any], advice: str = "") -> None:
        super().__init__(problem["detail"])
        self.exit_code = exit_code
        self.problem = dict(problem)
        self.detail = str(problem["detail"])
        self.advice = advice or _ADVICE.get(self.type, "")

    @property
    def type(self) -> str:
        """The stable name of the problem: the last part of its ``type``."""
        return str(self.problem.get("type", "")).replace(":", "/").rpartition("/")[2]

    def document(self) -> dict[str, Any]:
        """The problem document with the exit code and the advice."""
        return {**self.problem, "exit_code": int(self.exit_code), "advice": self.advice}


def local(detail: str, advice: str = "") -> Failure:
    """A failure on this side: a local file that cannot be read, bytes that do not match."""
    return Failure(ExitCode.ERROR, {"type": "local", "detail": detail}, advice)


def unreachable(url: str, reason: str) -> Failure:
    """Nobody answered at `url`."""
    detail = f"{url} cannot be reached: {reason}."
    return Failure(ExitCode.UNREACHABLE, {"type": "unreachable", "detail": detail, "url": url})


def no_answer(url: str, seconds: float) -> Failure:
    """The node at `url` took the request and was silent: what became of a write is not known."""
    detail = f"{url} did not answer within {seconds:g} s."
    return Failure(ExitCode.TRY_AGAIN, {"type": "no-answer", "detail": detail, "url": url})


def from_response(status: int, body: bytes, url: str) -> Failure:
    """The failure that an HTTP answer stands for.

    A load balancer answers for itself when no node does, so the body may be anything.
    """
    problem = _problem_document(body)
    if problem is None:
        detail = f"{url} answered with HTTP status {status} and nothing that explains it."
        problem = {"type": "unexpected-answer", "detail": detail}
    problem.setdefault("status", status)
    return Failure(_CODES.get(status, ExitCode.ERROR), problem)


def _problem_document(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    detail = document.get("detail") or document.get("title")
    return {**document, "detail": str(detail)} if detail else None
