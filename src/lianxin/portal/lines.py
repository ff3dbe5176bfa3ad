"""Duty lines: one shape for what is mine, what others owe, and what is late, as the component ``duty_line`` draws it."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from django.urls import NoReverseMatch, reverse

from lianxin.access.models import Account
from lianxin.access.scope import Scope
from lianxin.duty import machine
from lianxin.duty.models import Case, Duty
from lianxin.duty.worklist import WorkItem, age_on
from lianxin.network.models import Institution
from lianxin.portal import words
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGES = {
    "referral": ("referral:show", "referral:act"),
    "followup": ("referral:followup", "referral:followup_act"),
    "data_problem": ("feeds:problem", "feeds:problem_act"),
    "appointment": ("booking:visit", "booking:visit_act"),
    "booking_appeal": ("booking:appeal", "booking:appeal_act"),
    "consult": ("consult:show", "consult:act"),
    "record_correction": ("phone:answer", "phone:answer_act"),
    "critical": ("critical:show", "critical:act"),
    "sterile_request": ("sterile:case", "sterile:case_act"),
    "sterile_recall": ("sterile:case", "sterile:case_act"),
    "sterile_contact": ("sterile:case", "sterile:case_act"),
    "reading": ("reading:case", "reading:case_act"),
    "laboratory": ("laboratory:case", "laboratory:case_act"),
    "chest_pain": ("emergency:show", "emergency:act"),
    "report_amendment": ("reading:amended", "reading:amended_act"),
}
"""Kind of case → names of its page and of the page of one of its moves."""
CASE_NUMBER = re.compile(r"[A-Z]{2}[0-9]{8}-[0-9]{5,}")


@dataclass(frozen=True)
class Line:
    """A duty as a line: what, for whom, who owes it, how long is left, where the button leads."""

    duty_id: int
    label: Text
    case_number: str
    case_label: Text
    state_label: Text
    case_url: str
    act_url: str
    act_label: Text | None
    person_name: str
    person_number: str
    person_sex: Text
    person_age: Text
    priority: str
    priority_label: Text
    due_at: dt.datetime
    paused: bool
    clock_state: str
    level: int
    owner: Institution | None
    owner_role: str
    taken_by: str
    mine: bool
    about: Text | None = None


def address(kind: str, number: str, move: str = "") -> str:
    """Address of a case, or of the form of one of its moves."""
    show, act = PAGES.get(kind, PAGES["referral"])
    try:
        return reverse(act, args=[number, move]) if move else reverse(show, args=[number])
    except NoReverseMatch:
        return "/"


def address_of(number: str) -> str:
    """Address of the case with this number, told by its prefix; "" when no machine has that prefix."""
    if CASE_NUMBER.fullmatch(number) is None:
        return ""
    kind = next((m.kind for m in machine.all_machines() if m.prefix == number[:2]), "")
    return address(kind, number) if kind in PAGES else ""


def _names(accounts: Iterable[int | None]) -> dict[int, str]:
    wanted = {a for a in accounts if a}
    return dict(Account.objects.filter(pk__in=wanted).values_list("pk", "name")) if wanted else {}


def about(cases: Iterable[Case], scope: Scope) -> dict[int, Text]:
    """Case id → what it is about (diagnosis, from where to where), as its machine says; one query for each kind of case."""
    kinds: dict[str, dict[int, Case]] = {}
    for case in cases:
        kinds.setdefault(case.kind, {})[case.pk] = case
    found: dict[int, Text] = {}
    for kind, some in kinds.items():
        m = machine.get(kind)
        if m.summary is None or m.load_many is None:
            continue
        for pk, subject in m.load_many(list(some.values())).items():
            found[pk] = m.summary(machine.Ctx(m, some[pk], scope, clock.now(), subject))
    return found


def _line(
    item: WorkItem, owner: Institution | None, taken_by: str, me: int | None, subject: Text | None = None
) -> Line:
    button = item.button
    return Line(
        duty_id=item.duty_id,
        label=item.label,
        case_number=item.case_number,
        case_label=item.case_label,
        state_label=item.state_label,
        case_url=address(item.case_kind, item.case_number),
        act_url=address(item.case_kind, item.case_number, button.name) if button else "",
        act_label=button.label if button else None,
        person_name=item.person_name,
        person_number=item.person_number,
        person_sex=words.SEX.get(item.person_sex, words.SEX["unknown"]),
        person_age=T("年龄不详", "Age unknown")
        if item.person_age is None
        else T(f"{item.person_age} 岁", f"{item.person_age} y"),
        priority=item.priority,
        priority_label=machine.PRIORITIES.get(item.priority, Text(item.priority, item.priority)),
        due_at=item.due_at,
        paused=item.paused,
        clock_state=words.time_left(item.due_at, paused=item.paused).state,
        level=item.level,
        owner=owner,
        owner_role=item.role,
        taken_by=taken_by,
        mine=item.account_id == me and me is not None,
        about=subject,
    )


def of_items(items: list[WorkItem], scope: Scope, *, masked: bool = False) -> list[Line]:
    """Lines of a worklist; institutions, colleagues and (for clinical roles) what the cases are about in a query each."""
    if masked:
        items = [replace(i, person_name=mask(i.person_name)) if i.person_name else i for i in items]
    me = scope.account_id
    cases = (
        Case(pk=i.case_id, number=i.case_number, kind=i.case_kind)
        for i in items
        if scope.clinical or i.person_id is None
    )
    subjects = about(cases, scope)
    places = Institution.objects.in_bulk({i.institution_id for i in items})
    names = _names(i.account_id for i in items)
    return [
        _line(i, places.get(i.institution_id), names.get(i.account_id or 0, ""), me, subjects.get(i.case_id))
        for i in items
    ]


def of_duties(duties: list[Duty], scope: Scope, *, masked: bool = False) -> list[Line]:
    """Lines of duty rows (with case, person and owner selected); no button: they are others' to do.

    ``masked`` hides the patient's name from those who follow cases without reading records.
    """
    now, me = clock.now(), scope.account_id
    subjects = about((d.case for d in duties if not masked or d.person_id is None), scope)
    names = _names(d.owner_account_id for d in duties)
    lines = []
    for d in duties:
        m, person = machine.get(d.case.kind), d.person
        item = WorkItem(
            duty_id=d.pk, kind=d.kind, label=d.label, institution_id=d.owner_institution_id, role=d.owner_role,
            account_id=d.owner_account_id, due_at=d.due_at, seconds_left=int((d.due_at - now).total_seconds()),
            paused=d.paused_since is not None, level=d.level, button=None, case_id=d.case_id, case_number=d.case.number,
            case_kind=d.case.kind, case_label=m.label, state=d.case.state, state_label=m.state(d.case.state).label,
            priority=d.case.priority, version=d.case.version, person_id=d.person_id,
            person_number=person.number if person else "",
            person_name=(mask(person.name) if masked else person.name) if person else "",
            person_sex=person.sex if person else "",
            person_age=age_on(person.birth_date, now.date()) if person else None,
        )  # fmt: skip
        lines.append(
            _line(
                item, d.owner_institution, names.get(d.owner_account_id or 0, ""), me, subjects.get(d.case_id)
            )
        )
    return lines


def mask(name: str) -> str:
    """The family name, the rest as stars: 单**."""
    return name[:1] + "*" * max(len(name) - 1, 1)
