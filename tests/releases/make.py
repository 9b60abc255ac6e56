"""Makes the source tree of a release that comes after this one, for tests of upgrades.

``python -m releases.make --kind KIND DEST`` copies what the wheel is made of to DEST, which is
made, and edits it. ``pip wheel DEST`` and the role's `pickbox_source` take it.

next      the next minor release: a column of the catalog, a kind of change, a level
failing   one after it, which exits with 1 at every start
stuck     one after it, which starts and is never ready
major     the next major release, which has all that the next minor one has

An edit names a line that must be there exactly once, so whoever changes that line hears of it from
`tests/unit/test_test_releases.py`.
"""

from __future__ import annotations

import argparse
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = Path("node_service/pickbox")
OVERLAY: Final = Path(__file__).parent / "next"
SOURCES: Final = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")
VERSION: Final = re.compile(r'__version__ = "(\d+)\.(\d+)\.(\d+)"')


@dataclass(frozen=True)
class Edit:
    """Put `text` before or after the only line of `file` that is `line`."""

    file: str
    line: str
    text: str
    before: bool = False

    def apply(self, package: Path) -> None:
        path = package / self.file
        lines = path.read_text().splitlines()
        assert lines.count(self.line) == 1, (
            f"{path} says {lines.count(self.line)} times: {self.line}"
        )
        at = lines.index(self.line) + (not self.before)
        lines[at:at] = self.text.splitlines()
        path.write_text("\n".join(lines) + "\n")


FUTURE: Final = "from __future__ import annotations"
NEXT: Final = (
    Edit(
        "levels.py",
        "LEVEL: Final = LEVELS[-1].number",
        'LEVELS = (*LEVELS, Level(LEVELS[-1].number + 1, "{version}", (\n'
        '    "ALTER TABLE entries ADD COLUMN label TEXT",\n)))',
        before=True,
    ),
    Edit("codec.py", FUTURE, "from pickbox.labels import TAG, Label, pack_label, unpack_label"),
    Edit(
        "codec.py",
        "_BY_TYPE: Final = {coding.kind: coding for coding in _CODINGS}",
        "_CODINGS = (*_CODINGS, _Coding(TAG, Label, pack_label, unpack_label))",
        before=True,
    ),
    Edit("replication/rules.py", FUTURE, "from pickbox.labels import Label, apply_label"),
    Edit(
        "replication/rules.py",
        "            return _move(txn, submission, change)",
        "        case Label():\n            return apply_label(txn, change)",
    ),
    Edit("cli/log_entries.py", FUTURE, "from pickbox.labels import Label"),
    Edit(
        "cli/log_entries.py",
        "    match change:",
        "        case Label():\n            return f'label {path} {change.label}'",
    ),
    Edit("http/apps.py", FUTURE, "from pickbox.labels import labels_blueprint"),
    Edit(
        "http/apps.py",
        "    app.register_blueprint(cluster_blueprint(files, control, settings.max_file_size))",
        "    app.register_blueprint(labels_blueprint(control))",
    ),
)
FAILING: Final = Edit(
    "cli/serve.py",
    "    raise SystemExit(run(settings, credentials))",
    '    click.echo("this release of a test fails at every start", err=True)\n'
    "    raise SystemExit(1)",
    before=True,
)
STUCK: Final = Edit(
    "control.py",
    '            Probe("threads", self._thread_check),',
    '            Probe("test", lambda: "this release of a test is never ready"),',
)
KINDS: Final = ("next", "failing", "stuck", "major")


def version_of(tree: Path) -> str:
    """The version of the release whose sources are in `tree`."""
    found = VERSION.search((tree / PACKAGE / "__init__.py").read_text())
    assert found, f"{tree} has no version"
    return ".".join(found.groups())


def make(kind: str, destination: Path) -> str:
    """Make the sources of a release in `destination`; return its version."""
    destination.mkdir(parents=True)
    for name in SOURCES:
        shutil.copy(ROOT / name, destination)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "node_service", destination / "node_service", ignore=ignored)
    major, minor, _ = map(int, version_of(destination).split("."))
    version = {
        "next": f"{major}.{minor + 1}.0",
        "failing": f"{major}.{minor + 1}.1",
        "stuck": f"{major}.{minor + 1}.2",
        "major": f"{major + 1}.0.0",
    }[kind]
    package = destination / PACKAGE
    init = package / "__init__.py"
    init.write_text(VERSION.sub(f'__version__ = "{version}"', init.read_text()))
    shutil.copytree(OVERLAY, destination, dirs_exist_ok=True, ignore=ignored)
    for edit in NEXT:
        text = edit.text.replace("{version}", f"{major}.{minor + 1}.0")
        replace(edit, text=text).apply(package)
    if kind in {"failing", "stuck"}:
        (FAILING if kind == "failing" else STUCK).apply(package)
    return version


def main() -> None:
    """Make a tree, and print its version."""
    parser = argparse.ArgumentParser(prog="releases.make", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("destination", type=Path)
    asked = parser.parse_args()
    print(make(asked.kind, asked.destination))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
