"""The core's clocks: how often a leader speaks, and how long its silence is borne."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Timeouts of the core, in seconds. The defaults suit one data centre.

    A follower that has heard nothing from a leader for a time drawn between `election_min` and
    `election_max` asks for an election. Across a WAN take `heartbeat` well above the round trip and
    keep the ratios, for example 0.5, 2.5 and 5.

    Attributes:
        heartbeat: an idle leader writes to each peer this often.
        election_min: shortest silence after which a follower doubts its leader.
        election_max: longest such silence.

    Raises:
        ValueError: the three do not fit together; the text says which to change.
    """

    heartbeat: float = 0.075
    election_min: float = 0.4
    election_max: float = 0.7

    def __post_init__(self) -> None:
        if self.heartbeat <= 0:
            raise ValueError(f"heartbeat is {self.heartbeat:g} s: give a time above 0")
        if self.election_min < 3 * self.heartbeat:
            raise ValueError(
                f"election_min is {self.election_min:g} s, heartbeat {self.heartbeat:g} s: one "
                f"late heartbeat would cause an election, give at least {3 * self.heartbeat:g}"
            )
        if self.election_max < 1.5 * self.election_min:
            raise ValueError(
                f"election_max is {self.election_max:g} s with an election_min of "
                f"{self.election_min:g} s: nodes would ask for votes at the same moment again and "
                f"again, give at least {1.5 * self.election_min:g}"
            )

    @property
    def step_down(self) -> float:
        """A leader that no majority has answered for this long is one no more."""
        return 2 * self.election_min
