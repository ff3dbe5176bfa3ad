"""What of the record a scope may see, as SQL: relationship to the person, own institution's source, or no patient's data."""

from typing import Any

from lianxin.access import relationships
from lianxin.access.scope import Scope
from lianxin.record.definitions import OPEN_TYPES

_OPEN = sorted(OPEN_TYPES)


def condition(scope: Scope, alias: str = "r", rtype: str | None = None) -> tuple[str, list[Any]]:
    """SQL condition on a ``record_resource`` alias; ``rtype`` spares the type check when it is known."""
    if scope.everything or (rtype is not None and rtype in OPEN_TYPES):
        return "TRUE", []
    parts: list[str] = []
    params: list[Any] = []
    if rtype is None:
        parts.append(f"{alias}.rtype = ANY(%s::text[])")
        params.append(_OPEN)
    if scope.clinical:
        if scope.institution_ids:
            parts.append(f"{alias}.institution_id = ANY(%s::bigint[])")
            params.append(sorted(scope.institution_ids))
        fragment, more = relationships.sql(scope, f"{alias}.person_id")
        parts.append(f"({fragment})")
        params += more
    if not parts:
        return "FALSE", []
    return "(" + " OR ".join(parts) + ")", params
