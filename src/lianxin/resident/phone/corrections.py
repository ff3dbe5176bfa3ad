"""A mistake in one's record, reported: a small machine whose duty lies with the institution that sent the entry (PIPL art. 46).

The person (or who acts for them) says what is wrong; the institution corrects it at the source and says so, or says why it stands.
Nothing in the record is changed here: what was sent is changed by who sent it.
"""

from __future__ import annotations

from dataclasses import replace

from django import forms
from django.db import connection

from lianxin.access.scope import Scope
from lianxin.duty import kernel, machine
from lianxin.duty.errors import Refused
from lianxin.duty.forms import MoveForm
from lianxin.duty.machine import Ctx, Effect, Machine, Move, Owes, State
from lianxin.duty.models import Case
from lianxin.exchange.feeds.problems import role_there
from lianxin.network import roles
from lianxin.record.keys import ref_key
from lianxin.resident.phone.models import Correction
from lianxin.standards.text import T, Text

KIND = "record_correction"
ANSWERERS = (
    roles.MANAGER,
    roles.REFERRAL_DESK,
    roles.GP,
    roles.FAMILY_DOCTOR,
    roles.CLINICIAN,
    roles.VILLAGE_DOCTOR,
)
"""Roles that answer, the first of them that somebody holds at the institution owing it."""
LONGEST = 1000


def _words(label: Text) -> forms.CharField:
    return forms.CharField(
        label=label, max_length=LONGEST, widget=forms.Textarea(attrs={"rows": 4}),
        error_messages={"required": T("此项必填，请填写。", "This is required; please fill it in.")},
    )  # fmt: skip


class AskForm(MoveForm):
    """What is wrong."""

    text = _words(T("哪里不对，应该是什么", "What is wrong, and what would be right"))


class CorrectForm(MoveForm):
    """What was changed."""

    words = _words(T("怎样更正的（居民可见）", "What was corrected (the resident reads it)"))


class KeepForm(MoveForm):
    """Why it stands."""

    words = _words(
        T("核实情况和维持的理由（居民可见）", "What was checked and why it stands (the resident reads it)")
    )


def _ask(ctx: Ctx) -> Effect:
    reference, title = ctx.extra["reference"], ctx.extra["title"]
    ctx.subject = Correction(
        case_id=ctx.case.pk, person_id=ctx.case.patient_id, institution_id=ctx.parties["keeper"], reference=reference,
        title=title[:200], text=ctx.data["text"],
    )  # fmt: skip
    ctx.subject.save(force_insert=True)
    own = STATES[0].owes
    assert own is not None
    return Effect(opens=(replace(own, role=role_there(ctx.parties["keeper"], ANSWERERS)),))


def _answer(answer: str) -> machine.EffectFn:
    def effect(ctx: Ctx) -> Effect | None:
        ctx.subject.answer, ctx.subject.words = answer, ctx.data.get("words", "")
        ctx.subject.save(update_fields=["answer", "words"])
        return None

    return effect


def _load(case: Case) -> Correction | None:
    rows = Correction.objects.unscoped("the case was reached by its own way").select_related("institution")
    return rows.filter(pk=case.pk).first()


def _load_many(cases: list[Case]) -> dict[int, Correction]:
    rows = Correction.objects.unscoped("the cases were reached by their own way").select_related(
        "institution"
    )
    return {c.pk: c for c in rows.filter(pk__in=[c.pk for c in cases])}


def _summary(ctx: Ctx) -> Text:
    title = ctx.subject.title if ctx.subject is not None else ""
    return T("居民认为记录有误：{t}", "A resident says this is wrong: {t}").format(t=title)


PARTS = {"keeper": T("记录来源机构", "The institution that sent it")}
STATES = (
    State("asked", T("待核实", "To be checked"), owes=Owes("answer_correction", T("核实并答复居民的更正请求", "Check and answer a resident's correction"), "keeper", roles.MANAGER, "answer", "correct")),
    State("corrected", T("已更正", "Corrected"), terminal=True),
    State("kept", T("维持原记录", "Kept as it is"), terminal=True),
    State("withdrawn", T("已撤回", "Withdrawn"), terminal=True),
)  # fmt: skip
MOVES = (
    Move("ask", T("请求更正", "Ask for a correction"), (), "asked", form=AskForm, effect=_ask, resident=True, tone="primary"),
    Move("correct", T("已更正并答复", "Corrected"), ("asked",), "corrected", ("keeper",), ANSWERERS, CorrectForm, effect=_answer("corrected"), tone="primary"),
    Move("keep", T("维持原记录并说明", "Keep it and say why"), ("asked",), "kept", ("keeper",), ANSWERERS, KeepForm, effect=_answer("kept")),
    Move("withdraw", T("撤回", "Withdraw"), ("asked",), "withdrawn", ("keeper",), ("resident",), effect=_answer("withdrawn"), resident=True),
)  # fmt: skip
MACHINE = Machine(
    kind=KIND, label=T("记录更正", "Record correction"), prefix="GZ", states=STATES, moves=MOVES, parts=PARTS, clocks={"answer": "5wd"},
    path=("asked", "corrected"), load=_load, load_many=_load_many, summary=_summary,
)  # fmt: skip


def register() -> None:
    """Offer the machine to the kernel."""
    machine.register(MACHINE)


def sender_of(reference: str) -> int | None:
    """The institution that sent an entry; None when the platform made it itself."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT institution_id FROM record_resource WHERE key = %s", [ref_key(reference)])
        row = cursor.fetchone()
    return row[0] if row else None


def ask(by: Scope, person_id: int, reference: str, title: str, text: str, key: str) -> Correction:
    """Report a mistake in an entry that the caller has read within the scope. Raises Refused, NotAllowed.

    The same ``key`` again gives the same report; a second report of the same entry is refused while the first is open.
    """
    keeper = sender_of(reference)
    if keeper is None:
        raise Refused(
            {
                "text": T(
                    "这条记录没有来源机构，请向就诊的医院反映。",
                    "This entry has no sender; tell the hospital that treated you.",
                )
            }
        )
    with connection.cursor() as cursor:
        cursor.execute("SELECT case_id FROM duty_act WHERE key = %s", [key])
        before = cursor.fetchone()
    open_one = Correction.objects.within(by).filter(person_id=person_id, reference=reference, answer="")
    if before is None and open_one.exists():
        raise Refused(
            {
                "text": T(
                    "这条记录您已经反映过，正在核实。", "You have reported this entry; it is being checked."
                )
            }
        )
    done = kernel.open_case(
        KIND, person_id, by, {"text": text}, key, parties={"keeper": keeper}, move="ask",
        extra={"reference": reference, "title": title},
    )  # fmt: skip
    return Correction.objects.within(by).select_related("case", "institution").get(pk=done.case.pk)
