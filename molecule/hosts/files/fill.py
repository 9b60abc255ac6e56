"""Puts one of everything into the folder of a node: run on a host, as the user of the node."""

import os
import random
from pathlib import Path

FOLDER = Path("/var/lib/pickbox/files/kept")
MOMENT = 1_500_000_000_123_456_789
LARGE = 3_000_000
"""Bytes: above what travels in the log itself."""


def put(path: str, content: bytes, mode: int = 0o644) -> None:
    file = FOLDER / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    file.chmod(mode)
    os.utime(file, ns=(MOMENT, MOMENT + len(content)))


chosen = random.Random(4)
for number in range(60):
    put(f"docs/{number % 5}/{number}.bin", chosen.randbytes(chosen.randrange(20_000)))
put("large.bin", chosen.randbytes(LARGE))
put("none", b"")
put("run.sh", b"#!/bin/sh\n", 0o755)
put("private", b"for one alone\n", 0o600)
put("unwritable", b"nobody writes\n", 0o444)
put("Größe, \N{SNOWMAN} and 'quotes'", b"a name with everything\n")
(FOLDER / "empty/inside").mkdir(parents=True, exist_ok=True)
(FOLDER / "link").symlink_to("docs/0/0.bin")
(FOLDER / "dangling").symlink_to("../not/there")
