"""What a node tells about itself: metrics, health, and logs in JSON."""

from pickbox.observability.health import assess
from pickbox.observability.logs import configure
from pickbox.observability.metrics import Metrics

__all__ = ["Metrics", "assess", "configure"]
