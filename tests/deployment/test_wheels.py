"""Wheels are fetched for the Python of the machine that they are for."""

from __future__ import annotations

import pytest
from ansible_collections.pickbox.cluster.plugins.module_utils.wheels import Target
from ansible_collections.pickbox.cluster.plugins.modules.wheelhouse import directory_name

HERE = Target((3, 11), "cpython-311", "linux-x86_64", "2.36")


def target(**changes: object) -> Target:
    described = {"version": [3, 11], "tag": "cpython-311", "platform": "linux-x86_64"}
    return Target.of({**described, "libc": "2.36", **changes})


def test_the_same_python_on_the_same_platform_takes_what_is_built_here() -> None:
    assert target().takes_wheels_of(HERE)
    assert target(libc="2.41").takes_wheels_of(HERE)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": [3, 13], "tag": "cpython-313"},
        {"platform": "linux-aarch64"},
        {"libc": "2.34"},
        {"libc": ""},
    ],
    ids=["another version", "another machine", "an older C library", "another C library"],
)
def test_another_one_does_not(changes: dict[str, object]) -> None:
    other = target(**changes)
    assert not other.takes_wheels_of(HERE)
    assert directory_name(other, HERE) != directory_name(HERE, HERE)


def test_wheels_are_asked_for_by_version_and_by_every_platform_that_works() -> None:
    options = target(version=[3, 13], platform="linux-aarch64", libc="2.18").options()
    assert "--python-version=3.13" in options
    assert "--only-binary=:all:" in options
    assert [option for option in options if option.startswith("--abi=")] == [
        "--abi=cp313",
        "--abi=abi3",
        "--abi=none",
    ]
    assert [option for option in options if option.startswith("--platform=")] == [
        "--platform=manylinux_2_18_aarch64",
        "--platform=manylinux_2_17_aarch64",
        "--platform=manylinux2014_aarch64",
        "--platform=linux_aarch64",
    ]
