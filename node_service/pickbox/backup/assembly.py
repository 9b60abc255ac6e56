"""Builds the backups of a node from its parts."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from pickbox.backup.jobs import Backups
from pickbox.backup.point import Origin, PointMaker
from pickbox.backup.restoring import Restorer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pickbox.backup.point import ContentFetcher
    from pickbox.changes import Entry
    from pickbox.replication.content import LocalContent
    from pickbox.replication.proposer import Proposer
    from pickbox.settings import Settings
    from pickbox.storage.catalog import Catalog
    from pickbox.storage.disk import DiskGuard
    from pickbox.storage.staging import Staging


def assemble_backups(
    settings: Settings,
    catalog: Catalog,
    content: LocalContent,
    fetcher: ContentFetcher,
    proposer: Proposer,
    staging: Staging,
    disk: DiskGuard,
    barrier: Callable[[float], None],
    *,
    sources: Callable[[Entry], Sequence[str]],
    not_now: Callable[[], str],
) -> Backups:
    """Points and restores of the node that has these parts; see `Backups`."""
    stopping = threading.Event()
    origin = Origin(settings.cluster_name, settings.node_id)
    maker = PointMaker(origin, catalog, content, fetcher, disk, sources, stopping)
    restorer = Restorer(
        catalog,
        proposer,
        staging,
        disk,
        content.is_placed,
        barrier,
        settings.inline_limit,
        stopping,
    )
    return Backups(
        os.fsencode(settings.data_dir),
        maker,
        restorer,
        barrier=barrier,
        not_now=not_now,
        stopping=stopping,
    )
