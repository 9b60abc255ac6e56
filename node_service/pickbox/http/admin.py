"""The admin API: what an operator may do to a node, behind a bearer token."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from flask import Blueprint, request

from pickbox.errors import BadRequest, Unauthorized
from pickbox.http import parameters
from pickbox.http.documents import cluster_document, health_document
from pickbox.http.parameters import Query

if TYPE_CHECKING:
    from pickbox.admin_tokens import AdminTokens
    from pickbox.seams import NodeControl


def admin_blueprint(control: NodeControl, tokens: AdminTokens) -> Blueprint:
    """Routes under ``/api/v1``, and ``/``; every one wants the admin token."""
    blueprint = Blueprint("admin", __name__)
    want_token(blueprint, tokens)

    @blueprint.before_request
    def refuse_parameters() -> None:
        Query()

    _add_state(blueprint, control)
    _add_actions(blueprint, control)
    return blueprint


def want_token(blueprint: Blueprint, tokens: AdminTokens) -> None:
    """Refuse every request to `blueprint` that does not bring an admin token."""

    @blueprint.before_request
    def authenticate() -> None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise Unauthorized("The admin API wants the header Authorization: Bearer <token>.")
        if not tokens.accepts(given.strip().encode("latin-1")):
            raise Unauthorized("This is not the admin token of the node.")


def _add_state(blueprint: Blueprint, control: NodeControl) -> None:
    @blueprint.get("/")
    def index() -> dict[str, Any]:
        status = control.status()
        return {"node_id": status.node_id, "version": status.version, "api": "/api/v1/status"}

    @blueprint.get("/api/v1/status")
    def status() -> dict[str, Any]:
        node = control.status()
        return {
            "node": dataclasses.asdict(node),
            "health": health_document(control.health()),
            "cluster": cluster_document(control.cluster(), node.node_id),
        }

    @blueprint.get("/api/v1/leader")
    def leader() -> dict[str, Any]:
        node = control.status()
        return {"leader": node.leader, "term": node.term}

    @blueprint.get("/api/v1/deletes")
    def held_deletes() -> dict[str, Any]:
        return dataclasses.asdict(control.held_deletes())


def _add_actions(blueprint: Blueprint, control: NodeControl) -> None:
    @blueprint.post("/api/v1/leader")
    def transfer_leadership() -> dict[str, Any]:
        """Hand leadership to ``target``, or to the best follower when it is null or left out."""
        target = parameters.json_body("target", required=False).get("target")
        if target is not None and not isinstance(target, str):
            raise BadRequest("target must be the id of a node, or null.", field="target")
        return {"leader": control.transfer_leadership(target)}

    @blueprint.post("/api/v1/drain")
    def drain() -> dict[str, Any]:
        control.drain()
        return {"draining": True}

    @blueprint.delete("/api/v1/drain")
    def undrain() -> dict[str, Any]:
        control.undrain()
        return {"draining": False}

    @blueprint.post("/api/v1/deletes")
    def approve_deletes() -> dict[str, Any]:
        """Delete on every node what is missing from this one's folder."""
        return {"count": control.approve_deletes()}

    @blueprint.delete("/api/v1/deletes")
    def restore_deletes() -> dict[str, Any]:
        """Put what is missing back into this node's folder."""
        return {"count": control.restore_deletes()}

    @blueprint.post("/api/v1/snapshot")
    def snapshot() -> dict[str, Any]:
        return {"index": control.snapshot()}
