"""The dashboard's files as browsers keep them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pickbox.http.page_files import WithPageFiles

if TYPE_CHECKING:
    from pathlib import Path

    from flask.testing import FlaskClient

A_TIME = (1_700_000_000, 1_700_000_000)


def of_release(static: Path, script: bytes) -> FlaskClient:
    """What serves `script`; whatever is in it, the file is of one time."""
    static.mkdir(exist_ok=True)
    (static / "page.js").write_bytes(script)
    os.utime(static / "page.js", A_TIME)
    return WithPageFiles(__name__, str(static)).test_client()


def test_a_file_of_another_release_is_sent_although_time_and_size_are_the_same(
    tmp_path: Path,
) -> None:
    known = of_release(tmp_path / "static", b"let release = 1;").get("/static/page.js")
    after = of_release(tmp_path / "static", b"let release = 2;")
    asked = {"If-None-Match": known.headers["ETag"]}
    answer = after.get("/static/page.js", headers=asked)
    assert (answer.status_code, answer.data) == (200, b"let release = 2;")


def test_a_time_alone_never_says_that_a_file_is_the_same(tmp_path: Path) -> None:
    release = of_release(tmp_path / "static", b"let release = 1;")
    assert "Last-Modified" not in release.get("/static/page.js").headers
    asked = {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
    assert release.get("/static/page.js", headers=asked).status_code == 200


def test_a_file_that_is_the_same_is_not_sent_again(tmp_path: Path) -> None:
    known = of_release(tmp_path / "static", b"let release = 1;").get("/static/page.js")
    another = of_release(tmp_path / "static", b"let release = 1;")
    asked = {"If-None-Match": known.headers["ETag"]}
    answer = another.get("/static/page.js", headers=asked)
    assert (answer.status_code, answer.data) == (304, b"")
