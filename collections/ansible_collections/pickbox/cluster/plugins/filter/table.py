# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Lays rows out in columns, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DOCUMENTATION = r"""
name: table
short_description: Lay rows out in aligned columns
version_added: 0.1.0
description: Gives a list of lines in which the columns are as wide as their widest cell.
positional: headings
options:
  _input:
    description: The rows, each a list of cells.
    type: list
    elements: list
    required: true
  headings:
    description: The headings of the columns.
    type: list
    elements: str
    required: true
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: Show two nodes
  ansible.builtin.debug:
    msg: "{{ [['node1', 'leader']] | pickbox.cluster.table(['NODE', 'ROLE']) }}"
"""

RETURN = r"""
_value:
  description: The lines, the headings first.
  type: list
  elements: str
"""


def table(rows: Sequence[Sequence[Any]], headings: Sequence[str]) -> list[str]:
    """The lines of a table, the headings first."""
    cells = [[str(cell) for cell in row] for row in [headings, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"table": table}
