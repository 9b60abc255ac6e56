"""The description of the client API, and what schemathesis cannot know of it."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from schemathesis.specs.openapi.checks import positive_data_acceptance

if TYPE_CHECKING:
    import schemathesis

DOCUMENT: dict[str, Any] = json.loads(
    (resources.files("pickbox.http") / "openapi.json").read_bytes()
)
ENDLESS = "/api/events/stream"
"""Its answer never ends, so that nothing which waits for all of it can ask."""
BEYOND_SCHEMAS = {"If-Match", "X-Pickbox-Mtime", "kind", "cursor"}


def hold(case: schemathesis.Case, base_url: str) -> None:
    """Send the request of `case`; fail when the answer is not as the document says."""
    response = case.call(base_url=base_url)
    excluded = [positive_data_acceptance] if _breaks_a_rule_beyond_schemas(response) else []
    case.validate_response(response, excluded_checks=excluded)


def _breaks_a_rule_beyond_schemas(response: schemathesis.Response) -> bool:
    """Whether a request that fits its schema was refused by a rule that a schema cannot say.

    Such are what depends on the file (its version, its size), the rules for paths (which count
    bytes, and read ``..`` in several spellings), headers and parameters that exclude each other,
    and a cursor that no listing gave.
    """
    if response.status_code != 400:
        return response.status_code in {412, 416}
    if response.request.method == "HEAD":
        return True
    problem = json.loads(response.content)
    name = problem["type"].rpartition(":")[2]
    return name == "invalid-path" or problem.get("field") in BEYOND_SCHEMAS
