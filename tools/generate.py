#!/usr/bin/env python3
"""Writes what is made of other files of the collection.

That is the README of every role, of its meta/argument_specs.yml and meta/main.yml; what
ansible-test is to ignore, of the list of plugins; and Grafana's dashboards, of tools/dashboards.
With --check nothing is written: it fails, and says which file is not what it would be. Needs
PyYAML, which ansible has, and grafana-foundation-sdk.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dashboards
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

COLLECTION = Path(__file__).parents[1] / "collections/ansible_collections/pickbox/cluster"

HEAD = """<!-- Made of meta/argument_specs.yml by tools/generate.py: change that, run it. -->

# pickbox.cluster.{role}

{description}.

| entry point | does |
|---|---|
{entry_points}

The entry point `main` is what `roles:` and `include_role` run; another one is named with
`tasks_from`. Defaults are in `defaults/main.yml`.

| variable | type | default | means | taken by |
|---|---|---|---|---|
{variables}
"""


def plain(text: Any) -> str:
    """A description in one table cell: Ansible's marks as Markdown's, paragraphs as sentences."""
    paragraphs = text if isinstance(text, list) else [text]
    joined = " ".join(str(paragraph).strip() for paragraph in paragraphs)
    marked = re.sub(r"\b[VCOEMP]\(([^)]*)\)", r"`\1`", " ".join(joined.split()))
    return marked.replace("|", r"\|")


def code(value: Any) -> str:
    """A value as it is written in YAML, for a table cell."""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return f"`{text}`".replace("|", r"\|")


def options_of(options: dict[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every option and those within it, by their dotted names."""
    for name, option in options.items():
        yield f"{above}{name}", option
        yield from options_of(option.get("options", {}), f"{above}{name}.")


def row_of(name: str, option: dict[str, Any], takers: list[str]) -> str:
    """The row of a variable."""
    kind = option.get("type", "str")
    if "elements" in option:
        kind = f"{kind} of {option['elements']}"
    usual = code(option["default"]) if "default" in option else ""
    if option.get("required"):
        usual = "required"
    meaning = plain(option["description"])
    if "choices" in option:
        meaning += f" One of {', '.join(map(code, option['choices']))}."
    return f"| `{name}` | {kind} | {usual} | {meaning} | {', '.join(takers)} |"


def entry_row(name: str, spec: dict[str, Any]) -> str:
    """The row of an entry point."""
    parts = [f"{plain(spec['short_description']).rstrip('.')}.", plain(spec.get("description", ""))]
    return f"| `{name}` | {' '.join(parts).rstrip()} |"


def readme_of(role: Path) -> str:
    """The README of a role."""
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    about = yaml.safe_load((role / "meta/main.yml").read_text())["galaxy_info"]["description"]
    rows: dict[str, dict[str, Any]] = {}
    takers: dict[str, list[str]] = {}
    for entry_point, spec in specs.items():
        for name, option in options_of(spec.get("options", {})):
            rows.setdefault(name, option)
            takers.setdefault(name, []).append(f"`{entry_point}`")
    return HEAD.format(
        role=role.name,
        description=about.rstrip("."),
        entry_points="\n".join(entry_row(name, spec) for name, spec in specs.items()),
        variables="\n".join(row_of(name, rows[name], takers[name]) for name in sorted(rows)),
    )


def ignored() -> str:
    """What ansible-test ignores: it wants the GPL, and the project has another license."""
    kinds = ("inventory", "lookup", "modules")
    plugins = [path for kind in kinds for path in COLLECTION.glob(f"plugins/{kind}/*.py")]
    names = sorted(str(path.relative_to(COLLECTION)) for path in plugins)
    reason = "validate-modules:missing-gplv3-license # the project is under Apache-2.0"
    return "".join(f"{name} {reason}\n" for name in names)


def generated() -> Iterator[tuple[Path, str]]:
    """Every file that is made, and its text."""
    for specification in sorted(COLLECTION.glob("roles/*/meta/argument_specs.yml")):
        role = specification.parents[1]
        yield role / "README.md", readme_of(role)
    for version in ("2.19", "2.20", "2.21"):
        yield COLLECTION / f"tests/sanity/ignore-{version}.txt", ignored()
    for name, text in dashboards.documents():
        yield COLLECTION / f"roles/grafana/files/dashboards/{name}", text


def main() -> int:
    """Write, or check; the exit code is 1 when a file that is only checked is out of date."""
    stale, check = [], "--check" in sys.argv
    for path, wanted in generated():
        if not path.exists() or path.read_text() != wanted:
            stale.append(path)
            if not check:
                path.write_text(wanted)
    said = "is not what tools/generate.py makes; run it" if check else "written"
    for path in stale:
        sys.stdout.write(f"{path.relative_to(COLLECTION)}: {said}\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
