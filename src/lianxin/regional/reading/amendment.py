"""Amending what was acknowledged: a small case of its own (更正单), because whoever asked has ended theirs and must look again.

The centre opens it with the new version of the report; it is owed until the orderer has seen it. A further amendment meanwhile is a move
of the same case. A report that is not acknowledged yet is amended on its own case (``moves.amend``); ``service.amend`` chooses.
"""

from __future__ import annotations

from lianxin.duty.machine import Ctx, Effect, Machine, Move, Owes, State, Tell
from lianxin.duty.models import Case
from lianxin.network import roles
from lianxin.record import publish as record
from lianxin.regional.reading import critical_form, effects, errors, hooks, publish, reports
from lianxin.regional.reading import forms as f
from lianxin.regional.reading.models import Amendment, Reader, Reading
from lianxin.regional.reading.moves import ORDERERS
from lianxin.standards.text import T, Text

KIND = "report_amendment"
_WITH = ("reading__person", "reading__orderer", "reading__centre_of", "reading__performer", "reading__origin", "reading__practitioner", "reading__case", "report", "orderer", "centre_of")  # fmt: skip


def load(case: Case) -> Amendment | None:
    """The amendment of a case with the work it is about."""
    return load_many([case]).get(case.pk)


def load_many(cases: list[Case]) -> dict[int, Amendment]:
    """The same for many cases in one query."""
    rows = Amendment.objects.unscoped("the cases' own amendments").select_related(*_WITH)
    return {a.pk: a for a in rows.filter(pk__in=[c.pk for c in cases])}


def _reading(ctx: Ctx) -> Reading:
    return ctx.extra["reading"] if ctx.subject is None else ctx.subject.reading


def may_amend(ctx: Ctx) -> Text | None:
    """Readers who sign at the centre may amend what it issued."""
    reading = _reading(ctx)
    mine = Reader.objects.filter(
        account_id=ctx.by.account_id or 0, institution_id=reading.centre_of_id, centre=reading.centre, active=True
    ).first()  # fmt: skip
    if mine is None:
        return errors.no_reader().text
    return None if mine.signs else T("您的报告须经审核，不能更正。", "Your reports need approval; you cannot amend.")  # fmt: skip


def amend(ctx: Ctx) -> Effect:
    """A new version goes out; whoever asked is told and owes another look."""
    reading = _reading(ctx)
    report = reports.amended(reading, ctx.by, ctx.data, ctx.now)
    ctx.extra |= {"report": report, "reading": reading}
    if ctx.subject is None:
        ctx.subject = Amendment(
            case_id=ctx.case.pk, reading=reading, person_id=reading.person_id, orderer_id=reading.orderer_id,
            centre_of_id=reading.centre_of_id, report=report, at=ctx.now,
        )  # fmt: skip
        ctx.subject.save(force_insert=True)
    else:
        ctx.subject.report, ctx.subject.at = report, ctx.now
        ctx.subject.save(update_fields=["report", "at"])
    hooks.issued(reading, report)
    critical_form.amended(ctx.by, reading, report.conclusion, report.reason, report.version)
    role = effects.role_at(reading.orderer, "order")
    words = T("报告已更正，请重新查看：{what}", "Report amended, look again: {what}")
    text = words.format(what=effects.items_text(reading))
    owes = Owes("look_again", T("查看更正的报告", "Look at the amended report"), "orderer", role, "look_again", "acknowledge", account_id=reading.account_id)  # fmt: skip
    return Effect(
        opens=(owes,), notices=(Tell("orderer", role, text, reading.account_id),),
        events=(("reading.amended", {"reading": reading.pk, "case": ctx.case.number, "accession": reading.accession, "report": report.pk}),),
        outcome={"accession": reading.accession, "version": report.version},
    )  # fmt: skip


def acknowledge(ctx: Ctx) -> Effect:
    """Whoever asked has seen the new version."""
    ctx.subject.live = False
    ctx.subject.save(update_fields=["live"])
    return Effect(outcome={"accession": ctx.subject.reading.accession, "note": ctx.data.get("note", "")})


def _publish(ctx: Ctx) -> None:
    """The report in force again, and a Task for whoever has to look."""
    subject: Amendment = ctx.subject
    reading = subject.reading
    original = reading.case
    items = [o.item for o in reading.ordered.select_related("item").filter(active=True).order_by("pk")]
    waits = ctx.act.to_state == "issued"
    looks = publish.trim(
        {
            "resourceType": "Task",
            "id": ctx.case.number,
            "identifier": [{"system": f"{publish.ID}/report-amendment", "value": ctx.case.number}],
            "basedOn": [{"reference": f"ServiceRequest/{original.number}"}],
            "status": "requested" if waits else "completed",
            "intent": "order",
            "code": {"coding": [{"system": f"{publish.CS}/task", "code": "look-at-amended-report"}]},
            "focus": {"reference": f"DiagnosticReport/{original.number}"},
            "for": publish.patient(reading),
            "authoredOn": publish.instant(subject.at),
            "requester": publish.org(reading.centre_of),
            "owner": publish.org(reading.orderer),
            "reasonCode": {"text": subject.report.reason},
        }
    )
    resources = publish.diagnostic_report(reading, original.number, subject.report, items) if waits else []
    record.publish([*resources, looks], person_id=reading.person_id, institution_id=reading.centre_of_id)


def _summary(ctx: Ctx) -> Text:
    return effects.items_text(ctx.subject.reading) if ctx.subject is not None else ctx.machine.label


def _clocks(ctx: Ctx, name: str) -> str:
    return {"emergency": "30m", "urgent": "4h", "routine": "2d"}[ctx.case.priority]


MACHINE = Machine(
    kind=KIND,
    label=T("报告更正", "Amended report"),
    prefix="BG",
    states=(
        State("issued", T("已更正，待查看", "Amended, to be seen"), owes=Owes("look_again", T("查看更正的报告", "Look at the amended report"), "orderer", roles.CLINICIAN, "look_again", "acknowledge"), fhir_status="requested"),
        State("acknowledged", T("已阅", "Acknowledged"), terminal=True, fhir_status="completed", access_days=30),
    ),
    moves=(
        Move("amend", T("更正报告", "Amend"), (), "issued", ("centre",), (roles.READER,), f.AmendForm, (may_amend,), effect=amend),
        Move("amend_again", T("再次更正", "Amend again"), ("issued",), None, ("centre",), (roles.READER,), f.AmendForm, (may_amend,), effect=amend, withdraws=("look_again",)),
        Move("acknowledge", T("已阅", "Acknowledge"), ("issued",), "acknowledged", ("orderer",), ORDERERS, f.AcknowledgeForm, effect=acknowledge, tone="primary"),
    ),
    parts={"orderer": T("申请机构", "Ordered by"), "centre": T("诊断中心", "Reading centre")},
    clocks=_clocks,
    path=("issued", "acknowledged"),
    publish=_publish,
    load=load,
    load_many=load_many,
    summary=_summary,
)  # fmt: skip
