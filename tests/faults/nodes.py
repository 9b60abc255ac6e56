"""A cluster whose nodes have a network, a volume, a disk and a clock of their own, to disturb."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

from authority import Authority
from cluster import Cluster, Node, wait_until

from faults.control import Control, Disturbance, build_shim
from faults.volumes import LossyVolume, Volume

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from faults.network import Network

PORTS = (8001, 9001, 6001, 8080)
PEER_PORTS = PORTS[:1]
"""Those through which nodes reach each other."""
PATIENCE_SECONDS = 90.0
"""That nodes may take to be ready again: five start at once where others work too."""


class IsolatedCluster(Cluster):
    """Nodes in the namespaces of a `Network`, each on a small volume in memory.

    Args:
        lossy: whether the power of the volumes can be cut.

    Attributes:
        powerless: nodes whose power was cut so far.
        dark: those of them that were not ready since: what is in their folders is nobody's word,
            and people do not use them.
        power_cuts: node -> how often its power was cut.
    """

    def __init__(self, directory: Path, network: Network, *, lossy: bool, **settings: str) -> None:
        self.directory = directory
        self.network = network
        self.settings = settings
        self.authority = Authority(directory / "tls")
        self._inflicted: Counter[str] = Counter()
        self.powerless: set[str] = set()
        self.dark: set[str] = set()
        self.power_cuts: Counter[str] = Counter()
        shim = build_shim(directory)
        self._controls = {
            node: Control(directory / f"{node}.control", shim) for node in network.addresses
        }
        make_volume = LossyVolume if lossy else Volume
        self.volumes = {
            node: make_volume(directory / "volumes" / node) for node in network.addresses
        }
        self.nodes = {node: self._node(node) for node in network.addresses}

    def _node(self, node_id: str) -> Node:
        data = self.volume(node_id) / node_id
        launcher = self.network.launcher(node_id)
        host = self.network.addresses[node_id]
        told = self._told(node_id, data)
        node = Node(node_id, data, PORTS, told, host=host, launcher=launcher)
        node.log = self.directory / f"{node_id}.log"
        return node

    def _told(self, node_id: str, data: Path) -> dict[str, str]:
        """A node's environment: all that it knows of itself and the others."""
        addresses = self.network.peer_addresses
        peers = ",".join(f"{peer}={host}:{PORTS[0]}" for peer, host in addresses.items())
        return {
            **self.environment(node_id, data, PORTS, peers, self.settings),
            **self._controls[node_id].environment(),
            "PICKBOX_HOST": self.network.addresses[node_id],
            "PICKBOX_ADMIN_TLS": "false",  # the observer asks often, and nobody else is in there
        }

    def wait_ready(
        self, nodes: Iterable[Node] | None = None, seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Wait until `nodes` (all, if not said) are ready; one that ends never will be."""
        for node in nodes or self:
            what = f"{node.node_id} is ready; its log: {node.log}"
            wait_until(lambda: node.ready() or not node.running(), what, seconds)  # noqa: B023
            assert node.running(), f"{node.node_id} has ended: {node.events()[-1]}"
            self.dark.discard(node.node_id)

    def volume(self, node_id: str) -> Path:
        """Where the volume of a node is: its data directory is on it, alone."""
        return self.volumes[node_id].path

    def kill(self, nodes: Iterable[Node]) -> None:
        """``kill -9`` of those that run."""
        for node in nodes:
            if node.running():
                node.kill()
                self._inflicted["killed"] += 1

    def pause(self, node: Node) -> None:
        """SIGSTOP."""
        node.pause()
        self._inflicted["paused"] += 1

    def cut_power(self, node_ids: Iterable[str], cut: str, seed: str) -> None:
        """Nodes end in the same moment, and their disks lose what `cut` says (`unsynced.CUTS`).

        They find themselves in another boot of their machines, by which they know.
        """
        node_ids = list(node_ids)
        self.dark.update(node_ids)
        self.kill(self[node_id] for node_id in node_ids)
        self.power_cuts.update(node_ids)  # what they said before, they said before the cut
        for node_id in node_ids:
            volume = self.volumes[node_id]
            assert isinstance(volume, LossyVolume), "make the cluster with lossy=True"
            self.powerless.add(node_id)
            self._controls[node_id].reboot()
            self._inflicted["powered_off"] += 1
            self._inflicted.update(volume.cut_power(cut, f"{seed}/{node_id}"))

    def fill_volume(self, node_id: str) -> None:
        """Take all space that is left on a node's volume."""
        self._inflicted["bytes_filled"] += self.volumes[node_id].fill()

    def disturb(self, node_id: str, disturbance: Disturbance) -> None:
        """Disturb a node's calls for its disk and its clock."""
        self._controls[node_id].disturb(disturbance)

    def undisturbed(self) -> None:
        """End what disturbs networks, disks and clocks; processes are `heal`'s."""
        self.network.heal()
        for node in self:
            self.disturb(node.node_id, Disturbance())
        for volume in self.volumes.values():
            volume.empty()
            volume.power_up()

    def effects(self) -> Counter[str]:
        """What was done to this cluster so far, as far as it can be counted."""
        found = self._inflicted + self.network.effects()
        for control in self._controls.values():
            found.update(asdict(control.disturbed()))
        return found

    def keep_volumes(self) -> None:
        """Copy what is on the volumes, catalogs and logs too, to where it outlives this process."""
        for node in self.running():
            node.kill()
        for node_id, volume in self.volumes.items():
            shutil.copytree(volume.path, self.directory / "kept" / node_id, symlinks=True)

    def remove(self) -> None:
        """Kill the nodes and take volumes and network away; the nodes' logs stay."""
        self.stop()
        for volume in self.volumes.values():
            volume.remove()
        self.network.remove()
