"""``/documents`` for systems: documents in by POST, one or many; one of the ten kinds the platform writes out by GET.

The bearer token is the one of ``/fhir``.  Each document gets an OperationOutcome in Chinese and English with the number under
which it is kept (``id``: "arrival-17"), whether it was taken or not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import quote

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.views.decorators.csrf import csrf_exempt

from lianxin.access import tokens
from lianxin.access.errors import AccessError
from lianxin.access.scope import Scope
from lianxin.exchange.cda import door, door_files, issue
from lianxin.exchange.cda.door import Received
from lianxin.exchange.cda.door_files import Named
from lianxin.exchange.feeds import inbox
from lianxin.exchange.feeds.errors import Refusal, reason_of
from lianxin.exchange.feeds.inbox import Piece, Verdict
from lianxin.exchange.feeds.models import CDA, QUARANTINED, REFUSED
from lianxin.exchange.fhir import gate, http
from lianxin.exchange.partners import limits
from lianxin.record import text
from lianxin.record.problems import Issue, Problem, outcome, refuse
from lianxin.standards.text import T, Text

log = logging.getLogger(__name__)

MOST_SENT = 50 * 1024 * 1024
"""Bytes of one request."""
XML_TYPES = frozenset(
    {
        "application/xml",
        "text/xml",
        "application/hl7-v3+xml",
        "application/hl7-cda+xml",
        "application/cda+xml",
    }
)
ZIP_TYPES = frozenset({"application/zip", "application/x-zip-compressed", "application/x-zip"})
STATUS = {
    "structure": 400, "security": 400, "too-long": 413, "too-costly": 413, "duplicate": 409, "conflict": 409, "forbidden": 403,
    "exception": 500, "not-supported": 415, "not-found": 404,
}  # fmt: skip
"""HTTP status of a refusal by its code; every other is 422."""
ARRIVAL = "http://lianxin.example/fhir/StructureDefinition/arrival"
View = Callable[..., HttpResponse]


def machine(*methods: str) -> Callable[[View], View]:
    """A view for systems: the bearer token's scope, their limits, refusals as OperationOutcomes, nothing cached."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
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
                response = _told(problem)
            except AccessError as failure:
                response = _told(Problem(403, Issue("forbidden", failure.message)))
            except Refusal as failure:
                one = failure.reason
                response = _told(Problem(STATUS.get(one.code, 422), Issue(one.code, one.text, one.place)))
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
    if limited := limits.at_door(scope):
        raise limited
    return scope


def _told(problem: Problem) -> HttpResponse:
    response = HttpResponse(
        text.dumps(outcome(problem.issues)), status=problem.status, content_type=http.CONTENT_TYPE
    )
    for name, value in problem.headers:
        response.headers[name] = value
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="lianxin"'
    return response


@machine("POST")
def receive(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Take one document (XML) or many (a ZIP archive, or files of a form); answers after the commit.

    One: 201 registered, 200 known already, 202 kept for checking, 4xx refused with the reason.  Many: 200 with a
    batch-response Bundle, an entry a document in the order of the archive.
    """
    gate.demand(scope, "DocumentReference", "c")
    sender = f"client:{scope.client_id}"
    kind = http.content_type(request.META)
    if kind == "multipart/form-data":
        given, many = _of_form(request)
    else:
        sent = request.META.get("CONTENT_LENGTH") or "HTTP_TRANSFER_ENCODING" in request.META
        body = http.read_body(request.META, MOST_SENT) if sent else b""
        many = kind in ZIP_TYPES or door_files.is_zip(body)
        if not many and kind not in XML_TYPES:
            raise refuse(
                415,
                "not-supported",
                "请以 Content-Type: application/xml 发送一份文档，或以 application/zip、multipart/form-data 发送多份",
                "send one document as application/xml, or many as application/zip or multipart/form-data",
            )
        given = _unpacked(scope, body, sender) if many else [Named("", body)]
    if not given:
        raise refuse(400, "required", "没有收到文档", "no document came")
    done = door.take(scope, given, sender, scope.client_id)
    return _batch(request, done) if many else _one(request, done[0])


def _of_form(request: HttpRequest) -> tuple[list[Named], bool]:
    length = request.META.get("CONTENT_LENGTH") or ""
    if length.isdigit() and int(length) > MOST_SENT:
        raise http.too_big(MOST_SENT)
    try:
        files = [one for name in request.FILES for one in request.FILES.getlist(name)]
    except (MultiPartParserError, BadRequest, SuspiciousOperation, OSError):
        raise refuse(
            400,
            "structure",
            "表单内容已损坏或不完整，请重发",
            "the form is damaged or cut off; send it again",
        ) from None
    given: list[Named] = []
    many = len(files) > 1
    for one in files:
        body = one.read()
        if door_files.is_zip(body):
            given += door_files.unpack(body, one.name or "")
            many = True
        else:
            given.append(Named(one.name or "", body))
    return given, many


def _unpacked(scope: Scope, body: bytes, sender: str) -> list[Named]:
    """The documents of an archive; one that cannot be opened is kept whole, with the reason, as what it is."""
    try:
        return door_files.unpack(body)
    except Refusal as failure:
        piece = Piece(CDA, door.UNREAD, "", body, sender, scope, door.nothing, client_id=scope.client_id)
        raise _with_number(failure, inbox.keep_refused(piece, failure)) from None


def _with_number(failure: Refusal, verdict: Verdict) -> Problem:
    reason = failure.reason
    return Problem(
        STATUS.get(reason.code, 422), Issue(reason.code, _numbered(reason.text, verdict), reason.place)
    )


def _numbered(words: Text, verdict: Verdict) -> Text:
    if verdict.arrival_id is None:
        return words
    return T("{words}（收件号 {n}）", "{words} (kept as arrival {n})").format(
        words=words, n=verdict.arrival_id
    )


@machine("GET", "HEAD")
def write(request: HttpRequest, scope: Scope, kind: str) -> HttpResponse:
    """One of the ten kinds for ``patient`` (and ``encounter``), composed from the record and registered; the answer is the document."""
    for rtype, letter in (("Patient", "r"), ("DocumentReference", "c")):
        gate.demand(scope, rtype, letter)
    patient = request.GET.get("patient", "").removeprefix("Patient/").strip()
    if not patient:
        raise refuse(400, "required", "请给出参数 patient", "the parameter patient is missing", "patient")
    encounter = request.GET.get("encounter", "").removeprefix("Encounter/").strip()
    registered, body = issue.issued_with_bytes(scope, kind, patient, encounter=encounter)
    response = HttpResponse(body, content_type="application/xml; charset=utf-8")
    response.headers["Location"] = f"{http.base(request.META)}/DocumentReference/{registered.reference}"
    return response


# ----------------------------------------------------------------------------------------------------------------- receipts


def status_of(received: Received) -> int:
    """The HTTP status of what became of a document."""
    verdict = received.verdict
    if verdict.state == REFUSED:
        if isinstance(verdict.failure, Problem):
            return verdict.failure.status
        reason = verdict.reason or reason_of(verdict.failure or Exception())
        return STATUS.get(reason.code, 422)
    if verdict.state == QUARANTINED:
        return 202
    found = received.registered
    return 200 if verdict.repeated or (found and found.repeated) else 201


def receipt(received: Received) -> dict[str, Any]:
    """An OperationOutcome that says what became of a document, with the number it is kept under."""
    verdict, found = received.verdict, received.registered
    issues: list[Issue] = []
    if verdict.state == REFUSED:
        reason = verdict.reason or reason_of(verdict.failure or Exception())
        issues.append(Issue(_issue_type(reason.code), reason.text, reason.place))
    elif verdict.state == QUARANTINED:
        issues.append(Issue("informational", inbox.QUARANTINE_TOLD, "", "warning"))
    else:
        words = (
            T("已登记：{kind}", "registered: {kind}")
            if not verdict.repeated
            else T("此前已登记：{kind}", "registered before: {kind}")
        )
        issues.append(
            Issue("informational", words.format(kind=found.kind if found else CDA), "", "information")
        )
    issues += [Issue("informational", words, "", "warning") for words in verdict.warnings]
    made = outcome(issues)
    if verdict.arrival_id is not None:
        made["id"] = f"arrival-{verdict.arrival_id}"
        made["extension"] = [{"url": ARRIVAL, "valueString": str(verdict.arrival_id)}]
    return made


def _issue_type(code: str) -> str:
    """A code of FHIR's issue types; the gate's own rule names are business rules."""
    known = {
        "structure", "required", "value", "invalid", "duplicate", "conflict", "forbidden", "too-long", "too-costly", "security",
        "not-found", "not-supported", "exception", "business-rule", "code-invalid", "processing", "login", "transient",
    }  # fmt: skip
    return code if code in known else "business-rule"


def _address(request: HttpRequest, received: Received) -> str:
    found = received.registered
    return f"{http.base(request.META)}/DocumentReference/{found.reference}" if found else ""


def _one(request: HttpRequest, received: Received) -> HttpResponse:
    response = HttpResponse(
        text.dumps(receipt(received)), status=status_of(received), content_type=http.CONTENT_TYPE
    )
    if address := _address(request, received):
        response.headers["Location"] = address
    return response


def _batch(request: HttpRequest, done: list[Received]) -> HttpResponse:
    entries = []
    for one in done:
        answer: dict[str, Any] = {"status": str(status_of(one)), "outcome": receipt(one)}
        if address := _address(request, one):
            answer["location"] = address
        entries.append({"link": [{"relation": "file", "url": f"file:{quote(one.name)}"}], "response": answer})
    made = {"resourceType": "Bundle", "type": "batch-response", "entry": entries}
    return HttpResponse(text.dumps(made), content_type=http.CONTENT_TYPE)
