"""A node as a process: started, told of signals and to the service manager, and ended."""

from __future__ import annotations

import faulthandler
import logging
import os
import resource
import signal
import sqlite3
from typing import TYPE_CHECKING, Final

from pickbox import __version__, ending
from pickbox.consensus import LogUnusable
from pickbox.http.server import ListenError
from pickbox.levels import WrongRelease
from pickbox.node import Node
from pickbox.observability.logs import configure
from pickbox.sd_notify import ServiceManager
from pickbox.storage.catalog import CatalogError

if TYPE_CHECKING:
    from pickbox.settings import Settings
    from pickbox.tls import Credentials

log = logging.getLogger(__name__)

EXIT_FAILED: Final = 1
EXIT_CONFIGURATION: Final = 78
"""sysexits.h: it fails the next time too, until somebody changes what is started here."""


def use_all_descriptors() -> None:
    """Open as many files as the process may.

    What starts a process, container engines among them, leaves it 1024 at first, for the sake of
    programs that use ``select``: a node has a descriptor for each client.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def run(settings: Settings, credentials: Credentials) -> int:
    """Run a node until it is asked to stop (SIGTERM, SIGINT), then end the process.

    Returns:
        The exit code, if the data needs another release: 78.
    """
    faulthandler.enable()
    use_all_descriptors()
    configure(settings.log_level, settings.node_id)
    manager = ServiceManager.from_environment(os.environ)
    try:
        node = Node(settings, credentials)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: node.ask_to_stop())
        node.start()
    except WrongRelease as error:
        log.critical("cannot_start", extra={"fields": {"why": str(error)}})
        return EXIT_CONFIGURATION
    except (ListenError, LogUnusable, CatalogError, OSError, sqlite3.Error) as error:
        log.critical("cannot_start", extra={"fields": {"why": str(error)}})
        return ending.leave(EXIT_FAILED)
    fields = {"version": __version__, "data_dir": str(settings.data_dir)}
    log.info("started", extra={"fields": fields})
    manager.follow(node.control)
    node.wait()
    ending.exit_in_time(settings.drain_timeout, EXIT_FAILED)
    manager.stopping(node.failed)
    try:
        node.stop()
    except Exception as error:
        log.exception("stop_failed")
        node.failed = str(error)
    return ending.leave(EXIT_FAILED if node.failed else 0)
