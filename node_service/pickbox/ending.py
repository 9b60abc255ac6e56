"""How a node's process ends: at once, and whatever hangs."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
import threading
import time
from typing import NoReturn

log = logging.getLogger(__name__)


def leave(code: int) -> NoReturn:
    """Exit at once. Threads that wait for a peer may take minutes, and Python would join them.

    What they do can be cut at any point: a download goes on from where it was, a change that was
    not committed is found again in the folder.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def exit_in_time(seconds: float, code: int) -> None:
    """Exit for good if stopping hangs: whoever sent the signal waits ten seconds."""

    def exit_now() -> None:
        time.sleep(seconds + 1.0)
        log.error("stop_took_too_long")
        with contextlib.suppress(OSError):
            faulthandler.dump_traceback()
        os._exit(code)

    threading.Thread(target=exit_now, name="stop-deadline", daemon=True).start()
