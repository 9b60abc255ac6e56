"""Wall clocks that jump, each node's elsewhere, while time goes on as ever.

The times of files are the kernel's: they do not jump.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from faults.control import Disturbance

if TYPE_CHECKING:
    from faults.nemesis import Nemesis

_SECOND: Final = 10**9
_HOUR: Final = 3600 * _SECOND
_YEAR: Final = 365 * 24 * _HOUR
JUMPS: Final = (_SECOND, -_SECOND, _HOUR, -_HOUR, _YEAR, -_YEAR)


def clock_jumps(nemesis: Nemesis) -> None:
    """Several times, and one node starts at another time than it ended."""
    for _ in range(nemesis.rng.randint(2, 4)):
        for node in nemesis.ids:
            jump = nemesis.rng.choice(JUMPS)
            nemesis.cluster.disturb(node, Disturbance(clock_nanoseconds=jump))
        nemesis.last(1.0, 2.5)
    nemesis.cluster.kill([nemesis.anybody()])
    nemesis.cluster.heal()
    nemesis.last(1.0, 2.5)


ALL = (clock_jumps,)
