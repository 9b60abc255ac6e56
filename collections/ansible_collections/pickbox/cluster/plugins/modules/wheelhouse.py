#!/usr/bin/python
# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Builds, once, all wheels that a release is installed from, with their checksums."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wheelhouse
short_description: Build all wheels that a release is installed from, once
version_added: 0.1.0
description:
  - Builds the wheel of a source tree, or fetches named packages, with all that they depend on,
    into a directory of its own below O(cache). Meant for the control node.
  - The directory is named after the version and a digest of the sources, the Python version and
    the platform, so it is built again exactly when one of them changes. It appears complete or not
    at all.
  - C(SHA256SUMS) has the checksum of every wheel, and C(requirements.txt) pins them with hashes,
    ready for C(pip install --no-index --require-hashes). On every run the wheels are compared with
    their checksums.
  - C(wheels.tar) holds all of that as one file, which is brought to a target much sooner than many.
  - A pip wheel is always among them (and not in C(requirements.txt)), so a target needs no pip to
    install them.
options:
  name:
    description: What the wheelhouse is for. The first part of its directory's name.
    type: str
    required: true
  source:
    description: Directory with the C(pyproject.toml) of a project that is built. Needed unless
      O(packages) or O(release) are given.
    type: path
  parts:
    description: Files and directories in O(source) that the wheel is made of. Their content
      decides on a new build.
    type: list
    elements: str
    default: [pyproject.toml, README.md, LICENSE, node_service]
  packages:
    description: Requirements that are fetched, such as C(supervisor==4.3.0). Needed unless
      O(source) or O(release) is given.
    type: list
    elements: str
    default: []
  version:
    description: Version for the directory's name. When O(source) is given, its own version is read
      from it.
    type: str
  installer:
    description: The pip that is put among the wheels.
    type: str
    default: pip==25.3
  cache:
    description: Directory that holds the wheelhouses.
    type: path
    required: true
  release:
    description: Name of a release whose wheelhouse is in O(cache) already, built there before or
      copied from elsewhere. Nothing is built or fetched then.
    type: str
  target:
    description:
      - The Python that the wheels are for, with its C(version) as a list of two numbers, its
        C(tag) such as C(cpython-311), its C(platform) such as C(linux-x86_64) and its GNU C
        library C(libc) such as C(2.36). Default is the one running the module.
      - For another one than that, wheels that others have built are fetched, and whatever has
        to be built must not depend on the platform.
    type: dict
attributes:
  check_mode:
    description: Says which wheelhouse would be built, and builds nothing.
    support: full
author:
  - The Pickbox developers (@pickbox)
"""

EXAMPLES = r"""
- name: Build the wheels of Pickbox on the control node
  pickbox.cluster.wheelhouse:
    name: pickbox
    source: /home/me/pickbox
    cache: /home/me/.cache/pickbox/wheelhouse
  delegate_to: localhost
  run_once: true
  register: wheels
"""

RETURN = r"""
path:
  description: Directory of the wheels.
  returned: success
  type: str
release:
  description: Version and digest of the sources, which name a release.
  returned: success
  type: str
  sample: 0.1.0-1f2e3d4c5b6a
archive:
  description: Path of the archive of all of it.
  returned: success
  type: str
installer:
  description: File name of the pip wheel; empty in check mode before the first build.
  returned: success
  type: str
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pickbox.cluster.plugins.module_utils.wheels import Target

CHECKSUMS = "SHA256SUMS"
REQUIREMENTS = "requirements.txt"
ARCHIVE = "wheels.tar"


class Problem(Exception):
    """Something the user has to mend; the text says what."""


def source_files(source: str, parts: list[str]) -> list[str]:
    """Paths, relative to `source`, of the files that the wheel is made of."""
    found = []
    for part in parts:
        path = os.path.join(source, part)
        if os.path.isfile(path):
            found.append(part)
        for directory, below, names in os.walk(path):
            below[:] = [name for name in below if name != "__pycache__"]
            found += [os.path.relpath(os.path.join(directory, name), source) for name in names]
    return sorted(name for name in found if not name.endswith(".pyc"))


def source_name(source: str) -> str:
    """The name of the project, as it is in the name of its wheel."""
    with open(os.path.join(source, "pyproject.toml"), "rb") as file:
        name = str(tomllib.load(file)["project"]["name"])
    return re.sub(r"[-_.]+", "_", name).lower()


def source_version(source: str) -> str:
    """The version that ``pyproject.toml`` states, or names the file of."""
    with open(os.path.join(source, "pyproject.toml"), "rb") as file:
        project = tomllib.load(file)
    if "version" in project["project"]:
        return str(project["project"]["version"])
    path = project["tool"]["hatch"]["version"]["path"]
    with open(os.path.join(source, path), encoding="utf-8") as module:
        match = re.search(r"^__version__\s*=\s*[\"']([^\"']+)", module.read(), re.MULTILINE)
    if match is None:
        raise Problem(f"{path} has no line __version__ = ..., so the version is not known.")
    return match[1]


def source_digest(source: str, parts: list[str]) -> str:
    """A digest of names and content of the files that the wheel is made of."""
    digest = hashlib.sha256()
    for name in source_files(source, parts):
        with open(os.path.join(source, name), "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()


def release_of(params: dict[str, Any]) -> str:
    """Version and digest, which name a release."""
    source, packages = params["source"], params["packages"]
    digest = hashlib.sha256(repr((sorted(packages), params["installer"])).encode())
    version = params["version"] or "0"
    if source:
        if not os.path.isfile(os.path.join(source, "pyproject.toml")):
            raise Problem(
                f"source: found {source!r}, which has no pyproject.toml; "
                "it must be the source tree of a project (the role has it from pickbox_source)."
            )
        version = source_version(source)
        digest.update(source_digest(source, params["parts"]).encode())
    return f"{version}-{digest.hexdigest()[:12]}"


def file_checksum(path: str) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def intact(path: str) -> bool:
    """Whether the wheelhouse is there and every wheel has its checksum.

    Raises:
        Problem: a wheel is missing or is not what was built.
    """
    sums = os.path.join(path, CHECKSUMS)
    if not (os.path.isfile(sums) and os.path.isfile(os.path.join(path, ARCHIVE))):
        return False
    with open(sums, encoding="utf-8") as lines:
        for line in lines:
            checksum, _, name = line.strip().partition("  ")
            wheel = os.path.join(path, name)
            if not os.path.isfile(wheel) or file_checksum(wheel) != checksum:
                raise Problem(
                    f"{wheel} does not have the checksum that {sums} states. "
                    f"Remove {path} to have it built again."
                )
    return True


def pinned(wheels: list[str], directory: str) -> str:
    """A requirements file that pins every wheel, but pip, by version and hash."""
    lines = []
    for wheel in wheels:
        name, version = wheel.split("-")[:2]
        if name != "pip":
            checksum = file_checksum(os.path.join(directory, wheel))
            lines.append(f"{name}=={version} --hash=sha256:{checksum}\n")
    return "".join(lines)


def run_pip(*arguments: str) -> None:
    """Run pip.

    Raises:
        Problem: it failed; the text is what it says.
    """
    done = subprocess.run(  # noqa: S603 - no shell, and the words are the caller's
        [sys.executable, "-m", "pip", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Problem(f"pip {arguments[0]} failed: {(done.stderr or done.stdout).strip()}")


def build_here(params: dict[str, Any], scratch: str) -> None:
    """Put all wheels for this Python into `scratch`."""
    wanted = [*params["packages"], params["installer"]]
    wanted += [params["source"]] if params["source"] else []
    run_pip("wheel", "--quiet", "--use-pep517", "--wheel-dir", scratch, *wanted)


def fetch_for(target: Target, params: dict[str, Any], native: str, scratch: str) -> None:
    """Put all wheels for another Python into `scratch`, given those for this one in `native`."""
    built = [name for name in os.listdir(native) if name.endswith("-none-any.whl")]
    wanted = [*params["packages"], params["installer"]]
    if params["source"]:
        project = source_name(params["source"])
        wanted += [os.path.join(native, name) for name in built if name.split("-")[0] == project]
    with tempfile.TemporaryDirectory() as links:
        for name in built:
            os.symlink(os.path.join(native, name), os.path.join(links, name))
        places = ["--find-links", links, "--dest", scratch]
        run_pip("download", "--quiet", *target.options(), *places, *wanted)


def complete(scratch: str, path: str) -> None:
    """Add checksums and archive to the wheels in `scratch`, and make it `path`."""
    wheels = sorted(name for name in os.listdir(scratch) if name.endswith(".whl"))
    with open(os.path.join(scratch, REQUIREMENTS), "w", encoding="utf-8") as file:
        file.write(pinned(wheels, scratch))
    with open(os.path.join(scratch, CHECKSUMS), "w", encoding="utf-8") as file:
        file.writelines(
            f"{file_checksum(os.path.join(scratch, wheel))}  {wheel}\n" for wheel in wheels
        )
    with tarfile.open(os.path.join(scratch, ARCHIVE), "w") as archive:
        for name in [REQUIREMENTS, CHECKSUMS, *wheels]:
            archive.add(os.path.join(scratch, name), name)
    os.chmod(scratch, 0o755)  # noqa: S103 - mkdtemp made it private; wheels are public
    shutil.rmtree(path, ignore_errors=True)
    os.rename(scratch, path)


def build(params: dict[str, Any], target: Target, native: str, path: str) -> None:
    """Make the wheelhouse `path`: beside it, and renamed into place when all is there.

    The wheelhouse `native`, of this Python, is made first if another one's needs it.
    """
    os.makedirs(params["cache"], exist_ok=True)
    if path != native and not intact(native):
        build(params, Target.here(), native, native)
    scratch = tempfile.mkdtemp(prefix=".building-", dir=params["cache"])
    try:
        if path == native:
            build_here(params, scratch)
        else:
            fetch_for(target, params, native, scratch)
        complete(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def directory_name(target: Target, here: Target) -> str:
    """How the directory of a wheelhouse ends; an older C library has one of its own."""
    older = target.name == here.name and not target.takes_wheels_of(here)
    return f"{target.name}-glibc{target.libc}" if older else target.name


def ensure(module: AnsibleModule) -> tuple[str, str, bool]:
    """Have the wheelhouse; returns its path, the name of the release, and whether it was made.

    Raises:
        Problem: it cannot be made.
    """
    params = module.params
    here = Target.here()
    target = Target.of(params["target"]) if params["target"] else here
    release = params["release"] or release_of(params)
    start = os.path.join(params["cache"], f"{params['name']}-{release}-")
    native, path = start + here.name, start + directory_name(target, here)
    there = intact(path)
    if not there and params["release"]:
        raise Problem(
            f"There is no {path}, so release {release} cannot be put on a machine with "
            f"{target.name}. Copy it there, or give the sources instead of the name of a release."
        )
    if not there and not module.check_mode:
        build(params, target, native, path)
    return path, release, not there


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "name": {"required": True},
            "source": {"type": "path"},
            "parts": {
                "type": "list",
                "elements": "str",
                "default": ["pyproject.toml", "README.md", "LICENSE", "node_service"],
            },
            "packages": {"type": "list", "elements": "str", "default": []},
            "version": {},
            "installer": {"default": "pip==25.3"},
            "cache": {"type": "path", "required": True},
            "release": {},
            "target": {"type": "dict"},
        },
        required_one_of=[("source", "packages", "release")],
        supports_check_mode=True,
    )
    try:
        path, release, changed = ensure(module)
    except (Problem, OSError) as problem:
        module.fail_json(msg=str(problem))
    except (KeyError, TypeError, ValueError) as error:
        module.fail_json(msg=f"target: found {module.params['target']}, which lacks {error}.")
    names = os.listdir(path) if os.path.isdir(path) else []
    installer = next((name for name in names if name.startswith("pip-")), "")
    module.exit_json(
        changed=changed,
        path=path,
        archive=os.path.join(path, ARCHIVE),
        release=release,
        installer=installer,
    )


if __name__ == "__main__":
    main()
