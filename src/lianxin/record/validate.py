"""Validation of R4 resources: the one place every write comes through.

``accept`` reads a text and decides on its structure (types, cardinality, formats, required codes, references, contained
resources, narrative, duplicate members); a refusal tells every problem with its path.  ``rules`` then checks what a
resource says: invariants, required bindings of concepts, profiles it claims.  ``full`` does all of it and adds what only
``$validate`` tells: warnings of extensible bindings, best practice, unknown profiles.
"""

from typing import Any

import orjson

from lianxin.record import text, validate_fast
from lianxin.record.problems import Problem, refuse
from lianxin.record.validate_walk import MAX_DEPTH, MOST, check

__all__ = ["MAX_DEPTH", "MOST", "accept", "check"]


def accept(raw: bytes) -> dict[str, Any]:
    """The resource in a JSON text.

    400 when it is no strict JSON or has duplicate members, 422 with all problems when it is not a structurally valid R4
    resource.
    """
    resource = text.parse(raw)
    if type(resource) is not dict:
        raise refuse(400, "structure", "应为 JSON 对象", "a resource must be a JSON object")
    compact = orjson.dumps(resource)
    # A member that is lost as a duplicate takes its colon along, and colons are not lost otherwise (unless ASCII is escaped).
    if (
        raw.count(b":") == compact.count(b":")
        and (b"\\" not in raw or b"\\u00" not in raw)
        and validate_fast.sound(raw, resource, compact)
    ):
        return resource
    issues, count = check(resource)
    if issues:
        raise Problem(422, *issues)
    text.duplicate_check(raw, count)
    return resource
