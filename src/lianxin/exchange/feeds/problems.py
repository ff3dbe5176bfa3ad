"""Bad data sent back to its sender as a duty with a due time: the machine of 数据质量问题, who owes what, and when it is mended.

One case for an institution, door, kind, rule and week, not one a message.  The consortium's data desk (the lead institution's index
manager or office) opens it, or the hour's round does for what the gate held back or refused.  The sender mends at the source and sends
again, or disputes; the desk accepts the dispute or insists.  "Mended" is looked at, not believed (:func:`unmended`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django import forms
from django.db import connection, transaction

from lianxin.access.scope import Scope
from lianxin.duty import kernel, machine
from lianxin.duty.errors import Refused
from lianxin.duty.forms import MoveForm
from lianxin.duty.machine import Ctx, Effect, Machine, Move, Owes, State
from lianxin.duty.models import Case
from lianxin.exchange.feeds import scores
from lianxin.exchange.feeds.models import MENDED, OPEN, QUARANTINE, REFUSE, TOLD, WAIVED, Finding
from lianxin.exchange.feeds.quality import rules, words
from lianxin.exchange.feeds.quality.models import DataProblem
from lianxin.network import directory, roles
from lianxin.network.models import Institution, Post
from lianxin.record.keys import hash64
from lianxin.standards import clock
from lianxin.standards.text import T, Text

KIND = "data_problem"
KEPT = 1000  # arrivals named by a problem
SENDERS = (
    roles.INDEX_MANAGER, roles.MANAGER, roles.REFERRAL_DESK, roles.RECEPTION, roles.GP, roles.FAMILY_DOCTOR, roles.VILLAGE_DOCTOR,
)  # fmt: skip
"""Roles that mend at the sender's, the first of them that somebody holds there owing it."""
DESKS = (roles.INDEX_MANAGER, roles.MANAGER)
OURS = frozenset({"exception", "forbidden", "lock-error", "refused", "login", "throttled"})
"""Reasons of refusals that are no mistake in the data."""


def _words(label: Text, *, required: bool = True) -> forms.CharField:
    return forms.CharField(
        label=label, required=required, max_length=1000, widget=forms.Textarea(attrs={"rows": 3}),
        error_messages={"required": T("此项必填，请填写。", "This is required; please fill it in.")},
    )  # fmt: skip


class OpenForm(MoveForm):
    """What the sender is told besides the rule's own words."""

    note = _words(T("给发送方的说明", "What to tell the sender"), required=False)


class MendForm(MoveForm):
    """How it was mended; where the mended ones came under other control ids, which."""

    comment = _words(T("怎样修正的", "How it was mended"))
    replacements = forms.CharField(
        label=T("重发的控制号（控制号变了才填）", "Control ids of what was sent again (if they changed)"),
        help_text=T("每行一条：原控制号=新控制号", "One a line: old control id = new control id"),
        required=False, max_length=100_000, widget=forms.Textarea(attrs={"rows": 3}),
    )  # fmt: skip

    def clean_replacements(self) -> dict[str, str]:
        """Old control id → new one."""
        found = {}
        for n, line in enumerate(self.cleaned_data["replacements"].splitlines(), 1):
            if not line.strip():
                continue
            old, equals, new = (part.strip() for part in line.partition("="))
            if not equals or not old or not new:
                raise forms.ValidationError(
                    T("第 {n} 行应写成 原控制号=新控制号。", "Line {n} should read old = new.").format(n=n)
                )
            found[old[:199]] = new[:199]
        return found


class DisputeForm(MoveForm):
    """Why the sender thinks that nothing is wrong."""

    reason = forms.ChoiceField(
        label=T("理由", "Reason"),
        choices=[
            ("right", T("数据本身是对的", "The data are right")), ("rule", T("规则不合适", "The rule does not fit")),
            ("not_ours", T("不是我院发送的", "It was not sent by us")), ("other", T("其他", "Something else")),
        ],
    )  # fmt: skip
    comment = _words(T("说明", "Comment"))


class WhyForm(MoveForm):
    """Why it is decided so."""

    comment = _words(T("说明", "Comment"))


# ----------------------------------------------------------------------------------------------------------- who owes it


def desk_of(institution: Institution) -> Institution:
    """The consortium's data desk for an institution: its lead, or itself when it is in no consortium."""
    return directory.lead_of(institution) or institution


def role_there(institution_id: int, among: Sequence[str]) -> str:
    """The first of some roles that somebody holds at an institution today (the first of all when nobody does: it escalates)."""
    held = set(
        Post.objects.live()
        .filter(institution_id=institution_id, role__in=among)
        .values_list("role", flat=True)
    )
    return next((role for role in among if role in held), among[0])


def _owed_by_sender(ctx: Ctx) -> Owes:
    own = STATES[0].owes
    assert own is not None
    return replace(own, role=role_there(ctx.parties["sender"], SENDERS))


def _owed_by_desk(ctx: Ctx, state: str) -> Owes:
    own = MACHINE.state(state).owes
    assert own is not None
    return replace(own, role=role_there(ctx.parties["desk"], DESKS))


# --------------------------------------------------------------------------------------------------------------- effects


def _open(ctx: Ctx) -> Effect:
    group: Group = ctx.extra["group"]
    ctx.subject = DataProblem(
        case_id=ctx.case.pk, institution_id=group.institution_id, desk_id=ctx.parties["desk"], door=group.door, kind=group.kind,
        rule=group.rule, severity=group.severity, week=group.week, number=len(group.arrivals), arrivals=group.arrivals[:KEPT],
        note=(ctx.data.get("note") or "")[:500],
    )  # fmt: skip
    ctx.subject.save(force_insert=True)
    _mark(ctx.subject, group.arrivals, OPEN, TOLD)
    return Effect(opens=(_owed_by_sender(ctx),), outcome={"number": len(group.arrivals)})


def _mark(problem: DataProblem, arrivals: Sequence[int], was: str, now: str) -> None:
    found = Finding.objects.filter(arrival_id__in=list(arrivals), rule=problem.rule, state=was)
    found.update(state=now, case_id=problem.pk)


def _mend(ctx: Ctx) -> Effect:
    problem: DataProblem = ctx.subject
    problem.replacements = {**problem.replacements, **ctx.data["replacements"]}
    left = unmended(problem)
    problem.mended = len(problem.arrivals) - len(left)
    if left:
        some = "、".join(control or str(pk) for pk, control in left[:5])
        raise Refused(
            {
                "comment": T(
                    "还有 {n} 条没有改好重发：{some}。重发或重放成功后再报已修正；数据无误可提出异议。",
                    "{n} were not sent again rightly: {some}. Report it when they are in, or dispute it.",
                ).format(n=len(left), some=some)
            }
        )
    problem.save()
    _mark(problem, problem.arrivals, TOLD, MENDED)
    return Effect(opens=(_owed_by_desk(ctx, "mended"),), outcome={"mended": problem.mended})


def _dispute(ctx: Ctx) -> Effect:
    return Effect(opens=(_owed_by_desk(ctx, "disputed"),))


def _back(ctx: Ctx) -> Effect:
    _mark(ctx.subject, ctx.subject.arrivals, MENDED, TOLD)
    return Effect(opens=(_owed_by_sender(ctx),))


def _close(ctx: Ctx) -> None:
    DataProblem.objects.filter(pk=ctx.subject.pk).update(live=False)


def _waive(ctx: Ctx) -> None:
    _mark(ctx.subject, ctx.subject.arrivals, TOLD, WAIVED)
    DataProblem.objects.filter(pk=ctx.subject.pk).update(live=False)


def _load(case: Case) -> DataProblem | None:
    return DataProblem.objects.select_related("institution").filter(pk=case.pk).first()


def _load_many(cases: list[Case]) -> dict[int, DataProblem]:
    return {
        p.pk: p
        for p in DataProblem.objects.select_related("institution").filter(pk__in=[c.pk for c in cases])
    }


def title_of(problem: DataProblem) -> Text:
    """What is wrong, in a line."""
    return T("{rule} · {kind} · {n} 条", "{rule} · {kind} · {n} pieces").format(
        rule=rule_words(problem.rule), kind=problem.kind or "—", n=problem.number
    )


def rule_words(code: str) -> Text:
    """A rule in words, or a door's own reason."""
    return (
        rules.words_of(code)
        if code in rules.shipped()
        else REASONS.get(code, T("接口拒绝：{c}", "Refused: {c}").format(c=code))
    )


REASONS = {
    "required": T("缺少必填项", "Something required is missing"), "value": T("取值不正确", "A value is wrong"),
    "structure": T("结构不正确", "The structure is wrong"), "invalid": T("内容不正确", "The content is wrong"),
    "code-invalid": T("代码不在值域", "A code is none of its set"), "not-found": T("引用的对象不存在", "What it refers to is not there"),
    "duplicate": T("控制号重复", "The control id is used twice"), "conflict": T("与已有数据冲突", "It conflicts with what is there"),
    "processing": T("不能处理", "It cannot be processed"), "business-rule": T("不合业务规则", "It breaks a rule of the business"),
    "not-supported": T("不支持的消息", "A message that is not taken"),
}  # fmt: skip


def _summary(ctx: Ctx) -> Text:
    return title_of(ctx.subject) if ctx.subject is not None else MACHINE.label


PARTS = {"sender": T("发送机构", "The sender"), "desk": T("数据质控台", "The data desk")}
STATES = (
    State("owed", T("待修正", "To be mended"), owes=Owes("mend", T("修正数据并重新发送", "Mend the data and send them again"), "sender", roles.INDEX_MANAGER, "mend", "mend")),
    State("disputed", T("有异议", "Disputed"), owes=Owes("answer", T("答复异议", "Answer the dispute"), "desk", roles.INDEX_MANAGER, "answer", "insist")),
    State("mended", T("已修正待确认", "Mended, to be confirmed"), owes=Owes("confirm", T("确认修正", "Confirm the mending"), "desk", roles.INDEX_MANAGER, "confirm", "close")),
    State("closed", T("已办结", "Closed"), terminal=True),
    State("waived", T("不予追究", "Waived"), terminal=True),
)  # fmt: skip
MOVES = (
    Move("open", T("退回发送方", "Send back"), (), "owed", ("desk",), DESKS, OpenForm, effect=_open, tone="primary"),
    Move("open_auto", T("自动退回发送方", "Sent back automatically"), (), "owed", effect=_open, system=True),
    Move("mend", T("报告已修正", "Report it mended"), ("owed",), "mended", ("sender",), SENDERS, MendForm, effect=_mend, tone="primary"),
    Move("dispute", T("提出异议", "Dispute"), ("owed",), "disputed", ("sender",), SENDERS, DisputeForm, effect=_dispute),
    Move("insist", T("维持原判", "Insist"), ("disputed",), "owed", ("desk",), DESKS, WhyForm, effect=_back, tone="primary"),
    Move("accept", T("接受异议", "Accept the dispute"), ("disputed",), "waived", ("desk",), DESKS, WhyForm, effect=_waive),
    Move("waive", T("不予追究", "Waive"), ("owed",), "waived", ("desk",), DESKS, WhyForm, effect=_waive),
    Move("send_back", T("仍有问题，退回", "Still wrong: back"), ("mended",), "owed", ("desk",), DESKS, WhyForm, effect=_back),
    Move("close", T("确认并办结", "Confirm and close"), ("mended",), "closed", ("desk",), DESKS, effect=_close, tone="primary"),
)  # fmt: skip
MACHINE = Machine(
    kind=KIND,
    label=T("数据质量问题", "Data problem"),
    prefix="SJ",
    states=STATES,
    moves=MOVES,
    parts=PARTS,
    clocks={"mend": "5wd", "answer": "3wd", "confirm": "3wd"},
    path=("owed", "mended", "closed"),
    load=_load,
    load_many=_load_many,
    summary=_summary,
    personal=False,
)


# ------------------------------------------------------------------------------------------------------------ is it mended


def unmended(problem: DataProblem) -> list[tuple[int, str]]:
    """(id, control id) of the problem's arrivals that are not right yet.

    Right is: taken since (replayed, or sent again just so), or set aside by a person; or a later arrival of the sender was taken without
    this finding under the same control id, under the one the sender names as its replacement, or for the same person and kind.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, sender, control_id, person_id FROM exchange_arrival WHERE id = ANY(%s) AND NOT (state = 'dropped'"
            " OR (state = 'taken' AND %s)) ORDER BY id",
            [problem.arrivals, problem.severity in (REFUSE, QUARANTINE)],
        )
        left = cursor.fetchall()
        if not left:
            return []
        first = min(row[0] for row in left)
        clean = (
            "b.state = 'taken' AND b.id > %s AND b.institution_id = %s AND b.door = %s AND NOT EXISTS (SELECT 1 FROM exchange_finding f"
            " WHERE f.arrival_id = b.id AND f.rule = %s AND f.state IN ('open', 'sent'))"
        )
        params = [first, problem.institution_id, problem.door, problem.rule]
        named = {pk: problem.replacements.get(control, control) for pk, _, control, _ in left}
        cursor.execute(
            f"SELECT b.id, b.control_id FROM exchange_arrival b WHERE b.sender = ANY(%s) AND b.control_id = ANY(%s) AND {clean}",
            [sorted({row[1] for row in left}), sorted({n for n in named.values() if n}), *params],
        )
        again: dict[str, int] = {}
        for pk, control in cursor.fetchall():
            again[control] = max(pk, again.get(control, 0))
        cursor.execute(
            f"SELECT b.person_id, max(b.id) FROM exchange_arrival b WHERE b.person_id = ANY(%s) AND b.kind = %s AND b.at >= %s AND {clean}"
            " GROUP BY 1",
            [sorted({row[3] for row in left if row[3]}), problem.kind, problem.case.opened_at, *params],
        )
        people = dict(cursor.fetchall())
    return [
        (pk, control)
        for pk, _, control, person in left
        if not (again.get(named[pk], 0) > pk if named[pk] else False) and not people.get(person, 0) > pk
    ]


# ------------------------------------------------------------------------------------------------------------------ opening


@dataclass
class Group:
    """What is wrong together: an institution's pieces of a door and kind with one rule in one week."""

    institution_id: int
    door: str
    kind: str
    rule: str
    week: dt.date
    severity: str
    arrivals: list[int]


def monday(day: dt.date) -> dt.date:
    """The Monday of a day's week."""
    return day - dt.timedelta(days=day.weekday())


_FOUND = (
    "SELECT f.institution_id, f.door, f.kind, f.rule, date_trunc('week', f.day)::date,"
    " bool_or(f.severity = 'refuse'), bool_or(f.severity = 'quarantine'), array_agg(DISTINCT f.arrival_id ORDER BY f.arrival_id)"
    " FROM exchange_finding f WHERE f.state = 'open' AND f.institution_id IS NOT NULL AND f.day BETWEEN %s AND %s {more} GROUP BY 1, 2, 3, 4, 5"
)
_REFUSED = (
    "SELECT a.institution_id, a.door, a.kind, split_part(split_part(a.error, E'\\n', 1), ' ', 1) AS rule,"
    " date_trunc('week', a.at AT TIME ZONE %s)::date, TRUE, FALSE, array_agg(a.id ORDER BY a.id) FROM exchange_arrival a"
    " WHERE a.state = 'refused' AND a.institution_id IS NOT NULL AND a.at >= %s AND a.at < %s {more}"
    " AND NOT EXISTS (SELECT 1 FROM exchange_finding f WHERE f.arrival_id = a.id)"
    " AND NOT EXISTS (SELECT 1 FROM exchange_dataproblem p WHERE p.institution_id = a.institution_id AND p.week >= %s"
    " AND a.id = ANY(p.arrivals)) GROUP BY 1, 2, 3, 4, 5"
)


def groups(since: dt.date, until: dt.date, *, severe: bool = True, only: Group | None = None) -> list[Group]:
    """What is wrong and not yet sent back; ``severe``: only what the gate or the door did not let through."""
    more = ""
    wanted: list[Any] = []
    if only is not None:
        more = "AND {0}.institution_id = %s AND {0}.door = %s AND {0}.kind = %s"
        wanted = [only.institution_id, only.door, only.kind]
    begin = dt.datetime.combine(since, dt.time(), tzinfo=clock.ZONE)
    end = dt.datetime.combine(until + dt.timedelta(days=1), dt.time(), tzinfo=clock.ZONE)
    with connection.cursor() as cursor:
        cursor.execute(_FOUND.format(more=more.format("f")), [since, until, *wanted])
        rows = cursor.fetchall()
        cursor.execute(
            _REFUSED.format(more=more.format("a")), [str(clock.ZONE), begin, end, *wanted, monday(since) - dt.timedelta(days=7)]
        )  # fmt: skip
        rows += [row for row in cursor.fetchall() if row[3] and row[3] not in OURS]
    found = [
        Group(i, door, kind, rule, week, REFUSE if refuse else QUARANTINE if hold else "warn", arrivals)
        for i, door, kind, rule, week, refuse, hold, arrivals in rows
    ]
    return [
        g
        for g in found
        if (not severe or g.severity != "warn")
        and (only is None or (g.rule, g.week) == (only.rule, only.week))
    ]


def send_back(by: Scope, group: Group, note: str = "") -> str:
    """Open the case of a group (or add to the one that is open); returns its number. Raises the kernel's MoveErrors."""
    with transaction.atomic():
        live = (
            DataProblem.objects.select_for_update(of=("self",))
            .select_related("case")
            .filter(
                institution_id=group.institution_id, door=group.door, kind=group.kind, rule=group.rule, week=group.week, live=True
            )
            .first()
        )  # fmt: skip
        if live is not None:
            new = [pk for pk in group.arrivals if pk not in set(live.arrivals)]
            live.number += len(new)
            live.arrivals = (live.arrivals + new)[:KEPT]
            live.save(update_fields=["number", "arrivals"])
            _mark(live, group.arrivals, OPEN, TOLD)
            return live.case.number
        institution = Institution.objects.get(pk=group.institution_id)
        parties = {"sender": institution.pk, "desk": desk_of(institution).pk}
        before = DataProblem.objects.filter(
            institution_id=group.institution_id, door=group.door, kind=group.kind, rule=group.rule, week=group.week
        ).count()  # fmt: skip
        parts = (group.institution_id, group.door, group.kind, group.rule, group.week, before)
        key = f"data_problem:{hash64('|'.join(map(str, parts)))}"
        done = kernel.open_case(
            KIND, None, by, {} if by.everything else {"note": note}, key, parties=parties,
            move="open_auto" if by.everything else "open", extra={"group": group},
        )  # fmt: skip
        return done.case.number


def run() -> int:
    """The hour's round: send back what was held back or refused in the last eight days; returns how many groups."""
    today = clock.today()
    system = Scope.system("the gate held data back")
    found = groups(today - dt.timedelta(days=7), today)
    for group in found:
        send_back(system, group)
    return len(found)


def settle(problem: DataProblem) -> None:
    """Count the days anew whose findings were mended or waived."""
    days = Finding.objects.filter(case_id=problem.pk).values_list("day", flat=True).distinct()
    for day in days[:14]:
        scores.recount(day)


def severity_words(problem: DataProblem) -> Text:
    """How bad, in words."""
    return words.SEVERITIES[problem.severity]


def register() -> None:
    """Offer the machine to the kernel."""
    machine.register(MACHINE)
