"""A network of namespaces: one for each node, on a bridge, with what does not get through.

Only for a process that has a network and a mount namespace of its own (see `faults.isolation`):
nothing of this is seen outside, and the kernel removes it all when that process ends.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from typing import TYPE_CHECKING

from faults.proxy import DISTURBED, PERFECT, Proxies

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BRIDGE = "pickbox0"


class Network:
    """Namespaces, by node id; this process is on the bridge and reaches all of them, always.

    Args:
        ports: through which nodes reach each other.
        proxied: whether links go through this process, which can then disturb them one by one.

    Attributes:
        addresses: node -> where it listens.
        peer_addresses: node -> where the others find it. The same on all nodes: nodes tell each
            other addresses.
    """

    def __init__(self, nodes: Sequence[str], ports: Iterable[int], *, proxied: bool) -> None:
        numbers = list(enumerate(nodes, start=1))
        self.addresses = {node: f"10.77.0.{number}" for number, node in numbers}
        self.peer_addresses = self.addresses
        self._dropped = 0
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "address", "add", "10.77.0.254/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        for node, address in self.addresses.items():
            _run("ip", "netns", "add", node)
            inside = ("peer", "name", "eth0", "netns", node)
            _run("ip", "link", "add", f"v-{node}", "type", "veth", *inside)
            _run("ip", "link", "set", f"v-{node}", "master", BRIDGE, "up")
            self._in(node, "ip", "link", "set", "lo", "up")
            self._in(node, "ip", "address", "add", f"{address}/24", "dev", "eth0")
            self._in(node, "ip", "link", "set", "eth0", "up")
        self._proxies: Proxies | None = None
        if proxied:
            self.peer_addresses = {node: f"127.1.0.{number}" for number, node in numbers}
            namespaces = {node: f"/run/netns/{node}" for node in nodes}
            self._proxies = Proxies(namespaces, self.addresses, self.peer_addresses, ports)
            self._proxies.start()

    @property
    def links(self) -> Proxies:
        """The proxies between nodes.

        Raises:
            RuntimeError: this network was made without.
        """
        if self._proxies is None:
            raise RuntimeError("links are not proxied: make the network with proxied=True")
        return self._proxies

    @staticmethod
    def launcher(node: str) -> tuple[str, ...]:
        """The command in front of another that makes it run on `node`'s network."""
        return ("nsenter", f"--net=/run/netns/{node}")

    def cut(self, source: str, target: str) -> None:
        """Let nothing that `source` sends reach `target`; the other way stays open."""
        self._in(target, *_RULE, self.addresses[source], "-j", "DROP")

    def separate(self, some: Iterable[str], others: Iterable[str]) -> None:
        """Let nothing through between any of `some` and any of `others`."""
        others = list(others)
        for one in some:
            for other in others:
                self.cut(one, other)
                self.cut(other, one)

    def lose(self, share: float) -> None:
        """Lose `share` of the packets between nodes at random; TCP sends them again."""
        chance = ("-m", "statistic", "--mode", "random", "--probability", str(share))
        for target in self.addresses:
            for source in self.addresses:
                if source != target:
                    self._in(target, *_RULE, self.addresses[source], *chance, "-j", "DROP")

    def heal(self) -> None:
        """Let everything through."""
        self._dropped += self._dropped_now()
        for node in self.addresses:
            self._in(node, "iptables", "--wait", "-F", "INPUT")
        for link in self._proxies.all() if self._proxies else ():
            link.conditions = PERFECT

    def effects(self) -> Counter[str]:
        """What did not get through so far, and what was done to what goes through the links."""
        found = Counter({"packets_dropped": self._dropped + self._dropped_now()})
        for name, count in self._proxies.done().items() if self._proxies else ():
            if name in DISTURBED:
                found[f"links_{name}"] = count
        return found

    def remove(self) -> None:
        """Take the namespaces and the bridge away, for another network in the same process."""
        if self._proxies:
            self._proxies.stop()
        for node in self.addresses:
            _run("ip", "netns", "delete", node)
        _run("ip", "link", "delete", BRIDGE)

    def _dropped_now(self) -> int:
        rules = "".join(
            self._in(node, "iptables", "--wait", "-nvxL", "INPUT") for node in self.addresses
        )
        columns = (line.split() for line in rules.splitlines())
        return sum(int(column[0]) for column in columns if len(column) > 2 and column[2] == "DROP")

    def _in(self, node: str, *command: str) -> str:
        return _run(*self.launcher(node), *command)


_RULE = ("iptables", "--wait", "-A", "INPUT", "-s")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
