"""Create, update, patch and delete at the door, each also under a condition.

One request is one transaction.  Types that an upper room has taken go to its handler, after conditions and patches are worked out.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings

from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers, http, shape
from lianxin.exchange.fhir.http import Incoming, Reply
from lianxin.record import bundle as bundling
from lianxin.record import conditional, patch, store, text, validate
from lianxin.record.conditional import Condition
from lianxin.record.problems import refuse
from lianxin.record.store import Result, Write

PATCH_TYPES = frozenset({patch.JSON_PATCH, patch.MERGE_PATCH, *(http.JSON_TYPES - {"", "text/json"})})
LETTERS = {"POST": "c", "PUT": "u", "PATCH": "u", "DELETE": "d"}


class Rollback(Exception):
    """Leaves the transaction of a handler that refused."""

    def __init__(self, response: handlers.Response) -> None:
        self.response = response


def headers_of(request: Incoming) -> dict[str, str]:
    """The request's headers by their usual names."""
    return {
        k[5:].replace("_", "-").title(): v
        for k, v in request.environ.items()
        if k.startswith("HTTP_") and isinstance(v, str)
    }


def reply_of(response: handlers.Response) -> Reply:
    """The reply of a handler's response."""
    body = response.resource
    if isinstance(body, dict):
        body = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Reply(response.status, body or "", list(response.headers.items()))


@dataclass
class _Asked:
    """A write as asked for, before any look at the database."""

    rtype: str
    id: str | None
    resource: dict[str, Any] | None = None
    raw: bytes = b""
    change: patch.Patch | None = None
    condition: Condition | None = None


def write(request: Incoming, scope: Scope, rtype: str, rid: str | None) -> Reply:
    """Answer POST, PUT, PATCH or DELETE of a type or of one resource."""
    gate.demand(scope, rtype, LETTERS[request.method])
    asked = _asked(request, scope, rtype, rid)
    if asked.condition is not None:
        gate.demand(scope, rtype, "s")
    handler = handlers.write_handler(rtype)

    def work(cur: Any) -> list[Result] | handlers.Response:
        return _perform(cur, request, scope, asked, handler)

    try:
        done = gate.writing(work)
    except Rollback as refused:
        return reply_of(refused.response)
    if isinstance(done, handlers.Response):
        return reply_of(done)
    return _deleted(request, done) if request.method == "DELETE" else _written(request, scope, done[0])


def _asked(request: Incoming, scope: Scope, rtype: str, rid: str | None) -> _Asked:
    """Read the body and the condition."""
    asked = _Asked(rtype, rid)
    method = request.method
    if method == "PATCH":
        http.check_type(request.environ, PATCH_TYPES)
        raw = request.body()
        asked.change = patch.of_body(http.content_type(request.environ), raw)
    elif method != "DELETE":
        asked.raw, asked.resource = _body(request, rtype, scope.strict)
    if method == "POST":
        # fhirpy's get_or_create puts the condition into the address; ignoring it would double what it looks for.
        asks = rtype != "Binary" and any(n not in conditional.RESULT_ONLY for n, _ in request.params)
        if asks or request.header("If-None-Exist"):
            query = request.header("If-None-Exist") or request.environ.get("QUERY_STRING", "")
            asked.condition = conditional.condition(rtype, query)
    elif rid is None:
        asked.condition = conditional.condition(rtype, request.environ.get("QUERY_STRING", ""))
    elif method == "PUT" and asked.resource is not None and asked.resource.get("id") != rid:
        raise refuse(
            400,
            "value",
            f"资源的 id 应为 {rid}，与地址一致",
            f"the resource's id must be {rid}, as in the address",
            f"{rtype}.id",
        )
    return asked


def _body(request: Incoming, rtype: str, strict: bool) -> tuple[bytes, dict[str, Any]]:
    """The resource in the body, checked; other content sent to Binary is wrapped into one."""
    kind = http.content_type(request.environ)
    if rtype == "Binary" and request.method == "POST" and kind not in http.JSON_TYPES:
        made = {
            "resourceType": "Binary",
            "contentType": str(request.environ.get("CONTENT_TYPE", "")).strip(),
            "data": base64.b64encode(request.body()).decode(),
        }
        if request.header("X-Security-Context"):
            made["securityContext"] = {"reference": request.header("X-Security-Context")}  # type: ignore[assignment]
        raw = text.dumps({k: v for k, v in made.items() if v})
        return raw, bundling.parsed(raw, strict=strict)
    http.check_type(request.environ)
    raw = request.body()
    resource = bundling.parsed(raw, strict=strict)
    if resource.get("resourceType") != rtype:
        raise refuse(
            400,
            "structure",
            f"资源类型应为 {rtype}",
            f"the resource type must be {rtype}",
            "resourceType",
        )
    return raw, resource


def _perform(
    cur: Any, request: Incoming, scope: Scope, asked: _Asked, handler: handlers.Handler | None
) -> list[Result] | handlers.Response:
    """Settle the condition under its lock, work out the patch, and write (or let the handler write)."""
    method, rtype, rid = request.method, asked.rtype, asked.id
    if asked.condition is not None:
        conditional.hold(cur, [asked.condition])
        if method == "DELETE":
            limit = settings.LIANXIN_CONDITIONAL_DELETE
            found = conditional.up_to(cur, scope, asked.condition, limit)
            for one in found:
                bundling.stored(cur, scope, rtype, one.id)
            return _delete(cur, request, scope, rtype, [f.id for f in found], handler)
        if method == "PUT":
            assert asked.resource is not None
            rid = conditional.target(cur, scope, asked.condition, asked.resource.get("id"))
            if rid is None:
                method = "POST"
        else:
            match = conditional.one(cur, scope, asked.condition)
            if method == "POST" and match is not None:
                gate.note(cur, scope, "read", [match])
                match.status = 200
                return [match]
            if method == "PATCH":
                if match is None:
                    raise refuse(
                        404,
                        "not-found",
                        "没有符合条件的资源可供修改",
                        "no resource matches the condition to patch",
                    )
                rid = match.id
    if method != "POST":
        bundling.stored(cur, scope, rtype, rid)
    if method == "DELETE":
        assert rid is not None
        return _delete(cur, request, scope, rtype, [rid], handler)
    raw, resource, if_match = asked.raw, asked.resource, request.header("If-Match") or None
    if asked.change is not None:
        assert rid is not None
        current = bundling.patchable(cur, scope, rtype, rid)
        raw = asked.change.apply(current.body)
        if raw == current.body.encode() and if_match in (None, shape.etag(current.version)):
            gate.note(cur, scope, "read", [current])
            return [current]
        resource = bundling.patched(raw, rtype, rid, strict=scope.strict)
        if_match = if_match or shape.etag(current.version)
        method = "PUT"
    if handler is not None:
        return _handled(request, scope, handler, method, rtype, rid, resource, raw)
    if method == "PUT" and resource is not None:
        resource["id"] = rid
    action = "create" if method == "POST" else "update"
    wanted = Write(
        action, rtype, rid if method == "PUT" else None, resource, raw, if_match=if_match,
        if_none_match=request.header("If-None-Match") or None, trusted=True,
    )  # fmt: skip
    result = store.apply(cur, scope, [wanted])[0]
    gate.note(cur, scope, action, [result])
    return [result]


def _handled(
    request: Incoming,
    scope: Scope,
    handler: handlers.Handler,
    method: str,
    rtype: str,
    rid: str | None,
    resource: dict[str, Any] | None,
    raw: bytes,
) -> handlers.Response:
    """Let the owner of the type write; what it refuses is rolled back."""
    asked = handlers.Request(
        method, rtype, rid, None, request.params, headers_of(request), resource, raw,
        request.header("Idempotency-Key"), request.base,
    )  # fmt: skip
    response = handler(scope, asked)
    if response.status >= 400:
        raise Rollback(response)
    return response


def _delete(
    cur: Any,
    request: Incoming,
    scope: Scope,
    rtype: str,
    ids: list[str],
    handler: handlers.Handler | None,
) -> list[Result] | handlers.Response:
    if handler is not None:
        responses = [_handled(request, scope, handler, "DELETE", rtype, one, None, b"") for one in ids]
        return responses[0] if responses else handlers.Response(204)
    match = request.header("If-Match") or None
    done = store.apply(cur, scope, [Write("delete", rtype, one, if_match=match) for one in ids])
    gate.note(cur, scope, "delete", [r for r in done if r.version])
    return done


def _deleted(request: Incoming, done: list[Result]) -> Reply:
    headers = shape.resource_headers(request, done[0]) if len(done) == 1 and done[0].version else []
    if "return=operationoutcome" in request.prefer:
        body = http.information(f"已删除 {len(done)} 个资源", f"deleted: {len(done)}")
        return Reply(200, body, headers)
    return Reply(204, b"", headers, done[0] if len(done) == 1 else None)


def saved(scope: Scope, result: Result) -> bytes:
    """The OperationOutcome of a write: for a client that is only warned, what a strict one would have been refused for."""
    warnings = [] if scope.strict else validate.rules(orjson.loads(result.body), strict=False)
    return http.outcome_text(warnings) if warnings else http.information("已保存", "saved")


def _written(request: Incoming, scope: Scope, result: Result) -> Reply:
    headers = shape.resource_headers(request, result, location=True)
    if "return=minimal" in request.prefer:
        return Reply(result.status, b"", headers, result)
    if "return=operationoutcome" in request.prefer:
        return Reply(result.status, saved(scope, result), headers, result)
    return Reply(result.status, shape.shown(request, result.rtype, result.body), headers, result)
