#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Says which releases are on a machine, and removes those that are not kept."""

from __future__ import annotations

DOCUMENTATION = r"""
module: releases
short_description: Say which releases are on a machine, and remove those that are not kept
version_added: 0.1.0
description:
  - A release is a directory below O(home)C(/releases) that was installed completely. It is in use
    when one of O(links) points to it.
  - Releases have an order, which is that of their deployments; one that was never deployed counts
    from when it was installed.
options:
  home:
    description: Directory that has C(releases) and C(wheels).
    type: path
    required: true
  links:
    description: Links that point to a release, or patterns of their paths.
    type: list
    elements: str
    required: true
  deployed:
    description: Name of a release that has been deployed just now, on all nodes. It becomes the
      newest, and has not failed any more.
    type: str
  keep:
    description: How many of the newest releases are kept. Those in use are kept too, and those that
      have failed, so that it can be found out why. All others are removed with their wheels.
      Nothing is removed when this is not given.
    type: int
attributes:
  check_mode:
    description: Says what would be removed, and removes nothing.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: See which releases are there
  pickbox.cluster.releases:
    home: /opt/pickbox
    links: [/opt/pickbox/current]
  register: kept

- name: Keep three
  pickbox.cluster.releases:
    home: /opt/pickbox
    links: [/opt/pickbox/current]
    deployed: 0.1.0-1f2e3d4c5b6a
    keep: 3
"""

RETURN = r"""
releases:
  description: The releases that are there, the newest first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the release.
      type: str
    deployed:
      description: When it was deployed, or installed if it never was (ISO 8601, UTC).
      type: str
    in_use:
      description: Whether a link points to it.
      type: bool
    failed:
      description: What happened when it was switched to in vain; empty when it was not.
      type: str
removed:
  description: Names of the releases that were removed.
  returned: success
  type: list
  elements: str
"""

import contextlib
import glob
import os
import shutil
import time
from dataclasses import dataclass, replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

COMPLETE, DEPLOYED, FAILED = ".complete", ".deployed", ".failed"


@dataclass(frozen=True)
class Release:
    """A release on the disk. `since` is when it was deployed, or installed."""

    name: str
    since: float
    in_use: bool
    failed: str

    def document(self) -> dict[str, Any]:
        """For the result."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since))
        return {
            "name": self.name,
            "deployed": since,
            "in_use": self.in_use,
            "failed": self.failed,
        }


def find(home: str, links: list[str]) -> list[Release]:
    """The releases below `home`, the newest first."""
    paths = [path for pattern in links for path in glob.glob(pattern)]
    used = {os.path.realpath(path) for path in paths}
    found = []
    for mark in glob.glob(os.path.join(glob.escape(home), "releases", "*", COMPLETE)):
        directory = os.path.dirname(mark)
        stamp = os.path.join(directory, DEPLOYED)
        since = os.stat(stamp if os.path.exists(stamp) else mark).st_mtime
        in_use = os.path.realpath(directory) in used
        found.append(Release(os.path.basename(directory), since, in_use, failure_of(directory)))
    return sorted(found, key=lambda release: (release.since, release.name), reverse=True)


def failure_of(directory: str) -> str:
    """What roll.yml wrote into a release that failed."""
    try:
        with open(os.path.join(directory, FAILED), encoding="utf-8", errors="replace") as file:
            return file.read().strip() or "it failed"
    except FileNotFoundError:
        return ""


def not_kept(found: list[Release], keep: int) -> list[Release]:
    """Those that are older than the `keep` newest, and neither in use nor failed."""
    return [release for release in found[keep:] if not release.in_use and not release.failed]


def deployed_last(home: str, found: list[Release], name: str) -> bool:
    """Whether the release `name` is known to be the newest, and not to have failed."""
    stamped = os.path.exists(os.path.join(home, "releases", name, DEPLOYED))
    return stamped and found[0].name == name and not found[0].failed


def stamp(home: str, name: str) -> None:
    """Make the release `name` the newest."""
    directory = os.path.join(home, "releases", name)
    with open(os.path.join(directory, DEPLOYED), "w", encoding="utf-8") as file:
        file.write(name + "\n")
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(directory, FAILED))


def with_newest(found: list[Release], name: str) -> list[Release]:
    """`found` as it is once the release `name` is the newest."""
    newest = [replace(one, since=time.time(), failed="") for one in found if one.name == name]
    return newest + [one for one in found if one.name != name]


def remove(home: str, name: str) -> None:
    """Remove a release and the wheels that it was installed from.

    Its mark goes first: what is left when this is cut off counts as no release.
    """
    directory = os.path.join(home, "releases", name)
    os.remove(os.path.join(directory, COMPLETE))
    shutil.rmtree(directory)
    for wheels in glob.glob(os.path.join(glob.escape(home), "wheels", f"pickbox-{name}-*")):
        shutil.rmtree(wheels)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "links": {"type": "list", "elements": "str", "required": True},
            "deployed": {},
            "keep": {"type": "int"},
        },
        supports_check_mode=True,
    )
    home, links, keep = (module.params[name] for name in ("home", "links", "keep"))
    if keep is not None and keep < 1:
        module.fail_json(msg=f"keep: found {keep}; at least 1 release is kept.")
    really, name = not module.check_mode, module.params["deployed"] or ""
    try:
        found = find(home, links)
        stamped = name in [one.name for one in found] and not deployed_last(home, found, name)
        if stamped:
            found = with_newest(found, name)
            if really:
                stamp(home, name)
        removed = not_kept(found, keep) if keep is not None else []
        for release in removed if really else []:
            remove(home, release.name)
    except OSError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=stamped or bool(removed),
        releases=[release.document() for release in found if release not in removed],
        removed=[release.name for release in removed],
    )


if __name__ == "__main__":
    main()
