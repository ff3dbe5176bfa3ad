"""Operations and registered addresses at the door: finding the handler, reading its arguments, running it."""

from typing import Any

from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers, http
from lianxin.exchange.fhir.http import Incoming, Reply
from lianxin.exchange.fhir.writes import Rollback, headers_of, reply_of
from lianxin.record import bundle as bundling
from lianxin.record import definitions, text
from lianxin.record.problems import refuse


def find(rtype: str, rid: str | None, name: str) -> handlers.Operation:
    """The operation at this level; 404 when there is none."""
    found = handlers.operation(rtype, name)
    if found is None or (rtype and not (found.instance if rid else found.type_level)):
        where = f"{rtype}/" if rtype else ""
        raise refuse(
            404,
            "not-supported",
            f"此处没有操作 {where}{name[:60]}",
            f"there is no operation {where}{name[:60]} here",
        )
    return found


def methods(found: handlers.Operation) -> str:
    """The value of ``Allow`` for an operation."""
    return "POST, OPTIONS" if found.affects_state else "GET, HEAD, POST, OPTIONS"


def operation(request: Incoming, scope: Scope, rtype: str, rid: str | None, name: str) -> Reply:
    """Call ``$name``; one that changes nothing runs outside a transaction."""
    found = find(rtype, rid, name)
    if request.method not in methods(found):
        problem = refuse(405, "not-supported", f"请用 POST 调用 {name}", f"call {name} with POST")
        problem.headers.append(("Allow", methods(found)))
        raise problem
    resource, raw = None, b""
    params = list(request.params)
    if request.method == "POST":
        raw = request.body(http.MAX_BUNDLE)
        if raw and http.content_type(request.environ) == "application/x-www-form-urlencoded":
            params += http.pairs(raw.decode("utf-8", "replace"))
            raw = b""
        if raw:
            http.check_type(request.environ)
            resource = bundling.parsed(raw, strict=scope.strict) if found.checked else text.parse(raw)
            if not isinstance(resource, dict):
                raise refuse(400, "structure", "内容应为一个资源", "the body must be a resource")
    if rtype:
        gate.demand(scope, rtype, found.letter)
    asked = handlers.Request(
        request.method, rtype, rid, found.name, params, headers_of(request), resource, raw,
        request.header("Idempotency-Key"), request.base,
    )  # fmt: skip
    if not found.affects_state:
        return reply_of(found.fn(scope, asked))

    def work(cur: Any) -> handlers.Response:
        response = found.fn(scope, asked)
        if response.status >= 400:
            raise Rollback(response)
        return response

    try:
        return reply_of(gate.writing(work))
    except Rollback as refused:
        return reply_of(refused.response)


def routed(request: Incoming, route: handlers.Route, scope: Scope | None) -> Reply:
    """An address that another room registered."""
    raw = request.body(http.MAX_BUNDLE) if request.method in ("POST", "PUT", "PATCH") else b""
    asked = handlers.Request(
        request.method, "", None, None, request.params, headers_of(request), None, raw, base=request.base
    )
    return reply_of(route.fn(scope, asked))


def known_type(rtype: str) -> None:
    """404 for what is no resource type."""
    if rtype not in definitions.types():
        raise refuse(
            404, "not-supported", f"没有资源类型 {rtype[:60]}", f"there is no resource type {rtype[:60]}"
        )
