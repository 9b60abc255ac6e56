"""Links in memory, as unreliable as the seed says."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class Endpoint(Protocol):
    """The side of a link that a node has. `wanted` are its peers: id -> where to look."""

    wanted: dict[str, tuple[str, ...]]

    @property
    def address(self) -> str: ...
    def received(self, sender: str, message: Any) -> None: ...
    def connected(self, peer: str) -> None: ...
    def disconnected(self, peer: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Weather:
    """How messages fare.

    Attributes:
        delay_min, delay_max: seconds on the way.
        drop, duplicate: share of messages that are lost, and that come twice.
        reorder: share of deliveries at which those that wait are shuffled.
        linger: share of the messages of a broken connection that come later all the same.
    """

    delay_min: float = 0.0
    delay_max: float = 0.0
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    linger: float = 0.0


@dataclass(slots=True)
class Link:
    """One direction between two nodes. Cut: lost. Held: they wait until it is released."""

    queue: deque[tuple[float, Any]] = field(default_factory=deque)
    cut: bool = False
    held: bool = False


_LINGER_SECONDS = 1.0


class Network:
    """All links. Connections come and go as on TCP: what was on its way is lost with one, or late.

    Args:
        mutual: whether both ends must know each other, as with the project's own transport.
        within: enters a node: what happens in the block is that node's doing.
    """

    def __init__(
        self,
        node_ids: list[str],
        weather: Weather,
        rng: random.Random,
        *,
        mutual: bool,
        within: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self.weather = weather
        self._rng = rng
        self._mutual = mutual
        self._within = within
        self._pairs = list(combinations(node_ids, 2))
        self.links = {(a, b): Link() for a in node_ids for b in node_ids if a != b}
        self._connected: set[tuple[str, str]] = set()
        self._parted: set[tuple[str, str]] = set()
        self._untold: defaultdict[str, list[tuple[str, bool]]] = defaultdict(list)
        self.endpoints: dict[str, Endpoint] = {}
        self.paused: set[str] = set()
        self.now = 0.0

    # -- messages --------------------------------------------------------------------------------

    def send(self, sender: str, receiver: str, message: Any) -> bool:
        if _pair(sender, receiver) not in self._connected:
            return False
        link, weather, rng = self.links[sender, receiver], self.weather, self._rng
        if link.cut or (weather.drop and rng.random() < weather.drop):
            return True
        due = self.now + rng.uniform(weather.delay_min, weather.delay_max)
        link.queue.append((due, message))
        if weather.duplicate and rng.random() < weather.duplicate:
            link.queue.append((due, message))
        return True

    def deliver(self) -> None:
        """Hand over what is due, to the nodes that run."""
        waiting = [(ends, link) for ends, link in self.links.items() if link.queue]
        self._rng.shuffle(waiting)
        for (sender, receiver), link in waiting:
            if not link.held and _pair(sender, receiver) in self._connected:
                if self.weather.reorder and self._rng.random() < self.weather.reorder:
                    self._rng.shuffle(link.queue)
                self._drain(sender, receiver, link, self.now)

    def _drain(self, sender: str, receiver: str, link: Link, until: float) -> None:
        while link.queue and link.queue[0][0] <= until:
            endpoint = self.endpoints.get(receiver)
            if endpoint is None or receiver in self.paused:
                return
            message = link.queue.popleft()[1]
            with self._within(receiver):
                endpoint.received(sender, message)

    def flush(self, sender: str) -> None:
        """Hand over what `sender` said last: it outlives its sender."""
        for (one, receiver), link in self.links.items():
            if one == sender and not link.held:
                self._drain(sender, receiver, link, float("inf"))

    # -- connections -----------------------------------------------------------------------------

    def part(self, a: str, b: str) -> None:
        """Take the connection down, for both to see, until `join`."""
        self._parted.add(_pair(a, b))

    def join(self, a: str, b: str) -> None:
        self._parted.discard(_pair(a, b))

    def reset(self, a: str, b: str) -> None:
        """Take the connection down; it is up again at the next `reconcile`."""
        self._disconnect(*_pair(a, b))

    def heal(self) -> None:
        """End all faults; connections are made anew, as after each loss on TCP."""
        self._parted.clear()
        self.weather = Weather(delay_max=0.005)
        for pair in sorted(self._connected):
            self._disconnect(*pair)
        for link in self.links.values():
            link.cut = link.held = False

    def may_link(self, a: str, b: str) -> bool:
        """Whether the two find each other and want to."""
        first, second = self.endpoints.get(a), self.endpoints.get(b)
        if first is None or second is None:
            return False
        wants = b in first.wanted, a in second.wanted
        finds = second.address in first.wanted.get(b, ()), first.address in second.wanted.get(a, ())
        return any(finds) and (all(wants) if self._mutual else any(wants))

    def reconcile(self) -> None:
        """Bring connections up and down as nodes, partitions and membership want them."""
        for node_id in [n for n in self._untold if n not in self.paused]:
            for peer, up in self._untold.pop(node_id):
                self._tell(node_id, peer, up=up)
        for a, b in self._pairs:
            wanted = (a, b) not in self._parted and self.may_link(a, b)
            if wanted and (a, b) not in self._connected:
                self._connected.add((a, b))
                self._tell(a, b, up=True)
                self._tell(b, a, up=True)
            elif not wanted and (a, b) in self._connected:
                self._disconnect(a, b)

    def drop(self, node_id: str, peer: str) -> None:
        """`node_id` closes its connection to `peer`; who closes it knows by itself."""
        pair = _pair(node_id, peer)
        if pair in self._connected:
            self._break(*pair)
            self.endpoints[node_id].disconnected(peer)
            self._tell(peer, node_id, up=False)

    def _disconnect(self, a: str, b: str) -> None:
        if (a, b) in self._connected:
            self._break(a, b)
            self._tell(a, b, up=False)
            self._tell(b, a, up=False)

    def _break(self, a: str, b: str) -> None:
        self._connected.discard((a, b))
        for link in (self.links[a, b], self.links[b, a]):
            late = [m for _, m in link.queue if self._rng.random() < self.weather.linger]
            link.queue.clear()
            for message in late:
                due = self.now + self._rng.uniform(0.0, _LINGER_SECONDS)
                link.queue.append((due, message))

    def _tell(self, node_id: str, peer: str, *, up: bool) -> None:
        endpoint = self.endpoints.get(node_id)
        if endpoint is None:
            return
        if node_id in self.paused:
            self._untold[node_id].append((peer, up))
            return
        with self._within(node_id):
            (endpoint.connected if up else endpoint.disconnected)(peer)

    def leave(self, node_id: str) -> None:
        """The node's process has ended: its connections break, and it hears nothing of it."""
        self.endpoints.pop(node_id, None)
        self._untold.pop(node_id, None)
        self.paused.discard(node_id)
        for a, b in self._pairs:
            if node_id in (a, b):
                self._disconnect(a, b)


def _pair(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a < b else (b, a)
