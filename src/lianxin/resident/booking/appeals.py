"""An appeal against missed visits (爽约申诉): a small machine. The person files it, a manager decides in words by a due time.

Granted: the bar is lifted at once and the visits it came from no longer count. Refused: the reason is told; the bar ends by itself.
The manager of the institution of the last missed visit decides; where nobody holds that post, the consortium's lead.
"""

from __future__ import annotations

from typing import Any

from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.errors import NotAllowed
from lianxin.duty.machine import Ctx, Effect, Machine, Move, Owes, State
from lianxin.duty.models import Case
from lianxin.network import directory, roles
from lianxin.network.models import Institution, Post
from lianxin.resident.booking import standing
from lianxin.resident.booking.forms import AppealForm, DecisionForm
from lianxin.resident.booking.models import Appeal, Appointment, Bar
from lianxin.resident.booking.moves import DESK
from lianxin.standards.text import T, Text

KIND = "booking_appeal"
JUDGES = (roles.MANAGER,)


def _file(ctx: Ctx) -> Effect:
    bar: Bar | None = ctx.extra["bar"]
    ctx.subject = Appeal(
        case_id=ctx.case.pk, person_id=ctx.case.patient_id, institution_id=ctx.parties["provider"],
        judge_id=ctx.parties["judge"], bar=bar, text=ctx.data["text"],
    )  # fmt: skip
    ctx.subject.save(force_insert=True)
    return Effect(outcome={"bar": bar.pk if bar else None})


def _decide(ctx: Ctx, decision: str) -> Effect:
    subject: Appeal = ctx.subject
    subject.decision, subject.words = decision, ctx.data.get("words", "")
    subject.live, subject.decided_at = False, ctx.now
    subject.save()
    told = {"appeal": ctx.case.pk, "case": ctx.case.number, "decision": decision}
    return Effect(events=(("booking.appeal_decided", told),), outcome=told)


def _grant(ctx: Ctx) -> Effect:
    subject: Appeal = ctx.subject
    rows = Bar.objects.unscoped("the appeal lifts the bar it is about")
    rows.filter(person_id=subject.person_id, lifted_at=None, until__gt=ctx.now).update(lifted_at=ctx.now)
    Appointment.objects.unscoped("the missed visits the appeal is about").filter(
        person_id=subject.person_id, missed_at__isnull=False, waived=False
    ).update(waived=True)
    return _decide(ctx, "granted")


def _refuse(ctx: Ctx) -> Effect:
    return _decide(ctx, "refused")


def _withdraw(ctx: Ctx) -> Effect:
    return _decide(ctx, "withdrawn")


def load(case: Case) -> Appeal | None:
    """The appeal of a case."""
    return Appeal.objects.unscoped("the case's own appeal").select_related("bar").filter(pk=case.pk).first()


def load_many(cases: list[Case]) -> dict[int, Appeal]:
    """The same for many cases."""
    rows = Appeal.objects.unscoped("the cases' own appeals").select_related("bar")
    return {a.pk: a for a in rows.filter(pk__in=[c.pk for c in cases])}


def _summary(ctx: Ctx) -> Text:
    text = ctx.subject.text[:60] if ctx.subject is not None else ctx.machine.label.zh
    return T(text, text)


MACHINE = Machine(
    kind=KIND,
    label=T("爽约申诉", "Appeal against missed visits"),
    prefix="SS",
    states=(
        State("filed", T("待处理", "To be decided"), owes=Owes("judge", T("处理爽约申诉", "Decide the appeal"), "judge", roles.MANAGER, "judge", "grant")),
        State("granted", T("申诉成立", "Granted"), terminal=True),
        State("refused", T("申诉不成立", "Refused"), terminal=True),
        State("withdrawn", T("已撤回", "Withdrawn"), terminal=True),
    ),
    moves=(
        Move("file", T("提出申诉", "Appeal"), (), "filed", ("provider",), DESK, AppealForm, effect=_file, resident=True, tone="primary"),
        Move("grant", T("申诉成立", "Grant"), ("filed",), "granted", ("judge",), JUDGES, DecisionForm, effect=_grant, tone="primary"),
        Move("refuse", T("申诉不成立", "Refuse"), ("filed",), "refused", ("judge",), JUDGES, DecisionForm, effect=_refuse),
        Move("withdraw", T("撤回申诉", "Withdraw"), ("filed",), "withdrawn", ("provider",), DESK, effect=_withdraw, resident=True),
    ),
    parts={"provider": T("就诊机构", "Provider"), "judge": T("申诉处理机构", "Who decides")},
    clocks={"judge": "5wd"},
    path=("filed", "granted"),
    load=load,
    load_many=load_many,
    summary=_summary,
)  # fmt: skip


def judge_of(institution: Institution) -> Institution:
    """Who decides about an institution's missed visits: itself when somebody is its manager, else the consortium's lead."""
    held = Post.objects.live().filter(institution=institution, role=roles.MANAGER)
    return institution if held.exists() else directory.lead_of(institution) or institution


def file(by: Scope, person_id: int, text: str, key: str) -> Appeal:
    """File an appeal. Raises NotAllowed when nothing is held against the person, or one is open already."""
    where = standing.standing(person_id)
    with_key = kernel_case(key)
    if with_key is None and where.appeal is not None:
        raise NotAllowed(
            T("已有待处理的申诉 {n}，请等待处理结果。", "Appeal {n} is waiting to be decided.").format(
                n=where.appeal.case.number
            )
        )
    last = (
        Appointment.objects.unscoped("the missed visits the appeal is about")
        .filter(person_id=person_id, missed_at__isnull=False)
        .select_related("institution")
        .order_by("-missed_at")
        .first()
    )
    if last is None or (with_key is None and where.bar is None and not where.misses):
        raise NotAllowed(T("没有可申诉的爽约记录。", "No missed visit is held against this person."))
    institution = where.bar.institution if where.bar is not None else last.institution
    done = kernel.open_case(
        KIND, person_id, by, {"text": text}, key,
        parties={"provider": institution.pk, "judge": judge_of(institution).pk}, extra={"bar": where.bar},
    )  # fmt: skip
    found = load(done.case)
    assert found is not None
    found.case = done.case
    return found


def kernel_case(key: str) -> Any:
    """The case that the request ``key`` opened before, if any."""
    from lianxin.duty.models import Act

    return Act.objects.filter(key=key).values_list("case_id", flat=True).first()


def open_for(scope: Scope) -> list[Appeal]:
    """Appeals that wait for the scope's institutions, oldest first."""
    rows = Appeal.objects.within(scope).filter(
        live=True, judge_id__in=scope.institution_ids | scope.oversight_ids
    )
    return list(rows.select_related("case", "person", "institution", "bar").order_by("case__opened_at")[:200])
