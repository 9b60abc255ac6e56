"""What metrics of prometheus_client have come to by now, which it keeps to itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram


def total(metric: Counter | Gauge) -> float:
    """The sum over all label values."""
    return sum(sample.value for family in metric.collect() for sample in family.samples)


def lacking(counter: Counter, counted: float) -> float:
    """What `counter` lacks to what was `counted` elsewhere since the start."""
    return max(0.0, counted - total(counter))


def raise_to(counter: Counter, counted: float) -> None:
    """Bring `counter` up to what was `counted` elsewhere."""
    counter.inc(lacking(counter, counted))


def histogram_totals(metric: Histogram) -> tuple[float, float]:
    """How many observations, and their sum."""
    count = added = 0.0
    for family in metric.collect():
        for sample in family.samples:
            count += sample.value if sample.name.endswith("_count") else 0.0
            added += sample.value if sample.name.endswith("_sum") else 0.0
    return count, added
