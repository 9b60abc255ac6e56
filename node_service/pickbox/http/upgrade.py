"""The upgrade to another release, for operators: how far it is, and its end."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from flask import Blueprint

from pickbox.http.admin import want_token
from pickbox.http.parameters import Query

if TYPE_CHECKING:
    from pickbox.admin_tokens import AdminTokens
    from pickbox.seams import Upgrade
    from pickbox.status import UpgradeStatus


def upgrade_blueprint(upgrade: Upgrade, tokens: AdminTokens) -> Blueprint:
    """Routes under ``/api/v1/upgrade``; every one wants the admin token."""
    blueprint = Blueprint("upgrade", __name__, url_prefix="/api/v1/upgrade")
    want_token(blueprint, tokens)

    @blueprint.get("")
    def status() -> dict[str, Any]:
        Query()
        return _document(upgrade.status())

    @blueprint.post("")
    def finish() -> dict[str, Any]:
        """Use what came with the new release, for good; 409 until every member runs it."""
        Query()
        return _document(upgrade.finish())

    return blueprint


def _document(status: UpgradeStatus) -> dict[str, Any]:
    return {**dataclasses.asdict(status), "finished": status.finished}
