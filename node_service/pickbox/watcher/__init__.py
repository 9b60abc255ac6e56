"""The watcher part: sees what people do in the folder, and proposes it as changes.

It knows nothing of the log or of HTTP: see `pickbox.seams` for what it is given.
"""

from pickbox.watcher.metrics import WatcherMetrics
from pickbox.watcher.watcher import Watcher

__all__ = ["Watcher", "WatcherMetrics"]
