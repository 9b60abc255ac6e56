"""Logs: one JSON object a line on stderr.

A record of the package is a stable event name with its values in ``extra={"fields": {...}}``. What
a library says in its own words becomes the event ``library_message`` with a field ``message``.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from typing import Any, Final

LEVELS: Final = ("debug", "info", "warning", "error")
_OWN: Final = __name__.partition(".")[0]


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: ts, level, event, logger, node, then its fields.

    ``ts`` is RFC 3339 in UTC with milliseconds. A field cannot replace one of the first five: it
    is then written with an underscore before its name.
    """

    def __init__(self, node_id: str) -> None:
        super().__init__()
        self._node_id = node_id

    def format(self, record: logging.LogRecord) -> str:
        own = record.name.partition(".")[0] == _OWN
        message = record.getMessage()
        line: dict[str, Any] = {
            "ts": _timestamp(record.created),
            "level": record.levelname.lower(),
            "event": message if own else "library_message",
            "logger": record.name,
            "node": self._node_id,
        }
        fields: dict[str, Any] = {} if own else {"message": message}
        fields.update(getattr(record, "fields", {}))
        if record.exc_info:
            fields["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack_info"] = self.formatStack(record.stack_info)
        for name, value in fields.items():
            line[f"_{name}" if name in line else name] = value
        return json.dumps(line, default=_plain, ensure_ascii=False)


def configure(level: str, node_id: str) -> None:
    """Send all logs to stderr as JSON: the package's from `level` up, libraries' from warning up.

    `level` is one of `LEVELS`. A second call replaces what the first set up.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is not one of {', '.join(LEVELS)}")
    chosen = getattr(logging, level.upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(node_id))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(chosen, logging.WARNING))
    logging.getLogger(_OWN).setLevel(chosen)
    logging.captureWarnings(capture=True)


def _timestamp(seconds: float) -> str:
    moment = dt.datetime.fromtimestamp(seconds, tz=dt.UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _plain(value: object) -> object:
    """What JSON can carry of a value that it does not know."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return str(value)
