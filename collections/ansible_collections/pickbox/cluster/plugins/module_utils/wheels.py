# Copyright: The Pickbox developers
# SPDX-License-Identifier: Apache-2.0
"""Which wheels fit a Python on some machine."""

from __future__ import annotations

import platform
import sys
import sysconfig
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """The Python that wheels are for.

    Attributes:
        tag: implementation and version, such as ``cpython-311``.
        platform: such as ``linux-x86_64``.
        libc: version of the GNU C library, such as ``2.36``; empty for another one.
    """

    version: tuple[int, int]
    tag: str
    platform: str
    libc: str

    @classmethod
    def here(cls) -> Target:
        """The Python that runs this."""
        tag = str(sys.implementation.cache_tag)
        libc = platform.libc_ver()[1]
        return cls(sys.version_info[:2], tag, sysconfig.get_platform(), libc)

    @classmethod
    def of(cls, described: dict[str, Any]) -> Target:
        """As a host describes its Python."""
        major, minor = (int(number) for number in described["version"])
        return cls(
            (major, minor), described["tag"], described["platform"], str(described.get("libc", ""))
        )

    @property
    def name(self) -> str:
        """For the name of a directory."""
        return f"{self.tag}-{self.platform}"

    def takes_wheels_of(self, other: Target) -> bool:
        """Whether what was built for `other`, and on it, works here."""
        return self.name == other.name and _numbers(self.libc) >= _numbers(other.libc)

    def platforms(self) -> list[str]:
        """The platform tags of wheels that work here, the best first."""
        machine = self.platform.partition("-")[2]
        oldest = 5 if machine in ("x86_64", "i686") else 17
        minor = _numbers(self.libc)[1]
        many = [f"manylinux_2_{number}_{machine}" for number in range(minor, oldest - 1, -1)]
        return [*many, f"manylinux2014_{machine}", f"linux_{machine}"]

    def options(self) -> list[str]:
        """What makes pip choose wheels for here, wherever it runs."""
        major, minor = self.version
        abis = (f"cp{major}{minor}", "abi3", "none")
        chosen = ["--only-binary=:all:", "--implementation=cp", f"--python-version={major}.{minor}"]
        chosen += [f"--abi={abi}" for abi in abis]
        return chosen + [f"--platform={name}" for name in self.platforms()]


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
