"""What is done before metrics are read: gauges that mirror live state are filled in then."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric

log = logging.getLogger(__name__)


class BeforeScrape(Collector):
    """Yields no metric of its own: runs callbacks that bring others up to date."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def describe(self) -> Iterable[Metric]:
        """No metric."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """No metric, and all others are up to date."""
        for callback in self.callbacks:
            try:
                callback()
            except Exception:
                log.exception("metrics_callback_failed")
        return ()
