"""Validation of R4 resources: the one place every write comes through.

``accept`` reads a text and decides on its structure (types, cardinality, formats, required codes, references, contained
resources, narrative, duplicate members); a refusal tells every problem with its path.  ``rules`` then checks what a
resource says: invariants, required bindings of concepts, profiles it claims.  ``full`` does all of it and adds what only
``$validate`` tells: warnings, other bindings, unknown profiles.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import orjson

from lianxin.record import bindings, definitions, invariants, text, validate_fast, validate_known
from lianxin.record.fhirpath_values import Node, fields
from lianxin.record.problems import Issue, Problem
from lianxin.record.validate_profiles import CORE, Checker
from lianxin.record.validate_walk import MAX_DEPTH, MOST, check
from lianxin.standards.text import Text

__all__ = ["MAX_DEPTH", "MOST", "accept", "check", "full", "read", "rules"]
MOST_TOLD = 200  # issues of one $validate
MOST_PROFILES = 10  # claimed by one resource


def accept(raw: bytes) -> dict[str, Any]:
    """The resource in a JSON text.

    400 when it is no strict JSON or has duplicate members, 422 with all problems when it is not a structurally valid R4
    resource.
    """
    resource = text.parse(raw)
    if type(resource) is not dict:
        raise Problem(422, *check(resource)[0])
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


def rules(resource: dict[str, Any], raw: bytes | None = None, *, strict: bool = True) -> list[Issue]:
    """What a structurally sound resource (of ``raw``) says wrongly: invariants, required bindings, known profiles it claims.

    422 with every error when ``strict``; otherwise errors are answered as warnings.  Returns what does not forbid storing.
    """
    issues = invariants.broken(resource, raw)
    claimed = resource.get("meta", {}).get("profile")
    if claimed:
        issues += _claimed(resource, claimed[:MOST_PROFILES], validate_known.find)[0]
    if not issues:
        return issues
    if strict and any(issue.severity == "error" for issue in issues):
        raise Problem(422, *issues[:MOST])
    return [replace(i, severity="warning") if i.severity == "error" else i for i in issues[:MOST]]


def read(raw: bytes, place: str = "", *, strict: bool = True) -> tuple[dict[str, Any], list[Issue]]:
    """``accept`` and ``rules`` of a text: the resource and the warnings about it; refusals name ``place``."""
    try:
        resource = accept(raw)
        return resource, rules(resource, raw, strict=strict)
    except Problem as problem:
        raise (problem.at(place) if place else problem) from None


def _claimed(resource: dict[str, Any], urls: Iterable[str], find: Any) -> tuple[list[Issue], list[str]]:
    """The issues of profiles, and the urls of those nobody here knows."""
    checker = Checker(resource, find, MOST_TOLD)
    node = Node.of(resource)
    unknown = [
        url
        for url in dict.fromkeys(urls)
        if type(url) is str and url != CORE + node.t and not checker.against(url, node, node.t)
    ]
    return checker.issues, unknown


def full(resource: Any, profiles: Iterable[str] = ()) -> list[Issue]:
    """Every problem of a resource: structure, and when that is sound invariants, bindings, and the profiles named or claimed."""
    issues, _ = check(resource)
    if issues:
        return issues
    issues = invariants.broken(resource, warnings=True)
    issues += _bound(resource, resource["resourceType"], (resource["resourceType"],))
    named = list(profiles)
    claimed = [url for url in resource.get("meta", {}).get("profile", ())[:MOST_PROFILES] if url not in named]
    told, unknown = _claimed(resource, [*named, *claimed], validate_known.find_now)
    issues += told
    for url in unknown:
        asked = url in named
        issues.append(
            Issue(
                "not-found" if asked else "not-supported",
                Text(
                    f"不认识档案 {url[:300]}，未据此校验",
                    f"the profile {url[:300]} is not known here; not validated against it",
                ),
                "" if asked else f"{resource['resourceType']}.meta.profile",
                "error" if asked else "warning",
            )
        )
    return issues[:MOST_TOLD]


def _bound(value: dict[str, Any], kind: str, path: invariants.Path) -> list[Issue]:
    """Codes outside extensible (warning) and preferred (information) value sets."""
    issues: list[Issue] = []
    table = bindings.elements()
    for name in definitions.elements(kind):
        strength, url = table.get(f"{kind}.{name}", ("", ""))
        for key, type_name in fields(kind)[name.removesuffix("[x]")]:
            item = value.get(key)
            for i, one in enumerate(item if type(item) is list else [item]):
                if one is None or len(issues) >= MOST_TOLD:
                    continue
                place = (path, key, i if type(item) is list else -1)
                if (
                    strength in ("extensible", "preferred")
                    and any(bindings.coded(one))
                    and bindings.within(url, one) is False
                ):
                    issues.append(
                        Issue(
                            "code-invalid",
                            Text(
                                f"代码不在值集 {url} 中（{strength}）",
                                f"the code is not in the value set {url} ({strength})",
                            ),
                            invariants.spelled(place),
                            "warning" if strength == "extensible" else "information",
                        )
                    )
                if type(one) is dict:
                    inner = str(one.get("resourceType")) if type_name == "Resource" else type_name
                    issues += _bound(one, inner, place)
    return issues
