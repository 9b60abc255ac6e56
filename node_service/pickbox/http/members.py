"""The members of the cluster, for operators: listed, added, promoted, removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint

from pickbox.errors import BadRequest
from pickbox.http import parameters
from pickbox.http.admin import want_token
from pickbox.http.parameters import Query
from pickbox.settings import Peer, is_node_id

if TYPE_CHECKING:
    from pickbox.admin_tokens import AdminTokens
    from pickbox.members import Members
    from pickbox.seams import Membership


def members_blueprint(membership: Membership, tokens: AdminTokens) -> Blueprint:
    """Routes under ``/api/v1/members``; every one wants the admin token."""
    blueprint = Blueprint("members", __name__, url_prefix="/api/v1/members")
    want_token(blueprint, tokens)

    @blueprint.get("")
    def members() -> dict[str, Any]:
        Query()
        return _document(membership.members())

    @blueprint.post("")
    def add() -> dict[str, Any]:
        """Add ``node_id`` at ``address`` (host:port of its log) as a learner."""
        Query()
        body = parameters.json_body("node_id", "address")
        peer = _peer(body.get("node_id"), body.get("address"))
        return _document(membership.add(peer.node_id, peer.address))

    @blueprint.post("/<node_id>/promote")
    def promote(node_id: str) -> dict[str, Any]:
        """Make the learner a voter; 409 until it has caught up."""
        Query()
        return _document(membership.promote(node_id))

    @blueprint.delete("/<node_id>")
    def remove(node_id: str) -> dict[str, Any]:
        """Let a node go; 409 until the rest has its content. ``force=true`` does not wait."""
        force = Query("force").flag("force")
        return _document(membership.remove(node_id, force=force))

    return blueprint


def _peer(node_id: object, address: object) -> Peer:
    if not isinstance(node_id, str) or not is_node_id(node_id):
        allowed = "1 to 32 of a-z, 0-9 and '-', not at either end"
        raise BadRequest(f"node_id must be the id of a node: {allowed}.", field="node_id")
    if not isinstance(address, str):
        raise BadRequest("address must be host:port.", field="address")
    try:
        return Peer.parse(node_id, address)
    except ValueError as error:
        raise BadRequest(f"address: {error}.", field="address") from error


def _document(members: Members) -> dict[str, Any]:
    return {
        "version": members.version,
        "members": [
            {
                "node_id": member.node_id,
                "address": member.address,
                "role": "voter" if member.voter else "learner",
            }
            for member in members.nodes
        ],
    }
