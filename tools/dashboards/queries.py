"""What is asked of Prometheus, as panels ask it: PromQL in the words of Pickbox."""

from __future__ import annotations

from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

CLUSTER = 'cluster="$cluster"'
"""What selects the cluster that was chosen."""

NODE = f'{CLUSTER},node="$node"'
"""What selects one node of it."""

OURS = 'job="pickbox"'
"""What selects the processes of nodes among those of exporters and of Prometheus."""


def query(expression: str, legend: str = "{{node}}") -> Dataquery:
    """A query over the time that the dashboard shows, a line for each series."""
    return Dataquery().expr(expression).legend_format(legend).range()


def instant(expression: str, legend: str = "{{node}}") -> Dataquery:
    """A query for the moment that the dashboard ends with."""
    return Dataquery().expr(expression).legend_format(legend).instant()


def rows(expression: str) -> Dataquery:
    """A query for a table: a row for each series, a column for each of its labels."""
    return Dataquery().expr(expression).format(PromQueryFormat.TABLE).instant()


def buckets(expression: str) -> Dataquery:
    """A query for a heatmap: what falls into each bucket."""
    return (
        Dataquery().expr(expression).format(PromQueryFormat.HEATMAP).legend_format("{{le}}").range()
    )


def rate(counter: str, selector: str = CLUSTER, by: str = "node") -> str:
    """How much a counter grows by in a second."""
    return f"sum by ({by}) (rate({counter}{{{selector}}}[$__rate_interval]))"


def increase(counter: str, selector: str = CLUSTER, by: str = "node") -> str:
    """How much a counter grew by since the last point that is shown."""
    return f"sum by ({by}) (increase({counter}{{{selector}}}[$__rate_interval]))"


def or_zero(expression: str) -> str:
    """The same, and 0 if there is nothing at all, since nothing has happened yet."""
    return f"({expression}) or on() vector(0)"


def quantile(part: float, histogram: str, selector: str = CLUSTER, by: str = "node") -> str:
    """The value that this part of what a histogram measured is not above."""
    summed = rate(f"{histogram}_bucket", selector, f"{by}, le" if by else "le")
    return f"histogram_quantile({part:g}, {summed})"


def mean(histogram: str, selector: str = CLUSTER, by: str = "node") -> str:
    """The mean of what a histogram measured."""
    return f"{rate(f'{histogram}_sum', selector, by)} / {rate(f'{histogram}_count', selector, by)}"


def state(selector: str = CLUSTER) -> str:
    """What a node is: 0 down, 1 up, with 2 more if it is ready, and 4 more if it leads."""
    up = f'max by (node) (up{{job="pickbox",{selector}}})'
    ready = f"max by (node) (pickbox_ready{{{selector}}})"
    leads = f"max by (node) (pickbox_is_leader{{{selector}}})"
    return f"{up} + (2 * {ready} + 4 * {leads} or 0 * {up})"
