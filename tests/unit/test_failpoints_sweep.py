"""A sweep of the staging directory, ended at its failpoints: what is needed stays."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cli_run import environment

from pickbox.failpoints import EXIT_CODE
from pickbox.storage.digest import digest_bytes
from pickbox.storage.staging import Staging

if TYPE_CHECKING:
    from pathlib import Path

OF_A_SWEEP = ("sweep_before_delete", "sweep_after_delete")

SWEEP = """
import sys
from pickbox import failpoints
from pickbox.storage.staging import Staging
failpoints.arm()
needed = bytes.fromhex(sys.argv[2])
print(Staging(sys.argv[1].encode()).sweep(0.0, lambda digest: digest == needed))
"""


@pytest.mark.parametrize("name", OF_A_SWEEP)
def test_a_sweep_that_was_cut_short_is_finished_by_the_next(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "staging"
    staging = Staging(bytes(directory))
    contents = [b"needed", b"one", b"two", b"three"]
    for content in contents:
        staging.put(digest_bytes(content), content)
    needed = digest_bytes(b"needed")

    def sweep(asked: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", SWEEP, str(directory), needed.hex()]
        variables = {**environment(), "PICKBOX_FAILPOINTS": asked}
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    ended = sweep(f"{name}=exit@2")
    assert ended.returncode == EXIT_CODE, ended.stderr
    assert len(list(directory.iterdir())) == (3 if name == "sweep_before_delete" else 2)
    assert sweep("").returncode == 0
    assert [path.name for path in directory.iterdir()] == [needed.hex()]
