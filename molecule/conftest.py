"""What the tests of all scenarios share."""

from __future__ import annotations

from typing import Any

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail when nothing ran: a wrong inventory would skip everything and exit with 0."""
    if session.testscollected == 0:
        raise pytest.UsageError("no test was collected")


@pytest.fixture(scope="module")
def variables(host: Any) -> dict[str, Any]:
    return dict(host.ansible.get_variables())
