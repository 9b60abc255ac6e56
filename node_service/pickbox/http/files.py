"""Files over HTTP: read, list, write, delete, move, and ask what became of a request.

The address of a file is ``/api/v1/files/`` and its path, percent-encoded; the path reaches the
`FileService` as the bytes that were sent (see `pickbox.http.raw_path`).
"""

from __future__ import annotations

import json
import mimetypes
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from flask import Blueprint, Response, request

from pickbox.changes import ABSENT, ANY_VERSION, Entry, Kind
from pickbox.errors import BadRequest, NotAFile
from pickbox.http import parameters
from pickbox.http.content import chunks
from pickbox.http.documents import (
    digest_text,
    entry_document,
    receipt_document,
    target_members,
    written_document,
)
from pickbox.http.listing import children
from pickbox.http.parameters import Query
from pickbox.http.problems import RangeNotSatisfiable, problem
from pickbox.http.ranges import Span, is_not_modified, last_modified, requested_span
from pickbox.http.raw_path import file_path
from pickbox.storage.paths import display

if TYPE_CHECKING:
    from pickbox.seams import FileService, Written

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000

# Not the system's table: an answer must not depend on what else a machine has installed.
_TYPES: Final = mimetypes.MimeTypes()


def files_blueprint(files: FileService, max_file_size: int) -> Blueprint:
    """Routes under ``/api/v1``."""
    blueprint = Blueprint("files", __name__, url_prefix="/api/v1")
    reads, writes = _Reads(files), _Writes(files, max_file_size)
    blueprint.get("/files/<path:path>")(reads.get)
    blueprint.get("/files")(reads.list)
    blueprint.get("/requests/<request_id>")(reads.receipt)
    blueprint.put("/files/<path:path>")(writes.put)
    blueprint.delete("/files/<path:path>")(writes.delete)
    blueprint.post("/move")(writes.move)
    return blueprint


class _Reads:
    def __init__(self, files: FileService) -> None:
        self._files = files

    def get(self, path: str) -> Response:
        """A file's content, or part of it; for HEAD its headers."""
        query = Query("consistency")
        linearizable = query.choice("consistency", "local", "linearizable") == "linearizable"
        entry = self._files.entry(file_path(), linearizable=linearizable)
        if entry.kind is not Kind.FILE:
            return _not_a_file(entry)
        etag, modified = str(entry.version), last_modified(entry.mtime_ns)
        headers = _file_headers(entry, modified)
        if is_not_modified(request, etag, modified):
            return _with_headers(Response(status=304), headers)
        try:
            span = requested_span(request.headers, entry.size, etag, modified)
        except RangeNotSatisfiable as error:
            headers = {"Content-Range": f"bytes */{entry.size}", "Accept-Ranges": "bytes"}
            return _with_headers(problem(error), headers)
        if request.method == "HEAD":  # ranges are for GET (RFC 9110, section 14.2)
            return _with_headers(Response(), {**headers, "Content-Length": str(entry.size)})
        return self._content(entry, span, headers)

    def list(self) -> dict[str, Any]:
        """A page of entries in path order: all below a prefix, or what is directly there."""
        query = Query("prefix", "limit", "cursor", "recursive")
        limit = query.integer("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        prefix = query.bytes("prefix")
        after = parameters.decode_cursor(query, prefix)
        if query.choice("recursive", "true", "false") == "true":
            entries = self._files.page(prefix, after, limit + 1)
        else:
            entries = children(self._files, prefix, after, limit + 1)
        shown = entries[:limit]
        more = len(entries) > limit
        return {
            "entries": [entry_document(entry) for entry in shown],
            "cursor": parameters.encode_cursor(shown[-1].path) if more else None,
        }

    def receipt(self, request_id: str) -> dict[str, Any]:
        """What became of a request whose answer was lost."""
        Query()
        found = self._files.receipt(parameters.checked_request_id(request_id))
        return receipt_document(found)

    def _content(self, entry: Entry, span: Span | None, headers: dict[str, str]) -> Response:
        part = span or Span(0, entry.size)
        source = self._files.open(entry)
        source.seek(part.start)
        response = Response(chunks(source, part.length))
        response.call_on_close(source.close)
        _with_headers(response, {**headers, "Content-Length": str(part.length)})
        if span is not None:
            response.status_code = 206
            response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{entry.size}"
        return response


class _Writes:
    def __init__(self, files: FileService, max_file_size: int) -> None:
        self._files = files
        self._max_file_size = max_file_size

    def put(self, path: str) -> Response:
        """Store a file from the body, or make a directory."""
        kind = Query("kind").choice("kind", "file", "directory")
        parameters.refuse_part()
        target = file_path()
        request_id, mode = parameters.request_id(), parameters.mode_header(kind)
        mtime_ns = parameters.mtime_header()
        length = parameters.content_length(self._max_file_size)
        base = parameters.write_base()
        if kind == "file":
            written = self._files.put(
                target,
                cast("BinaryIO", request.environ["wsgi.input"]),
                length=length,
                base=base,
                mode=mode,
                mtime_ns=mtime_ns,
                request_id=request_id,
            )
        else:
            if length != 0:
                raise BadRequest("A directory has no content; send no body.", field="kind")
            if mtime_ns is not None:
                raise BadRequest(
                    "The times of directories are not kept; leave X-Pickbox-Mtime out.",
                    field="X-Pickbox-Mtime",
                )
            written = self._files.make_directory(
                target, base=base, mode=mode, request_id=request_id
            )
        return _written(written, 201 if written.created else 200)

    def delete(self, path: str) -> Response:
        """Remove a file, a link or a directory."""
        recursive = Query("recursive").flag("recursive")
        target, request_id = file_path(), parameters.request_id()
        base = parameters.write_base()
        if base == ABSENT:
            raise BadRequest("If-None-Match: * makes no sense of a delete.", field="If-None-Match")
        written = self._files.delete(target, base=base, recursive=recursive, request_id=request_id)
        return _written(written, 200)

    def move(self) -> Response:
        """Give an entry, with all that is in it, another name."""
        Query()
        body = parameters.json_body(
            "source",
            "source_b64",
            "destination",
            "destination_b64",
            "base",
            "destination_base",
        )
        written = self._files.move(
            parameters.path_member(body, "source"),
            parameters.path_member(body, "destination"),
            base=parameters.base_member(body, "base", ANY_VERSION, 1),
            destination_base=parameters.base_member(body, "destination_base", ABSENT, ABSENT),
            request_id=parameters.request_id(),
        )
        return _written(written, 200)


def _file_headers(entry: Entry, modified: str | None) -> dict[str, str]:
    headers = {
        "ETag": f'"{entry.version}"',
        "Accept-Ranges": "bytes",
        "Content-Type": _content_type(entry.path),
        # What somebody put into the folder must never run as a page of the dashboard's origin.
        "Content-Security-Policy": "sandbox",
        "Cache-Control": "no-cache",
        "X-Pickbox-Version": str(entry.version),
        "X-Pickbox-Digest": digest_text(entry.digest),
        "X-Pickbox-Mode": f"{entry.mode:04o}",
        "X-Pickbox-Mtime": str(entry.mtime_ns),
    }
    if modified is not None:
        headers["Last-Modified"] = modified
    return headers


def _content_type(path: bytes) -> str:
    guessed, encoding = _TYPES.guess_type(display(path))
    return guessed if guessed and not encoding else "application/octet-stream"


def _not_a_file(entry: Entry) -> Response:
    shown = display(entry.path)
    if entry.kind is Kind.DIRECTORY:
        error = NotAFile(
            f"{shown!r} is a directory; list it with GET /api/v1/files?prefix=<path>/.",
            field="path",
        )
        return problem(error, kind="directory")
    error = NotAFile(
        f"{shown!r} is a symbolic link; links are not followed, ask for its target.", field="path"
    )
    return problem(error, kind="symlink", **target_members(entry.target))


def _written(written: Written, status: int) -> Response:
    response = Response(
        json.dumps(written_document(written)), status, content_type="application/json"
    )
    if written.version:
        response.headers["ETag"] = f'"{written.version}"'
    return response


def _with_headers(response: Response, headers: dict[str, str]) -> Response:
    for name, value in headers.items():
        response.headers[name] = value
    return response
