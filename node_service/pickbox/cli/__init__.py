"""The ``pickbox`` command: HTTP to a node; ``serve``, ``doctor`` and ``recover`` look inside.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 a precondition failed or something else
is in the way, 5 not ready, no leader or no answer in time (try again), 6 the token is missing or
wrong, 69 no node could be reached, 78 the configuration is wrong. `pickbox.cli.failures.ExitCode`
names them.
"""

import os
import signal
import sys

from pickbox.cli.app import app


def main() -> None:
    """Run the command line; always ends in `SystemExit`."""
    if os.getpid() == 1:  # of a container: the kernel drops a signal there that nobody handles
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    app(prog_name="pickbox")
