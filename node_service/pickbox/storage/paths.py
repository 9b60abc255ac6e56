"""Which paths are allowed in the folder, and how a path is shown.

Paths are bytes, relative to the folder, joined by ``/``. A path that breaks a rule is refused,
never cleaned: what a client sent and what the disk has are then always the same bytes. The same
check runs at the HTTP edge and again when a log entry is applied.
"""

from __future__ import annotations

import base64
import re
from typing import Final, NoReturn
from urllib.parse import unquote_to_bytes

from pickbox.errors import InvalidPath

NAME_BYTES: Final = 255
"""Longest name of one component, in bytes (NAME_MAX of Linux file systems)."""

PATH_BYTES: Final = 4096
"""Longest path, in bytes (PATH_MAX of Linux)."""

RESERVED_NAME: Final = b".pickbox"
"""First component of what belongs to Pickbox itself: the folder's marker and lock."""

TEMPORARY_PREFIX: Final = b".pickbox-tmp-"
"""How names of Pickbox's own temporary files begin, wherever in the folder they are."""

_DRIVE = re.compile(rb"[A-Za-z]:[/\\]")
_OVERLONG = re.compile(rb"\xc0[\xae\xaf]")
_SEPARATORS = re.compile(rb"[/\\]")
_SUSPECT = re.compile(rb"[\\%\xc0]")
_DOTS: Final = frozenset((b".", b".."))


def check_path(path: bytes) -> None:
    """Accept `path` or say which rule it breaks.

    Names that only other systems or a second decoding would read as ``..`` are refused too, so
    that no client, proxy or backup tool is led out of the folder by a name that is kept here.

    Raises:
        InvalidPath: with the rule's stable name: ``empty``, ``nul``, ``absolute``,
            ``path-too-long``, ``drive-letter``, ``overlong-utf8``, ``empty-component``,
            ``dot-component``, ``parent-reference``, ``name-too-long`` or ``reserved``.
    """
    if not path:
        _refuse("empty", path, "is empty; it needs at least one name")
    if b"\0" in path:
        _refuse("nul", path, "holds a NUL byte, which no file name can")
    if path.startswith(b"/"):
        _refuse("absolute", path, "starts with '/'; paths are relative to the folder")
    if len(path) > PATH_BYTES:
        _refuse("path-too-long", path, f"has {len(path)} bytes; allowed are {PATH_BYTES}")
    if _DRIVE.match(path):
        _refuse("drive-letter", path, "starts with a drive letter; paths are relative")
    if _SUSPECT.search(path):
        _check_other_readings(path)
    components = path.split(b"/")
    for component in components:
        _check_component(path, component)
    if components[0] == RESERVED_NAME:
        _refuse("reserved", path, f"is in {RESERVED_NAME.decode()}, which Pickbox keeps for itself")


def display(path: bytes) -> str:
    r"""`path` as text for logs and messages; bytes that are not UTF-8 show as ``\xNN``."""
    return path.decode("utf-8", "backslashreplace")


def to_json(path: bytes) -> dict[str, str]:
    """`path` for JSON: ``path`` as text and, only when that loses bytes, ``path_b64`` (base64)."""
    try:
        return {"path": path.decode("utf-8")}
    except UnicodeDecodeError:
        return {"path": display(path), "path_b64": base64.b64encode(path).decode("ascii")}


def _check_component(path: bytes, component: bytes) -> None:
    if not component:
        _refuse("empty-component", path, "has an empty component ('//' or a '/' at its end)")
    if component == b".":
        _refuse("dot-component", path, "has '.' as a component")
    if component == b"..":
        _refuse("parent-reference", path, "has '..' as a component")
    if len(component) > NAME_BYTES:
        _refuse(
            "name-too-long",
            path,
            f"has a name of {len(component)} bytes; allowed are {NAME_BYTES} a component",
        )
    if component.startswith(TEMPORARY_PREFIX):
        _refuse(
            "reserved",
            path,
            f"has a name that starts with {TEMPORARY_PREFIX.decode()}, "
            "which Pickbox keeps for its temporary files",
        )


def _check_other_readings(path: bytes) -> None:
    """Refuse what reads as ``.`` or ``..`` with backslashes as separators or decoded once."""
    for component in path.split(b"/"):
        decoded = unquote_to_bytes(component)
        if _OVERLONG.search(component) or _OVERLONG.search(decoded):
            _refuse("overlong-utf8", path, "holds an overlong UTF-8 form of '.' or '/'")
        if component in _DOTS:
            continue  # a plain one: its own rule names it
        for reading in (component, decoded):
            if not _DOTS.isdisjoint(_SEPARATORS.split(reading)):
                _refuse(
                    "parent-reference",
                    path,
                    "has a component that other systems read as '.' or '..'",
                )


def _refuse(rule: str, path: bytes, reason: str) -> NoReturn:
    shown = display(path if len(path) <= 80 else path[:77] + b"...")
    raise InvalidPath(rule, f"The path {shown!r} {reason}.")
