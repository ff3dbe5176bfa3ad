"""What each move of laboratory work does, on the locked case, inside the kernel's transaction."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

from lianxin.access.models import Account
from lianxin.access.scope import Scope
from lianxin.duty.errors import Refused
from lianxin.duty.machine import Ctx, Effect, Owes, Tell
from lianxin.duty.models import Case
from lianxin.network.models import Practitioner
from lianxin.regional.critical import service as critical
from lianxin.regional.laboratory import catalogue, errors, judge, policy, results, verification
from lianxin.regional.laboratory.models import Result, Specimen, Work
from lianxin.regional.reading import effects as reading
from lianxin.regional.reading import hooks, reports
from lianxin.regional.reading.effects import Ask, role_at
from lianxin.regional.reading.models import Reading, Report
from lianxin.standards.text import T, Text

_WITH = ("person", "orderer", "performer", "centre_of", "origin", "practitioner", "laboratory__specimen__box")


@dataclass
class Tests(Ask):
    """What is ordered of a laboratory; ``tube``: a tube that was kept, for tests added later."""

    tube: Specimen | None = None
    pregnant_weeks: int | None = None


def load(case: Case) -> Reading | None:
    """The work of a case with its tube."""
    rows = Reading.objects.unscoped("the case's own work").select_related(*_WITH)
    found: Reading | None = rows.filter(pk=case.pk).first()
    return found


def load_many(cases: list[Case]) -> dict[int, Reading]:
    """The same for many cases in one query."""
    rows = Reading.objects.unscoped("the cases' own work").select_related(*_WITH)
    return {r.pk: r for r in rows.filter(pk__in=[c.pk for c in cases])}


def _owed(ctx: Ctx, state: str) -> Owes:
    owes = ctx.machine.state(state).owes
    assert owes is not None
    subject: Reading = ctx.subject
    if owes.party == "performer":
        return replace(owes, role=role_at(subject.performer, "acquire"))
    if owes.party == "orderer":
        return replace(owes, role=role_at(subject.orderer, "order"), account_id=subject.account_id)
    return owes


def _to(ctx: Ctx, state: str, topic: str, *, choose: bool = False, **more: Any) -> Effect:
    subject: Reading = ctx.subject
    told = {
        "reading": ctx.case.pk,
        "case": ctx.case.number,
        "accession": subject.accession,
        "centre": subject.centre,
    }
    effect = Effect(
        to=state if choose else None, events=((f"laboratory.{topic}", told | more),), outcome={"accession": subject.accession, **more}
    )  # fmt: skip
    if not ctx.machine.state(state).terminal:
        effect.opens = (_owed(ctx, state),)
    return effect


def _work(ctx: Ctx, **fields: Any) -> Work:
    work: Work = ctx.subject.laboratory
    for name, value in fields.items():
        setattr(work, name, value)
    if fields:
        work.save(update_fields=list(fields))
    return work


def _tube(tube: Specimen, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(tube, name, value)
    tube.save(update_fields=list(fields))


def _reading(ctx: Ctx, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(ctx.subject, name, value)
    ctx.subject.save(update_fields=list(fields))


# ------------------------------------------------------------------------------------------------------------ ordering


def order(ctx: Ctx) -> Effect:
    """Open the work and give its tube a number."""
    ask: Tests = ctx.extra["ask"]
    effect = reading.order(ctx)
    subject: Reading = ctx.subject
    _begin(ctx, _planned(subject, 1), ask)
    return effect


def _planned(subject: Reading, attempt: int) -> Specimen:
    kind = subject.ordered.select_related("item").order_by("pk")[0].item.specimen
    number = subject.accession if attempt == 1 else f"{subject.accession}-{attempt}"
    made: Specimen = Specimen.objects.create(
        number=number, reading=subject, person_id=subject.person_id, institution_id=subject.performer_id, centre_of_id=subject.centre_of_id,
        kind=kind, attempt=attempt,
    )  # fmt: skip
    return made


def _begin(ctx: Ctx, tube: Specimen, ask: Tests) -> Work:
    subject: Reading = ctx.subject
    work: Work = Work.objects.create(
        reading=subject, person_id=subject.person_id, specimen=tube, added=ask.tube is not None, pregnant_weeks=ask.pregnant_weeks,
        required=policy.required([i.code for i in ask.items], subject.centre_of_id),
        received_at=ctx.now if ask.tube is not None else None,
    )  # fmt: skip
    subject.laboratory = work
    return work


def add_on(ctx: Ctx) -> Effect:
    """Tests added to a tube that was kept: the work starts where the tube is."""
    ask: Tests = ctx.extra["ask"]
    assert ask.tube is not None
    tube: Specimen = (
        Specimen.objects.unscoped("reached within the scope")
        .select_for_update(of=("self",))
        .get(pk=ask.tube.pk)
    )
    why = too_old(tube, [i.code for i in ask.items], ctx.now)
    if why is not None:
        raise Refused({"items": why})
    reading.order(ctx)
    ctx.subject.acquired_at = tube.collected_at
    ctx.subject.checked_in_at = tube.collected_at
    ctx.subject.save(update_fields=["acquired_at", "checked_in_at"])
    _begin(ctx, tube, ask)
    return _to(ctx, "received", "added", tube=tube.number)


def too_old(tube: Specimen, items: list[str], now: dt.datetime) -> Text | None:
    """Why tests may not be added to a tube: it is gone, of the wrong kind, or too old for them."""
    if tube.state not in ("received", "stored"):
        return T("标本 {n} 已处置或未接收。", "Tube {n} is gone or was never received.").format(n=tube.number)
    assert tube.collected_at is not None
    for code in catalogue.expected(items):
        one = catalogue.analyte(code)
        if not one.formula and now - tube.collected_at > dt.timedelta(hours=one.stable_hours):
            return T("{n}在采集 {h} 小时后不稳定，不能加做。", "{n} is not stable after {h} hours.").format(
                n=one.label, h=str(one.stable_hours)
            )
    return None


# ------------------------------------------------------------------------------------------------------- the tube's way


def collect(ctx: Ctx) -> Effect:
    """The tube was filled: a tube that was refused before is followed by the next."""
    work, data = ctx.subject.laboratory, ctx.data
    tube: Specimen = work.specimen
    if tube.state == "refused":
        tube = _planned(ctx.subject, tube.attempt + 1)
        _work(ctx, specimen=tube)
    _tube(
        tube, state="collected", container=tube.kind, volume_ml=data["volume_ml"], identity=data["identity"], fasting=data["fasting"],
        collected_at=data["collected_at"], collected_by=ctx.by.account_id, collector=(ctx.by.name or "")[:40], note=data["note"],
    )  # fmt: skip
    if data.get("pregnant_weeks") is not None:
        _work(ctx, pregnant_weeks=data["pregnant_weeks"])
    _reading(ctx, checked_in_at=ctx.subject.checked_in_at or ctx.now, acquired_at=data["collected_at"])
    return _to(ctx, "collected", "collected", tube=tube.number)


def ship(ctx: Ctx) -> Effect:
    """Its box was sealed (``transport.seal``)."""
    tube: Specimen = ctx.subject.laboratory.specimen
    if (
        tube.state != "packed"
        or tube.box is None
        or tube.box.number != ctx.data["box"].strip().upper()
        or tube.box.state == "open"
    ):
        raise Refused(
            {"box": T("请在转运箱页面装箱并封箱。", "Pack and seal a box; its tubes are sent with it.")}
        )
    _tube(tube, state="sent")
    return _to(ctx, "in_transit", "sent", tube=tube.number, box=tube.box.number)


def receive(ctx: Ctx) -> Effect:
    """The laboratory has it."""
    tube: Specimen = ctx.subject.laboratory.specimen
    days = catalogue.kind(tube.kind).keep_days
    _tube(
        tube, state="received", received_at=max(ctx.now, tube.collected_at or ctx.now), received_by=ctx.by.account_id,
        position=ctx.data.get("position", ""), keep_until=ctx.now + dt.timedelta(days=days),
    )  # fmt: skip
    _work(ctx, received_at=ctx.now)
    _reading(ctx, queued_at=ctx.subject.queued_at or ctx.now)
    return _to(ctx, "received", "received", tube=tube.number)


def refuse(ctx: Ctx) -> Effect:
    """It cannot be measured: its collector is told why and how to do it again."""
    work, code = ctx.subject.laboratory, ctx.data["code"]
    tube: Specimen = work.specimen
    others = Work.objects.unscoped("the same tube").filter(specimen=tube).exclude(pk=work.pk)
    if others.exclude(reading__case__state__in=("cancelled", "acknowledged", "issued")).exists():
        raise Refused(
            {
                "code": T(
                    "该标本上还有加做的项目，请先处理加做单。",
                    "Tests were added to this tube; settle those first.",
                )
            }
        )
    _tube(
        tube, state="refused", refused=code, note=ctx.data.get("reason", "")[:300], received_at=tube.received_at or max(ctx.now, tube.collected_at or ctx.now),
        received_by=ctx.by.account_id, ended_at=ctx.now, ended_by=ctx.by.account_id,
    )  # fmt: skip
    results.set_aside(ctx.subject, results.current(ctx.subject), "retracted", f"{code}")
    _work(ctx, refusals=work.refusals + 1, why_not=[], received_at=None, resulted_at=None)
    _reading(ctx, retakes=ctx.subject.retakes + 1)
    effect = _to(ctx, "recollect", "refused", code=code, tube=tube.number)
    kind, why = catalogue.kind(tube.kind), catalogue.refusals()[code]
    text = T(
        "{no} {k}被拒收（{why}），请重新采集。{how}", "{no} {k} refused ({why}); collect it again. {how}"
    ).format(no=ctx.subject.accession, k=kind.label, why=why, how=kind.redo)
    effect.notices = (Tell("performer", role_at(ctx.subject.performer, "acquire"), text, tube.collected_by),)
    return effect


def cancel(ctx: Ctx) -> Effect:
    """Nothing is measured any more."""
    work = ctx.subject.laboratory
    if not work.added and work.specimen.state in ("planned", "collected", "packed"):
        _tube(work.specimen, state="void", ended_at=ctx.now, ended_by=ctx.by.account_id, box=None)
    _reading(ctx, live=False)
    effect = _to(ctx, "cancelled", "cancelled", reason=ctx.data["reason"])
    if ctx.is_party("centre") and not ctx.is_party("orderer"):
        text = T("{no} 未能检测：{why}", "{no} could not be measured: {why}").format(
            no=ctx.subject.accession, why=ctx.data["reason"]
        )
        effect.notices = (
            Tell("orderer", role_at(ctx.subject.orderer, "order"), text, ctx.subject.account_id),
        )
    return effect


# ------------------------------------------------------------------------------------------------------------- results


def enter(ctx: Ctx) -> Effect:
    """Results come in, by hand or from a device; when none is lacking the report waits to be verified."""
    taken = results.take(ctx.subject, ctx.data["rows"], ctx.by, ctx.now)
    if not taken and ctx.move is not None and not ctx.move.system:
        raise errors.refused(T("没有新的结果。", "There is no new result."), "rows")
    lacking = results.lacking(ctx.subject)
    state = "in_analysis" if lacking else "resulted"
    if not lacking:
        _work(ctx, resulted_at=ctx.now, why_not=[])
    effect = _to(ctx, state, "results", choose=True, taken=[r.analyte for r in taken])
    if state == ctx.case.state:
        effect.to, effect.opens = None, ()
    return effect


def rerun(ctx: Ctx) -> Effect:
    """Some results are run again: those values are kept as earlier attempts."""
    done = _aside(ctx, "earlier")
    return _to(ctx, "in_analysis", "rerun", analytes=done, reason=ctx.data["reason"])


def _aside(ctx: Ctx, state: str) -> list[str]:
    wanted = _codes(ctx.data["analytes"])
    unknown = [c for c in wanted if c not in results.current(ctx.subject)]
    if unknown or not wanted:
        raise errors.refused(T("请选择要处理的项目。", "Choose the tests."), "analytes")
    if all(catalogue.analyte(c).formula for c in wanted):
        raise errors.refused(T("计算项目随其来源项目一起复检。", "A computed value is run again with what it is computed from."), "analytes")  # fmt: skip
    _work(ctx, resulted_at=None, why_not=[])
    return results.set_aside(ctx.subject, wanted, state, ctx.data["reason"])


def _codes(text: str) -> list[str]:
    return [c for c in text.replace("，", ",").replace(" ", ",").split(",") if c]


def retract(ctx: Ctx) -> Effect:
    """A result that went out was wrong: whoever has the report or its call is told at once; the corrected one is verified anew."""
    before = results.current(ctx.subject)
    done = _aside(ctx, "retracted")
    for code in done:
        _call_corrected(ctx, code, "已撤回，待更正", ctx.data["reason"], f"lab:{before[code].pk}:back")
    effect = _to(ctx, "in_analysis", "retracted", analytes=done, reason=ctx.data["reason"])
    names = [catalogue.analyte(c).label for c in done]
    text = T("{no} 的 {what} 结果已撤回，更正后另行通知，请勿据此处理。", "{no}: {what} was taken back; do not act on it, a corrected report follows.").format(
        no=ctx.subject.accession, what=T("、".join(n.zh for n in names), ", ".join(n.en for n in names))
    )  # fmt: skip
    effect.notices = (Tell("orderer", role_at(ctx.subject.orderer, "order"), text, ctx.subject.account_id),)
    return effect


# -------------------------------------------------------------------------------------------------------- verification


def verify(ctx: Ctx) -> Effect:
    """Somebody vouches for results; the last one needed issues the report. Critical values are reported with the first verification."""
    account = ctx.by.account_id
    if account is None:
        raise errors.by_person()
    subject: Reading = ctx.subject
    if ctx.data.get("seen") and ctx.data["seen"] != results.mark(subject):
        raise errors.changed()
    wanted = _codes(ctx.data.get("analytes", "")) or None
    codes, why = verification.offered(subject, account, wanted)
    if not codes:
        raise Refused(why or {"__all__": T("没有待审核的结果。", "Nothing is left to verify.")})
    have = results.current(subject)
    grave = [c for c in codes if have[c].flag in ("LL", "HH", "AA")]
    if grave and not ctx.data.get("notified"):
        raise errors.refused(
            T("含危急值（{what}），请核对标本与结果后勾选确认，系统将立即通知。", "There are critical values ({what}): check tube and result, then confirm; they are notified at once.").format(
                what="、".join(str(catalogue.analyte(c).label) for c in grave)
            ),
            "notified",
        )  # fmt: skip
    verification.sign(subject, codes, account, ctx.now)
    tell_critical(ctx.by, subject, [have[c] for c in grave])
    ctx.extra["note"] = ctx.data.get("conclusion", "")
    level = verification.level(subject)
    if level >= verification.required(subject):
        return _issue(ctx, account)
    if level >= 1 and ctx.case.state == "resulted":
        _work(ctx, verified_at=ctx.now)
        return _to(ctx, "verified", "verified", choose=True, analytes=codes)
    effect = _to(ctx, ctx.case.state, "verified", analytes=codes)
    effect.opens = ()
    return effect


def tell_critical(by: Scope, subject: Reading, rows: list[Result]) -> None:
    """Hand critical values over to whoever must answer (the critical room calls until somebody does)."""
    for row in rows:
        hit = results.critical_hit(subject, row)
        if hit is None:
            continue
        one = catalogue.analyte(row.analyte)
        critical.report(
            by, person_id=subject.person_id, source="laboratory", case_id=subject.pk, reading_accession=subject.accession,
            finding=one.label, code=one.loinc, value=results.number_of(row), unit=one.unit, limit=hit, found_at=row.at,
            orderer=subject.orderer, centre_of=subject.centre_of, key=f"lab:{row.pk}",
        )  # fmt: skip


def _call_corrected(ctx: Ctx, code: str, value: str, reason: str, key: str, unit: str = "") -> None:
    """Show at the open call of a value what became of it."""
    critical.corrected(
        ctx.by, source="laboratory", case_id=ctx.case.pk, code=catalogue.analyte(code).loinc, value=value, unit=unit, reason=reason, key=key
    )  # fmt: skip


def _calls_corrected(ctx: Ctx) -> None:
    """Values that replace retracted ones are shown at the calls those had made."""
    rows = Result.objects.unscoped("the case's own").filter(reading_id=ctx.case.pk, state="retracted").order_by("pk")  # fmt: skip
    gone = {row.analyte: row for row in rows}
    for code, row in results.current(ctx.subject).items():
        if code in gone:
            _call_corrected(ctx, code, results.number_of(row), gone[code].why, f"lab:{row.pk}", catalogue.analyte(code).unit)  # fmt: skip


def by_rule(ctx: Ctx) -> Effect:
    """Every rule agrees: the report is verified in the name of whoever set the rules."""
    subject: Reading = ctx.subject
    rules = verification.rules(subject.centre_of_id)
    codes = list(results.current(subject))
    verification.sign(subject, codes, 0, ctx.now, rules)
    account = rules[codes[0]].account_id
    if policy.value("auto.level", subject.centre_of_id) == "all":
        _work(ctx, auto=True, verified_at=ctx.now)
        return _issue(ctx, account, by_rule=True)
    _work(ctx, verified_at=ctx.now, required=2)
    return _to(ctx, "verified", "verified", choose=True, by_rule=True)


def _issue(ctx: Ctx, account: int, *, by_rule: bool = False) -> Effect:
    subject: Reading = ctx.subject
    work = subject.laboratory
    report = _report(ctx, account, by_rule)
    again = work.version > 0
    _work(ctx, version=work.version + 1, verified_at=work.verified_at or ctx.now)
    _tube_kept(work.specimen)
    _reading(ctx, signed_at=ctx.now, issued_at=subject.issued_at or ctx.now)
    ctx.extra["report"] = report
    hooks.issued(subject, report)
    if again:
        _calls_corrected(ctx)
    effect = _to(
        ctx,
        "issued",
        "amended" if again else "issued",
        choose=True,
        report=report.pk,
        version=report.version,
        by_rule=by_rule,
    )
    text = T("检验报告已更正，请重新查看：{what}", "Laboratory report corrected, look again: {what}") if again else T("检验报告已发布：{what}", "Laboratory report issued: {what}")  # fmt: skip
    effect.notices = (
        Tell("orderer", role_at(subject.orderer, "order"), text.format(what=reading.items_text(subject)), subject.account_id),
    )  # fmt: skip
    return effect


def _tube_kept(tube: Specimen) -> None:
    if tube.state == "received":
        _tube(tube, state="stored")


def _report(ctx: Ctx, account: int, by_rule: bool) -> Report:
    """The report as a version: the values as findings, what is out of range as the conclusion."""
    subject: Reading = ctx.subject
    have = results.current(subject)
    lines = []
    for code, row in have.items():
        one = catalogue.analyte(code)
        lines.append(f"{one.label.zh} {results.number_of(row)} {one.unit if one.unit[:1] != '{' else ''} {judge.ARROWS.get(row.flag, '')}（{row.range_text or '无参考区间'}）".replace("  ", " "))  # fmt: skip
    odd = [c for c, r in have.items() if r.flag not in ("N", "")]
    names = "、".join(f"{catalogue.analyte(c).label.zh}{judge.ARROWS.get(have[c].flag, '')}" for c in odd)
    note = ctx.extra.get("note", "")
    conclusion = "\n".join(
        filter(None, [f"异常项目：{names}。" if odd else "所检项目均在参考区间内。", note])
    )
    entered = next((r.account_id for r in have.values() if r.account_id), None)
    first = account if by_rule else (entered or account)
    report = Report(
        reading=subject, institution_id=subject.centre_of_id, seat="first", version=reports.next_version(subject, "first"), account_id=first,
        practitioner=_practitioner(first), approver=None if by_rule else _practitioner(account), findings="\n".join(lines), conclusion=conclusion,
        structured={"analytes": [{"code": c, "value": results.number_of(r), "flag": r.flag} for c, r in have.items()], "by_rule": by_rule},
        positive=bool(odd), reason=_why_again(ctx), saved_at=ctx.now,
    )  # fmt: skip
    reports.sign(report, ctx.now)
    return report


def _why_again(ctx: Ctx) -> str:
    if not ctx.subject.laboratory.version:
        return ""
    rows = (
        Result.objects.unscoped("the case's own")
        .filter(reading_id=ctx.case.pk, state="retracted")
        .order_by("-pk")
    )
    row = rows.first()
    return (row.why if row else "")[:300] or "更正"


def _practitioner(account_id: int) -> Practitioner | None:
    row = Account.objects.select_related("practitioner").filter(pk=account_id).first()
    return row.practitioner if row else None


def acknowledge(ctx: Ctx) -> Effect:
    """Whoever asked has seen it."""
    _reading(ctx, acknowledged_at=ctx.now, live=False)
    return _to(ctx, "acknowledged", "acknowledged", note=ctx.data.get("note", ""))
