"""A page whose parts do not fit each other, or do not come: it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster import Cluster
    from playwright.sync_api import Route

    from conftest import Opener

pytestmark = pytest.mark.cluster

WIDE = {"width": 1280, "height": 900}
NOT_STARTED = "This page has not started. Please reload it."


def lacks_what_is_imported(script: str) -> str:
    return script.replace("export function nameOf", "function nameOf")


def wants_what_is_not_in_the_page(script: str) -> str:
    return f'{script}\ndocument.getElementById("gone").hidden = true;'


def is_none(script: str) -> str:
    return f"export const = ;\n{script}"


@pytest.mark.parametrize(
    ("as_it_comes", "complaint"),
    [
        (lacks_what_is_imported, "does not provide an export named"),
        (wants_what_is_not_in_the_page, "Cannot set properties of null"),
        (is_none, "Unexpected token"),
    ],
)
def test_a_script_that_does_not_fit_is_told(
    cluster: Cluster,
    open_dashboard: Opener,
    as_it_comes: Callable[[str], str],
    complaint: str,
) -> None:
    dashboard = open_dashboard(cluster["node1"], viewport=WIDE)

    def change(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=as_it_comes(answer.text()))

    dashboard.page.route("**/static/paths.js", change)
    dashboard.page.reload()
    expect(dashboard.banner).to_have_text(NOT_STARTED)
    expect(dashboard.verdict).to_have_text("Not started")
    dashboard.forgive(complaint)


def test_a_script_that_is_not_there_is_told_and_the_page_is_well_when_it_is(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    dashboard = open_dashboard(cluster["node1"], viewport=WIDE)
    page = dashboard.page
    page.route("**/static/paths.js", lambda route: route.fulfill(status=404, body=""))
    page.reload()
    expect(dashboard.banner).to_have_text(NOT_STARTED)
    dashboard.forgive("status of 404")
    page.unroute("**/static/paths.js")
    page.reload()
    expect(dashboard.verdict).to_have_text("Healthy")
    expect(dashboard.banner).to_be_hidden()


def test_a_page_that_waits_for_a_script_says_so_and_starts_when_it_comes(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    dashboard = open_dashboard(cluster["node1"], viewport=WIDE)
    page = dashboard.page
    held: list[Route] = []
    dashboard.hold_time()

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/static/paths.js", hold)
    page.route("**/static/pickbox.svg", lambda route: route.abort())
    with page.expect_request("**/static/paths.js"):
        page.reload(wait_until="commit")
    page.wait_for_function("document.readyState === 'interactive'")
    page.wait_for_function("document.querySelector('.brand img').complete")
    page.clock.run_for(9_000)
    expect(dashboard.banner).to_be_hidden()
    page.clock.run_for(2_000)
    expect(dashboard.banner).to_have_text(NOT_STARTED)
    held[0].continue_()
    expect(dashboard.banner).to_be_hidden()
    expect(dashboard.verdict).to_have_text("Healthy")
    dashboard.forgive("net::ERR_FAILED")  # the picture, without which a page starts


def test_what_goes_wrong_later_is_not_taken_for_a_page_that_did_not_start(
    cluster: Cluster, open_dashboard: Opener
) -> None:
    dashboard = open_dashboard(cluster["node1"], viewport=WIDE)
    expect(dashboard.verdict).to_have_text("Healthy")
    with dashboard.page.expect_event("pageerror"):
        dashboard.page.evaluate("void setTimeout(() => { throw new Error('a later one'); })")
    expect(dashboard.banner).to_be_hidden()
    dashboard.forgive("a later one")
