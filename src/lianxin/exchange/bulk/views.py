"""/bulk/: the status of a job, its cancelling, its files, and uploads ahead of an import.

Bearer tokens as at the FHIR door.  Only the client that started a job sees it; to anybody else it does not exist.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterator
from email.utils import format_datetime
from functools import wraps
from typing import Any, BinaryIO

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from lianxin.access import audit, tokens
from lianxin.access.scope import Scope
from lianxin.exchange.bulk import authority, files, jobs, sources
from lianxin.exchange.bulk.models import CANCELLED, DONE, EXPIRED, FAILED, BulkFile, BulkJob, BulkUpload
from lianxin.record import text
from lianxin.record.problems import Issue, Problem, outcome, refuse
from lianxin.standards import clock
from lianxin.standards.text import Text

FHIR_JSON = "application/fhir+json; charset=utf-8"
NDJSON = "application/fhir+ndjson"
POLLS, PER_SECONDS = 20, 1.0  # polls of one job in one process before 429
_polls: dict[uuid.UUID, list[float]] = {}
View = Callable[..., HttpResponseBase]


def _answered(*methods: str) -> Callable[[View], View]:
    """A view for machine clients: the bearer token's scope, refusals as OperationOutcomes, nothing cached."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                if request.method not in methods:
                    problem = refuse(
                        405,
                        "not-supported",
                        "该地址不支持此方法",
                        "this address does not support this method",
                    )
                    problem.headers.append(("Allow", ", ".join(methods)))
                    raise problem
                response = view(request, _scope(request), *args, **kwargs)
            except Problem as problem:
                response = _told(problem.status, problem.issues)
                for name, value in problem.headers:
                    response.headers[name] = value
                if problem.status == 401:
                    response.headers["WWW-Authenticate"] = 'Bearer realm="lianxin"'
            response.headers["Cache-Control"] = "no-store"
            return response

        return guarded

    return decorate


def _scope(request: HttpRequest) -> Scope:
    kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
    scope = tokens.scope_for_token(bearer.strip()) if kind.lower() == "bearer" and bearer.strip() else None
    if scope is None:
        raise refuse(
            401,
            "login",
            "请在 Authorization 头中提供有效的 Bearer 令牌",
            "send a valid Bearer token in the Authorization header",
        )
    authority.demand_machine(scope)
    return scope


def _told(status: int, issues: list[Issue]) -> HttpResponse:
    return HttpResponse(text.dumps(outcome(issues)), status=status, content_type=FHIR_JSON)


def _absent() -> Problem:
    return refuse(
        404,
        "not-found",
        "没有该任务或文件，或已取消、过期",
        "there is no such job or file, or it was cancelled or has expired",
    )


def _job(scope: Scope, pk: uuid.UUID) -> BulkJob:
    found = BulkJob.objects.filter(pk=pk).exclude(status__in=(CANCELLED, EXPIRED)).first()
    if (
        found is None
        or found.client_id != scope.client_id
        or (found.expires_at is not None and found.expires_at <= clock.now())
    ):
        raise _absent()
    return found


@_answered("GET", "HEAD", "DELETE")
def job(request: HttpRequest, scope: Scope, pk: uuid.UUID) -> HttpResponse:
    """GET: 202 with X-Progress, or 200 with the manifest.  DELETE: cancelled or removed, 202; 404 ever after."""
    found = _job(scope, pk)
    if request.method == "DELETE":
        jobs.remove(scope, found)
        told = Text("已取消，文件已删除", "cancelled; its files are removed")
        return _told(202, [Issue("informational", told, "", "information")])
    if found.status == FAILED:
        why = Text(found.failure_zh, found.failure_en)
        return _told(500, [Issue("processing", why)])
    if found.status != DONE:
        return _under_way(found)
    response = HttpResponse(text.dumps(jobs.manifest(found)), content_type="application/json")
    if found.expires_at is not None:
        response.headers["Expires"] = format_datetime(found.expires_at.astimezone(dt.UTC), usegmt=True)
    return response


def _under_way(found: BulkJob) -> HttpResponse:
    now = time.monotonic()
    recent = [at for at in _polls.get(found.pk, []) if now - at < PER_SECONDS]
    if len(_polls) > 1000:
        _polls.clear()
    _polls[found.pk] = [*recent, now]
    if len(recent) >= POLLS:
        problem = refuse(
            429,
            "throttled",
            "查询过于频繁，请按 Retry-After 等待",
            "asked too often; wait as Retry-After says",
        )
        problem.headers.append(("Retry-After", "5"))
        raise problem
    age = (clock.now() - found.created_at).total_seconds()
    response = HttpResponse(status=202)
    response.headers["X-Progress"] = jobs.progress(found).en
    response.headers["Retry-After"] = "1" if age < 10 else "5" if age < 120 else "30"
    return response


@_answered("GET", "HEAD")
def file(request: HttpRequest, scope: Scope, pk: uuid.UUID, number: int) -> HttpResponseBase:
    """A finished file as NDJSON, gzip where it is taken; a frame in memory at a time.  Every fetch is audited."""
    found = _job(scope, pk)
    one = BulkFile.objects.filter(job=found, pk=number).exclude(role="input").select_related("lane").first()
    if one is None or found.status != DONE:
        raise _absent()
    if one.role != "error" and not authority.may_export(scope, one.lane.rtype):
        raise refuse(
            403, "forbidden", f"令牌的授权范围不含 {one.lane.rtype}.rs", f"the token's scopes do not include {one.lane.rtype}.rs"
        )  # fmt: skip
    try:
        opened = files.open_file(files.path_of(found.pk, one.stored))
    except FileNotFoundError:
        raise _absent() from None
    gzip = "gzip" in request.headers.get("Accept-Encoding", "")
    if request.method == "HEAD":
        opened.close()
        response: HttpResponseBase = HttpResponse()
    else:
        audit.write(
            scope,
            "export",
            what=f"bulk file {found.pk}/{one.pk}",
            detail={"type": one.rtype, "count": one.count},
        )
        body = files.gzipped(opened, one.crc, one.size) if gzip else files.lines(opened)
        response = StreamingHttpResponse(_closing(opened, body))
    response.headers["Content-Type"] = NDJSON
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Disposition"] = f'attachment; filename="{one.rtype}-{one.pk}.ndjson"'
    if gzip:
        response.headers["Content-Encoding"] = "gzip"
    else:
        response.headers["Content-Length"] = str(one.size)
    return response


def _closing(opened: BinaryIO, body: Iterator[bytes]) -> Iterator[bytes]:
    with opened:
        yield from body


@_answered("POST")
def upload(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Take an NDJSON file (plain or gzip) ahead of ``$import``; 201 with its address.  It is written as it comes."""
    if not authority.may_write(scope, ""):
        raise refuse(
            403, "forbidden", "令牌的授权范围不允许写入（需要 system/类型.cu）", "the token's scopes allow no writing (system/Type.cu is needed)"
        )  # fmt: skip
    if request.content_type in ("application/x-www-form-urlencoded", "multipart/form-data"):
        raise refuse(
            415, "not-supported", "请用 Content-Type: application/fhir+ndjson 直接发送文件内容", "send the lines themselves as Content-Type: application/fhir+ndjson"
        )  # fmt: skip
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    if coding not in ("", "identity", "gzip"):
        raise refuse(415, "not-supported", "只支持 gzip 压缩", "only gzip is supported as Content-Encoding")
    name = uuid.uuid4()
    now = clock.now()
    written = sources.keep("uploads", str(name), _body(request))
    made = BulkUpload.objects.create(
        id=name, client_id=scope.client_id, stored=written.stored, count=written.count, size=written.size, created_at=now,
        expires_at=now + jobs.lifetime(),
    )  # fmt: skip
    audit.write(scope, "create", what=f"bulk upload {name}", detail={"lines": made.count, "bytes": made.size})
    response = HttpResponse(
        text.dumps(
            {
                "url": request.build_absolute_uri(f"/bulk/uploads/{name}"),
                "lines": made.count,
                "bytes": made.size,
            }
        ),
        status=201,
        content_type="application/json",
    )
    response.headers["Location"] = request.build_absolute_uri(f"/bulk/uploads/{name}")
    return response


def _body(request: HttpRequest) -> Iterator[bytes]:
    declared = request.headers.get("Content-Length", "")
    got = 0
    try:
        while piece := request.read(sources.READ):
            got += len(piece)
            yield piece
    except OSError:  # the sender paused too long, or has gone
        raise refuse(
            408,
            "timeout",
            "内容发送过慢或中断，请重发",
            "the body came too slowly or broke off; send it again",
        ) from None
    if declared.isdigit() and got < int(declared):
        raise refuse(400, "structure", "内容未发送完整，请重发", "the body was cut off; send it again")


@_answered("DELETE")
def uploaded(request: HttpRequest, scope: Scope, pk: uuid.UUID) -> HttpResponse:
    """Remove an upload (imports under way keep their own copy)."""
    found = BulkUpload.objects.filter(pk=pk).first()
    if found is None or found.client_id != scope.client_id:
        raise _absent()
    files.path_of("uploads", found.stored).unlink(missing_ok=True)
    found.delete()
    audit.write(scope, "delete", what=f"bulk upload {pk}")
    return HttpResponse(status=204)
