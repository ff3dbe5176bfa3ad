"""Recognise or refuse: one row for each recognisable result that an order met, with what the patient is told, published beside the order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.clinical.recognition import publish, shipped
from lianxin.clinical.recognition.models import Decision
from lianxin.clinical.recognition.search import Hit
from lianxin.clinical.recognition.shipped import Reason
from lianxin.duty.errors import Refused
from lianxin.network.models import Practitioner
from lianxin.standards import clock
from lianxin.standards.text import T, Text

LONGEST = 300


@dataclass(frozen=True)
class Choice:
    """What the doctor said about a hit: recognise it, or not, with a reason and words."""

    recognise: bool
    reason: str = ""
    text: str = ""


def check(hit: Hit, choice: Choice | None) -> Choice:
    """A choice that stands, or Refused naming the cure: a result that must be recognised is repeated with a coded reason only."""
    name = f"hit-{hit.pk}"
    if choice is None:
        if not hit.must:
            return Choice(False)
        raise Refused({name: forbidden(hit)})
    if choice.recognise:
        return Choice(True)
    reason = shipped.reasons().get(choice.reason) if choice.reason else None
    if choice.reason and reason is None:
        raise Refused(
            {
                name: T("没有这个原因代码：{code}。", "There is no reason {code}.").format(
                    code=choice.reason[:10]
                )
            }
        )
    if reason is None:
        if hit.must:
            raise Refused({name: forbidden(hit)})
        return Choice(False, "", choice.text.strip()[:LONGEST])
    if reason.text and not choice.text.strip():
        raise Refused(
            {name: T("选择“{why}”时请写明理由。", "“{why}” needs your words.").format(why=reason.label)}
        )
    return Choice(False, reason.code, choice.text.strip()[:LONGEST])


def forbidden(hit: Hit) -> Text:
    """Why the same may not simply be done again."""
    return T(
        "{item}：{where} {day} 的结果带{mark}标识且在 {n} 天时限内，应予互认；确需重做请选择原因并向患者说明。",
        "{item}: the result of {day} at {where} carries {mark} and stands {n} more days, so it is to be recognised; to repeat it, choose a reason and explain it to the patient.",
    ).format(item=hit.wanted.label, where=hit.institution, day=f"{hit.at.astimezone(clock.ZONE):%Y-%m-%d}", mark=hit.mark, n=str(hit.days_left))  # fmt: skip


def explanation(hit: Hit, choice: Choice) -> Text:
    """What the patient is told about a repetition (nothing when the result is used, or no reason was asked for)."""
    reason: Reason | None = shipped.reasons().get(choice.reason)
    if choice.recognise or reason is None:
        return T("", "")
    said = reason.explanation(hit.wanted.label, hit.institution, hit.at.astimezone(clock.ZONE).date())
    return Text(f"{said.zh}{choice.text}", f"{said.en} {choice.text}".strip()) if choice.text else said


@transaction.atomic
def decide(
    by: Scope,
    person_id: int,
    hits: Iterable[Hit],
    choices: Mapping[int, Choice],
    *,
    order: str,
    door: str,
    key: str,
    numbers: Mapping[str, str] | None = None,
    items: Mapping[str, str] | None = None,
    doctor: Practitioner | None = None,
) -> list[Decision]:
    """Write a decision for each hit (``choices`` by the result's id); the same ``key`` again gives what was written. Refused when a result
    must be recognised and no reason was given. ``numbers``: the work that goes ahead, ``items``: what was ordered, both by group
    code; ``doctor``: who decided, when a system tells of it."""
    if by.institution_id is None:
        raise Refused({"": T("请先选择执业机构（岗位）。", "Choose the post you act in first.")})
    made = []
    for hit in hits:
        own_key = f"{key}:{hit.wanted.code}:{hit.pk}"[:160]
        already = Decision.objects.unscoped("the caller's own request").filter(key=own_key).first()
        if already is not None:
            made.append(already)
            continue
        choice = check(hit, choices.get(hit.pk))
        reason = shipped.reasons().get(choice.reason)
        row = Decision(
            person_id=person_id, institution_id=by.institution_id, practitioner_id=doctor.pk if doctor else by.practitioner_id, doctor=(doctor.name if doctor else by.name)[:80],
            result_id=hit.pk, made_by_id=hit.institution_id, made_at=hit.at, group=hit.wanted,
            item=(items or {}).get(hit.wanted.code, hit.wanted.code)[:60],
            verdict="recognised" if choice.recognise else "refused", reason=choice.reason, text=choice.text,
            explanation=explanation(hit, choice).zh[:600], must=hit.must, own=hit.own,
            counted=not hit.own and (choice.recognise or (reason.counts if reason else True)), mark=hit.mark,
            rule=hit.verdict.rule, price_fen=hit.wanted.price_fen if choice.recognise else 0, order=order[:80],
            number="" if choice.recognise else (numbers or {}).get(hit.wanted.code, ""), door=door, at=clock.now(), key=own_key,
        )  # fmt: skip
        row.save(force_insert=True)
        audit.write(
            by, "create", person_id=person_id, what=f"recognition {row.verdict}", detail={"decision": row.pk, "result": hit.ref, "reason": choice.reason}
        )  # fmt: skip
        publish.publish(row, hit)
        made.append(row)
    return made


def best(hits: Iterable[Hit]) -> list[Hit]:
    """One hit for each group that is wanted: the one the doctor decides about (to be recognised first, then the newest)."""
    found: dict[int, Hit] = {}
    for hit in hits:
        found.setdefault(hit.wanted.pk, hit)
    return list(found.values())


def of_order(order: str) -> list[Decision]:
    """Decisions that belong to an order already reached within a scope."""
    rows: Any = Decision.objects.unscoped("the order was reached within the scope").filter(order=order)
    return list(rows.select_related("group", "made_by", "result").order_by("pk"))
