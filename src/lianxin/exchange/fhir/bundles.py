"""Transaction and batch at the door: the record does the work of a transaction, this asks for it and makes the answer.

Every entry of a batch, and every read of a transaction, is a request of its own through the same door.
"""

from collections.abc import Callable
from typing import Any

import orjson

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers, http, shape
from lianxin.exchange.fhir.http import Incoming, Reply
from lianxin.exchange.fhir.writes import LETTERS, headers_of
from lianxin.record import bundle as bundling
from lianxin.record import patch, text
from lianxin.record.problems import Issue, Problem, refuse
from lianxin.record.store import Result, stamp
from lianxin.standards.text import Text

ACTIONS = {"POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
# What belongs to the bundle's own request, not to its entries.
OWN = frozenset(
    {"HTTP_IF_MATCH", "HTTP_IF_NONE_EXIST", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_ACCEPT", "HTTP_IDEMPOTENCY_KEY",
     "HTTP_CONTENT_ENCODING", "CONTENT_LENGTH", "CONTENT_TYPE", "QUERY_STRING", "REQUEST_METHOD"}
)  # fmt: skip

Answer = Callable[[Incoming], Reply]


def process(request: Incoming, scope: Scope, answer: Answer) -> Reply:
    """Answer ``POST /fhir`` with a transaction or batch; ``answer`` is the door for single requests, refusals included."""
    http.check_type(request.environ)
    bundle = bundling.decode(request.body(http.MAX_BUNDLE))
    for entry in bundle.entry:
        if entry.request is not None:
            entry.request.url = entry.request.url.removeprefix(f"{request.base}/")
    if bundle.type == "transaction":
        answers = _transaction(request, scope, bundle, answer)
    else:
        answers = [_single(request, scope, entry, i, answer) for i, entry in enumerate(bundle.entry)]
    minimal = "return=minimal" in request.prefer
    tell = "return=operationoutcome" in request.prefer
    entries = [_entry(request, reply, minimal, tell) for reply in answers]
    return Reply(200, shape.bundle_text(f"{bundle.type}-response", entries, []))


def _transaction(request: Incoming, scope: Scope, bundle: bundling.Bundle, answer: Answer) -> list[Reply]:
    def read(part: bundling.Part) -> tuple[int, Any]:
        if not part.writes and part.method != "POST":
            return 0, None  # reads come last, from what has been committed
        reply = answer(_inner(request, scope, part))
        if reply.status >= 400:
            raise _told(reply)
        return reply.status, reply

    hooks = bundling.Hooks(
        lambda part: _check(scope, part),
        lambda part, method, raw: _claim(request, scope, part, method, raw),
        read,
    )

    def work(cur: Any) -> list[tuple[bundling.Part, int, Any]]:
        done = bundling.transaction(cur, scope, bundle, hooks)
        kept = [(_action(p, s), r) for p, s, r in done if isinstance(r, Result) and r.version]
        gate.note_all(cur, scope, kept)
        return done

    return [
        answer(_inner(request, scope, part))
        if not status
        else body
        if isinstance(body, Reply)
        else Reply(status, result=body)
        if isinstance(body, Result)
        else Reply(status, _text(body))
        for part, status, body in gate.writing(work)
    ]


def _action(part: bundling.Part, status: int) -> str:
    return "read" if part.method == "POST" and status == 200 else ACTIONS[part.method]


def _check(scope: Scope, part: bundling.Part) -> None:
    if part.writes:
        gate.demand(scope, part.rtype, LETTERS[part.method])
        if part.condition is not None:
            gate.demand(scope, part.rtype, "s")


def _single(request: Incoming, scope: Scope, entry: bundling.Entry, i: int, answer: Answer) -> Reply:
    """One entry of a batch, as a request of its own."""
    try:
        part = bundling.understand(entry, i)
        if part.raw and part.writes:
            wanted = bundling.conditional_references([part.raw])
            if wanted:
                targets = connections.reading(lambda cur: bundling.resolve_conditional(cur, scope, wanted))
                part.raw = bundling.rewrite(part.raw, targets)
        return answer(_inner(request, scope, part))
    except Problem as problem:
        return Reply(problem.status, http.outcome_text(problem.issues))


def _inner(request: Incoming, scope: Scope, part: bundling.Part) -> Incoming:
    """The request that an entry stands for."""
    path, _, query = part.request.url.partition("?")
    environ = {k: v for k, v in request.environ.items() if k not in OWN}
    environ.update(REQUEST_METHOD=part.method, QUERY_STRING=query)
    for name, value in (
        ("HTTP_IF_MATCH", part.request.ifMatch),
        ("HTTP_IF_NONE_EXIST", part.request.ifNoneExist),
        ("HTTP_IF_NONE_MATCH", part.request.ifNoneMatch),
        ("HTTP_IF_MODIFIED_SINCE", part.request.ifModifiedSince),
    ):
        if value:
            environ[name] = value
    steps = [p for p in path.split("/") if p]
    if not steps or steps == ["metadata"]:
        raise refuse(
            400,
            "not-supported",
            "Bundle 中不支持该地址",
            "this address is not supported inside a Bundle",
            f"{part.place}.request.url",
        )
    raw = part.raw or b""
    if part.method == "PATCH":
        sent = patch.of_resource(raw, f"{part.place}.resource")
        raw = sent.raw
        environ["CONTENT_TYPE"] = patch.JSON_PATCH if sent.kind == "json" else "application/fhir+json"
    elif raw:
        environ["CONTENT_TYPE"] = "application/fhir+json"
    method = "GET" if part.method == "HEAD" else part.method
    return Incoming(method, steps, http.pairs(query), environ, request.base, raw, scope)


def _claim(
    request: Incoming, scope: Scope, part: bundling.Part, method: str, raw: bytes | None
) -> tuple[int, Any] | None:
    """A write of a transaction whose type an upper room has taken."""
    handler = handlers.write_handler(part.rtype)
    if handler is None:
        return None
    response = handler(
        scope,
        handlers.Request(
            method, part.rtype, None if method == "POST" else part.id, None, [], headers_of(request),
            bundling.parsed(raw, strict=scope.strict) if raw else None, raw or b"", base=request.base,
        ),
    )  # fmt: skip
    if response.status >= 400:
        raise _told(Reply(response.status, _text(response.resource)))
    return response.status, response.resource


def _told(reply: Reply) -> Problem:
    """The refusal that a reply tells."""
    body = reply.body.encode() if isinstance(reply.body, str) else reply.body
    told = orjson.loads(body) if body else {}
    issues = [
        Issue(
            one.get("code", "processing"),
            Text(one.get("details", {}).get("text", "拒绝"), one.get("diagnostics", "refused")),
            (one.get("expression") or [""])[0],
        )
        for one in told.get("issue", [])
    ]
    return Problem(reply.status, *(issues or [Issue("processing", Text("业务系统拒绝", "refused"))]))


def _text(body: Any) -> str:
    if isinstance(body, dict):
        return text.dumps(body).decode()
    return body or ""


def _entry(request: Incoming, reply: Reply, minimal: bool, tell: bool) -> str:
    """One entry of the response bundle."""
    response: dict[str, Any] = {"status": str(reply.status)}
    body = reply.body.decode() if isinstance(reply.body, bytes) else reply.body
    headers = {name.lower(): value for name, value in reply.headers}
    result, full_url = reply.result, ""
    if result is not None and reply.status < 300:
        if result.version:
            response["etag"] = shape.etag(result.version)
            response["lastModified"] = stamp(result.updated)
        if not result.deleted and reply.status in (200, 201):
            response["location"] = f"{result.rtype}/{result.id}/_history/{result.version}"
            full_url = f"{request.base}/{result.rtype}/{result.id}"
            body = body or ("" if minimal else result.body)
        if tell:
            body = http.information("已完成", "done").decode()
    elif reply.status < 300 and "location" in headers:
        response["location"] = headers["location"].removeprefix(f"{request.base}/")
        if "etag" in headers:
            response["etag"] = headers["etag"]
    inner = ""
    if body.startswith('{"resourceType":"OperationOutcome"') and (reply.status >= 300 or tell):
        response["outcome"] = orjson.loads(body)
    elif body.startswith("{"):
        inner = f'"resource":{body},'
    named = f'"fullUrl":{text.dumps(full_url).decode()},' if full_url and inner else ""  # type: ignore[arg-type]
    return "{" + named + inner + f'"response":{text.dumps(response).decode()}' + "}"


__all__ = ["process"]
