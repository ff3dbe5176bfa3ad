"""The FHIR R4 door: a raw WSGI callable in front of Django, for /fhir.

Reads and searches run on the door's own autocommit connections; writes run in a transaction of Django's connection, so that
upper rooms (handlers) can take part.  Every read and write of patient data is audited before the answer leaves.

This file takes the request, finds whose it is by its address, and turns every error into an OperationOutcome.
"""

import logging
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import DataError, OperationalError
from django.db.utils import InterfaceError

from lianxin.access import audit
from lianxin.access.errors import AccessError
from lianxin.access.scope import Scope
from lianxin.exchange import cors
from lianxin.exchange.fhir import bundles, calls, capability, gate, handlers, http, reads, searches, writes
from lianxin.exchange.fhir.http import Incoming, Reply
from lianxin.record import patch
from lianxin.record.problems import Issue, Problem, refuse

log = logging.getLogger(__name__)

COMPARTMENTS = ("Device", "Encounter", "Patient", "Practitioner", "RelatedPerson")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

Endpoint = Callable[[Incoming, Scope], Reply]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """WSGI entry: ``PATH_INFO`` is below /fhir (with or without the prefix)."""
    request: Incoming | None = None
    address = audit.origin.set(environ.get("REMOTE_ADDR", ""))
    try:
        made = request = http.incoming(environ)
        reply = guarded(lambda: answer(made))
    except Problem as problem:
        reply = refusal(problem)
    finally:
        audit.origin.reset(address)
    return http.finish(request, reply, start_response, environ)


def guarded(work: Callable[[], Reply]) -> Reply:
    """The reply of ``work``, or the OperationOutcome of what went wrong."""
    try:
        return work()
    except Problem as problem:
        return refusal(problem)
    except AccessError as error:
        return Reply(403, http.outcome_text([Issue("forbidden", error.message)]))
    except (psycopg.errors.QueryCanceled, RecursionError):
        return refusal(
            refuse(
                503, "too-costly", "该请求耗时过长，请缩小查询范围", "this request takes too long; narrow it"
            )
        )
    except (psycopg.DataError, DataError):
        return refusal(
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
        return reply
    except Exception:
        log.exception("FHIR request failed")
        return refusal(refuse(500, "exception", "内部错误，已记录", "an internal error; it has been logged"))


def failed(error: Exception) -> Reply:
    """The OperationOutcome of an error that came up elsewhere."""

    def again() -> Reply:
        raise error

    return guarded(again)


def refusal(problem: Problem) -> Reply:
    """The OperationOutcome of a refusal."""
    reply = Reply(problem.status, http.outcome_text(problem.issues), list(problem.headers))
    if problem.status == 401 and not any(name == "WWW-Authenticate" for name, _ in reply.headers):
        reply.headers.append(("WWW-Authenticate", 'Bearer realm="lianxin"'))
    return reply


def answer(request: Incoming) -> Reply:
    """Answer one request."""
    gate.fresh()
    if request.method == "HEAD":
        request.method = "GET"
    path, method = request.path, request.method
    if method == "OPTIONS":
        return _options(request)
    route = handlers.route(path)
    if route is not None:
        return calls.routed(
            request, route, None if route.public else request.scope or gate.authenticate(request)
        )
    if path == ["metadata"] and method == "GET":
        http.negotiate(request)
        return capability.reply(request)
    scope = request.scope or gate.authenticate(request)
    if method not in METHODS:
        raise refuse(
            501, "not-supported", f"不支持方法 {method[:20]}", f"the method {method[:20]} is not supported"
        )
    if path and path[-1].startswith("$"):
        http.negotiate(request)
        if len(path) > 1:
            calls.known_type(path[0])
        if len(path) <= 3:
            rtype, rid = path[0] if len(path) > 1 else "", path[1] if len(path) == 3 else None
            return calls.operation(request, scope, rtype, rid, path[-1])
    offered = endpoints(path)
    if method not in offered:
        raise _refused_method(request, offered)
    if not (path[:1] == ["Binary"] and method == "GET" and len(path) in (2, 4)):
        http.negotiate(request)
    return offered[method](request, scope)


def endpoints(path: list[str]) -> dict[str, Endpoint]:
    """What an address offers: method -> endpoint; empty when there is nothing at it."""
    match path:
        case []:
            return {
                "GET": lambda r, s: searches.run(r, s, None, r.params),
                "POST": lambda r, s: bundles.process(r, s, lambda inner: guarded(lambda: answer(inner))),
            }
        case ["metadata"]:
            return {"GET": lambda r, s: capability.reply(r)}
        case ["_history"]:
            return {"GET": lambda r, s: reads.history(r, s, None, None)}
        case ["_search"]:
            return {"POST": lambda r, s: searches.run(r, s, None, searches.form(r))}
    rtype = path[0]
    calls.known_type(rtype)
    match path[1:]:
        case []:
            return {
                "GET": lambda r, s: searches.run(r, s, rtype, r.params),
                **{m: lambda r, s: writes.write(r, s, rtype, None) for m in METHODS[1:]},
            }
        case ["_search"]:
            return {"POST": lambda r, s: searches.run(r, s, rtype, searches.form(r))}
        case ["_history"]:
            return {"GET": lambda r, s: reads.history(r, s, rtype, None)}
        case [rid]:
            return {
                "GET": lambda r, s: reads.read(r, s, rtype, rid),
                **{m: lambda r, s: writes.write(r, s, rtype, rid) for m in METHODS[2:]},
            }
        case [rid, "_history"]:
            return {"GET": lambda r, s: reads.history(r, s, rtype, rid)}
        case [rid, "_history", version]:
            return {"GET": lambda r, s: reads.vread(r, s, rtype, rid, version)}
        case [rid, inner, *more] if rtype in COMPARTMENTS and more in ([], ["_search"]):
            if inner != "*":
                calls.known_type(inner)
            wanted = None if inner == "*" else inner
            if more:
                return {"POST": lambda r, s: searches.run(r, s, wanted, searches.form(r), (rtype, rid))}
            return {"GET": lambda r, s: searches.run(r, s, wanted, r.params, (rtype, rid))}
    return {}


def allow(offered: dict[str, Endpoint]) -> str:
    """The value of ``Allow``."""
    return ", ".join(
        [m for method in offered for m in ((method, "HEAD") if method == "GET" else (method,))] + ["OPTIONS"]
    )


def _refused_method(request: Incoming, offered: dict[str, Endpoint]) -> Problem:
    if not offered:
        return refuse(404, "not-supported", "没有这个地址", "there is nothing at this address")
    problem = refuse(
        405,
        "not-supported",
        f"该地址不支持 {request.method}，可用：{allow(offered)}",
        f"this address does not support {request.method}; it takes {allow(offered)}",
    )
    problem.headers.append(("Allow", allow(offered)))
    return problem


def _options(request: Incoming) -> Reply:
    """What an address offers, and the answer to a browser that asks before a call from another origin."""
    path = request.path
    if handlers.route(path) is not None:
        value = "GET, HEAD, POST, OPTIONS"
    elif path and path[-1].startswith("$"):
        rtype, rid = path[0] if len(path) > 1 else "", path[1] if len(path) > 2 else None
        value = calls.methods(calls.find(rtype, rid, path[-1]))
    else:
        offered = endpoints(path)
        if not offered:
            raise _refused_method(request, offered)
        value = allow(offered)
    headers = [("Allow", value), *cors.preflight(request.environ)]
    if "PATCH" in value:
        headers.append(("Accept-Patch", f"{patch.JSON_PATCH}, application/fhir+json, {patch.MERGE_PATCH}"))
    return Reply(204, b"", headers)


# Where other rooms look for these.
authenticate, demand, note, writing = gate.authenticate, gate.demand, gate.note, gate.writing

__all__ = ["application", "authenticate", "demand", "note", "writing"]
