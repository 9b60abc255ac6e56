"""A place for faults: namespaces of its own, so that nothing leaks and nothing stays behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_MARK = "PICKBOX_TEST_ISOLATED"
_TOOLS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "iptables": "iptables",
    "gcc": "gcc libc6-dev",
    "fusermount3": "fuse3",
}


def missing() -> list[str]:
    """What this machine lacks for faults, each with what to do; empty if it has everything."""
    found = [
        f"{tool} is not installed: apt-get install {package}"
        for tool, package in _TOOLS.items()
        if shutil.which(tool) is None
    ]
    if os.geteuid() != 0:
        found.append("namespaces and mounts need root: run it as root")
    if not os.path.exists("/dev/fuse"):
        found.append("/dev/fuse is missing: load the kernel's module fuse")
    return found


def is_isolated() -> bool:
    """Whether this process is in the place that `isolate` makes."""
    return os.environ.get(_MARK) == "yes"


def isolate(module: str, arguments: list[str]) -> int:
    """Run a module in namespaces of its own; every process that it leaves dies with it.

    Returns:
        Its exit code.
    """
    os.makedirs("/run/netns", exist_ok=True)
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    setup = 'mount -t tmpfs tmpfs /run/netns && exec "$@"'
    command = [*unshare, "sh", "-c", setup, "sh", sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env={**os.environ, _MARK: "yes"}, check=False).returncode
