"""Outreach: sending upper doctors down, the days they worked, who they saw, the lessons they gave, and what it adds up to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Q, Sum

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Case
from lianxin.network.models import Department, Institution, Post, Practitioner
from lianxin.record import store
from lianxin.regional.consult import policy
from lianxin.regional.consult.outreach import credits
from lianxin.regional.consult.outreach.models import KINDS, Assignment, Attendance, Day, Lesson, Seen
from lianxin.standards import clock
from lianxin.standards.text import T

LONGEST_DAYS = 731


@dataclass(frozen=True)
class Plan:
    """What an assignment says."""

    practitioner: Practitioner
    from_institution: Institution
    to_institution: Institution
    kinds: Sequence[str]
    weekdays: Sequence[int]
    since: dt.date
    until: dt.date
    department: Department | None = None
    note: str = ""


@transaction.atomic
def assign(by: Scope, plan: Plan) -> Assignment:
    """Send an upper doctor down. Only who runs consultations at the sending institution (or oversees it) may. Raises Refused, NotPermitted."""
    by.demand("run_consults")
    if plan.from_institution.pk not in by.institution_ids | by.oversight_ids:
        raise NotAllowed(
            T(
                "只能派出本机构（或所辖成员机构）的医生。",
                "You send doctors of your own or overseen institutions only.",
            )
        )
    errors: dict[str, Any] = {}
    held = Post.objects.live(plan.since).filter(
        practitioner=plan.practitioner, institution=plan.from_institution
    )
    if not held.exists():
        errors["practitioner"] = T(
            "该医生在派出机构没有有效岗位。", "This doctor holds no live post at the sending institution."
        )
    if plan.from_institution == plan.to_institution:
        errors["to_institution"] = T("派往机构须与派出机构不同。", "They are sent to another institution.")
    if plan.until < plan.since or (plan.until - plan.since).days > LONGEST_DAYS:
        errors["until"] = T(
            "结束日期须在开始之后，且不超过两年。", "It ends after it begins, within two years."
        )
    if not plan.kinds or not set(plan.kinds) <= set(KINDS):
        errors["kinds"] = T("请选择工作内容。", "Say what for.")
    if not plan.weekdays or not set(plan.weekdays) <= set(range(1, 8)):
        errors["weekdays"] = T("请选择每周哪几天。", "Choose the weekdays.")
    if plan.department is not None and plan.department.institution_id != plan.to_institution.pk:
        errors["department"] = T("科室不属于派往机构。", "The department is not of that institution.")
    if errors:
        raise Refused(errors)
    Practitioner.objects.select_for_update(of=("self",), no_key=True).get(pk=plan.practitioner.pk)
    clash = [
        a for a in Assignment.objects.filter(practitioner=plan.practitioner, since__lte=plan.until, until__gte=plan.since)
        if (a.ended_on is None or a.ended_on > plan.since) and set(a.weekdays) & set(plan.weekdays)
    ]  # fmt: skip
    if clash:
        raise Refused(
            {
                "weekdays": T(
                    "该医生这几天已派往{where}。", "On these days they are sent to {where} already."
                ).format(where=clash[0].to_institution.label)
            }
        )
    return Assignment.objects.create(
        practitioner=plan.practitioner, from_institution=plan.from_institution, to_institution=plan.to_institution,
        department=plan.department, kinds=sorted(set(plan.kinds)), weekdays=sorted(set(plan.weekdays)), since=plan.since,
        until=plan.until, note=plan.note[:300], made_by=(by.name or by.reason)[:80], made_at=clock.now(),
    )  # fmt: skip


def end(by: Scope, assignment: Assignment, why: str) -> None:
    """Call somebody back before the time; days worked stay. NotAllowed, Refused."""
    by.demand("run_consults")
    if assignment.from_institution_id not in by.institution_ids | by.oversight_ids:
        raise NotAllowed(T("由派出机构办理。", "The sending institution does this."))
    if not why.strip():
        raise Refused({"why": T("请写明原因。", "Say why.")})
    done = Assignment.objects.filter(pk=assignment.pk, ended_on=None).update(
        ended_on=clock.today(), ended_why=why.strip()[:200]
    )
    if not done:
        raise NotAllowed(T("该派驻已结束。", "This has ended already."))


def visible(by: Scope) -> Any:
    """Assignments of one's own institutions (from or to), of those overseen, and one's own."""
    mine = by.institution_ids | by.oversight_ids
    rows = Assignment.objects.filter(
        Q(from_institution_id__in=mine)
        | Q(to_institution_id__in=mine)
        | Q(practitioner_id=by.practitioner_id or 0)
    )
    return rows.select_related("practitioner", "from_institution", "to_institution", "department")


@transaction.atomic
def record_day(
    by: Scope,
    assignment: Assignment,
    on: dt.date,
    kind: str,
    minutes: int,
    note: str,
    refs: Sequence[str] = (),
) -> Day:
    """Write down a day's work (the doctor themself) with the patients seen, by reference. Raises Refused, NotAllowed."""
    if assignment.practitioner_id != by.practitioner_id:
        raise NotAllowed(T("由派驻医生本人记录。", "The doctor who was sent writes this."))
    errors: dict[str, Any] = {}
    last = min(assignment.until, assignment.ended_on or assignment.until)
    if not assignment.since <= on <= last or on > clock.today():
        errors["on"] = T(
            "日期须在派驻期内且不晚于今天。", "The day is within the assignment and not to come."
        )
    if kind not in assignment.kinds:
        errors["kind"] = T("不在本次派驻的工作内容内。", "Not what the assignment is for.")
    if not 15 <= minutes <= 720:
        errors["minutes"] = T("时长为 15 至 720 分钟。", "15 to 720 minutes.")
    if errors:
        raise Refused(errors)
    try:
        with transaction.atomic():
            day: Day = Day.objects.create(
                assignment=assignment, on=on, kind=kind, minutes=minutes, note=note[:600], recorded_by=by.name[:80], recorded_at=clock.now(),
            )  # fmt: skip
    except IntegrityError:
        raise Refused(
            {"on": T("这一天的同类工作已记录。", "This day's work of the kind is written already.")}
        ) from None
    for ref in dict.fromkeys(refs):
        see(by, day, ref)
    return day


@transaction.atomic
def see(by: Scope, day: Day, ref: str, note: str = "") -> Seen:
    """Add a patient seen: "Encounter/…" of the record or a case's number. Refused when it is not there or not yours to see."""
    if day.assignment.practitioner_id != by.practitioner_id or day.state == "confirmed":
        raise NotAllowed(T("由派驻医生在确认前补充。", "The doctor adds this before the day is confirmed."))
    person_id = _person_of(by, ref.strip())
    row, _ = Seen.objects.unscoped("one's own day").get_or_create(
        day=day, ref=ref.strip(), defaults={"person_id": person_id, "note": note[:300], "at": clock.now()}
    )
    audit.write(by, "create", person_id=person_id, what=f"outreach day {day.pk} {ref.strip()[:80]}")
    found: Seen = row
    return found


def _person_of(by: Scope, ref: str) -> int:
    wrong = Refused(
        {
            "refs": T(
                "找不到您可以查看的就诊或事项：{ref}", "No visit or case that you may see: {ref}"
            ).format(ref=ref[:60])
        }
    )
    if ref.startswith("Encounter/"):
        with connection.cursor() as cursor:
            held = store.read(cursor, by, "Encounter", ref.partition("/")[2])
        if (
            held is None
            or held.status != 200
            or held.person_id is None
            or not relationships.sees(by, held.person_id)
        ):
            raise wrong
        return int(held.person_id)
    case = Case.objects.within(by).filter(number=ref, person__isnull=False).first()
    if case is None or not relationships.sees(by, case.patient_id):
        raise wrong
    return int(case.patient_id)


def answer_day(by: Scope, day: Day, confirmed: bool, words: str = "") -> None:
    """The township confirms a day, or says what is wrong; once. Only a confirmed day counts. NotAllowed, Refused."""
    if (
        day.assignment.to_institution_id not in by.institution_ids
        or by.machine
        or by.practitioner_id == day.assignment.practitioner_id
    ):
        raise NotAllowed(T("由派驻的基层机构确认。", "The institution they were sent to confirms this."))
    by.demand("see_orders")
    if not confirmed and not words.strip():
        raise Refused({"words": T("请写明异议。", "Say what is wrong.")})
    done = Day.objects.filter(pk=day.pk, state="recorded").update(
        state="confirmed" if confirmed else "disputed",
        answered_by=by.name[:80],
        answered_at=clock.now(),
        answer=words.strip()[:300],
    )
    if not done:
        raise NotAllowed(T("该工作日已处理。", "This day was answered already."))


@transaction.atomic
def teach(
    by: Scope, assignment: Assignment, topic: str, on: dt.date, minutes: int, attendees: Sequence[int]
) -> Lesson:
    """Write down a lesson and who took part (people with a live post at the township that day); each has the credit of the rule table."""
    if assignment.practitioner_id != by.practitioner_id:
        raise NotAllowed(T("由带教医生本人记录。", "The teacher writes this."))
    errors: dict[str, Any] = {}
    if not topic.strip():
        errors["topic"] = T("请填写主题。", "Give the topic.")
    if (
        not assignment.since <= on <= min(assignment.until, assignment.ended_on or assignment.until)
        or on > clock.today()
    ):
        errors["on"] = T(
            "日期须在派驻期内且不晚于今天。", "The day is within the assignment and not to come."
        )
    if not 15 <= minutes <= 720:
        errors["minutes"] = T("时长为 15 至 720 分钟。", "15 to 720 minutes.")
    allowed = set(learners(assignment, on).values_list("practitioner_id", flat=True))
    if not attendees or not set(attendees) <= allowed:
        errors["attendees"] = T(
            "请从该机构在岗人员中选择听课人。", "Choose attendees among the staff of the institution."
        )
    if errors:
        raise Refused(errors)
    try:
        with transaction.atomic():
            lesson: Lesson = Lesson.objects.create(
                assignment=assignment, teacher=assignment.practitioner, institution=assignment.to_institution, topic=topic.strip()[:120],
                on=on, minutes=minutes, made_by=by.name[:80], made_at=clock.now(),
            )  # fmt: skip
    except IntegrityError:
        raise Refused({"topic": T("这次带教已记录。", "This lesson is written already.")}) from None
    each = int(policy.value("lesson.minutes", lesson.institution_id))
    times = max(1, min(4, minutes * 2 // each)) * 5
    Practitioner.objects.select_for_update(of=("self",), no_key=True).filter(pk__in=attendees).order_by(
        "pk"
    ).count()
    for person in sorted(set(attendees)):
        tenths, rule = credits.grant(person, "lesson", lesson.institution_id, on, times=times)
        Attendance.objects.create(lesson=lesson, practitioner_id=person, tenths=tenths, rule=rule)
    return lesson


def learners(assignment: Assignment, on: dt.date | None = None) -> Any:
    """Posts of those who may take part in a lesson: staff of the township and its village clinics."""
    place = assignment.to_institution
    rows = Post.objects.live(on).filter(
        Q(institution=place) | Q(institution__parent=place, institution__kind="village")
    )
    return (
        rows.exclude(practitioner_id=assignment.practitioner_id)
        .select_related("practitioner", "institution")
        .order_by("institution__code", "pk")
    )


def totals(by: Scope, year: int) -> list[dict[str, Any]]:
    """Per doctor: confirmed deployment days of a year, minutes, patients seen, lessons (the rows for performance; each opens down)."""
    rows = Day.objects.filter(assignment__in=visible(by), state="confirmed", on__year=year)
    lines = rows.values("assignment__practitioner_id", "assignment__practitioner__name", "assignment__from_institution__name").annotate(
        days=Count("on", distinct=True), places=Count("assignment__to_institution", distinct=True)
    )  # fmt: skip
    minutes = dict(rows.values_list("assignment__practitioner_id").annotate(n=Sum("minutes")))
    seen = dict(
        Seen.objects.unscoped("figures only").filter(day__in=rows).values_list("day__assignment__practitioner_id").annotate(n=Count("pk"))
    )  # fmt: skip
    lessons = dict(
        Lesson.objects.filter(assignment__in=visible(by), on__year=year)
        .values_list("teacher_id")
        .annotate(n=Count("pk"))
    )
    found = [
        {
            "practitioner": line["assignment__practitioner_id"], "name": line["assignment__practitioner__name"],
            "institution": line["assignment__from_institution__name"], "days": line["days"], "places": line["places"],
            "hours": minutes.get(line["assignment__practitioner_id"], 0) // 60, "seen": seen.get(line["assignment__practitioner_id"], 0),
            "lessons": lessons.get(line["assignment__practitioner_id"], 0),
        }
        for line in lines
    ]  # fmt: skip
    return sorted(found, key=lambda line: (-line["days"], line["name"]))
