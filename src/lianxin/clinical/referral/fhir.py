"""Referrals over FHIR: a hospital's own system drives the same machine, with the same guards, as the pages do.

``POST ServiceRequest/$refer``            open and send (Parameters with the form's field names, or a Bundle)
``POST Task/{id}/$act``                   any move (``move``, ``expectedVersion``, ``key``, the form's fields); also on ServiceRequest
``GET  Task/{id}/$allowed``               the moves that would succeed, and why the others would not
``PUT  Task/{id}``                        a status change mapped to a move; form fields in ``Task.input``

A client with an institution is that institution's party. Every refusal becomes an OperationOutcome naming field and cure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from django.db import connection

from lianxin.access import relationships
from lianxin.access.errors import AccessError, Invalid
from lianxin.access.scope import Scope
from lianxin.clinical.referral import fhir_parse, moves, publish, service
from lianxin.clinical.referral.models import Leg
from lianxin.duty import kernel
from lianxin.duty.models import Case
from lianxin.exchange.fhir import handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.index import registry
from lianxin.pool.errors import BookingError, Full
from lianxin.record import rows, store
from lianxin.record.problems import Issue, Problem, refuse
from lianxin.standards.text import T, Text

TASK_ID = re.compile(r"^(ZZ\d{8}-\d+)(?:-(\d{1,2}))?$")
MAX_KEY = 100


def register() -> None:
    """Hand the operations and the writes of Task to the door."""
    handlers.register_operation("ServiceRequest", "refer", refer)
    for rtype in ("Task", "ServiceRequest"):
        handlers.register_operation(rtype, "act", act)
        handlers.register_operation(rtype, "allowed", allowed, affects_state=False)
    handlers.register_write("Task", write_task)


# ---------------------------------------------------------------- refusals


def _issues(errors: dict[str, Text], where: str) -> list[Issue]:
    return [
        Issue("invalid", text, f"{where}.where(name='{name}')" if name not in ("", "__all__") else where)
        for name, text in errors.items()
    ]


def _refused(scope: Scope, case: Case | None, error: Exception, where: str) -> Problem:
    """The refusal as HTTP status and issues."""
    if isinstance(error, kernel.Refused):
        return Problem(422, *_issues(error.errors, where))
    if isinstance(error, Invalid):
        return Problem(422, *_issues(error.errors, where))
    if isinstance(error, kernel.Stale):
        more = T("（当前版本 {v}）", " (current version {v})").format(v=str(error.current_version))
        return Problem(409, Issue("conflict", Text(error.text.zh + more.zh, error.text.en + more.en), where))
    if isinstance(error, kernel.KeyReused):
        return Problem(422, Issue("duplicate", error.text, where))
    if isinstance(error, kernel.NotAllowed):
        outsider = case is not None and not kernel.context(case, scope).mine
        return Problem(
            403 if outsider else 409, Issue("forbidden" if outsider else "business-rule", error.text, where)
        )
    if isinstance(error, Full):
        others = "; ".join(
            f"{o.session_id} {o.starts_at:%Y-%m-%d %H:%M} {o.department}" for o in error.alternatives
        )
        return Problem(
            409, Issue("conflict", Text(f"{error.text.zh} {others}", f"{error.text.en} {others}"), where)
        )
    if isinstance(error, BookingError):
        return Problem(409, Issue("conflict", error.text, where))
    if isinstance(error, AccessError):
        return Problem(403, Issue("forbidden", error.message, where))
    raise error


REFUSALS = (kernel.MoveError, BookingError, AccessError)


def _run(scope: Scope, case: Case | None, where: str, work: Callable[[], kernel.Done]) -> kernel.Done:
    try:
        return work()
    except REFUSALS as error:
        raise _refused(scope, case, error, where) from error


# ---------------------------------------------------------------- answers


def _answer(done: kernel.Done, status: int = 200) -> Response:
    case = done.case
    referral = moves.load(case)
    legs = (
        Leg.objects.unscoped("the answer to a move the caller has made")
        .filter(referral=referral)
        .select_related("institution")
    )
    leg = legs.order_by("-number").first()
    parts: list[dict[str, Any]] = [
        {"name": "number", "valueString": case.number},
        {"name": "state", "valueCode": case.state},
        {"name": "version", "valueInteger": case.version},
        {"name": "replayed", "valueBoolean": done.replayed},
    ]
    if referral is not None:
        parts.append({"name": "referral", "resource": publish.service_request(referral, case)})
    if referral is not None and leg is not None:
        parts.append({"name": "task", "resource": publish.task(referral, case, leg)})
    child = (done.act.outcome.get("more") or {}).get("child")
    if child:
        parts.append({"name": "child", "valueString": child})
    headers = {"Location": f"/fhir/ServiceRequest/{case.number}"} if status == 201 else {}
    return Response(status, {"resourceType": "Parameters", "parameter": parts}, headers)


def _case(scope: Scope, rid: str | None) -> Case:
    found = TASK_ID.match(rid or "")
    if found is not None:
        try:
            case = kernel.get_case(found[1], scope)
        except Case.DoesNotExist:
            case = None
        if case is not None and case.kind == service.KIND:
            return case
    raise refuse(404, "not-found", f"没有可见的转诊 {rid}", f"no referral {rid} that you may see")


def _key(scope: Scope, request: Request, given: Any) -> str:
    key = str(given or request.key or "").strip()
    if not key or len(key) > MAX_KEY:
        raise refuse(
            400, "required", "请用参数 key 或 Idempotency-Key 头给出幂等键（不超过 100 字符）",
            "give an idempotency key: parameter key or header Idempotency-Key (at most 100 characters)", "key",
        )  # fmt: skip
    return f"fhir:{scope.client_id or scope.account_id}:{key}"


# ---------------------------------------------------------------- operations


def refer(scope: Scope, request: Request) -> Response:
    """Open a referral and send it (``send=false``: leave it a draft)."""
    body = request.resource or {}
    data = fhir_parse.bundle(body) if body.get("resourceType") == "Bundle" else fhir_parse.parameters(body)
    key = _key(scope, request, data.pop("key", None) or body.get("identifier", {}).get("value"))
    where = "Bundle" if body.get("resourceType") == "Bundle" else "Parameters.parameter"
    person = _person(scope, data.pop("patient", None), where)
    send = data.pop("send", True)
    run = service.refer if send is not False else service.open_referral
    return _answer(_run(scope, None, where, lambda: run(scope, person, data, key)), 201)


def _person(scope: Scope, reference: Any, where: str) -> int:
    """The person referred; one without a relationship answers as one that is not there."""
    value, is_number = fhir_parse.person_reference(reference)
    if is_number:
        try:
            person_id: int | None = registry.get(value).pk
        except registry.UnknownPerson:
            person_id = None
    else:
        person_id = registry.by_patient_id(value) if value else None
    if person_id is None or not relationships.sees(scope, person_id):
        raise refuse(
            422, "not-found", "找不到该患者，请先登记患者或改正引用", "no such patient; register the patient first or mend the reference",
            f"{where}.where(name='patient')",
        )  # fmt: skip
    return person_id


def act(scope: Scope, request: Request) -> Response:
    """Make a move."""
    case = _case(scope, request.id)
    data = fhir_parse.parameters(request.resource or {})
    move = str(data.pop("move", None) or "")
    if not move:
        raise refuse(
            400,
            "required",
            "请给出参数 move",
            "give the parameter move",
            "Parameters.parameter.where(name='move')",
        )
    version = data.pop("expected_version", None)
    if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
        raise refuse(
            400,
            "value",
            "expectedVersion 须为整数",
            "expectedVersion must be a whole number",
            "Parameters.parameter",
        )
    key = _key(scope, request, data.pop("key", None))
    return _answer(
        _run(
            scope,
            case,
            "Parameters.parameter",
            lambda: kernel.execute(move, case.number, scope, data, version, key),
        )
    )


def allowed(scope: Scope, request: Request) -> Response:
    """Every move from where the referral stands: ``allowed`` or ``why`` not."""
    case = _case(scope, request.id)
    parts = []
    for offer in kernel.allowed(case, scope):
        own: list[dict[str, Any]] = [
            {"name": "name", "valueCode": offer.name},
            {"name": "label", "valueString": offer.move.label.zh},
            {"name": "allowed", "valueBoolean": offer.ok},
        ]
        if offer.why is not None:
            own.append({"name": "why", "valueString": offer.why.zh})
        parts.append({"name": "move", "part": own})
    head = [{"name": "state", "valueCode": case.state}, {"name": "version", "valueInteger": case.version}]
    return Response(200, {"resourceType": "Parameters", "parameter": [*head, *parts]})


# ---------------------------------------------------------------- PUT Task


def move_for(case: Case, status: str, business: str) -> str | None:
    """The move that a Task status asks for from where the case stands (None: nothing to do there)."""
    if status == "in-progress":
        return {"accepted": "book", "booked": "arrive", "arrived": "start_care", "no_show": "rebook"}.get(
            case.state
        )
    if status == "cancelled":
        before = case.state in ("draft", "submitted", "received", "returned")
        return "cancel" if before else "request_cancel"
    if status == "completed":
        return {"in_care": "send_outcome", "outcome_sent": "acknowledge"}.get(case.state)
    return {
        "received": "receive",
        "accepted": "no_capacity" if business == "waitlisted" and case.state == "accepted" else "accept",
        "rejected": "reject",
    }.get(status)


def write_task(scope: Scope, request: Request) -> Response:
    """A write of Task at the door: of a referral's Task a move, of anybody's own Task an ordinary write."""
    if TASK_ID.match(request.id or "") is None:
        return _store(scope, request)
    if request.method != "PUT":
        raise refuse(
            405, "not-supported", "转诊任务只能用 PUT 推进", "a referral's Task is moved on by PUT only"
        )
    case, task = _case(scope, request.id), request.resource or {}
    leg_number = int((TASK_ID.match(request.id or "") or [0, 0, 0])[2] or 0)
    referral = moves.load(case)
    legs = list(
        Leg.objects.unscoped("the case was reached within the scope")
        .filter(referral=referral)
        .select_related("institution")
        .order_by("number")
    )
    if referral is None or not legs or leg_number not in (0, legs[-1].number):
        raise refuse(
            409,
            "business-rule",
            "该转诊已改转，此任务已结束",
            "the referral was passed on; this Task has ended",
            "Task.id",
        )
    _check_match(scope, request)
    status = str(task.get("status") or "")
    business = next((c.get("code", "") for c in (task.get("businessStatus") or {}).get("coding") or []), "")
    now_status, now_business = publish.task_status(case.state, case.facts, legs[-1].status)
    if (status, business or now_business) == (now_status, now_business) and not task.get("input"):
        return _task_reply(scope, request)
    name = move_for(case, status, business)
    if name is None:
        raise refuse(
            422, "business-rule", f"当前状态（{now_status}）不能改为 {status}", f"the Task is {now_status}; it cannot become {status} now",
            "Task.status",
        )  # fmt: skip
    form = fhir_parse.inputs(task)
    reason = task.get("statusReason") or {}
    for one in reason.get("coding") or []:
        form.setdefault("reason_code", one.get("code"))
    if reason.get("text"):
        form.setdefault("comment", reason["text"])
    if name == "arrive":
        form.setdefault("identity", (task.get("for") or {}).get("reference", ""))
    key = _key(scope, request, request.key or f"put:{request.id}:{case.version}:{status}:{business}")
    _run(scope, case, "Task.input", lambda: kernel.execute(name, case.number, scope, form, case.version, key))
    return _task_reply(scope, request)


def _check_match(scope: Scope, request: Request) -> None:
    wanted = re.fullmatch(r'(?:W/)?"?(\d+)"?', request.headers.get("If-Match", "").strip())
    if wanted is None:
        return
    with connection.cursor() as cursor:
        held = store.read(rows.server_cursor(cursor), scope, "Task", request.id or "")
    if held is None or held.version != int(wanted[1]):
        raise refuse(
            412,
            "conflict",
            "任务已变化，请重新读取后再改",
            "the Task has changed; read again, then change",
            "Task.meta.versionId",
        )


def _task_reply(scope: Scope, request: Request) -> Response:
    with connection.cursor() as cursor:
        held = store.read(rows.server_cursor(cursor), scope, "Task", request.id or "")
    if held is None:
        raise refuse(404, "not-found", "没有可见的任务", "no Task that you may see")
    return Response(200, held.body, {"ETag": f'W/"{held.version}"'})


def _store(scope: Scope, request: Request) -> Response:
    """A Task that is not a referral's: kept like any resource."""
    method = {"POST": "create", "PUT": "update", "DELETE": "delete"}[request.method]
    write = store.Write(
        method, "Task", request.id, request.resource, request.raw or json.dumps(request.resource).encode(),
        if_match=request.headers.get("If-Match"), if_none_exist=request.headers.get("If-None-Exist"),
        if_none_match=request.headers.get("If-None-Match"),
    )  # fmt: skip
    with connection.cursor() as cursor:
        result = store.apply(rows.server_cursor(cursor), scope, [write])[0]
    headers = {
        "ETag": f'W/"{result.version}"',
        "Location": f"/fhir/Task/{result.id}/_history/{result.version}",
    }
    return Response(result.status, None if method == "delete" else result.body, headers)
