"""What the shim does to a process that runs under it, and what it leaves alone."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from faults.control import Control, Disturbance, build_shim

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR, YEAR = 3600, 365 * 86400

CHILD = """
import errno, json, os, queue, sqlite3, sys, threading, time

def timed(work):
    began = time.monotonic()
    work()
    return time.monotonic() - began

def failing(work):
    try:
        work()
    except OSError as error:
        return error.errno
    except sqlite3.OperationalError as error:
        return str(error)

def wait_for_a_queue():
    try:
        queue.Queue().get(timeout=0.2)
    except queue.Empty:
        pass

def waits():
    lock = threading.Lock()
    lock.acquire()
    condition = threading.Condition()
    with condition:
        return {
            "sleep": timed(lambda: time.sleep(0.2)),
            "event": timed(lambda: threading.Event().wait(0.2)),
            "lock": timed(lambda: lock.acquire(timeout=0.2)),
            "condition": timed(lambda: condition.wait(0.2)),
            "queue": timed(wait_for_a_queue),
        }

def write(name):
    with open(name, "wb", buffering=0) as file:
        file.write(b"x")

def insert(database):
    database.execute("CREATE TABLE IF NOT EXISTS t (a)")
    database.execute("INSERT INTO t VALUES (1)")

here, database = sys.argv[1], sqlite3.connect(sys.argv[1] + "/catalog.db", isolation_level=None)
descriptor = os.open(here + "/file", os.O_CREAT | os.O_RDWR)
for line in sys.stdin:
    found = eval(line)
    print(json.dumps(found), flush=True)
"""


class Child:
    """A Python process under the shim; it evaluates what it is asked."""

    def __init__(self, directory: Path) -> None:
        self.control = Control(directory / "control", build_shim(directory))
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(directory)],
            env=self.control.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, expression: str) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate()


@pytest.fixture
def child(tmp_path: Path, needs_faults: None) -> Iterator[Child]:
    started = Child(tmp_path)
    yield started
    started.end()


@pytest.mark.parametrize("seconds", [HOUR, -HOUR, YEAR, -YEAR])
def test_the_wall_clock_jumps_and_nothing_else(child: Child, seconds: int) -> None:
    clocks = "[time.time(), time.monotonic(), os.stat(here).st_mtime]"
    wall, monotonic, stored = child(clocks)
    child.control.disturb(Disturbance(clock_nanoseconds=seconds * 10**9))
    assert child("time.time()") - wall == pytest.approx(seconds, abs=30)
    assert child(clocks)[1] - monotonic == pytest.approx(0, abs=30)
    assert child(clocks)[2] == stored
    for kind, took in child("waits()").items():
        assert 0.19 < took < 30, kind
    assert child.control.disturbed().clocks_shifted > 0


def test_other_languages_see_the_jump_too(child: Child) -> None:
    """C, as certificates are judged by, and SQLite."""
    began = child("time.time()")
    child.control.disturb(Disturbance(clock_nanoseconds=YEAR * 10**9))
    in_c = child("__import__('ctypes').CDLL(None).time(None)")
    in_sqlite = child("""database.execute("SELECT strftime('%s', 'now')").fetchone()[0]""")
    assert in_c - began == pytest.approx(YEAR, abs=30)
    assert int(in_sqlite) - began == pytest.approx(YEAR, abs=30)


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_fsync_fails_as_often_as_told(child: Child, call: str) -> None:
    child.control.disturb(Disturbance(fsync_errno=errno.EIO, fsync_failures=2))
    found = [child(f"failing(lambda: os.{call}(descriptor))") for _ in range(3)]
    assert found == [errno.EIO, errno.EIO, None]
    assert child.control.disturbed().fsyncs_failed == 2


def test_fsync_is_slow_as_told(child: Child) -> None:
    child.control.disturb(Disturbance(fsync_microseconds=300_000))
    assert 0.3 <= child("timed(lambda: os.fsync(descriptor))") < 30
    child.control.disturb(Disturbance())
    child("timed(lambda: os.fsync(descriptor))")
    assert child.control.disturbed().fsyncs_delayed == 1


def test_a_database_commits_through_the_shim(child: Child) -> None:
    child.control.disturb(Disturbance(fsync_errno=errno.EIO, fsync_failures=100))
    assert child("failing(lambda: insert(database))") == "disk I/O error"


def test_one_place_is_full_and_no_other(child: Child) -> None:
    child("os.mkdir(here + '/raft')")
    child.control.disturb(Disturbance(full="/raft/"))
    assert child("failing(lambda: write(here + '/raft/journal'))") == errno.ENOSPC
    assert child("failing(lambda: write(here + '/other'))") is None
    assert child("failing(lambda: insert(database))") is None
    child.control.disturb(Disturbance(full="catalog.db"))
    assert child("failing(lambda: insert(database))") == "database or disk is full"
    assert child("failing(lambda: write(here + '/raft/journal'))") is None
    child.control.disturb(Disturbance())
    assert child("failing(lambda: insert(database))") is None
    assert child.control.disturbed().writes_refused >= 2


def test_after_a_loss_of_power_the_boot_of_the_machine_is_another(child: Child) -> None:
    boot = "open('/proc/sys/kernel/random/boot_id').read()"
    real = Path("/proc/sys/kernel/random/boot_id").read_text()
    found = [child(boot)]
    for _ in range(2):
        child.control.reboot()
        child.control.disturb(Disturbance())
        found += [child(boot), child(boot)]
    assert found[0] == real
    assert found[1] == found[2] != found[3] == found[4]
    assert real not in found[1:]
