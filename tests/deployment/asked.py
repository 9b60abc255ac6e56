"""What nodes answer while something is done to them."""

from __future__ import annotations

import contextlib
import os
import threading
import urllib.request
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deployed import Deployment


def status_of(request: urllib.request.Request) -> int:
    """What is answered; 0 if nothing is."""
    try:
        with urllib.request.urlopen(request, timeout=40) as answer:
            return int(answer.status)
    except OSError as error:
        return int(getattr(error, "code", 0))


@contextlib.contextmanager
def meanwhile(ask: Callable[[int], int]) -> Iterator[list[int]]:
    """Ask again and again; gives the answers."""
    answers: list[int] = []
    done = threading.Event()

    def go_on() -> None:
        while not done.is_set():
            answers.append(ask(len(answers)))
            done.wait(0.1)

    asking = threading.Thread(target=go_on)
    asking.start()
    try:
        yield answers
    finally:
        done.set()
        asking.join()


def writing(deployment: Deployment, *nodes: str) -> contextlib.AbstractContextManager[list[int]]:
    """Write a new file through each of these nodes in turn."""
    prefix = os.urandom(4).hex()

    def write(number: int) -> int:
        path = f"/api/v1/files/{prefix}-{number}"
        place = deployment.url(nodes[number % len(nodes)], "dashboard", path)
        return status_of(urllib.request.Request(place, b"text", method="PUT"))

    return meanwhile(write)
