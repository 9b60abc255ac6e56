"""The node API: what one node asks of another, on the log's port, over mutual TLS.

Private between nodes of one cluster and of one release line; `pickbox.replication.peers` is the
other end. Bodies are msgpack, content is raw bytes, both bounded. Who asks is known by its
certificate, and only members get this far (`pickbox.http.peer_server`).
"""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgpack
from flask import Blueprint, Response, request

from pickbox.changes import DIGEST_BYTES
from pickbox.codec import encode_receipts
from pickbox.errors import BadRequest, NotFound
from pickbox.http.content import chunks
from pickbox.http.peer_server import PEER
from pickbox.members import MemberChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pickbox.seams import NodeControl, PeerService

MAX_BODY: Final = 8 << 20
_LONGEST: Final = 3600.0


def peer_blueprint(peers: PeerService, control: NodeControl) -> Blueprint:
    """Routes under ``/peer/v1``."""
    blueprint = Blueprint("peer", __name__, url_prefix="/peer/v1")

    @blueprint.post("/propose")
    def propose() -> Response:
        receipts = peers.propose(_body(), _timeout())
        return _msgpack(encode_receipts(receipts))

    @blueprint.post("/barrier")
    def barrier() -> Response:
        return _msgpack(msgpack.packb(peers.barrier(_timeout())))

    @blueprint.post("/stage")
    def stage() -> Response:
        source, wanted, timeout = _unpacked()
        held = peers.stage(
            [(bytes(digest), int(size)) for digest, size in wanted], str(source), float(timeout)
        )
        return _msgpack(msgpack.packb(sorted(held)))

    @blueprint.post("/transfer")
    def transfer() -> Response:
        return _msgpack(msgpack.packb(peers.transfer_leadership(_unpacked(), _timeout())))

    @blueprint.post("/members")
    def change_members() -> Response:
        change, node_id, address, version = _unpacked()
        made = peers.change_members(
            _change(change), str(node_id), str(address), int(version), _timeout()
        )
        return _msgpack(msgpack.packb(made))

    @blueprint.get("/content/<digest>")
    def content(digest: str) -> Response:
        size, offset = _number("size"), _number("offset")
        opened = peers.open_content(_digest(digest), size)
        if opened is None:
            raise NotFound(f"this node does not have {digest}")
        opened.seek(offset)
        count = partial(peers.sent, request.environ[PEER])
        length = max(0, size - offset)
        body = _counted(chunks(opened, length), count)
        response = Response(body, mimetype="application/octet-stream")
        response.content_length = length
        response.call_on_close(opened.close)
        return response

    @blueprint.get("/status")
    def status() -> dict[str, Any]:
        return {**dataclasses.asdict(control.status()), "clock": time.time()}

    return blueprint


def _body() -> bytes:
    length = request.content_length
    if length is None or length > MAX_BODY:
        raise BadRequest(f"a body of at most {MAX_BODY} bytes with its length is required")
    return request.get_data(cache=False)


def _unpacked() -> Any:
    try:
        return msgpack.unpackb(_body())
    except (ValueError, msgpack.UnpackException) as error:
        raise BadRequest(f"the body is not msgpack: {error}") from error


def _change(name: object) -> MemberChange:
    try:
        return MemberChange(name)
    except ValueError as error:
        raise BadRequest(f"{name!r} is no change of the members") from error


def _timeout() -> float:
    try:
        return min(_LONGEST, max(0.0, float(request.headers.get("X-Pickbox-Timeout", "5"))))
    except ValueError as error:
        raise BadRequest(str(error), field="X-Pickbox-Timeout") from error


def _number(name: str) -> int:
    text = request.args.get(name, "")
    if not text.isdecimal():
        raise BadRequest(f"{name} must be a whole number, found {text!r}", field=name)
    return int(text)


def _digest(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError as error:
        raise BadRequest("not a hexadecimal digest", field="digest") from error
    if len(digest) != DIGEST_BYTES:
        raise BadRequest(f"a digest has {DIGEST_BYTES} bytes", field="digest")
    return digest


def _counted(content: Iterable[bytes], count: Callable[[int], None]) -> Iterator[bytes]:
    for chunk in content:
        yield chunk
        count(len(chunk))


def _msgpack(body: bytes) -> Response:
    return Response(body, mimetype="application/msgpack")
