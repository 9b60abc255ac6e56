"""Points and restores of a node, for the commands that make them and wait for them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from pickbox.cli.api import Persist
from pickbox.cli.failures import ExitCode, Failure, local

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pickbox.cli.session import Session

_ASK_AGAIN: Final = 0.3


def make(session: Session, name: str, wait: float | None = None) -> dict[str, Any]:
    """Make the point `name` and wait until it is there."""
    body = {"name": name} if wait is None else {"name": name, "wait": wait}
    answer = session.admin.json("POST", "/api/v1/backups", body)
    return _until_ready(session, f"/api/v1/backups/{name}", answer)


def take_in(session: Session, name: str, path: str, *, over: bool) -> dict[str, Any]:
    """Have the node take in what was restored into its directory `name`, and wait for it."""
    body = {"name": name, "over": over, **({"path": path} if path else {})}
    answer = session.admin.json("POST", "/api/v1/restores", body)
    return _until_ready(session, f"/api/v1/restores/{name}", answer)


def _until_ready(session: Session, target: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Ask again for as long as it goes on. The node bounds that, and says when it gave up."""
    while answer["state"] == "running":
        time.sleep(_ASK_AGAIN)
        answer = session.admin.json("GET", target, persist=Persist.ALWAYS)
    return answer


@contextlib.contextmanager
def alone_in(directory: str) -> Iterator[None]:
    """Have no other command of this machine do the same in `directory` meanwhile.

    And be ended by SIGTERM and SIGHUP as by an error, so that what was begun is cleared away.

    Raises:
        Failure: another one does, or the directory is not on this machine.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise local(
            f"{directory} cannot be opened: {error.strerror}.",
            "Run this on the machine of the node, as the user who runs it.",
        ) from error
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        detail = f"Another backup or restore is under way in {directory}."
        problem = {"type": "backup-under-way", "detail": detail}
        raise Failure(ExitCode.TRY_AGAIN, problem, "Try again when it is done.") from None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def removed_afterwards(session: Session, target: str) -> Iterator[None]:
    """Have the node remove the point or restore at `target`, however this ends."""
    try:
        yield
    finally:
        with contextlib.suppress(Failure):
            session.admin.json("DELETE", target)
