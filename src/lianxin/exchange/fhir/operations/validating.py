"""$validate: what is wrong with a resource, told without storing anything.

On a type or an instance; the resource bare or in Parameters, or the stored one when none is sent; ``mode`` create, update,
delete or profile; ``profile`` any number of times.  Always 200 with an OperationOutcome, however bad the resource is (only what
is no JSON, or whom it may not be asked of, is refused).
"""

from typing import Any

import orjson

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.record import definitions, store, text, validate
from lianxin.record.problems import Issue, Problem, outcome, refuse
from lianxin.standards.text import Text

MODES = ("create", "update", "delete", "profile")
MOST_REFERENCES = 50  # looked up in one resource
ORDER = {"fatal": 0, "error": 1, "warning": 2, "information": 3}


def register() -> None:
    """Offer it on every resource."""
    handlers.register_operation(
        handlers.EVERY_TYPE,
        "validate",
        run,
        affects_state=False,
        checked=False,
        definition="http://hl7.org/fhir/OperationDefinition/Resource-validate",
    )


def run(scope: Scope, asked: Request) -> Response:
    """``POST Type/$validate``, ``POST Type/id/$validate``, ``GET Type/id/$validate``."""
    mode = asked.argument("mode")
    if mode is not None and mode not in MODES:
        raise refuse(
            400, "value", f"mode 应为 {'、'.join(MODES)}", f"mode must be one of {', '.join(MODES)}",
            "Parameters.parameter.where(name='mode')",
        )  # fmt: skip
    profiles = [url for url in asked.arguments.get("profile", ()) if type(url) is str]
    given = (asked.arguments.get("resource") or [None])[0]
    issues: list[Issue] = []
    if mode == "delete":
        if asked.id is None:
            raise refuse(
                400, "required", "mode=delete 须在 类型/id 上调用", "mode=delete is asked of Type/id", "mode"
            )
        stored(scope, asked)
    elif given is None or mode == "profile":
        if asked.id is None:
            raise refuse(400, "required", "缺少 resource", "the resource is missing", "resource")
        given = stored(scope, asked)
        issues = validate.full(given, profiles)
    else:
        issues = [*_of_body(asked.raw), *_identity(asked, given, mode), *validate.full(given, profiles)]
    if given is not None and not any(issue.severity == "error" for issue in issues):
        issues += references(scope, given)
    if not issues:
        issues = [Issue("informational", Text("未发现问题", "no problems found"), severity="information")]
    return Response(200, outcome(sorted(issues, key=lambda i: ORDER.get(i.severity, 1))))


def stored(scope: Scope, asked: Request) -> dict[str, Any]:
    """The resource as it is stored, when the scope may see it (404, 410)."""
    rid = asked.id or ""

    def work(cur: Any) -> store.Result | None:
        found = store.read(cur, scope, asked.rtype, rid)
        if found is not None:
            gate.note(cur, scope, "read", [found])
        return found

    found = connections.reading(work)
    if found is None:
        raise gate.absent(asked.rtype, rid)
    if found.deleted:
        raise gate.gone(asked.rtype, rid)
    return orjson.loads(found.body)


def _of_body(raw: bytes) -> list[Issue]:
    """Duplicate members, which the parsed tree does not show."""
    try:
        text.duplicate_check(raw, _members(orjson.loads(raw)) if raw else 0)
    except Problem as problem:
        return problem.issues
    except orjson.JSONDecodeError:
        return []  # the door has refused it, or the resource came another way
    return []


def _members(value: Any) -> int:
    if type(value) is dict:
        return len(value) + sum(_members(one) for one in value.values())
    return sum(_members(one) for one in value) if type(value) is list else 0


def _identity(asked: Request, given: Any, mode: str | None) -> list[Issue]:
    """Whether the type and id are those of the address."""
    if type(given) is not dict:
        return []
    issues = []
    kind = given.get("resourceType")  # whatever a caller wrote there, a list too
    if isinstance(kind, str) and kind != asked.rtype and kind in definitions.types():
        issues.append(
            Issue(
                "structure",
                Text(f"resourceType 应为 {asked.rtype}", f"resourceType must be {asked.rtype}"),
                "resourceType",
            )
        )
    wanted = asked.id
    if wanted is not None and given.get("id") not in (None, wanted):
        issues.append(
            Issue("value", Text(f"id 应为 {wanted}", f"the id must be {wanted}"), f"{asked.rtype}.id")
        )
    if mode == "update" and given.get("id") is None:
        issues.append(Issue("required", Text("更新须有 id", "an update needs the id"), f"{asked.rtype}.id"))
    if mode == "create" and given.get("id") is not None:
        issues.append(
            Issue(
                "informational",
                Text(
                    "新建时 id 由服务器给出，所给的 id 不会保留",
                    "the server gives the id of a new resource; this one is not kept",
                ),
                f"{asked.rtype}.id",
                "information",
            )
        )
    return issues


def references(scope: Scope, resource: dict[str, Any]) -> list[Issue]:
    """Literal references to what is not here, or not for this client to see (the answer is the same)."""
    found: dict[tuple[str, str], str] = {}
    _collect(resource, str(resource.get("resourceType")), found)
    wanted = list(found)[:MOST_REFERENCES]
    if not wanted:
        return []

    def work(cur: Any) -> list[tuple[str, str]]:
        absent = []
        for rtype, rid in wanted:
            one = store.read(cur, scope, rtype, rid)
            if one is None or one.deleted:
                absent.append((rtype, rid))
        return absent

    return [
        Issue(
            "not-found",
            Text(f"没有可查看的 {rtype}/{rid}", f"there is no {rtype}/{rid} that you may see"),
            found[rtype, rid],
            "warning",
        )
        for rtype, rid in connections.reading(work)
    ]


def _collect(value: Any, path: str, into: dict[tuple[str, str], str]) -> None:
    if type(value) is dict:
        reference = value.get("reference")
        if type(reference) is str:
            rtype, _, rid = reference.partition("/")
            rid = rid.partition("/_history/")[0]
            if rtype in definitions.types() and rid and "/" not in rid and "#" not in rid:
                into.setdefault((rtype, rid), f"{path}.reference")
        for key, one in value.items():
            if key != "contained":
                _collect(one, f"{path}.{key}", into)
    elif type(value) is list:
        for i, one in enumerate(value):
            _collect(one, f"{path}[{i}]", into)
