"""Backup points and restores of a node, for operators and their backup program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint

from pickbox.errors import BadRequest
from pickbox.http import parameters
from pickbox.http.admin import want_token
from pickbox.http.parameters import Query

if TYPE_CHECKING:
    from pickbox.admin_tokens import AdminTokens
    from pickbox.backup import Backups, Job

_ANSWER_SECONDS: Final = 10.0
"""How long an answer waits for what was begun; what takes longer is asked for again."""

_CONTENT_WAIT: Final = 60.0
_LONGEST_WAIT: Final = 3600.0


def backups_blueprint(backups: Backups, tokens: AdminTokens) -> Blueprint:
    """Routes under ``/api/v1``; every one wants the admin token."""
    blueprint = Blueprint("backups", __name__, url_prefix="/api/v1")
    want_token(blueprint, tokens)

    @blueprint.before_request
    def refuse_parameters() -> None:
        Query()

    _add_points(blueprint, backups)
    _add_restores(blueprint, backups)
    return blueprint


def _add_points(blueprint: Blueprint, backups: Backups) -> None:
    @blueprint.get("/backups")
    def points() -> dict[str, Any]:
        return {
            "directory": backups.point_directory,
            "backups": [job.document() for job in backups.list("point")],
        }

    @blueprint.post("/backups")
    def make_point() -> tuple[dict[str, Any], int]:
        """Make the point ``name``; wait up to ``wait`` seconds for content that is on its way."""
        body = parameters.json_body("name", "wait")
        job = backups.create(_text(body, "name"), content_wait=_seconds(body, "wait"))
        return _answer(job)

    @blueprint.get("/backups/<name>")
    def point(name: str) -> dict[str, Any]:
        return backups.get("point", name).document()

    @blueprint.delete("/backups/<name>")
    def remove_point(name: str) -> tuple[dict[str, Any], int]:
        return _removed(name, gone=backups.remove("point", name))


def _add_restores(blueprint: Blueprint, backups: Backups) -> None:
    @blueprint.get("/restores")
    def restores() -> dict[str, Any]:
        return {
            "directory": backups.restore_directory,
            "restores": [job.document() for job in backups.list("restore")],
        }

    @blueprint.post("/restores")
    def restore() -> tuple[dict[str, Any], int]:
        """Take in what is in the directory ``name``: all, or what is at ``path`` of the folder."""
        body = parameters.json_body("name", "path", "over")
        over = body.get("over", False)
        if not isinstance(over, bool):
            raise BadRequest("over must be true or false.", field="over")
        path = _text(body, "path") if "path" in body else ""
        return _answer(backups.restore(_text(body, "name"), path, over=over))

    @blueprint.get("/restores/<name>")
    def restore_state(name: str) -> dict[str, Any]:
        return backups.get("restore", name).document()

    @blueprint.delete("/restores/<name>")
    def remove_restore(name: str) -> tuple[dict[str, Any], int]:
        return _removed(name, gone=backups.remove("restore", name))


def _answer(job: Job) -> tuple[dict[str, Any], int]:
    """201 with what was made, or 202 while it is being made."""
    finished = job.finished.wait(_ANSWER_SECONDS)
    return job.document(), 201 if finished else 202


def _removed(name: str, *, gone: bool) -> tuple[dict[str, Any], int]:
    """200, or 202 for what is still being made: it is removed at its end."""
    return {"name": name, "state": "absent" if gone else "running"}, 200 if gone else 202


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name} must be a string that is not empty.", field=name)
    return value


def _seconds(body: dict[str, Any], name: str) -> float:
    value = body.get(name, _CONTENT_WAIT)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= (_LONGEST_WAIT)
    ):
        raise BadRequest(f"{name} must be seconds from 0 to {_LONGEST_WAIT:g}.", field=name)
    return float(value)
