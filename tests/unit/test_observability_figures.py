"""The log of a node has its main figures once in a while."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from pickbox.observability.figures_log import FiguresLog
from pickbox.status import Figures, NodeStatus

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS = NodeStatus(
    "node1", reachable=True, role="leader", leader="node1", term=4, figures=Figures(files=7)
)


class Seen(logging.Handler):
    """Takes what is logged, and knows when there is enough of it."""

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.full = threading.Event()
        self._enough = enough

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if len(self.records) >= self._enough:
            self.full.set()


def logged(ask: Callable[[], NodeStatus], count: int) -> list[Any]:
    """The first `count` records that come while `ask` is asked."""
    seen, stopped = Seen(count), threading.Event()
    logger = logging.getLogger("pickbox.observability.figures_log")
    logger.addHandler(seen)
    logger.setLevel(logging.INFO)
    try:
        FiguresLog(ask, stopped, seconds=0.001).start()
        assert seen.full.wait(10)
    finally:
        stopped.set()
        logger.removeHandler(seen)
        logger.setLevel(logging.NOTSET)
    return seen.records[:count]


def test_figures_come_again_and_again_with_what_the_node_is_like() -> None:
    for record in logged(lambda: STATUS, 3):
        assert (record.levelname, record.getMessage()) == ("INFO", "figures")
        assert record.fields["role"] == "leader"
        assert record.fields["term"] == 4
        assert record.fields["files"] == 7


def test_a_node_that_cannot_say_is_asked_again() -> None:
    answers = iter([OSError("the disk is away"), STATUS])

    def ask() -> NodeStatus:
        answer = next(answers, STATUS)
        if isinstance(answer, OSError):
            raise answer
        return answer

    first, second = logged(ask, 2)
    assert (first.levelname, first.fields) == ("WARNING", {"why": "the disk is away"})
    assert second.getMessage() == "figures"
