"""The ``pickbox`` command: HTTP to a node; ``serve``, ``doctor`` and ``recover`` look inside.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 a precondition failed or something else
is in the way, 5 not ready, no leader or no answer in time (try again), 6 the token is missing or
wrong, 69 no node could be reached, 78 the configuration is wrong. `pickbox.cli.failures.ExitCode`
names them.
"""

import os
import signal
import sys


def main() -> None:
    """Run the command line; always ends in `SystemExit`."""
    if os.getpid() == 1:  # of a container: the kernel drops a signal there that nobody handles
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if sys.argv[1:] == ["doctor", "--probe"] and (config := os.environ.get("PICKBOX_CONFIG")):
        from pickbox.cli.probe import node_is_ready  # noqa: PLC0415 - see there

        sys.exit(0 if node_is_ready(config) else 1)
    from pickbox.cli.app import app  # noqa: PLC0415 - takes ten times as long as the probe

    app(prog_name="pickbox")
