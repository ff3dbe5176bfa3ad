"""Orders over FHIR: a hospital's own system opens the same work, with the same checks, as the page does.

``POST ServiceRequest/$order``              a ServiceRequest, a Bundle of them, or Parameters with ``request`` resources: one patient, one
                                            request; the answer names what was opened and what was recognised
``POST ServiceRequest/{number}/$cancel``    take an order back (``reason``)
``POST ServiceRequest/{number}/$acknowledge`` the result was read (``note``)

Plain writes of ServiceRequest stay the record's: an order there is somebody else's work told of, not work asked for. A result that must be
recognised is repeated only with its reason: ``reasonCode`` of the request with system ``…/cs/recognition-reason``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lianxin.access import relationships
from lianxin.access.errors import AccessError
from lianxin.access.scope import Scope
from lianxin.clinical.recognition import decisions as recognition
from lianxin.clinical.recognition import search, shipped
from lianxin.clinical.recognition.decisions import Choice
from lianxin.duty import kernel
from lianxin.duty.models import Case
from lianxin.exchange.fhir import handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.index import registry
from lianxin.network.models import Institution
from lianxin.record.problems import Issue, Problem, refuse
from lianxin.regional.ordering import service
from lianxin.regional.reading.models import Item
from lianxin.standards.text import T

REASON = "http://lianxin.example/cs/recognition-reason"
ICD10 = "http://hl7.org/fhir/sid/icd-10"
PRIORITY = {"routine": "routine", "urgent": "urgent", "asap": "urgent", "stat": "emergency"}
MOST_KEY = 100


def register() -> None:
    """Offer the operations."""
    handlers.register_operation("ServiceRequest", "order", order, instance=False, letter="c")
    handlers.register_operation("ServiceRequest", "cancel", cancel, type_level=False)
    handlers.register_operation("ServiceRequest", "acknowledge", acknowledge, type_level=False)


# ------------------------------------------------------------------------------------------------------------------ reading


def _requests(request: Request) -> list[dict[str, Any]]:
    body = request.resource or {}
    kind = body.get("resourceType")
    found: list[Any]
    if kind == "ServiceRequest":
        found = [body]
    elif kind == "Bundle":
        found = [e.get("resource") for e in body.get("entry") or [] if isinstance(e, dict)]
    else:
        found = request.arguments.get("request", [])
    requests = [one for one in found if isinstance(one, dict) and one.get("resourceType") == "ServiceRequest"]
    if not requests:
        raise refuse(
            400, "required", "请发送 ServiceRequest", "send at least one ServiceRequest", "ServiceRequest"
        )
    if len(requests) > service.MOST:
        raise refuse(
            400,
            "too-long",
            f"一次最多 {service.MOST} 项",
            f"at most {service.MOST} at a time",
            "ServiceRequest",
        )
    return requests


def _codings(concept: Any) -> list[dict[str, Any]]:
    found = concept.get("coding") if isinstance(concept, dict) else None
    return [c for c in found or [] if isinstance(c, dict)]


def item_of(resource: dict[str, Any]) -> Item:
    """The catalogue's item a request means: by our code, else by LOINC. Problem 422 naming the code there is not."""
    for coding in _codings(resource.get("code")):
        code = str(coding.get("code") or "")
        rows = Item.objects.filter(active=True)
        if coding.get("system") == shipped.ITEMS and (found := rows.filter(code=code).first()) is not None:
            return found
        if (
            coding.get("system") == shipped.LOINC
            and code
            and (found := rows.filter(loinc=code).order_by("code").first()) is not None
        ):
            return found
    codes = ", ".join(str(c.get("code"))[:40] for c in _codings(resource.get("code"))) or "—"
    raise refuse(
        422,
        "code-invalid",
        f"目录中没有项目 {codes}",
        f"the catalogue has no item {codes}",
        "ServiceRequest.code",
    )


def _person(scope: Scope, requests: list[dict[str, Any]]) -> int:
    said = {
        str((r.get("subject") or {}).get("reference") or "")
        for r in requests
        if isinstance(r.get("subject") or {}, dict)
    }
    if len(said) != 1:
        raise refuse(
            422,
            "value",
            "一次申请只能是同一位患者",
            "one request is for one patient",
            "ServiceRequest.subject",
        )
    reference = said.pop().rpartition("/")[2]
    try:
        person_id: int | None = registry.get(reference).pk
    except registry.UnknownPerson:
        person_id = registry.by_patient_id(reference) if reference else None
    if person_id is None or not relationships.sees(scope, person_id):
        raise refuse(422, "not-found", "找不到该患者，请先登记患者或改正引用", "no such patient; register the patient first or mend the reference", "ServiceRequest.subject")  # fmt: skip
    return person_id


def _words(requests: list[dict[str, Any]]) -> dict[str, str]:
    """Indication and diagnosis of the first request that has them."""
    found = {"indication": "", "diagnosis": "", "diagnosis_code": ""}
    for one in requests:
        notes = [str(n.get("text") or "") for n in one.get("note") or [] if isinstance(n, dict)]
        reasons = [r for r in one.get("reasonCode") or [] if isinstance(r, dict)]
        clinical = [r for r in reasons if all(c.get("system") != REASON for c in _codings(r))]
        for reason in clinical:
            icd = next((c for c in _codings(reason) if c.get("system") == ICD10), {})
            found["diagnosis_code"] = found["diagnosis_code"] or str(icd.get("code") or "")[:20]
            found["diagnosis"] = (
                found["diagnosis"] or str(reason.get("text") or icd.get("display") or "")[:120]
            )
        found["indication"] = found["indication"] or "\n".join(filter(None, notes))[:600]
    found["indication"] = found["indication"] or found["diagnosis"]
    return found


def _choices(scope: Scope, person_id: int, requests: list[tuple[dict[str, Any], Item]]) -> dict[int, Choice]:
    """Reasons given for repeating what may be recognised, by result."""
    if scope.institution_id is None:
        return {}
    given: dict[str, Choice] = {}
    for resource, item in requests:
        for reason in resource.get("reasonCode") or []:
            for coding in _codings(reason):
                if coding.get("system") == REASON and item.group:
                    given[item.group] = Choice(
                        False, str(coding.get("code") or "")[:2], str(reason.get("text") or "")
                    )
    hits = recognition.best(search.find(person_id, given, scope.institution_id)) if given else []
    return {hit.pk: given[hit.wanted.code] for hit in hits}


def _performer(requests: list[tuple[dict[str, Any], Item]]) -> dict[str, Institution]:
    found = {}
    for resource, item in requests:
        for one in resource.get("performer") or []:
            kind, _, code = (
                str(one.get("reference") or "").rpartition("/") if isinstance(one, dict) else ("", "", "")
            )
            if kind.rpartition("/")[2] == "Organization":
                where = Institution.objects.filter(code=code, active=True).first()
                if where is None:
                    raise refuse(
                        422,
                        "not-found",
                        f"没有机构 {code[:40]}",
                        f"there is no institution {code[:40]}",
                        "ServiceRequest.performer",
                    )
                found[item.code] = where
    return found


# ------------------------------------------------------------------------------------------------------------------- acting


def order(scope: Scope, request: Request) -> Response:
    """Place the requests as one; nothing is opened unless all can be."""
    requests = _requests(request)
    person_id = _person(scope, requests)
    paired = [(one, item_of(one)) for one in requests]
    said = {str(one.get("priority") or "routine") for one in requests}
    priority = next((PRIORITY[p] for p in ("stat", "asap", "urgent") if p in said), "routine")
    placer = next(
        (
            str(i.get("value"))
            for one in requests
            for i in one.get("identifier") or []
            if isinstance(i, dict) and i.get("value")
        ),
        "",
    )
    key = str(request.argument("key") or request.key or placer).strip()
    if not key or len(key) > MOST_KEY:
        raise refuse(400, "required", "请给出 identifier、参数 key 或 Idempotency-Key 头（不超过 100 字符）", "give an identifier, the parameter key or the header Idempotency-Key (at most 100 characters)", "key")  # fmt: skip
    repeat = request.argument("repeat", bool) or False
    placed = _run(
        lambda: service.request(
            scope, person_id, [item.code for _, item in paired], _words(requests), f"fhir:{scope.client_id or scope.account_id}:{key}",
            priority=priority, decisions=_choices(scope, person_id, paired), performers=_performer(paired), repeat=repeat, source="fhir",
            placer=placer if scope.client_id is not None else "",
        )
    )  # fmt: skip
    return Response(200 if placed.replayed else 201, _answer(placed))


def _answer(placed: service.Placed) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"name": "requisition", "valueString": placed.requisition.number},
        {"name": "replayed", "valueBoolean": placed.replayed},
    ]
    for work in placed.readings:
        parts.append(
            {
                "name": "order",
                "part": [
                    {"name": "number", "valueString": work.case.number},
                    {"name": "accession", "valueString": work.accession},
                    {
                        "name": "request",
                        "valueReference": {"reference": f"ServiceRequest/{work.case.number}"},
                    },
                ],
            }
        )
    for decision in recognition.of_order(placed.requisition.number):
        parts.append(
            {
                "name": decision.verdict,
                "part": [
                    {"name": "item", "valueCode": decision.item},
                    {"name": "result", "valueReference": {"reference": decision.result.ref}},
                    *(
                        [{"name": "explanation", "valueString": decision.explanation}]
                        if decision.explanation
                        else []
                    ),
                ],
            }
        )
    return {"resourceType": "Parameters", "parameter": parts}


def _run(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except kernel.Refused as error:
        issues = [
            Issue(
                "business-rule" if n.startswith("hit-") or n == "repeat" else "invalid", t, "ServiceRequest"
            )
            for n, t in error.errors.items()
        ]
        raise Problem(422, *issues) from error
    except kernel.Stale as error:
        raise Problem(409, Issue("conflict", error.text, "ServiceRequest")) from error
    except kernel.MoveError as error:
        raise Problem(409, Issue("business-rule", error.text, "ServiceRequest")) from error
    except AccessError as error:
        raise Problem(403, Issue("forbidden", error.message, "ServiceRequest")) from error


def _move(scope: Scope, request: Request, move: str, form: dict[str, Any]) -> Response:
    try:
        case = kernel.get_case(request.id or "", scope)
    except Case.DoesNotExist:
        case = None
    if case is None or case.kind not in ("reading", "laboratory"):
        raise refuse(
            404,
            "not-found",
            f"没有可见的申请 {str(request.id)[:40]}",
            f"no order {str(request.id)[:40]} that you may see",
        )
    key = str(request.argument("key") or request.key or f"{move}:{case.number}").strip()[:MOST_KEY]
    done = _run(
        lambda: kernel.execute(
            move, case.number, scope, form, None, f"fhir:{scope.client_id or scope.account_id}:{key}"
        )
    )
    parts = [{"name": "number", "valueString": case.number}, {"name": "state", "valueCode": done.case.state}]
    return Response(200, {"resourceType": "Parameters", "parameter": parts})


def cancel(scope: Scope, request: Request) -> Response:
    """Take an order back before it was done."""
    reason = request.argument("reason") or ""
    if not reason.strip():
        raise Problem(
            400,
            Issue(
                "required",
                T("请给出取消原因 reason", "give the reason"),
                "Parameters.parameter.where(name='reason')",
            ),
        )
    return _move(scope, request, "cancel", {"reason": reason})


def acknowledge(scope: Scope, request: Request) -> Response:
    """The result was read by whoever asked."""
    return _move(scope, request, "acknowledge", {"note": request.argument("note") or ""})
