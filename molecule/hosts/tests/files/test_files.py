"""When the load has ended, every file that it was told is there is on every node, and no other."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

testinfra_hosts = ["ansible://pickbox?ansible_inventory=" + os.environ["PICKBOX_TEST_INVENTORY"]]

EXPECTED = Path(os.environ["PICKBOX_TEST_STATE"], "load-expected.json")
FOLDER = "/var/lib/pickbox/files"
ARRIVAL_SECONDS = 60.0


def digests(host: Any) -> dict[str, str]:
    """Path -> SHA-256 of every file of the load that is on the host."""
    with host.sudo():
        said = host.check_output(f"cd {FOLDER} && find load -type f -exec sha256sum {{}} +")
    return {path: digest for digest, path in (line.split("  ", 1) for line in said.splitlines())}


def test_every_acknowledged_file_is_on_every_node_and_no_other(host: Any) -> None:
    known = json.loads(EXPECTED.read_text())
    expected = {path: digest for path, digest in known.items() if digest}
    assert len(expected) > 10
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while (found := digests(host)) != expected and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found == expected
