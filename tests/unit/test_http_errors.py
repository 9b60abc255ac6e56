"""Every refusal is a problem document, nothing leaks, and other sites write nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from http_node import Running, call, raw, running

from pickbox import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITE = "/api/v1/files/x"


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("node")) as started:
        yield started


def test_what_is_not_there_and_what_is_not_taken_are_problems(node: Running) -> None:
    missing = node.client("GET", "/nothing/here")
    assert missing.problem["type"] == "urn:pickbox:problem:not-found"
    wrong = node.client("POST", "/api/health")
    assert wrong.problem["type"] == "urn:pickbox:problem:method-not-allowed"
    assert {"GET", "HEAD"} <= set(wrong.headers["Allow"].split(", "))
    for ask in (node.admin, node.monitor):
        assert ask("GET", "/nothing/here").problem["status"] == 404


def test_a_failure_tells_the_log_and_not_the_client(
    node: Running, caplog: pytest.LogCaptureFixture
) -> None:
    node.control.raises = RuntimeError("secret internals")
    with caplog.at_level(logging.ERROR):
        failed = node.client("GET", "/api/metrics")
    assert failed.problem["type"] == "urn:pickbox:problem:internal"
    assert b"secret" not in failed.content
    (record,) = [r for r in caplog.records if r.getMessage() == "request_failed"]
    assert record.fields["request_id"] == failed.problem["request_id"]
    assert record.exc_info[1] is node.control.raises


@pytest.mark.parametrize("kind", errors.PickboxError.__subclasses__(), ids=lambda k: k.type)
def test_every_error_of_the_domain_has_its_document(
    node: Running, kind: type[errors.PickboxError]
) -> None:
    if kind is errors.InvalidPath:
        node.control.raises = errors.InvalidPath("nul", "The path has a NUL.")
    else:
        node.control.raises = kind("This is why.", field="path")
    refused = node.client("GET", "/api/metrics")
    assert refused.status == kind.status
    assert refused.problem["type"] == f"urn:pickbox:problem:{kind.type}"
    assert refused.problem["field"] == "path"
    assert refused.problem["request_id"] == refused.headers["X-Request-Id"]
    assert ("Retry-After" in refused.headers) == (kind.status == 503)


def test_an_address_that_makes_no_sense_is_the_clients_fault(node: Running) -> None:
    request = b"GET //[ HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
    answer = raw(node.settings.dashboard_port, request)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"urn:pickbox:problem:bad-request" in answer


def test_every_answer_carries_an_id_and_the_caller_may_choose_it(node: Running) -> None:
    one, two = node.client("GET", "/api/health"), node.client("GET", "/api/health")
    assert one.headers["X-Request-Id"] != two.headers["X-Request-Id"]
    assert node.put("x", b"x", Idempotency_Key="mine").headers["X-Request-Id"] == "mine"


def test_no_answer_tells_which_software_it_is_from(node: Running) -> None:
    for ask in (node.client, node.admin, node.monitor):
        for target in ("/", "/nothing"):
            assert ask("GET", target).headers["Server"] == "pickbox"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://["},
    ],
)
def test_a_page_of_another_site_writes_nothing(
    node: Running, method: str, headers: dict[str, str]
) -> None:
    node.put("x", b"kept")
    target = "/api/v1/move" if method == "POST" else WRITE
    refused = node.client(method, target, headers=headers)
    assert (refused.status, refused.problem["type"]) == (403, "urn:pickbox:problem:cross-site")
    assert node.admin("POST", "/api/v1/drain", headers=headers).status == 403
    assert node.client("GET", WRITE).content == b"kept"
    assert not node.control.draining


def test_our_own_pages_and_programs_may_write(node: Running) -> None:
    own = f"http://127.0.0.1:{node.settings.dashboard_port}"
    for headers in ({}, {"Origin": own, "Sec-Fetch-Site": "same-origin"}):
        assert node.client("PUT", WRITE, body=b"x", headers=headers).status in {200, 201}


def test_no_other_site_may_read_either(node: Running) -> None:
    for method in ("GET", "OPTIONS"):
        answer = node.client(method, WRITE, headers={"Origin": "https://evil.example"})
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_every_answer_is_protected_against_browsers_guesses(node: Running) -> None:
    for target in ("/", "/api/health", "/nothing", "/static/dashboard.css"):
        headers = node.client("GET", target).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_a_request_is_logged_at_debug_without_its_path(
    node: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="pickbox"):
        answer = node.put("private-name", b"x")
        call(node.settings.monitor_port, "GET", "/live")
        node.listeners.stop(2)
    events = [r.fields for r in caplog.records if r.getMessage() == "http_request"]
    (put,) = [fields for fields in events if fields["method"] == "PUT"]
    assert put["request_id"] == answer.headers["X-Request-Id"]
    assert (put["route"], put["status"]) == ("/api/v1/files/<path:path>", 201)
    assert "private-name" not in str(events)
