"""Each seed its own mix of faults, sizes and thresholds: "swarm testing" (Groce et al., 2012).

A run with every fault at once hides what a few of them do together.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from simulation.network import Weather


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed says. Rates are per step; a step is `step_seconds` long.

    Attributes:
        voters, spares: nodes of the first configuration, and others that may be added.
        mutual: both ends of a link must know each other, as with the project's transport.
        skew: how far a node's clock runs from the true one, as a share.
        cold_start: seconds within which the first nodes start.
        power: share of the crashes that are power cuts; the others are kills.
        crash, blackout: one node ends; all do, at the same moment.
        restart: a node that has ended is started again, as by a supervisor.
        pause: a node is stopped, or goes on with the time that it had looked up.
        refuse, indispose: a disk fails; a state machine's disk does.
        part, cut, hold, reset: a connection is down; one way of it loses all, or keeps all for
            later; it breaks.
        split: the nodes are divided in two, which do not reach each other.
        heal: some of what is broken is mended.
        change, wipe: the members are changed; a data directory is lost.
        transfer, snapshot: the leader hands over; a node makes a snapshot.
    """

    seed: int
    voters: int
    spares: int
    steps: int
    step_seconds: float
    weather: Weather
    mutual: bool
    skew: float
    cold_start: float
    power: float
    crash: float
    blackout: float
    restart: float
    pause: float
    refuse: float
    indispose: float
    part: float
    cut: float
    hold: float
    reset: float
    split: float
    heal: float
    write: float
    read: float
    transfer: float
    change: float
    wipe: float
    snapshot: float
    snapshot_every: int
    snapshot_padding: int
    chunk_bytes: int
    keep_trailing: int
    batch_bytes: int
    segment_bytes: int


def draw(seed: int, *, power: float | None = None, tcp: bool = False) -> Plan:
    """The plan of `seed`; `tcp` keeps links as TCP has them: in order, nothing lost or doubled."""
    rng = random.Random(f"plan {seed}")

    def perhaps(most: float) -> float:
        return rng.uniform(most / 10, most) if rng.random() < 0.5 else 0.0

    delay = rng.choice((0.0, 0.002, 0.02, 0.1))
    weather = Weather(
        delay_min=delay / 4,
        delay_max=delay,
        drop=perhaps(0.1),
        duplicate=perhaps(0.1),
        reorder=perhaps(0.2),
        linger=perhaps(0.5),
    )
    # In some seeds members come and go all the time: what that breaks takes a series of changes.
    turnover = rng.random() < 0.3
    drawn_power = rng.choice((0.0, 0.5, 1.0))
    return Plan(
        seed=seed,
        voters=rng.choice((1, 2, 3, 3, 3, 3, 4, 5, 5)),
        spares=rng.choice((0, 1, 2, 2)),
        steps=rng.choice((150, 250, 400)),
        step_seconds=rng.choice((0.01, 0.02, 0.05)),
        weather=Weather(weather.delay_min, weather.delay_max) if tcp else weather,
        mutual=rng.random() < 0.5,
        skew=rng.choice((0.0, 0.0, 0.1)),
        cold_start=rng.choice((0.0, 0.0, 0.3, 2.0)),
        power=drawn_power if power is None else power,
        crash=perhaps(0.03),
        blackout=perhaps(0.005),
        restart=rng.choice((0.0, 0.0, 0.1, 1.0)),
        pause=perhaps(0.03),
        refuse=perhaps(0.01),
        indispose=perhaps(0.01),
        part=perhaps(0.05),
        cut=perhaps(0.05),
        hold=perhaps(0.05),
        reset=perhaps(0.05),
        split=perhaps(0.02),
        heal=rng.uniform(0.02, 0.1),
        write=rng.choice((0.2, 1.0, 4.0)),
        read=rng.choice((0.0, 0.3)),
        transfer=perhaps(0.02),
        change=rng.uniform(0.1, 0.3) if turnover else perhaps(0.1),
        wipe=perhaps(0.01),
        snapshot=perhaps(0.01),
        snapshot_every=rng.randint(3, 50),
        snapshot_padding=rng.choice((0, 0, 300)),
        chunk_bytes=rng.choice((50, 1 << 18)),
        keep_trailing=rng.choice((0, 3, 20)),
        batch_bytes=rng.choice((60, 200, 1 << 16)),
        segment_bytes=rng.choice((2048, 4096, 16384)),
    )
