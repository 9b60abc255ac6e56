"""Logs are lines of JSON that a program can rely on."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from pickbox.observability import configure

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("pickbox")
    handlers, levels = list(root.handlers), (root.level, own.level)
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_line_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "node7")
    fields = {"path": b"caf\xe9\n", "count": 3, "ids": {"b", "a"}, "text": "é"}
    logging.getLogger("pickbox.somewhere").info("file_placed", extra={"fields": fields})
    (line,) = lines(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("ts"))
    assert line == {
        "level": "info",
        "event": "file_placed",
        "logger": "pickbox.somewhere",
        "node": "node7",
        "path": "caf\\xe9\n",
        "count": 3,
        "ids": ["a", "b"],
        "text": "é",
    }


def test_a_field_cannot_pose_as_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "node1")
    logging.getLogger("pickbox").warning("odd", extra={"fields": {"level": "none", "ts": 1}})
    (line,) = lines(capsys)
    assert (line["level"], line["_level"], line["_ts"]) == ("warning", "none", 1)


def test_an_exception_is_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "node1")
    try:
        int("why")
    except ValueError:
        logging.getLogger("pickbox").exception("failed")
    (line,) = lines(capsys)
    assert line["exc_info"].splitlines()[-1].startswith("ValueError: invalid literal")


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_the_level_is_a_threshold(
    capsys: pytest.CaptureFixture[str], level: str, shown: int
) -> None:
    configure(level, "node1")
    log = logging.getLogger("pickbox.x")
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("said")
    assert len(lines(capsys)) == shown


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="debug, info, warning, error"):
        configure("loud", "node1")


@pytest.mark.parametrize("library", ["cheroot", "watchdog.observers", "pysyncobj.syncobj"])
def test_libraries_are_heard_from_warning_up(
    capsys: pytest.CaptureFixture[str], library: str
) -> None:
    configure("debug", "node1")
    logging.getLogger(library).info("chatter")
    logging.getLogger(library).warning("trouble in %s", "paradise")
    (line,) = lines(capsys)
    assert (line["event"], line["message"]) == ("library_message", "trouble in paradise")


def test_warnings_of_python_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "node1")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    (line,) = lines(capsys)
    assert "old ways" in line["message"]


def test_configuring_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "node1")
    configure("info", "node2")
    logging.getLogger("pickbox").info("said")
    (line,) = lines(capsys)
    assert line["node"] == "node2"


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    code = (
        "import logging, os; from pickbox.observability import configure; os.close(2);"
        "configure('info', 'node1'); logging.getLogger('pickbox').info('x'); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "alive\n"
