"""What a newcomer meets first says what is missing, and what guards the tests can fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path.cwd()


def put_command(directory: Path, name: str, script: str) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def run_pytest(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ("-m", "pytest", "-p", "nothing_left", "-p", "no:cacheprovider", *options)
    return run(sys.executable, *command, str(directory), PYTHONPATH=str(ROOT / "tests"))


def test_a_python_without_venv_is_told_with_the_way_to_get_it(tmp_path: Path) -> None:
    python = put_command(tmp_path, "python", 'case "$2" in *ensurepip*) exit 1;; esac')
    done = run("tools/venv", str(tmp_path / "venv"), "deploy", PYTHON=str(python))
    assert done.returncode == 1
    assert done.stderr == (
        f"Pickbox: Python's venv module is missing for {python}; "
        "get it with: apt-get install python3-venv\n"
    )
    assert not (tmp_path / "venv").exists()


def test_a_python_that_is_too_old_is_told(tmp_path: Path) -> None:
    python = put_command(tmp_path, "python", '[ "$1" = -V ] && echo Python 3.9.2 || exit 1')
    done = run("tools/venv", str(tmp_path / "venv"), "deploy", PYTHON=str(python))
    assert done.returncode == 1
    assert f"3.11 or newer is needed and {python} is Python 3.9.2" in done.stderr


def test_no_python_is_told(tmp_path: Path) -> None:
    done = run("tools/venv", str(tmp_path / "venv"), "deploy", PYTHON=str(tmp_path / "none"))
    assert done.returncode == 1
    assert "none is missing; get it with: apt-get install python3 python3-venv" in done.stderr


def test_programs_that_the_tests_need_are_told_before_anything_is_tested(tmp_path: Path) -> None:
    for name in ("bash", "dirname", "sort", "chromium", "haproxy", "ssh", "docker"):
        put_command(tmp_path, name, f'exec {shutil.which(name) or "false"} "$@"')
    script = (ROOT / "tools/test").read_text().replace(":/usr/sbin:/sbin", "")
    copy = put_command(tmp_path, "test", "")
    copy.write_text(script)
    done = run(str(tmp_path / "bash"), str(copy), PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.endswith(
        "get them with: apt-get install debootstrap docker-compose nginx prometheus "
        "prometheus-alertmanager restic rsyslog\n"
    )


def test_a_run_goes_on_after_a_failure_and_ends_with_what_failed(tmp_path: Path) -> None:
    for directory in ("tools", "bin", "molecule/default"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "molecule/default/molecule.yml").touch()
    shutil.copy(ROOT / "tools/test", tmp_path / "tools/test")
    put_command(tmp_path / "tools", "lint", "echo all good")
    put_command(tmp_path / "tools", "molecule", "seq 100; echo the scenario broke; exit 3")
    put_command(
        tmp_path / "bin",
        "python",
        "echo 'E   assert 1 == 2'; echo more; echo 'FAILED tests/test_it.py::test_it'; exit 1",
    )
    done = run(str(tmp_path / "tools/test"), PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert done.returncode == 1
    end = re.sub(" +[0-9]+ s ", " 0 s ", done.stdout.partition("==== what failed")[2]).splitlines()
    assert end[:3] == [
        ": artifacts/logs/pytest.log",
        "E   assert 1 == 2",
        "FAILED tests/test_it.py::test_it",
    ]
    assert end[-5:] == [
        "the scenario broke",
        "==== summary",
        "lint 0 s  passed",
        "pytest 0 s  FAILED (exit 1), artifacts/logs/pytest.log",
        "molecule default 0 s  FAILED (exit 3), artifacts/logs/molecule-default.log",
    ]


def test_the_help_lists_every_target() -> None:
    phony = next(
        line for line in (ROOT / "Makefile").read_text().splitlines() if ".PHONY" in line
    ).split()[1:]
    shown = run("make", "help").stdout
    for target in phony:
        assert f"make {target} " in shown


GOOD = "INFO [default > verify] Executed: Successful\n===== 12 passed in 1.00s ====="


@pytest.mark.parametrize(
    ("output", "code", "expected"),
    [
        (GOOD, 0, 0),
        (GOOD, 1, 1),
        (GOOD + "\nside_effect: Executed: Missing playbook", 0, 1),
        ("INFO Skipping, no tests found.", 0, 1),
        ("INFO Executed: Successful", 0, 1),
        ("===== 12 passed, 1 skipped in 1.00s =====", 0, 1),
    ],
    ids=["all ran", "failed", "no playbook", "no tests found", "no tests", "a test was skipped"],
)
def test_a_scenario_passes_only_when_all_of_it_ran(
    tmp_path: Path, output: str, code: int, expected: int
) -> None:
    put_command(tmp_path, "molecule", f"cat <<'END'\n{output}\nEND\nexit {code}")
    done = run("tools/molecule", "default", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == expected, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("mark", "code"),
    [("skip", 1), ("xfail", 1), ("timeout(60)", 0)],
    ids=["skipped", "expected to fail", "run"],
)
def test_as_root_a_run_passes_only_when_nothing_was_left_out(
    tmp_path: Path, mark: str, code: int
) -> None:
    (tmp_path / "test_some.py").write_text(
        f"import pytest\n\n\n@pytest.mark.{mark}\ndef test_it() -> None:\n    pass\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == (code if os.geteuid() == 0 else 0), done.stdout
    assert ("test_some.py::test_it" in done.stdout) == (done.returncode == 1)


def test_a_thread_that_runs_on_fails_its_module_and_the_run_still_ends(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import nothing_left\n"
        "nothing_left._GRACE, nothing_left._LONGEST_EXIT = 0.1, 0.1\n"
        "from nothing_left import *\n"
    )
    (tmp_path / "test_some.py").write_text(
        "import threading\n\n\n"
        "def test_it() -> None:\n"
        "    threading.Thread(target=threading.Event().wait, name='leftover').start()\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 1
    assert "threads run on: leftover" in done.stdout
    assert "Timeout (0:00:00.100000)!" in done.stderr, "the interpreter ended by itself"


def test_a_thread_that_dies_fails_its_test(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        "import threading\n\n\n"
        "def test_it() -> None:\n"
        "    thread = threading.Thread(target=[].pop, name='writer')\n"
        "    thread.start()\n"
        "    thread.join()\n"
    )
    done = run_pytest(tmp_path, "-c", str(ROOT / "pyproject.toml"))
    assert done.returncode == 1
    assert "Exception in thread writer" in done.stdout


def test_a_commit_passes_the_linters_of_make_lint() -> None:
    checks = re.findall(r"^check (\S+)", (ROOT / "tools/lint").read_text(), re.MULTILINE)
    hooks = re.findall(r"entry: \.venv/bin/(\S+)", (ROOT / ".pre-commit-config.yaml").read_text())
    assert checks == hooks
