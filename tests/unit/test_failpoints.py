"""Failpoints: what can be asked for, what happens at one, and that unset they are nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from authority import NO_FILES, tls_settings
from cli_run import environment, pickbox_command

from pickbox import failpoints
from pickbox.failpoints import EXIT_CODE, NAMES, Action, FailpointsError, parse

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "failpoints.md"
SETTINGS = {
    "PICKBOX_NODE_ID": "node1",
    "PICKBOX_PEERS": "node1=127.0.0.1:8001",
    **{f"PICKBOX_{name.upper()}": str(file) for name, file in tls_settings(NO_FILES).items()},
    "PICKBOX_ADMIN_TOKEN": "a-token-for-tests-only",
}


def test_actions_are_read_with_their_arguments_and_hits() -> None:
    asked = "append_before_sync=exit@3; commit_before_apply=sleep(0.2);apply_mid=error;"
    assert parse(asked + "scan_mid=error(ENOSPC)@12") == {
        "append_before_sync": Action("exit", hit=3),
        "commit_before_apply": Action("sleep", 0.2),
        "apply_mid": Action("error", errno.EIO),
        "scan_mid": Action("error", errno.ENOSPC, 12),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere=exit", "'nowhere' is not a failpoint; there are ack_before_send, append_"),
        ("exit", "'exit' is not a failpoint"),
        ("apply_mid", "apply_mid: found ''; allowed are exit, sleep(SECONDS), error and error(ERR"),
        ("apply_mid=explode", "apply_mid: found 'explode'; allowed are exit"),
        ("apply_mid=exit(3)", "found 'exit(3)'"),
        ("apply_mid=exit@0", "found 'exit@0'"),
        ("apply_mid=sleep", "found 'sleep'"),
        ("apply_mid=sleep(long)", "found 'sleep(long)'"),
        ("apply_mid=error(EVIL)", "found 'error(EVIL)'"),
        ("apply_mid=error(errorcode)", "found 'error(errorcode)'"),
        ("apply_mid=exit;apply_mid=error", "apply_mid is given twice"),
    ],
)
def test_what_is_not_allowed_is_said_with_what_is(text: str, said: str) -> None:
    with pytest.raises(FailpointsError, match=re.escape(said)):
        parse(text)


def test_a_node_does_not_start_with_a_wrong_failpoint(tmp_path: Path) -> None:
    variables = {**SETTINGS, "PICKBOX_DATA_DIR": str(tmp_path / "data")}
    ran = pickbox_command("serve", env={**variables, "PICKBOX_FAILPOINTS": "apply=exit"})
    assert ran.code == 78
    assert ran.stderr.startswith("PICKBOX_FAILPOINTS: 'apply' is not a failpoint; there are ack_")
    assert not (tmp_path / "data").exists()


def run(program: str, asked: str | None) -> subprocess.CompletedProcess[str]:
    """Run `program` with `asked` in its environment and JSON logs on stderr."""
    prelude = (
        "from pickbox.failpoints import arm, failpoint\n"
        "from pickbox.observability.logs import configure\n"
        "configure('info', 'node1')\n"
    )
    variables = environment() | ({} if asked is None else {"PICKBOX_FAILPOINTS": asked})
    command = [sys.executable, "-c", prelude + program]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def events(ran: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.stderr.splitlines()]


def test_exit_ends_the_process_at_the_hit_that_was_asked_for() -> None:
    program = "arm()\nfor number in (1, 2, 3): print(number, flush=True); failpoint('apply_mid')"
    ran = run(program, "apply_mid=exit@2")
    assert (ran.returncode, ran.stdout) == (EXIT_CODE, "1\n2\n")
    armed, hit = events(ran)
    assert (armed["event"], armed["level"]) == ("failpoints_armed", "critical")
    assert armed["failpoints"] == "apply_mid=exit@2"
    assert (hit["event"], hit["failpoint"], hit["hit"]) == ("failpoint_hit", "apply_mid", 2)


def test_an_error_is_the_disks_at_each_hit() -> None:
    program = (
        "arm()\n"
        "for _ in range(2):\n"
        "    try: failpoint('apply_mid')\n"
        "    except OSError as error: print(error.errno, error)\n"
    )
    ran = run(program, "apply_mid=error(ENOSPC)")
    said = f"{errno.ENOSPC} [Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)} "
    assert ran.stdout == (said + "(failpoint apply_mid)\n") * 2
    assert [event.get("hit") for event in events(ran)] == [None, 1, 2]


def test_a_sleep_takes_its_time() -> None:
    program = "import time\narm()\nbegan = time.monotonic()\nfailpoint('apply_mid')\n"
    ran = run(program + "print(time.monotonic() - began)", "apply_mid=sleep(0.2)")
    assert float(ran.stdout) >= 0.2


def test_other_places_go_on() -> None:
    ran = run("arm()\nfailpoint('scan_mid')\nprint('on')", "apply_mid=exit")
    assert (ran.returncode, ran.stdout) == (0, "on\n")


@pytest.mark.parametrize("unset", [None, ""])
def test_unset_it_is_an_empty_function_that_nothing_can_arm(unset: str | None) -> None:
    program = (
        "import os\n"
        "def empty(name): '''Nothing.'''\n"
        "assert failpoint.__code__.co_code == empty.__code__.co_code\n"
        "os.environ['PICKBOX_FAILPOINTS'] = 'apply_mid=exit'\n"
        "arm()\n"
        "failpoint('apply_mid')\n"
        "print('on')"
    )
    ran = run(program, unset)
    assert (ran.returncode, ran.stdout) == (0, "on\n"), ran.stderr


def test_the_reference_lists_every_failpoint() -> None:
    described = re.findall(r"^\| `([a-z_]+)` \| [a-z]", REFERENCE.read_text(), re.MULTILINE)
    assert sorted(described) == sorted([*NAMES, "exit"])


def test_every_failpoint_is_one_place_of_the_package() -> None:
    sources = [path.read_text() for path in Path(failpoints.__file__).parent.rglob("*.py")]
    called = re.findall(r"\bfailpoint\(\"(\w+)\"\)", "\n".join(sources))
    assert sorted(set(called)) == sorted(NAMES)
    assert len(called) == len(NAMES) + 1  # and the example in the module's own words
