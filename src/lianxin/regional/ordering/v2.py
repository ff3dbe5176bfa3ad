"""Orders by HL7 v2: ORM^O01, OMG^O19 and OML^O21 whose items are the platform's own (OBR-4.3 ``99LX``) ask a shared centre for work.

ORC-1 ``NW`` orders (the orders of one message are one request), ``CA`` cancels by the sender's number (ORC-2) or ours (ORC-3). Orders in
other code systems stay what they were, ServiceRequests of the record. The same order number again is the same order. NTE-3 after an
order is the clinical question, DG1 the diagnosis; OBR-31.1 with 31.3 ``99LXHR`` is the reason to repeat what may be recognised.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lianxin.access import tokens
from lianxin.access.errors import AccessError
from lianxin.access.scope import Scope
from lianxin.clinical.recognition import decisions as recognition
from lianxin.clinical.recognition import search
from lianxin.clinical.recognition.decisions import Choice
from lianxin.duty import kernel
from lianxin.exchange.v2 import adt, errors, kinds
from lianxin.exchange.v2.errors import Place as At
from lianxin.exchange.v2.errors import Refused
from lianxin.exchange.v2.kinds import Outcome, Taken
from lianxin.exchange.v2.message import Message
from lianxin.exchange.v2.writing import segment
from lianxin.index import registry
from lianxin.regional.ordering import service
from lianxin.regional.ordering.models import Requisition
from lianxin.regional.reading.models import Item, Reading
from lianxin.standards.text import T, Text

OURS, REASONS = "99LX", "99LXHR"
KINDS = {"ORM": ("O01",), "OMG": ("O19",), "OML": ("O21",)}
ANSWERS = {
    "ORM": ("ORR", "O02", "ORR_O02"),
    "OMG": ("ORG", "O20", "ORG_O20"),
    "OML": ("ORL", "O22", "ORL_O22"),
}
PRIORITY = {"S": "emergency", "A": "urgent", "R": "routine"}


def register() -> None:
    """Claim orders of our own items."""
    for code, events in KINDS.items():
        kinds.register_claim(code, events, ours, taken)


def ours(asked: Message, scope: Scope) -> bool:
    """Whether every order of a message is for one of our items, from an institution's own system."""
    found = [s.text(4, 3) for s in asked.every("OBR")]
    return scope.institution_id is not None and bool(found) and all(system == OURS for system in found)


def taken(cur: Any, given: Taken) -> Outcome:
    """Place or cancel; what cannot be done is answered AE with the reason and kept as answered."""
    asked, kind = given.message, ANSWERS[given.message.kind[0]]
    if not tokens.allows(given.scope, "ServiceRequest", "c"):
        raise Refused(
            errors.INTERNAL,
            T(
                "该系统的授权范围不含 ServiceRequest。",
                "The permissions of this system do not include ServiceRequest.",
            ),
        )
    person_id = _person(cur, given)
    # the permission on ServiceRequest is enough for an order's own moves, which the kernel knows as writes of a Task
    scope = replace(given.scope, smart=(*given.scope.smart, "system/Task.cruds"))
    control = asked.text("ORC", 1) or "NW"
    try:
        if control == "NW":
            return Outcome(person_id, kind=kind, segments=_place(asked, scope, person_id))
        if control == "CA":
            return Outcome(person_id, kind=kind, segments=_cancel(asked, scope, person_id))
        raise Refused(
            errors.TABLE_VALUE,
            T("不受理的医嘱控制码 {c}。", "Order control {c} is not taken.").format(c=control[:5]),
            At("ORC", 1, 1),
        )
    except Refused as refused:
        return Outcome(person_id, code="AE", errors=[refused], kind=kind, segments=[_orc(asked, "UA", "")])
    except (kernel.MoveError, AccessError) as error:
        return Outcome(
            person_id,
            code="AE",
            errors=[Refused(errors.UNKNOWN_KEY, _said(error))],
            kind=kind,
            segments=[_orc(asked, "UA", "")],
        )


def _said(error: Exception) -> Text:
    if isinstance(error, kernel.Refused):
        return next(iter(error.errors.values()))
    if isinstance(error, AccessError):
        return error.message
    text: Text = getattr(error, "text", T("不能办理", "It cannot be done"))
    return text


def _person(cur: Any, given: Taken) -> int:
    pid = given.message.first("PID")
    if pid is None:
        raise Refused(errors.SEQUENCE, T("缺少 PID 段。", "The segment PID is missing."), At("PID"))
    stored = adt.save(cur, given, pid)
    found = stored.person_id or registry.by_patient_id(stored.id)
    assert found is not None
    return found


def _placer(asked: Message) -> str:
    return (asked.text("ORC", 4) or asked.text("ORC", 2) or asked.text("OBR", 2)).strip()[:80]


def _place(asked: Message, scope: Scope, person_id: int) -> list[str]:
    placer = _placer(asked)
    if not placer:
        raise Refused(
            errors.REQUIRED,
            T("缺少申请号 ORC-2。", "The placer's order number, ORC-2, is missing."),
            At("ORC", 1, 2),
        )
    orders = list(asked.every("OBR"))
    codes = [s.text(4).strip() for s in orders]
    groups = dict(Item.objects.filter(code__in=codes).values_list("code", "group"))
    given = {
        groups.get(s.text(4).strip(), ""): Choice(False, s.text(31).strip()[:2], s.text(31, 2))
        for s in orders
        if s.text(31, 3) == REASONS
    }
    hits = (
        recognition.best(search.find(person_id, [g for g in given if g], scope.institution_id or 0))
        if given
        else []
    )
    notes = "\n".join(filter(None, (s.text(3).strip() for s in asked.every("NTE"))))
    diagnosis = asked.text("DG1", 3, 2) or asked.text("DG1", 4)
    words = {"indication": (notes or asked.text("OBR", 13) or diagnosis)[:600], "diagnosis": diagnosis[:120], "diagnosis_code": asked.text("DG1", 3)[:20]}  # fmt: skip
    urgency = (asked.text("TQ1", 9) or asked.text("OBR", 27, 6) or asked.text("OBR", 5) or "R")[:1]
    placed = service.request(
        scope, person_id, codes, words, f"v2:{scope.client_id}:{placer}", priority=PRIORITY.get(urgency, "routine"),
        decisions={h.pk: given[h.wanted.code] for h in hits}, source="v2", placer=placer,
    )  # fmt: skip
    segments = [_orc(asked, "OK", placed.requisition.number)]
    by_code = {o.item.code: w for w in placed.readings for o in w.ordered.select_related("item")}
    for n, code in enumerate(codes, 1):
        work: Reading | None = by_code.get(code)
        segments.append(segment("OBR", str(n), placer, work.case.number if work else "", (code, "", OURS)))
        if work is None:
            segments.append(segment("NTE", str(n), "L", "采用已有结果，不再重复"))
    return segments


def _cancel(asked: Message, scope: Scope, person_id: int) -> list[str]:
    placer, filler = _placer(asked), asked.text("ORC", 3).strip()
    rows = Requisition.objects.unscoped("the sender's own orders").filter(
        client_id=scope.client_id, person_id=person_id
    )
    found = rows.filter(placer=placer).first() if placer else None
    if found is None:
        raise Refused(
            errors.UNKNOWN_KEY,
            T("没有这个申请号的申请。", "There is no order with this number."),
            At("ORC", 1, 2),
        )
    reason = asked.text("ORC", 16, 2) or asked.text("ORC", 16) or "申请方撤销"
    for work in service.pieces(found):
        if (filler and work.case.number != filler) or work.case.state == "cancelled":
            continue
        kernel.execute(
            "cancel",
            work.case.number,
            scope,
            {"reason": reason[:300]},
            None,
            f"v2:{scope.client_id}:cancel:{work.case.number}",
        )
    return [_orc(asked, "CR", found.number)]


def _orc(asked: Message, control: str, number: str) -> str:
    return segment("ORC", control, _placer(asked), number)
