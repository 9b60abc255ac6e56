"""Request bodies on the wire: streamed, framed strictly, and never left to confuse what follows."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest
from http_node import TOKEN, Running, chunks, raw, running

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
FILES = "/api/v1/files/"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("node")
    with running(directory, max_file_size=80 * MIB) as started:
        yield started


@contextmanager
def memory_growth() -> Iterator[list[int]]:
    """Measure by how many bytes this process grows, at most, while the block runs."""
    process, over, growth = psutil.Process(), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not over.wait(0.005):
            growth[0] = max(growth[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield growth
    finally:
        over.set()
        watcher.join()


def request_head(method: str, target: str, **headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: node"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_a_large_file_passes_through_without_being_held_in_memory(node: Running) -> None:
    content = os.urandom(MIB)
    connection = http.client.HTTPConnection("127.0.0.1", node.settings.dashboard_port, timeout=60)
    with memory_growth() as growth:
        connection.putrequest("PUT", f"{FILES}large")
        connection.putheader("Content-Length", str(64 * MIB))
        connection.endheaders()
        for _ in range(64):
            connection.send(content)
        assert connection.getresponse().read()
        connection.request("GET", f"{FILES}large")
        response = connection.getresponse()
        received = 0
        while chunk := response.read(MIB):
            assert chunk == content
            received += len(chunk)
    connection.close()
    assert received == 64 * MIB
    assert growth[0] < 24 * MIB


def test_one_chunk_of_any_size_is_not_held_in_memory(node: Running) -> None:
    head = request_head("PUT", f"{FILES}one-chunk", Transfer_Encoding="chunked", Connection="close")
    piece = b"z" * MIB
    with (
        memory_growth() as growth,
        socket.create_connection(("127.0.0.1", node.settings.dashboard_port), 60) as client,
    ):
        client.sendall(head + f"{64 * MIB:x};an=extension\r\n".encode())
        for _ in range(64):
            client.sendall(piece)
        client.sendall(b"\r\n0\r\nTrailer: x\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert growth[0] < 24 * MIB


def test_a_chunked_body_is_put_together(node: Running) -> None:
    content = os.urandom(300_000)
    body = chunks(content, 7_001)
    assert node.client("PUT", f"{FILES}chunked", body=body, encode_chunked=True).status == 201
    assert node.client("GET", f"{FILES}chunked").content == content


def test_a_connection_serves_one_request_after_another(node: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", node.settings.dashboard_port, timeout=10)
    connection.connect()
    first_socket = connection.sock
    for number in range(5):
        content = b"%d" % number
        body = chunks(content, 1) if number % 2 else content
        connection.request("PUT", f"{FILES}kept", body=body, encode_chunked=bool(number % 2))
        assert connection.getresponse().read()
        connection.request("GET", f"{FILES}kept")
        assert connection.getresponse().read() == content
    assert connection.sock is first_socket
    connection.close()


def test_pipelined_requests_are_all_answered(node: Running) -> None:
    put = request_head("PUT", f"{FILES}piped", Content_Length="2") + b"ok"
    get = request_head("GET", f"{FILES}piped")
    last = request_head("GET", f"{FILES}piped", Connection="close")
    answer = raw(node.settings.dashboard_port, put + get + last)
    assert answer.count(b"HTTP/1.1 20") == 3
    assert answer.endswith(b"ok")


def test_curl_gets_100_continue_before_it_sends(node: Running) -> None:
    head = request_head(
        "PUT", f"{FILES}expected", Content_Length="4", Expect="100-continue", Connection="close"
    )
    with socket.create_connection(("127.0.0.1", node.settings.dashboard_port), 10) as client:
        client.sendall(head)
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"body")
        assert client.recv(1000).startswith(b"HTTP/1.1 201 ")


def test_a_refused_upload_is_never_asked_for(node: Running) -> None:
    for target, status in ((f"{FILES}../x", b"400"), (f"{FILES}never", b"412")):
        head = request_head(
            "PUT", target, Content_Length="9999999", Expect="100-continue", If_Match='"999999"'
        )
        answer = raw(node.settings.dashboard_port, head)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"Connection: close" in answer


def test_a_refusal_reaches_a_client_that_goes_on_sending(node: Running) -> None:
    head = request_head("PUT", f"{FILES}a/../../x", Content_Length=str(64 * MIB))
    with socket.create_connection(("127.0.0.1", node.settings.dashboard_port), 10) as client:
        client.sendall(head + b"x" * 3 * MIB)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"parent-reference" in answer


def test_an_unread_chunked_body_is_not_taken_for_the_next_request(node: Running) -> None:
    smuggled = request_head("DELETE", f"{FILES}precious")
    node.put("precious", b"x")
    head = request_head("PUT", f"{FILES}..", Transfer_Encoding="chunked")
    answer = raw(
        node.settings.dashboard_port, head + b"%x\r\n" % len(smuggled) + smuggled + b"\r\n0\r\n\r\n"
    )
    assert answer.count(b"HTTP/1.1 ") == 1
    assert node.client("GET", f"{FILES}precious").status == 200


def test_a_small_unread_body_keeps_the_connection(node: Running) -> None:
    refused = request_head("PUT", f"{FILES}..", Content_Length="5") + b"12345"
    last = request_head("GET", "/api/health", Connection="close")
    answer = raw(node.settings.dashboard_port, refused + last)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/1.1 200 " in answer


def test_a_body_that_ends_early_stores_nothing(node: Running) -> None:
    for head, body in (
        (request_head("PUT", f"{FILES}cut", Content_Length="10"), b"only"),
        (request_head("PUT", f"{FILES}cut", Transfer_Encoding="chunked"), b"a\r\nonly"),
        (request_head("PUT", f"{FILES}cut", Transfer_Encoding="chunked"), b"4\r\nonly\r\n"),
        (request_head("PUT", f"{FILES}cut", Transfer_Encoding="chunked"), b"4\r\nonlyXX0\r\n\r\n"),
        (request_head("PUT", f"{FILES}cut", Transfer_Encoding="chunked"), b"-4\r\nonly\r\n"),
        (request_head("PUT", f"{FILES}cut", Transfer_Encoding="chunked"), b"nonsense\r\n"),
    ):
        with socket.create_connection(("127.0.0.1", node.settings.dashboard_port), 10) as client:
            client.sendall(head + body)
            client.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 400 "), (body, answer)
        assert node.client("GET", f"{FILES}cut").status == 404


def test_a_file_beyond_the_limit_is_refused_before_it_is_sent(node: Running) -> None:
    head = request_head("PUT", f"{FILES}huge", Content_Length=str(81 * MIB), Expect="100-continue")
    answer = raw(node.settings.dashboard_port, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"urn:pickbox:problem:too-large" in answer


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: 0x3\r\n",
        b"Content-Length: 1_0\r\n",
        b"Content-Length : 3\r\n",
        b"Host: other\r\n",
        b"X-Folded: a\r\n b\r\n",
        b"no colon\r\n",
        b"Transfer-Encoding: chunked\nX: y\r\n",
        b"X-Big: " + b"x" * 70_000 + b"\r\n",
    ],
    ids=lambda value: value[:40].decode(),
)
def test_a_request_that_two_readers_could_read_differently_is_refused(
    node: Running, headers: bytes
) -> None:
    request = b"PUT /api/v1/files/odd HTTP/1.1\r\nHost: node\r\n" + headers + b"\r\nabc"
    answer = raw(node.settings.dashboard_port, request)
    assert answer[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 413"}
    assert b"application/problem+json" in answer
    assert node.client("GET", f"{FILES}odd").status == 404


@pytest.mark.parametrize(("version", "coding"), [("1.0", "chunked"), ("1.1", ","), ("1.1", "")])
def test_a_body_without_a_length_is_never_taken_for_an_empty_one(
    node: Running, version: str, coding: str
) -> None:
    head = request_head("PUT", f"{FILES}odd", Transfer_Encoding=coding, Connection="close")
    head = head.replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    answer = raw(node.settings.dashboard_port, head + b"5\r\nhello\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert node.client("GET", f"{FILES}odd").status == 404


def test_other_codings_than_chunked_are_not_implemented(node: Running) -> None:
    head = request_head("PUT", f"{FILES}odd", Transfer_Encoding="gzip, chunked")
    assert raw(node.settings.dashboard_port, head).startswith(b"HTTP/1.1 501 ")


def test_a_request_without_host_is_refused(node: Running) -> None:
    answer = raw(node.settings.dashboard_port, b"GET / HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_header_with_underscores_cannot_pose_as_another(node: Running) -> None:
    request = (
        b"GET /api/v1/status HTTP/1.1\r\nHost: node\r\nConnection: close\r\n"
        + f"Authorization: Bearer {TOKEN[:-1]}\r\nX_Y: 1\r\nAUTHORIZATION_: x\r\n".encode()
        + f"Content_Length: 7\r\nauthorization_x: Bearer {TOKEN}\r\n\r\n".encode()
    )
    assert raw(node.settings.admin_port, request).startswith(b"HTTP/1.1 401 ")


def test_a_request_line_without_end_is_cut_off(node: Running) -> None:
    answer = raw(node.settings.dashboard_port, b"GET /" + b"a" * 100_000)
    assert answer.startswith(b"HTTP/1.1 414 ")


def test_silence_in_the_middle_of_a_body_ends_the_request(node: Running) -> None:
    server = next(s for s in node.listeners._servers if s.name == "client")
    usual, server.timeout = server.timeout, 0.2
    try:
        head = request_head("PUT", f"{FILES}silent", Content_Length="10")
        began = time.monotonic()
        answer = raw(node.settings.dashboard_port, head + b"half")
    finally:
        server.timeout = usual
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 5
