"""Transaction and batch at the door: the record does the work, this makes the answer."""

from collections.abc import Callable
from typing import Any

from lianxin.access.errors import AccessError
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import http
from lianxin.exchange.fhir.http import Incoming, Reply
from lianxin.record import bundle as bundling
from lianxin.record import store, text
from lianxin.record.problems import Issue, Problem, outcome
from lianxin.record.store import Result, stamp

ACTIONS = {"POST": "create", "PUT": "update", "DELETE": "delete"}


def process(
    request: Incoming,
    scope: Scope,
    raw: bytes,
    read: Callable[[Incoming, Scope, bundling.Part], tuple[int, Any]],
    claim: Callable[[Incoming, Scope, bundling.Part], tuple[int, Any] | None],
    writing: Callable[[Callable[[Any], Any]], Any],
    note: Callable[..., None],
) -> Reply:
    """Answer ``POST /fhir`` with a transaction or batch."""
    bundle = bundling.decode(raw)
    if bundle.type == "transaction":
        answers = _transaction(request, scope, bundle, read, claim, writing, note)
    else:
        answers = [
            _single(request, scope, entry, i, read, claim, writing, note)
            for i, entry in enumerate(bundle.entry)
        ]
    minimal = "return=minimal" in request.prefer
    entries = [_entry(request, status, body, minimal) for status, body in answers]
    return Reply(200, http.bundle_text(f"{bundle.type}-response", entries, []))


def _transaction(
    request: Incoming, scope: Scope, bundle: bundling.Bundle, read: Any, claim: Any, writing: Any, note: Any
) -> list[tuple[int, Any]]:
    def work(cur: Any) -> list[tuple[bundling.Part, int, Any]]:
        done = bundling.transaction(
            cur, scope, bundle,
            read=lambda part: (0, None) if part.method == "GET" else read(request, scope, part),
            claim=lambda part: claim(request, scope, part),
        )  # fmt: skip
        for action in ("create", "update", "delete"):
            note(
                cur,
                scope,
                action,
                [r for p, _, r in done if isinstance(r, Result) and ACTIONS.get(p.method) == action],
            )
        return done

    done = writing(work)
    answers = []
    for part, status, body in done:
        if part.method == "GET":  # reads come last, from what has been committed
            try:
                status, body = read(request, scope, part)
            except Problem as problem:
                status, body = problem.status, outcome(problem.issues)
        answers.append((status, body))
    return answers


def _single(
    request: Incoming,
    scope: Scope,
    entry: bundling.Entry,
    i: int,
    read: Any,
    claim: Any,
    writing: Any,
    note: Any,
) -> tuple[int, Any]:
    try:
        part = bundling.understand(entry, i)
        if part.method == "GET" or "$" in part.request.url:
            return read(request, scope, part)

        def work(cur: Any) -> tuple[int, Any]:
            if part.raw:
                part.raw = bundling.rewrite(
                    part.raw,
                    bundling.resolve_conditional(cur, scope, bundling.conditional_references([part.raw])),
                )
            taken = claim(request, scope, part)
            if taken is not None:
                return taken
            result = store.apply(cur, scope, [bundling.as_write(part)])[0]
            note(cur, scope, ACTIONS[part.method], [result])
            return result.status, result

        return writing(work)
    except Problem as problem:
        return problem.status, outcome(problem.issues)
    except AccessError as error:
        return 403, outcome([Issue("forbidden", error.message)])


def _entry(request: Incoming, status: int, body: Any, minimal: bool) -> str:
    """One entry of the response bundle."""
    response: dict[str, Any] = {"status": str(status)}
    resource = ""
    if isinstance(body, Result):
        if body.version:
            response["etag"] = http.etag(body.version)
            response["lastModified"] = stamp(body.updated)
        if status in (200, 201):
            response["location"] = f"{body.rtype}/{body.id}/_history/{body.version}"
            resource = "" if minimal else body.body
    elif isinstance(body, dict) and body.get("resourceType") == "OperationOutcome":
        response["outcome"] = body
    elif body:
        resource = body if isinstance(body, str) else text.dumps(body).decode()
    inner = f'"resource":{resource},' if resource else ""
    return "{" + inner + f'"response":{text.dumps(response).decode()}' + "}"


__all__ = ["process"]
