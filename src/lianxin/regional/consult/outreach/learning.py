"""Cases to learn from: what a grassroots doctor sent up and an upper doctor answered becomes theirs to reflect upon, once, for credit."""

from __future__ import annotations

from django.db import transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Act, Case, Outbox
from lianxin.network.models import Institution
from lianxin.regional.consult import policy
from lianxin.regional.consult.outreach import credits
from lianxin.regional.consult.outreach.models import Learning
from lianxin.standards import clock
from lianxin.standards.text import T, Text

CAME_BACK = {
    ("referral", "outcome_sent"): "referral",
    ("consult", "concluded"): "consult",
    ("reading", "issued"): "reading",
}
"""(kind of case, state it enters) → what is learned from."""
GRASSROOTS = ("village", "township", "community")
AGREED: dict[str, Text] = {
    "same": T("与我的判断一致", "As I had thought"),
    "partly": T("部分不同", "Partly different"),
    "different": T("不同，有收获", "Different; I learned from it"),
}


def moved(event: Outbox) -> None:
    """A case moved: when an opinion came back to a grassroots doctor, it is offered to them (safe to be told twice)."""
    told = event.payload
    kind = CAME_BACK.get((told.get("kind", ""), told.get("state", "")))
    if kind is None:
        return
    case = Case.objects.unscoped("learning: the opinion came back").filter(number=told["case"]).first()
    first = Act.objects.filter(case=case, seq=1).select_related("institution").first() if case else None
    if (
        case is None
        or case.person_id is None
        or first is None
        or first.practitioner_id is None
        or first.institution is None
    ):
        return
    if first.institution.kind not in GRASSROOTS:
        return
    Learning.objects.unscoped("offered once").get_or_create(
        practitioner_id=first.practitioner_id, case=case,
        defaults={"institution": first.institution, "person_id": case.person_id, "kind": kind, "came_at": clock.now()},
    )  # fmt: skip


def mine(by: Scope) -> list[Learning]:
    """One's own cases to learn from and done, newest first."""
    if by.practitioner_id is None:
        return []
    rows = Learning.objects.unscoped("one's own cases").filter(practitioner_id=by.practitioner_id)
    return list(rows.select_related("case", "person", "institution").order_by("-came_at", "-pk")[:200])


def get(by: Scope, pk: int) -> Learning | None:
    """One of one's own."""
    if by.practitioner_id is None:
        return None
    rows = Learning.objects.unscoped("one's own cases").filter(practitioner_id=by.practitioner_id, pk=pk)
    found: Learning | None = rows.select_related("case", "person", "institution").first()
    return found


@transaction.atomic
def reflect(by: Scope, pk: int, words: str, agreed: str) -> Learning:
    """Write a short reflection: the case is done and gives its credit. Refused when it is too short or done already; NotAllowed for
    somebody else's."""
    rows = Learning.objects.unscoped("one's own case").select_for_update(of=("self",))
    row = rows.filter(pk=pk, practitioner_id=by.practitioner_id or 0).first()
    if row is None:
        raise NotAllowed(T("这不是您的病例。", "This is not a case of yours."))
    if row.state == "reflected":
        raise Refused({"words": T("该病例已完成学习。", "This case is done already.")})
    least = int(policy.value("credit.words", row.institution_id))
    words = words.strip()
    if len(words) < least or len(words) > 2000:
        raise Refused(
            {
                "words": T("学习体会请写 {n} 至 2000 字。", "Write {n} to 2000 characters.").format(
                    n=str(least)
                )
            }
        )
    if agreed not in AGREED:
        raise Refused({"agreed": T("请选择与您的判断是否一致。", "Say whether it is what you had thought.")})
    Institution.objects.select_for_update(of=("self",), no_key=True).get(
        pk=row.institution_id
    )  # the year's most is exact under double clicks
    now = clock.now()
    row.tenths, row.rule = credits.grant(row.practitioner_id, row.kind, row.institution_id, clock.today())
    row.state, row.reflection, row.agreed, row.done_at = "reflected", words, agreed, now
    row.save()
    audit.write(
        by,
        "update",
        person_id=row.person_id,
        what=f"learning {row.case.number}",
        detail={"tenths": row.tenths},
    )
    found: Learning = row
    return found
