"""Which tests a worker of pytest-xdist gets together, to run one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer

_ON_INTERFACES = ("tests/browser/", "tests/faults/")


class ByModule(LoadFileScheduling):
    """A module each, since its tests share a cluster; and all that watch or change interfaces.

    A browser gives up what it loads when an interface of the machine comes or goes
    (``ERR_NETWORK_CHANGED``), as they do where tests divide a network.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_ON_INTERFACES):
            return "interfaces"
        scope: str = super()._split_scope(nodeid)
        return scope


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByModule:
    """See `ByModule`, in the place of ``--dist loadfile``."""
    return ByModule(config, log)
