"""Which releases have run on a data directory: ``release.json``, looked at before all else.

A major release may write what the ones before it cannot read. So they leave the directory alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pickbox import __version__
from pickbox.durable import replacing
from pickbox.levels import WrongRelease

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "release.json"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class _Record:
    """The release that ran last, and the newest that ever did."""

    release: str
    newest: str


def refuse_newer_major(data_dir: Path) -> None:
    """See that this release may look at `data_dir`.

    Raises:
        WrongRelease: a release with a higher major number has run on it.
        OSError: the file cannot be read.
    """
    _refuse(data_dir, _read(data_dir / FILE))


def claim_release(data_dir: Path) -> None:
    """Note, durably, that this release runs on `data_dir`.

    Raises:
        WrongRelease: a release with a higher major number has.
        OSError: the file cannot be read or written.
    """
    path = data_dir / FILE
    found = _read(path)
    _refuse(data_dir, found)
    newest = max(found.newest, __version__, key=_order) if found else __version__
    if found != _Record(__version__, newest):
        _write(path, _Record(__version__, newest))


def _refuse(data_dir: Path, found: _Record | None) -> None:
    if found is not None and _major(found.newest) > _major(__version__):
        raise WrongRelease(
            f"{data_dir} was written by release {found.newest}, and this is {__version__}, which "
            f"cannot read what a release {_major(found.newest)} writes: start {found.newest} or a "
            f"later one again, or restore a backup that release {_major(__version__)} made"
        )


def _order(version: str) -> tuple[int, ...]:
    """How versions compare; what follows the numbers (``rc1``, a build) counts for nothing."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    if numbers is None:
        raise ValueError(f"{version!r} is no version")
    return tuple(int(number) for number in numbers[0].split("."))


def _major(version: str) -> int:
    return _order(version)[0]


def _read(path: Path) -> _Record | None:
    """What is noted; None in a new directory."""
    try:
        found = json.loads(path.read_bytes())
        record = _Record(str(found["release"]), str(found["newest"]))
        _order(record.newest)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise WrongRelease(
            f"{path} is damaged ({error!r}), so it is not known which release wrote the data: if "
            f"it was release {__version__} or one before, remove the file and start again"
        ) from error
    return record


def _write(path: Path, record: _Record) -> None:
    document = {"format": _FORMAT, "release": record.release, "newest": record.newest}
    with replacing(path) as file:
        file.write(json.dumps(document, indent=1).encode())
