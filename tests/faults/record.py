"""What the clients of one episode did and saw."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from faults.history import History

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Edit:
    """What a person did to one name in a node's folder.

    Attributes:
        token: what is there since; None if it was removed.
        parent: what exactly was there before, and is no more; None if nothing was.
        at: monotonic seconds.
        sure: whether it certainly happened, and is on the disk. Else the power went meanwhile.
    """

    node_id: str
    path: str
    token: str | None
    parent: str | None = None
    sure: bool = True
    at: float = field(default_factory=time.monotonic)


@dataclass
class Record:
    """Filled by clients on many threads.

    Attributes:
        wrong: what is wrong at sight: damaged content, an answer that must not be.
        issued: the tokens of all contents that were ever written.
        powerless: nodes whose power was cut: they need not remember what people did last.
    """

    history: History = field(default_factory=History)
    edits: list[Edit] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    issued: set[str] = field(default_factory=set)
    powerless: set[str] = field(default_factory=set)

    def write(self, directory: Path) -> None:
        """Keep operations and edits there, each a JSON object a line."""
        for name, items in (("history", self.history.operations()), ("edits", self.edits)):
            lines = (f"{json.dumps(asdict(item))}\n" for item in items)
            (directory / f"{name}.jsonl").write_text("".join(lines))
