"""Health is every check's answer, whatever the others do."""

from __future__ import annotations

from pickbox.observability import assess
from pickbox.observability.health import Probe


def broken() -> str:
    raise RuntimeError("no")


def test_a_node_is_ready_when_every_gating_check_passes() -> None:
    warned = Probe("disk", lambda: "The disk is nearly full.", gates_ready=False)
    health = assess("node1", [Probe("leader", lambda: ""), warned])
    assert health.ready
    assert health.reasons == ("The disk is nearly full.",)


def test_a_warning_is_named_apart_from_what_makes_the_node_not_ready() -> None:
    probes = [
        Probe("leader", lambda: "No leader."),
        Probe("disk", lambda: "The disk is nearly full.", gates_ready=False),
        Probe("content", lambda: "", gates_ready=False),
    ]
    assert assess("node1", probes).warnings == ("disk",)


def test_a_failing_check_says_why() -> None:
    health = assess("node1", [Probe("leader", lambda: "No leader."), Probe("scan", lambda: "")])
    assert not health.ready
    assert [(check.name, check.ok) for check in health.checks] == [
        ("leader", False),
        ("scan", True),
    ]


def test_a_check_that_breaks_has_failed_and_the_others_are_made() -> None:
    health = assess("node1", [Probe("odd", broken), Probe("scan", lambda: "")])
    assert not health.ready
    assert "'odd' itself failed" in health.reasons[0]
    assert health.checks[1].ok
