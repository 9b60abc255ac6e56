"""What takes root and tools fails where they are missing, and says what to do."""

from __future__ import annotations

import os

import pytest

from faults.isolation import missing


@pytest.fixture
def needs_faults() -> None:
    """Fails if this machine cannot inflict faults; people without root are told so."""
    if os.geteuid() != 0:
        pytest.skip("namespaces and mounts need root: run the tests as root to have this one too")
    lacks = missing()
    assert not lacks, "\n".join(["faults cannot be inflicted here:", *lacks])
