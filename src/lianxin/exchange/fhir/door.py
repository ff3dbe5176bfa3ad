"""The FHIR R4 door: a raw WSGI callable in front of Django, for /fhir.

Reads and searches run on the door's own autocommit connections; writes run in a transaction of Django's connection, so that
upper rooms (handlers) can take part.  Every read and write of patient data is audited before the answer leaves.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
from django.db import DataError, OperationalError, close_old_connections, connection, transaction
from django.db.utils import InterfaceError

from lianxin.access import audit, tokens
from lianxin.access.errors import AccessError
from lianxin.access.scope import Scope
from lianxin.access import connections as pool
from lianxin.exchange.fhir import bundles, capability, handlers, http
from lianxin.exchange.fhir.http import Incoming, Reply
from lianxin.record import bundle as bundling
from lianxin.record import definitions, rows, search, store, text, values
from lianxin.record.problems import Issue, Problem, refuse
from lianxin.record.store import Result, Write
from lianxin.standards.text import Text

log = logging.getLogger(__name__)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """WSGI entry: ``PATH_INFO`` is below /fhir (with or without the prefix)."""
    request: Incoming | None = None
    address = audit.origin.set(environ.get("REMOTE_ADDR", ""))
    try:
        request = http.incoming(environ)
        reply = answer(request)
    except Problem as problem:
        reply = refusal(problem)
    except AccessError as error:
        reply = Reply(403, http.outcome_text([Issue("forbidden", error.message)]))
    except (psycopg.errors.QueryCanceled, RecursionError):
        reply = refusal(
            refuse(
                503, "too-costly", "该请求耗时过长，请缩小查询范围", "this request takes too long; narrow it"
            )
        )
    except (psycopg.DataError, DataError):
        reply = refusal(
            refuse(
                422,
                "value",
                "含有数据库不接受的取值（过大的数或日期）",
                "a value is out of range (a number or date too large)",
            )
        )
    except (OperationalError, InterfaceError, psycopg.OperationalError):
        log.exception("database unavailable")
        reply = refusal(
            refuse(
                503,
                "transient",
                "数据库暂不可用，请稍后重试",
                "the database is not available; try again shortly",
            )
        )
        reply.headers.append(("Retry-After", "2"))
    except Exception:
        log.exception("FHIR request failed")
        reply = refusal(refuse(500, "exception", "内部错误，已记录", "an internal error; it has been logged"))
    finally:
        audit.origin.reset(address)
    return http.finish(request, reply, start_response, environ)


def refusal(problem: Problem) -> Reply:
    """The OperationOutcome of a refusal."""
    reply = Reply(problem.status, http.outcome_text(problem.issues), list(problem.headers))
    if problem.status == 401:
        reply.headers.append(("WWW-Authenticate", 'Bearer realm="lianxin"'))
    return reply


def answer(request: Incoming) -> Reply:
    """Route one request."""
    path, method = request.path, "GET" if request.method == "HEAD" else request.method
    if path == ["metadata"] and method == "GET":
        return Reply(200, capability.statement(request.base))
    route = handlers.route(path)
    if route is not None:
        return _routed(request, route)
    scope = authenticate(request)
    if not path:
        return _system(request, scope, method)
    if path == ["_history"] and method == "GET":
        return _history(request, scope, None, None)
    if path[0].startswith("$"):
        return _operation(request, scope, "", None, path[0])
    rtype = path[0]
    if rtype not in definitions.types():
        raise refuse(
            404, "not-supported", f"没有资源类型 {rtype[:60]}", f"there is no resource type {rtype[:60]}"
        )
    rest = path[1:]
    if rest and rest[-1].startswith("$") and len(rest) <= 2:
        return _operation(request, scope, rtype, rest[0] if len(rest) == 2 else None, rest[-1])
    match (method, len(rest)):
        case ("GET", 0):
            return _search(request, scope, rtype, request.params)
        case ("POST", 0):
            return _write(request, scope, rtype, None)
        case ("POST", 1) if rest[0] == "_search":
            return _search(request, scope, rtype, [*request.params, *_form(request)])
        case ("GET", 1) if rest[0] == "_history":
            return _history(request, scope, rtype, None)
        case ("GET", 1):
            return _read(request, scope, rtype, rest[0])
        case ("PUT", 1) | ("DELETE", 1):
            return _write(request, scope, rtype, rest[0])
        case ("GET", 2) if rest[1] == "_history":
            return _history(request, scope, rtype, rest[0])
        case ("GET", 3) if rest[1] == "_history":
            return _vread(request, scope, rtype, rest[0], rest[2])
        case ("GET", 2) if rtype == "Patient" and rest[1] in definitions.types():
            return _search(request, scope, rest[1], request.params, compartment=rest[0])
        case ("PUT", 0) | ("DELETE", 0) | ("PATCH", _):
            raise refuse(
                405,
                "not-supported",
                "不支持条件更新、条件删除和 PATCH；请用 类型/id",
                "conditional update or delete and PATCH are not supported; use Type/id",
            )
    raise refuse(
        405 if len(rest) < 4 else 404,
        "not-supported",
        "该地址不支持此方法",
        "this address does not support this method",
    )


def authenticate(request: Incoming) -> Scope:
    """The scope of the bearer token; 401 without a live one."""
    kind, _, bearer = request.header("Authorization").partition(" ")
    scope = None
    if kind.lower() == "bearer" and bearer.strip():
        scope = pool.reading(lambda cur: tokens.scope_for_token(bearer.strip(), cursor=cur))
    if scope is None:
        raise refuse(
            401,
            "login",
            "请在 Authorization 头中提供有效的 Bearer 令牌",
            "send a valid Bearer token in the Authorization header",
        )
    return scope


def demand(scope: Scope, rtype: str, letter: str) -> None:
    """403 unless the token's SMART scopes allow it."""
    if not tokens.allows(scope, rtype, letter):
        raise refuse(
            403,
            "forbidden",
            f"令牌的授权范围不含 {rtype}.{letter}，请申请相应授权",
            f"the token's scopes do not include {rtype}.{letter}; ask for that scope",
        )


def _gone(rtype: str, rid: str) -> Problem:
    return refuse(410, "deleted", f"{rtype}/{rid} 已删除", f"{rtype}/{rid} was deleted")


def _absent(rtype: str, rid: str) -> Problem:
    return refuse(
        404,
        "not-found",
        f"没有可查看的 {rtype}/{rid[:64]}",
        f"there is no {rtype}/{rid[:64]} that you may see",
    )


def note(cur: Any, scope: Scope, action: str, results: list[Result], what: str = "") -> None:
    """Audit results that are somebody's data: one event a person, with how many resources of each type when there are several."""
    people: dict[int | None, list[Result]] = {}
    for one in results:
        if one.person_id is not None or one.rtype not in definitions.OPEN_TYPES:
            people.setdefault(one.person_id, []).append(one)
    audit.write_many(
        [
            audit.entry(
                scope,
                action,
                person_id=person,
                what=what or f"{own[0].rtype}/{own[0].id}/_history/{own[0].version}",
                detail=dict(Counter(one.rtype for one in own)) if len(own) > 1 else None,
            )
            for person, own in people.items()
        ],
        cursor=cur,
    )


def _read(request: Incoming, scope: Scope, rtype: str, rid: str) -> Reply:
    demand(scope, rtype, "r")

    def work(cur: Any) -> Result | None:
        found = store.read(cur, scope, rtype, rid)
        if found is not None:
            note(cur, scope, "read", [found])
        return found

    result = pool.reading(work)
    if result is None:
        raise _absent(rtype, rid)
    if result.deleted:
        raise _gone(rtype, rid)
    headers = http.resource_headers(request, result)
    if http.not_changed(request, result):
        return Reply(304, b"", headers)
    return Reply(200, http.shown(request, rtype, result.body), headers)


def _vread(request: Incoming, scope: Scope, rtype: str, rid: str, version: str) -> Reply:
    demand(scope, rtype, "r")

    def work(cur: Any) -> Result | None:
        found = (
            store.vread(cur, scope, rtype, rid, int(version))
            if version.isdigit() and len(version) < 10
            else None
        )
        if found is not None:
            note(cur, scope, "read", [found])
        return found

    result = pool.reading(work)
    if result is None:
        raise _absent(rtype, rid)
    if result.deleted:
        raise _gone(rtype, rid)
    return Reply(200, http.shown(request, rtype, result.body), http.resource_headers(request, result))


def _form(request: Incoming) -> list[tuple[str, str]]:
    kind = request.environ.get("CONTENT_TYPE", "").split(";")[0].strip().lower()
    raw = request.body(http.MAX_QUERY)
    if raw and kind != "application/x-www-form-urlencoded":
        raise refuse(
            415,
            "not-supported",
            "_search 请用表单格式发送",
            "send _search as application/x-www-form-urlencoded",
        )
    try:
        return http.pairs(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise refuse(400, "invalid", "表单不是 UTF-8", "the form is not UTF-8") from None


def _search(
    request: Incoming, scope: Scope, rtype: str, given: list[tuple[str, str]], compartment: str | None = None
) -> Reply:
    demand(scope, rtype, "s")
    strict = "handling=strict" in request.prefer

    def work(cur: Any) -> search.Page:
        page = search.search(cur, scope, rtype, given, strict=strict, compartment=compartment)
        hidden = [e for e in page.included if not tokens.allows(scope, e.rtype, "r")]
        page.included = [e for e in page.included if e not in hidden]
        names = "&".join(sorted({n for n, _ in page.used}))
        note(cur, scope, "search", [*page.entries, *page.included], f"{rtype}?{names}"[:200])
        return page

    page = pool.reading(work)
    shaped = Incoming(request.method, request.path, given, request.environ, request.base)
    where = f"{request.base}/{f'Patient/{compartment}/' if compartment else ''}{rtype}"
    links = [http.link("self", f"{where}?{http.query(page.used)}" if page.used else where)]
    if page.next:
        links.append(http.link("next", f"{where}?{http.query([*page.used, ('_cursor', page.next)])}"))
    entries = [
        http.entry_text(request.base, e, http.shown(shaped, e.rtype, e.body), "match") for e in page.entries
    ]
    entries += [http.entry_text(request.base, e, e.body, "include") for e in page.included]
    if page.ignored:
        entries.append(
            f'{{"resource":{http.outcome_text(page.ignored).decode()},"search":{{"mode":"outcome"}}}}'
        )
    return Reply(200, http.bundle_text("searchset", entries, links, page.total))


def _history(request: Incoming, scope: Scope, rtype: str | None, rid: str | None) -> Reply:
    demand(scope, rtype or "*", "r")
    count = request.param("_count") or "50"
    if not count.isdigit() or len(count) > 6:
        raise refuse(400, "invalid", "_count 应为非负整数", "_count must be a whole number", "_count")
    since, before = None, None
    try:
        if request.param("_since"):
            since = values.date_range(request.param("_since").replace(" ", "+"))[0]
        if request.param("_cursor"):
            when, number, version = json.loads(request.param("_cursor"))
            before = (datetime.fromisoformat(when), int(number), int(version))
    except (ValueError, TypeError):
        raise refuse(
            400, "invalid", "_since 或翻页标记无效", "_since or the page cursor is not valid", "_since"
        ) from None

    def work(cur: Any) -> Any:
        found = store.history(
            cur, scope, rtype, rid, count=max(1, min(int(count), 500)), since=since, before=before
        )
        note(cur, scope, "read", found[0], f"{rtype or ''}/{rid or ''}/_history")
        return found

    versions, more = pool.reading(work)
    if rid is not None and not versions and before is None and since is None:
        raise _absent(rtype or "", rid)
    here = "/".join([request.base, *request.path])
    links = [http.link("self", here)]
    if more:
        cursor = json.dumps([more[0].isoformat(), more[1], more[2]], separators=(",", ":"))
        links.append(http.link("next", f"{here}?{http.query([('_count', count), ('_cursor', cursor)])}"))
    return Reply(
        200, http.bundle_text("history", [http.history_entry(request.base, v) for v in versions], links)
    )


def writing(work: Callable[[Any], Any]) -> Any:
    """Run ``work(cursor)`` in a transaction of Django's connection."""
    close_old_connections()
    with transaction.atomic(), connection.cursor() as own:
        return work(rows.server_cursor(own))


def _write(request: Incoming, scope: Scope, rtype: str, rid: str | None) -> Reply:
    method = {"POST": "create", "PUT": "update", "DELETE": "delete"}[request.method]
    demand(scope, rtype, method[0])
    raw, resource = b"", None
    if method != "delete":
        http.check_type(request.environ)
        raw = request.body()
        resource = bundling.parsed(raw)
        if resource.get("resourceType") != rtype:
            raise refuse(
                400,
                "structure",
                f"资源类型应为 {rtype}",
                f"the resource type must be {rtype}",
                "resourceType",
            )
        if method == "update" and resource.get("id") != rid:
            raise refuse(
                400,
                "value",
                f"资源的 id 应为 {rid}，与地址一致",
                f"the resource's id must be {rid}, as in the address",
                f"{rtype}.id",
            )
    handler = handlers.write_handler(rtype)
    if handler is not None:
        return _handled(
            request,
            scope,
            handler,
            handlers.Request(
                request.method, rtype, rid, None, request.params, _headers(request), resource, raw
            ),
        )
    wanted = Write(
        method, rtype, rid, resource, raw or None, if_match=request.header("If-Match") or None,
        if_none_exist=request.header("If-None-Exist") or None, if_none_match=request.header("If-None-Match") or None, trusted=True,
    )  # fmt: skip

    def work(cur: Any) -> Result:
        result = store.apply(cur, scope, [wanted])[0]
        note(cur, scope, method if result.status != 200 or method == "update" else "read", [result])
        return result

    result = writing(work)
    headers = http.resource_headers(request, result, location=method != "delete")
    if method == "delete":
        return Reply(204, b"", headers if result.version else [])
    if "return=minimal" in request.prefer:
        return Reply(result.status, b"", headers)
    if "return=operationoutcome" in request.prefer:
        return Reply(result.status, http.information("已保存", "saved"), headers)
    return Reply(result.status, result.body, headers)


def _headers(request: Incoming) -> dict[str, str]:
    return {
        k[5:].replace("_", "-").title(): v
        for k, v in request.environ.items()
        if k.startswith("HTTP_") and isinstance(v, str)
    }


class _Rollback(Exception):
    """Leaves the transaction of a handler that refused."""

    def __init__(self, response: handlers.Response) -> None:
        self.response = response


def _handled(request: Incoming, scope: Scope, handler: handlers.Handler, asked: handlers.Request) -> Reply:
    """Run a handler in a transaction; what it refuses is rolled back."""
    asked.key = request.header("Idempotency-Key")

    def work(cur: Any) -> handlers.Response:
        response = handler(scope, asked)
        if response.status >= 400:
            raise _Rollback(response)
        return response

    try:
        response = writing(work)
    except _Rollback as refused:
        response = refused.response
    return _reply(response)


def _reply(response: handlers.Response) -> Reply:
    body = response.resource
    if isinstance(body, dict):
        body = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Reply(response.status, body or "", list(response.headers.items()))


def _routed(request: Incoming, route: handlers.Route) -> Reply:
    """An address that another room registered."""
    scope = None if route.public else authenticate(request)
    raw = request.body(http.MAX_BUNDLE) if request.method in ("POST", "PUT") else b""
    asked = handlers.Request(
        request.method, "", None, None, request.params, _headers(request), None, raw, base=request.base
    )
    close_old_connections()
    return _reply(route.fn(scope, asked))


def _operation(request: Incoming, scope: Scope, rtype: str, rid: str | None, name: str) -> Reply:
    if rtype == "Patient" and name == "$everything" and rid:
        return _everything(request, scope, rid)
    found = handlers.operation(rtype, name)
    builtin = found is None and name == "$validate" and rtype
    if (found is None and not builtin) or (
        found is not None and rtype and not (found.instance if rid else found.type_level)
    ):
        raise refuse(
            404,
            "not-supported",
            f"没有操作 {rtype}/{name[:60]}",
            f"there is no operation {rtype}/{name[:60]}",
        )
    method = "GET" if request.method == "HEAD" else request.method
    if method != "POST" and (method != "GET" or (found is not None and found.affects_state)):
        problem = refuse(405, "not-supported", f"请用 POST 调用 {name}", f"call {name} with POST")
        problem.headers.append(
            ("Allow", "POST" if found is None or found.affects_state else "GET, HEAD, POST")
        )
        raise problem
    resource, raw = None, b""
    if method == "POST":
        raw = request.body(http.MAX_BUNDLE)
        if raw:
            http.check_type(request.environ)
            resource = text.parse(raw) if found is not None and not found.checked else bundling.parsed(raw)
    if found is not None:
        if rtype:
            demand(scope, rtype, found.letter)
        asked = handlers.Request(
            method,
            rtype,
            rid,
            found.name,
            request.params,
            _headers(request),
            resource,
            raw,
            base=request.base,
        )
        if found.affects_state:
            return _handled(request, scope, found.fn, asked)
        close_old_connections()
        return _reply(found.fn(scope, asked))
    if resource is None or resource.get("resourceType") not in (rtype, "Parameters"):
        raise refuse(400, "required", f"请用 POST 发送 {rtype}", f"send a {rtype} with POST")
    return Reply(200, http.information("结构正确", "the structure is valid"))


def _everything(request: Incoming, scope: Scope, rid: str) -> Reply:
    demand(scope, "Patient", "r")
    count = request.param("_count") or "1000"
    if not count.isdigit() or len(count) > 6:
        raise refuse(400, "invalid", "_count 应为非负整数", "_count must be a whole number", "_count")
    wanted = [t for t in request.param("_type").split(",") if t]
    if any(t not in definitions.types() for t in wanted):
        raise refuse(
            400, "invalid", "_type 含未知的资源类型", "_type names an unknown resource type", "_type"
        )

    def work(cur: Any) -> search.Page | None:
        page = search.everything(
            cur, scope, rid, count=max(1, int(count)), cursor=request.param("_cursor"), types=wanted
        )
        if page is not None:
            page.entries = [e for e in page.entries if tokens.allows(scope, e.rtype, "r")]
            page.included = [e for e in page.included if tokens.allows(scope, e.rtype, "r")]
            note(cur, scope, "read", page.entries, f"Patient/{rid}/$everything")
        return page

    page = pool.reading(work)
    if page is None:
        raise _absent("Patient", rid)
    here = f"{request.base}/Patient/{rid}/$everything"
    links = [http.link("self", here)]
    if page.next:
        kept = [(n, v) for n, v in request.params if n in ("_type", "_count")]
        links.append(http.link("next", f"{here}?{http.query([*kept, ('_cursor', page.next)])}"))
    entries = [http.entry_text(request.base, e, e.body, "match") for e in page.entries]
    entries += [http.entry_text(request.base, e, e.body, "include") for e in page.included]
    return Reply(200, http.bundle_text("searchset", entries, links, page.total))


def _system(request: Incoming, scope: Scope, method: str) -> Reply:
    if method != "POST":
        raise refuse(
            405,
            "not-supported",
            "系统级查询不支持；请指定资源类型",
            "system-level search is not supported; name a resource type",
        )
    http.check_type(request.environ)
    raw = request.body(http.MAX_BUNDLE)
    return bundles.process(request, scope, raw, _part_read, _part_claim, writing, note)


def _sub(request: Incoming, part: bundling.Part, method: str) -> Incoming:
    path, _, query = part.request.url.partition("?")
    environ = {
        k: v
        for k, v in request.environ.items()
        if k not in ("HTTP_IF_MATCH", "HTTP_IF_NONE_EXIST", "HTTP_IF_NONE_MATCH", "HTTP_PREFER")
    }
    if part.request.ifNoneMatch:
        environ["HTTP_IF_NONE_MATCH"] = part.request.ifNoneMatch
    if part.raw:
        environ["CONTENT_TYPE"] = "application/fhir+json"
    path = path.removeprefix(request.base)
    return Incoming(
        method, [p for p in path.split("/") if p], http.pairs(query), environ, request.base, part.raw or b""
    )


def _part_read(request: Incoming, scope: Scope, part: bundling.Part) -> tuple[int, Any]:
    """A GET or an operation inside a bundle."""
    if part.method == "GET" or "$" in part.request.url:
        inner = _sub(request, part, part.method)
        if not inner.path or inner.path == ["metadata"]:
            raise refuse(
                400, "not-supported", "Bundle 中不支持该地址", "this address is not supported inside a Bundle"
            )
        reply = answer(inner)
        return reply.status, reply.body.decode() if isinstance(reply.body, bytes) else reply.body
    raise refuse(
        400, "not-supported", "Bundle 中不支持该请求", "this request is not supported inside a Bundle"
    )


def _part_claim(request: Incoming, scope: Scope, part: bundling.Part) -> tuple[int, Any] | None:
    """A write inside a bundle that an upper room has taken."""
    demand(scope, part.rtype, {"POST": "c", "PUT": "u", "DELETE": "d"}[part.method])
    handler = handlers.write_handler(part.rtype)
    if handler is None:
        return None
    resource = bundling.parsed(part.raw) if part.raw else None
    rid = None if part.method == "POST" else part.id
    asked = handlers.Request(
        part.method, part.rtype, rid, None, [], _headers(request), resource, part.raw or b""
    )
    response = handler(scope, asked)
    if response.status >= 400:
        issues = (response.resource or {}).get("issue", []) if isinstance(response.resource, dict) else []
        first = issues[0] if issues else {}
        zh = first.get("details", {}).get("text", "业务系统拒绝")
        raise Problem(
            response.status,
            Issue(first.get("code", "processing"), Text(zh, first.get("diagnostics", "refused")), ""),
        )
    return response.status, response.resource


__all__ = ["application"]
