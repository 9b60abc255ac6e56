"""Errors that a caller can act on. Each has a stable `type`, a sentence, and often a field.

The HTTP layer turns them into problem documents (RFC 9457); the CLI prints the sentence.
"""

from __future__ import annotations


class PickboxError(Exception):
    """Base of every error that is shown to a user.

    Attributes:
        type: stable name, ``[a-z-]+``, the last part of the problem document's ``type``.
        status: the HTTP status it is answered with.
        field: the request field or setting that is wrong, if one is.
    """

    type: str = "internal"
    status: int = 500

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class InvalidPath(PickboxError):
    """A path breaks a rule. `rule` is the rule's stable name (``parent-reference``, ``nul``, …)."""

    type = "invalid-path"
    status = 400

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail, field="path")
        self.rule = rule


class BadRequest(PickboxError):
    """A parameter, header or body is malformed."""

    type = "bad-request"
    status = 400


class NotFound(PickboxError):
    """Nothing has this path, member or request id."""

    type = "not-found"
    status = 404


class NotAFile(PickboxError):
    """The path is a directory or a link where a file's content was asked for."""

    type = "not-a-file"
    status = 409


class NotEmpty(PickboxError):
    """A directory that still has entries."""

    type = "directory-not-empty"
    status = 409


class PathTaken(PickboxError):
    """Something else is at the path, or a parent of it is not a directory."""

    type = "path-taken"
    status = 409


class ChangeRefused(PickboxError):
    """The members cannot be changed like this."""

    type = "change-refused"
    status = 409


class UpgradeRefused(PickboxError):
    """The upgrade cannot be finished: some member may not understand what would be used."""

    type = "upgrade-refused"
    status = 409


class LevelTooLow(PickboxError):
    """What is asked needs the upgrade to be finished."""

    type = "level-too-low"
    status = 409


class ChangeTooEarly(ChangeRefused):
    """The members can be changed like this in a while: ask again."""

    type = "change-too-early"


class PreconditionFailed(PickboxError):
    """``If-Match`` or ``If-None-Match`` does not hold for the current version."""

    type = "precondition-failed"
    status = 412


class KeyReused(PickboxError):
    """The ``Idempotency-Key`` was another request's (draft-ietf-httpapi-idempotency-key-header)."""

    type = "key-reused"
    status = 422


class TooLarge(PickboxError):
    """The body is larger than the node takes."""

    type = "too-large"
    status = 413


class Unauthorized(PickboxError):
    """No token, or not the right one."""

    type = "unauthorized"
    status = 401


class NoLeader(PickboxError):
    """No leader could be reached in time: nothing was changed, or it is unknown (see the id)."""

    type = "no-leader"
    status = 503


class TooManyViewers(PickboxError):
    """So many follow the events of this node already that it takes no more: ask again and again."""

    type = "too-many-viewers"
    status = 503


class NotReady(PickboxError):
    """The node is draining, catching up, or has stopped writing."""

    type = "not-ready"
    status = 503


class ContentPending(PickboxError):
    """The entry is committed, and its content is still on its way to this node."""

    type = "content-pending"
    status = 503


class NotStaged(PickboxError):
    """The content could not be made durable on a majority of the nodes in time."""

    type = "not-staged"
    status = 503


class OutcomeUnknown(PickboxError):
    """The deadline passed with the change under way: ask for the request id."""

    type = "outcome-unknown"
    status = 504


class DiskFull(PickboxError):
    """The volume has less free space than the node keeps in reserve."""

    type = "disk-full"
    status = 507


class DiskFailed(PickboxError):
    """The node's disk reports an error where it should have stored or read something."""

    type = "disk-failed"
    status = 507
