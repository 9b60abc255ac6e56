"""Which names a file may have had, when directories and files were moved."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class FormerNames:
    """Moves in their order, asked backwards."""

    def __init__(self) -> None:
        self._into: dict[bytes, dict[bytes, list[int]]] = {}
        self._count = 0

    def note(self, source: bytes, destination: bytes) -> None:
        """What was at `source`, and in it, came to `destination` after all moves noted before."""
        self._count += 1
        self._into.setdefault(destination, {}).setdefault(source, []).append(self._count)

    def of(self, path: bytes) -> set[bytes]:
        """Every name that what is at `path` may have had, with `path` itself."""
        names: set[bytes] = set()
        # The latest first: from there a name is followed back over all moves before, too.
        latest = [(-self._count - 1, path)]
        while latest:
            before, name = heapq.heappop(latest)
            if name not in names:
                names.add(name)
                for moved, source in self._sources(name, -before):
                    if source not in names:
                        heapq.heappush(latest, (-moved, source))
        return names

    def _sources(self, name: bytes, before: int) -> Iterator[tuple[int, bytes]]:
        parts = name.split(b"/")
        for depth in range(1, len(parts) + 1):
            rest = parts[depth:]
            for source, moves in self._into.get(b"/".join(parts[:depth]), {}).items():
                earlier = bisect_left(moves, before)
                if earlier:
                    yield moves[earlier - 1], b"/".join([source, *rest])
