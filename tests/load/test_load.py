"""The load generator finds every fault that it is there to find, and no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from load.faulty_server import Store, serving
from load.record import Answer, Record, longest_gap, read, summary
from load.run import Load, main, parse, run

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS = 60.0
ENOUGH = 300
FAULTS = {
    "answers 503": "503 instead of 200 or 404: no leader",
    "answers 404": "404 instead of 200 or 201 or 204",
    "ends connections": "BadStatusLine",
    "is silent": "TimeoutError",
    "cuts the answer off": "IncompleteRead",
    "loses writes": "was acknowledged",
    "loses deletes": "(nothing) was acknowledged",
    "ignores conditions": "200 instead of 412",
    "reads what was replaced": "was acknowledged",
    "flips a bit": "wrong content",
    "mixes up files": "wrong content: content of",
    "makes up content": "found write 1000000",
}
"""What the server does wrong -> what the summary says of it."""


def options(url: str, *more: str) -> Any:
    return parse(["--url", url, "--seconds=60", "--rate=2000", *more])


def drive(load: Load, enough: Callable[[], bool]) -> dict[str, Any]:
    """Load until that is enough; the summary of it."""
    thread, began = threading.Thread(target=load.run), time.monotonic()
    thread.start()
    while not enough() and time.monotonic() < began + PATIENCE_SECONDS:
        time.sleep(0.01)
    load.stop.set()
    thread.join()
    assert enough()
    return summary(load.record.answers, began, time.monotonic())


def many_answers(load: Load) -> dict[str, Any]:
    return drive(load, lambda: len(load.record.answers) >= ENOUGH)


def test_a_server_without_fault_has_no_failed_request() -> None:
    with serving() as (url, _):
        load = Load(options(url, "--seed=1"), Record())
        answers = load.record.answers
        result = drive(
            load, lambda: len(answers) >= ENOUGH and len({one.operation for one in answers}) == 8
        )
        assert load.missing() == []
    assert (result["failed"], result["failures"]) == (0, [])
    assert set(result["by_operation"]) == {
        *("put", "put-if-match", "put-if-none", "put-if-outdated"),
        *("delete", "delete-if-match", "get-local", "get-linearizable"),
    }


@pytest.mark.parametrize(("fault", "words"), FAULTS.items())
def test_a_fault_is_found_and_named(fault: str, words: str) -> None:
    with serving(fault) as (url, store):
        load = Load(options(url, *(["--timeout=0.2"] if fault == "is silent" else [])), Record())
        result = drive(
            load, lambda: any(words in f"{one.status} {one.error}" for one in load.record.answers)
        )
    assert store.shown > 0
    assert result["failed"] > 0


def test_a_local_read_may_be_old() -> None:
    with serving("reads what was replaced, locally") as (url, store):
        load = Load(options(url), Record())
        result = drive(load, lambda: store.shown >= 3)
    assert result["failures"] == []


def test_a_kept_connection_that_ended_is_no_failure_but_counted() -> None:
    with serving("ends kept connections") as (url, store):
        store.every = 1
        result = many_answers(Load(options(url), Record()))
    assert result["failures"] == []
    assert result["resent"] > 0


def test_a_new_connection_that_ends_without_an_answer_is_a_failure() -> None:
    with serving("ends connections") as (url, store):
        store.every = 1
        result = many_answers(Load(options(url), Record()))
    assert result["failed"] == result["requests"] >= ENOUGH


def test_an_acknowledged_write_that_vanished_is_missing_at_the_end() -> None:
    with serving() as (url, store):
        load = Load(options(url), Record())
        many_answers(load)
        assert load.missing() == []
        vanished = vanish(store)
        assert load.missing() == [vanished]
        assert load.expected()[vanished] is not None


def vanish(store: Store) -> str:
    path = next(iter(store.files))
    del store.files[path]
    return path


def test_what_is_expected_at_the_end_is_what_the_server_has() -> None:
    with serving() as (url, store):
        load = Load(options(url), Record())
        many_answers(load)
        digests = {path: sha256(body).hexdigest() for path, (body, _) in store.files.items()}
    assert digests
    assert {path: known for path, known in load.expected().items() if known} == digests


def answer(ended: float, method: str = "PUT", status: int = 200, error: str = "") -> Answer:
    return Answer(ended + 1000, ended - 0.25, 0.25, "put", method, "a", status, error)


def test_the_longest_gap_counts_what_is_before_the_first_write_and_after_the_last() -> None:
    assert longest_gap([3.0, 1.0], 0.0, 3.5) == 2.0
    assert longest_gap([2.5], 0.0, 3.0) == 2.5
    assert longest_gap([0.5], 0.0, 3.0) == 2.5
    assert longest_gap([], 0.0, 3.0) == 3.0


def test_only_a_write_that_was_done_ends_a_gap() -> None:
    refused, failed, reading = answer(2, status=412), answer(3, error="no"), answer(4, "GET")
    result = summary([answer(1), refused, failed, reading, answer(6)], 0, 6)
    assert result["longest_write_gap_s"] == 5
    assert (result["requests"], result["failed"], result["writes"]) == (5, 1, 2)


def test_what_was_answered_outside_of_the_time_is_not_counted() -> None:
    assert summary([answer(1), answer(2), answer(3)], 1.5, 2.5)["requests"] == 1


def start(url: str, directory: Path, *more: str) -> subprocess.Popen[str]:
    """The generator as a process, once it has had answers."""
    record = directory / "record.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "load.run", "--url", url, "--record", str(record), *more],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (record.exists() and record.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_it_ends_when_the_file_appears_and_records_every_answer(tmp_path: Path) -> None:
    stop, steps, expected = tmp_path / "stop", tmp_path / "steps", tmp_path / "expected"
    files = ["--until-file", str(stop), "--steps", str(steps), "--expected", str(expected)]
    began = time.time()
    with serving() as (url, _):
        process = start(url, tmp_path, *files)
        steps.write_text(json.dumps({"step": "one", "began": began, "ended": time.time()}) + "\n")
        stop.touch()
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    result = json.loads(output)
    answers = read((tmp_path / "record.jsonl").read_text().splitlines())
    assert sum(one.operation != "get-at-the-end" for one in answers) == result["requests"]
    assert 0 < result["steps"]["one"]["requests"] <= result["requests"]
    assert json.loads(expected.read_text())


def test_it_ends_at_sigterm(tmp_path: Path) -> None:
    with serving() as (url, _):
        process = start(url, tmp_path, "--seconds=600")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(output)["failed"] == 0


@pytest.mark.parametrize(("fault", "status"), [("", 0), ("answers 503", 1)])
def test_it_exits_with_1_if_any_request_failed(fault: str, status: int) -> None:
    with serving(fault) as (url, _):
        assert main(["--url", url, "--seconds=3"]) == status


def test_it_exits_with_1_if_nothing_was_written() -> None:
    with serving() as (url, _):
        assert main(["--url", url, "--seconds=0", "--rate=0.001"]) == 1


def test_a_worker_that_breaks_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("load.workers.Reader.act", breaks)
    with serving() as (url, _), pytest.raises(RuntimeError, match="broken"):
        run(options(url))
