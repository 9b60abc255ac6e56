#!/usr/bin/env python3
"""Writes what an image of a node is made of, as a CycloneDX document.

``tools/sbom.py IMAGE FILE`` asks the image itself: its Python for what is installed from wheels,
and dpkg for the packages of the distribution. The same image gives the same document.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

DISTRIBUTIONS = """
import importlib.metadata, json
print(json.dumps(sorted({(one.name, one.version) for one in importlib.metadata.distributions()})))
"""
PACKAGES = "${Package}\\t${Version}\\t${Architecture}\\n"


def output_of(image: str, program: str, *arguments: str) -> str:
    """What a program of the image prints."""
    command = [
        "docker",
        "run",
        "--rm",
        "--pull=never",
        "--network=none",
        f"--entrypoint={program}",
        image,
    ]
    done = subprocess.run(  # noqa: S603 - no shell, and the words are ours
        [*command, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout


def wheels(image: str) -> list[Component]:
    """What Python finds installed."""
    found = json.loads(output_of(image, "/opt/pickbox/bin/python", "-c", DISTRIBUTIONS))
    return [
        component(PackageURL("pypi", None, name.lower().replace("_", "-"), version))
        for name, version in found
    ]


def packages(image: str) -> list[Component]:
    """The packages of the distribution."""
    lines = output_of(image, "dpkg-query", "--show", f"--showformat={PACKAGES}").splitlines()
    return [
        component(PackageURL("deb", "debian", name, version, {"arch": architecture}))
        for name, version, architecture in (line.split("\t") for line in lines)
    ]


def component(address: PackageURL, kind: ComponentType = ComponentType.LIBRARY) -> Component:
    """A component by its package URL."""
    return Component(
        name=address.name,
        version=address.version,
        type=kind,
        purl=address,
        bom_ref=address.to_string(),
    )


def bill_of(image: str) -> Bom:
    """The document, with nothing in it that differs between two runs."""
    described: dict[str, Any] = json.loads(
        subprocess.check_output(["docker", "image", "inspect", image])  # noqa: S603, S607
    )[0]
    release = described["Config"]["Labels"]["org.opencontainers.image.version"]
    bom = Bom(components=[*wheels(image), *packages(image)])
    bom.metadata.component = component(
        PackageURL("oci", None, "pickbox", release), ComponentType.CONTAINER
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, described["Id"])
    bom.metadata.timestamp = dt.datetime.fromisoformat(described["Created"][:19] + "+00:00")
    return bom


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    text = JsonV1Dot6(bill_of(arguments.image)).output_as_string(indent=2)
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        sys.exit(f"sbom: {problem}")
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    arguments.file.write_text(text + "\n")


if __name__ == "__main__":
    main()
