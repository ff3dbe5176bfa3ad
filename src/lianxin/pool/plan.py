"""One plan for a patient who needs several things on one day: a clinic number, examinations, a bed.

:func:`search` is pure: from what is free on a day it finds the plan that is done first. Jobs (examinations, the visit) are put into
every permitted order (fasting first, the rules of ``exams``), and in each order every session is tried with its earliest start
that fits; given the order and the sessions, starting each as early as possible is never worse, so nothing is missed. With at most
four examinations of a handful of sessions that is some thousands of steps (milliseconds); a solver such as CP-SAT would cost more
to load than to search, and would have to be told the same rules a second time.

:func:`take` holds all of a plan in one transaction, in lock order, all or nothing; :func:`take_first` goes on to the next plan
when somebody was faster.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

from django.db import connection, transaction

from lianxin.index.models import Person
from lianxin.pool import booking, exams, exclusive
from lianxin.pool.errors import BookingError, Full, NotPossible, SeatTaken
from lianxin.pool.models import Claim, ExamItem, Place, Resource, Session
from lianxin.standards import clock
from lianxin.standards.text import T, Text

MOST_EXAMS = 4
DAYS = 14
CLINIC = "clinic"


@dataclass(frozen=True)
class Wanted:
    """What one patient needs at one institution. ``results_first``: the doctor is seen with the reports in hand.

    ``specialty`` "": no clinic number. ``ward``: a department's id, else the wards of the specialty, else any.
    """

    exams: tuple[str, ...] = ()
    specialty: str = ""
    clinic: bool = False
    bed: bool = False
    ward: int | None = None
    grade: str = ""
    isolation: str = ""
    stay_days: int = 0
    results_first: bool = True

    @property
    def nights(self) -> int:
        """Days the bed is planned for."""
        return self.stay_days or int(exams.shipped()["stay_days"])

    def problem(self) -> Text | None:
        """Why this cannot be planned at all."""
        if not (self.exams or self.clinic or self.bed):
            return T(
                "请至少选择一项：号、检查或床位。", "Choose at least one: a number, an examination or a bed."
            )
        if len(self.exams) > MOST_EXAMS:
            return T(
                "一次最多安排 {n} 项检查，请分两次安排。",
                "At most {n} examinations at a time; plan them in two.",
            ).format(n=str(MOST_EXAMS))
        if len(set(self.exams)) < len(self.exams):
            return T("同一项目选了两次。", "One examination is chosen twice.")
        return None


@dataclass(frozen=True)
class Slot:
    """A start of a job: of which session and seat, from when to when."""

    at: dt.datetime
    until: dt.datetime
    session_id: int
    seat: int
    units: int = 1


@dataclass(frozen=True)
class Bed:
    """A bed free from ``at`` on."""

    at: dt.datetime
    resource_id: int
    rank: int = 0


@dataclass(frozen=True)
class Candidates:
    """What is free on one day: starts by examination code (soonest first), of the clinic, and beds."""

    exams: dict[str, tuple[Slot, ...]] = field(default_factory=dict)
    clinic: tuple[Slot, ...] = ()
    beds: tuple[Bed, ...] = ()


@dataclass(frozen=True)
class Step:
    """One job of a plan: ``code`` is the examination's, or "clinic"."""

    code: str
    slot: Slot


@dataclass(frozen=True)
class Plan:
    """Steps in time order and the bed; ``until``: the claim on it ends."""

    steps: tuple[Step, ...]
    bed: Bed | None = None
    until: dt.datetime | None = None

    @property
    def at(self) -> dt.datetime:
        """When the patient has to be there."""
        starts = [s.slot.at for s in self.steps] + ([self.bed.at] if self.bed else [])
        return min(starts)

    @property
    def end(self) -> dt.datetime:
        """When the last thing of the day is done (the admission itself counts as no time)."""
        ends = [s.slot.until for s in self.steps] + ([self.bed.at] if self.bed else [])
        return max(ends)

    @property
    def token(self) -> str:
        """The plan in a few letters, for a form; :func:`rebuild` reads it."""
        return json.dumps(
            {
                "s": [[s.code, s.slot.session_id, s.slot.seat] for s in self.steps],
                "b": [self.bed.resource_id, self.bed.at.isoformat(), self.until.isoformat()]
                if self.bed and self.until
                else None,
            },
            separators=(",", ":"),
        )


class Gone(BookingError):
    """None of the plans could be taken any more; ``alternatives``: what is possible now."""

    def __init__(self, alternatives: list[Plan]) -> None:
        super().__init__(
            T(
                "刚被他人约走，未能一次约齐，原有安排未变。请从下面重新选择。",
                "Somebody was faster and not all of it could be had; nothing has changed. Choose again below.",
            )
        )
        self.alternatives = alternatives


# ---------------------------------------------------------------- the search (pure)


def search(
    wanted: Wanted,
    items: dict[str, ExamItem],
    free: Candidates,
    calendar: Sequence[exams.Done] = (),
    *,
    walk: dt.timedelta | None = None,
) -> Plan | None:
    """The plan of the day that is done first (then: the earliest admission, then the latest start: least waiting), or None.

    ``calendar``: the patient's other examinations. Nothing is read or locked.
    """
    gap = dt.timedelta(minutes=exams.shipped()["walk_minutes"]) if walk is None else walk
    usable = {
        code: [
            slot
            for slot in free.exams.get(code, ())
            if (not items[code].fasting_hours or exams.in_the_morning(slot.at))
            and all(exams.conflict(_done(items[code], slot), d) is None for d in calendar)
        ]
        for code in wanted.exams
    }
    best: tuple[Any, Plan] | None = None
    for order in _orders(wanted, items):
        for steps in _placed(order, wanted, items, usable, free.clinic, gap):
            plan = _admitted(steps, wanted, free.beds)
            if plan is None:
                continue
            rank = _rank(plan)
            if best is None or rank < best[0]:
                best = (rank, plan)
    return best[1] if best else None


def _rank(plan: Plan) -> tuple[Any, ...]:
    done = max((s.slot.until for s in plan.steps), default=plan.at)
    bed = plan.bed
    return (
        done, bed.at if bed else done, bed.rank if bed else 0, -plan.at.timestamp(),
        [(s.slot.session_id, s.slot.seat) for s in plan.steps], bed.resource_id if bed else 0,
    )  # fmt: skip


def _done(wanted: ExamItem, slot: Slot) -> exams.Done:
    return exams.done_of(wanted, slot.at)


def _orders(wanted: Wanted, items: dict[str, ExamItem]) -> Iterator[tuple[str, ...]]:
    """Orders worth trying: fasting examinations before the others; the visit last when it waits for reports."""
    for order in permutations(wanted.exams):
        hungry = [bool(items[code].fasting_hours) for code in order]
        if hungry != sorted(hungry, reverse=True):
            continue
        if not wanted.clinic:
            yield order
        elif wanted.results_first:
            yield (*order, CLINIC)
        else:
            for n in range(len(order) + 1):
                yield (*order[:n], CLINIC, *order[n:])


def _placed(
    order: Sequence[str],
    wanted: Wanted,
    items: dict[str, ExamItem],
    usable: dict[str, list[Slot]],
    clinic: Sequence[Slot],
    gap: dt.timedelta,
    before: tuple[Step, ...] = (),
) -> Iterator[tuple[Step, ...]]:
    """Every way to place the jobs in this order: a session for each, in it the earliest start that fits."""
    if len(before) == len(order):
        yield before
        return
    code = order[len(before)]
    used = {s.slot.session_id for s in before}
    tried: set[int] = set()
    for slot in clinic if code == CLINIC else usable[code]:
        if slot.session_id in used or slot.session_id in tried:
            continue
        if all(_follows(step, code, slot, wanted, items, gap) for step in before):
            tried.add(slot.session_id)
            yield from _placed(order, wanted, items, usable, clinic, gap, (*before, Step(code, slot)))


def _follows(
    step: Step, code: str, slot: Slot, wanted: Wanted, items: dict[str, ExamItem], gap: dt.timedelta
) -> bool:
    """Whether the job may stand at ``slot`` after an earlier step."""
    wait = gap
    if code == CLINIC and wanted.results_first:
        wait = max(gap, dt.timedelta(minutes=exams.report_minutes(step.code)))
    if slot.at < step.slot.until + wait:
        return False
    if CLINIC in (code, step.code):
        return True
    return exams.conflict(_done(items[step.code], step.slot), _done(items[code], slot)) is None


def _admitted(steps: tuple[Step, ...], wanted: Wanted, beds: Sequence[Bed]) -> Plan | None:
    """The steps with the bed that is free soonest after them."""
    if not wanted.bed:
        return Plan(steps)
    ready = max((s.slot.until for s in steps), default=None)
    fitting = [replace(b, at=max(b.at, ready)) if ready else b for b in beds]
    if not fitting:
        return None
    bed = min(fitting, key=lambda b: (b.at, b.rank, b.resource_id))
    day = bed.at.astimezone(clock.ZONE).date() + dt.timedelta(days=wanted.nights)
    return Plan(steps, bed, dt.datetime.combine(day, dt.time(12), clock.ZONE))


# ---------------------------------------------------------------- what is free


def plans(
    wanted: Wanted,
    person_id: int,
    institution_id: int,
    channel: str,
    *,
    since: dt.date | None = None,
    days: int = DAYS,
    count: int = 3,
    sex: str = "",
    age: str = "",
    but: Iterable[int] = (),
) -> list[Plan]:
    """The earliest feasible plan, and those of up to ``count - 1`` later days. ``but``: places about to be given up.

    Nobody is asked to be there within ``lead_minutes``, or to have fasted since before they were told.

    Raises NotPossible when nothing (or too much) is wanted or an examination is not known.
    """
    problem = wanted.problem()
    if problem is not None:
        raise NotPossible(problem)
    items = {code: exams.item(code) for code in wanted.exams}
    now = clock.now() + dt.timedelta(minutes=exams.shipped()["lead_minutes"])
    first = max(since or clock.today(), clock.today())
    opens = max(dt.datetime.combine(first, dt.time(), clock.ZONE), now)
    closes = dt.datetime.combine(first + dt.timedelta(days=days), dt.time(), clock.ZONE)
    calendar = exams.calendar_of(person_id, opens, closes, but) if items else []
    sessions = _sessions(wanted, institution_id, opens, closes)
    by_day: dict[dt.date, list[Session]] = {}
    for session in sessions:
        by_day.setdefault(session.starts_at.astimezone(clock.ZONE).date(), []).append(session)
    found: list[Plan] = []
    for n in range(days):
        day = first + dt.timedelta(days=n)
        todays = by_day.get(day, [])
        if (wanted.exams or wanted.clinic) and not todays:
            continue
        free = _candidates(wanted, items, institution_id, channel, day, todays, now, sex, age)
        plan = search(wanted, items, free, calendar)
        if plan is not None:
            found.append(plan)
            if len(found) == count:
                break
    return found


def _sessions(wanted: Wanted, institution_id: int, opens: dt.datetime, closes: dt.datetime) -> list[Session]:
    start = opens.astimezone(clock.ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    found = exams.sessions_for(wanted.exams, [institution_id], start, closes) if wanted.exams else []
    if wanted.clinic:
        rows = Session.objects.filter(
            institution_id=institution_id, kind="clinic", status="open", starts_at__gte=start, starts_at__lt=closes
        )  # fmt: skip
        branches = [wanted.specialty, wanted.specialty.partition(".")[0]]
        for specialty in dict.fromkeys(branches):  # the specialty itself, else the branch above it
            some = list(
                rows.filter(specialty=specialty).select_related("department").order_by("starts_at", "pk")
            )
            if some:
                return [*found, *some]
    return found


def _candidates(
    wanted: Wanted,
    items: dict[str, ExamItem],
    institution_id: int,
    channel: str,
    day: dt.date,
    sessions: Sequence[Session],
    now: dt.datetime,
    sex: str,
    age: str,
) -> Candidates:
    grids = exams.free_of(sessions, channel)
    devices = [g for g in grids if g.session.kind == "exam"]
    starts = {
        code: tuple(
            Slot(o.at, o.until, o.session.pk, o.seat, o.units)
            for o in exams.offers(wanted_item, devices, now + dt.timedelta(hours=wanted_item.fasting_hours))
        )
        for code, wanted_item in items.items()
    }
    visits = [
        _visit(g.session, seat)
        for g in grids
        if g.session.kind == CLINIC
        for seat in g.starts()
        if seat <= g.session.planned
    ]
    visits = sorted((v for v in visits if v.at >= now), key=lambda v: (v.at, v.session_id))
    return Candidates(
        starts, tuple(visits), tuple(_beds(wanted, institution_id, day, now, sex, age)) if wanted.bed else ()
    )


def _visit(session: Session, seat: int) -> Slot:
    at = session.time_of(seat).astimezone(clock.ZONE)
    return Slot(at, at + dt.timedelta(minutes=exams.step_minutes(session)), session.pk, seat)


def _beds(
    wanted: Wanted, institution_id: int, day: dt.date, now: dt.datetime, sex: str, age: str
) -> Iterator[Bed]:
    """Beds free from one of the ward's admission times of the day until the planned end; each at its earliest.

    Those for the patient's own sex first, single rooms last: the others suit more of those who come after.
    """
    end = dt.datetime.combine(day + dt.timedelta(days=wanted.nights), dt.time(12), clock.ZONE)
    seen: set[int] = set()
    for text in exams.shipped()["admit_times"]:
        at = dt.datetime.combine(day, dt.time.fromisoformat(text), clock.ZONE)
        at = max(at, now)
        if at.astimezone(clock.ZONE).date() != day:
            continue
        found = exclusive.find(
            "bed", [institution_id], at, end, sex=sex, age=age, grade=wanted.grade, isolation=wanted.isolation
        )  # fmt: skip
        for bed in _wards(found, wanted):
            if bed.pk not in seen:
                seen.add(bed.pk)
                yield Bed(at, bed.pk, (bed.sex == "any") + (bed.grade == "single"))


def _wards(found: list[Resource], wanted: Wanted) -> list[Resource]:
    """The ward asked for; else the specialty's own; else any."""
    if wanted.ward is not None:
        return [b for b in found if b.department_id == wanted.ward]
    if not wanted.specialty:
        return found
    own = [b for b in found if b.department and b.department.specialty == wanted.specialty]
    branch = wanted.specialty.partition(".")[0]
    near = [b for b in found if b.department and b.department.specialty.partition(".")[0] == branch]
    return own or near or found


def like(named: Plan, specialty: str, person: Person, institution_id: int, channel: str) -> list[Plan]:
    """The soonest plan of the same day and contents as ``named`` (of which something has just gone)."""
    bed = Resource.objects.get(pk=named.bed.resource_id) if named.bed else None
    codes = tuple(s.code for s in named.steps if s.code != CLINIC)
    visit = next((s.slot for s in named.steps if s.code == CLINIC), None)
    if visit is not None:  # the visit's own session says of which specialty it is
        specialty = Session.objects.values_list("specialty", flat=True).get(pk=visit.session_id) or specialty
    waits = visit is None or all(
        s.slot.until + dt.timedelta(minutes=exams.report_minutes(s.code)) <= visit.at
        for s in named.steps
        if s.code != CLINIC
    )
    wanted = Wanted(
        codes, specialty=specialty, clinic=visit is not None, bed=bed is not None, ward=bed.department_id if bed else None,
        grade=bed.grade if bed else "", isolation=bed.isolation if bed else "", results_first=waits,
        stay_days=(named.until - named.bed.at).days + 1 if named.until and named.bed else 0,
    )  # fmt: skip
    day = named.at.astimezone(clock.ZONE).date()
    return plans(
        wanted, person.pk, institution_id, channel, since=day, days=1, sex=person.sex,
        age=exclusive.age_class(person.birth_date, day),
    )  # fmt: skip


# ---------------------------------------------------------------- taking it


@dataclass(frozen=True)
class Held:
    """What was taken."""

    plan: Plan
    places: tuple[Place, ...]
    claim: Claim | None

    @property
    def visit(self) -> Place | None:
        """The clinic number among the places."""
        return next((p for p in self.places if not p.item), None)


def rebuild(token: str, institution_id: int) -> Plan:
    """The plan of a form, read again from the sessions and the bed it names; NotPossible when they are not the institution's."""
    try:
        told = json.loads(token)
        named = [(str(code), int(session), int(seat)) for code, session, seat in told["s"]]
        bed = told["b"] and (int(told["b"][0]), *(dt.datetime.fromisoformat(x) for x in told["b"][1:]))
    except (ValueError, TypeError, KeyError, RecursionError) as failure:
        raise NotPossible(
            T("安排方案无法识别，请重新选择。", "The plan cannot be read; choose again.")
        ) from failure
    known = Session.objects.select_related("resource").filter(institution_id=institution_id)
    sessions = known.in_bulk([session for _, session, _ in named])
    steps = [_step(code, sessions.get(session), seat) for code, session, seat in named]
    if not steps and not bed:
        raise NotPossible(T("安排方案是空的。", "The plan is empty."))
    steps.sort(key=lambda s: s.slot.at)
    if not bed:
        return Plan(tuple(steps))
    if len(bed) != 3 or any(x.tzinfo is None for x in bed[1:]):
        raise NotPossible(T("安排方案无法识别，请重新选择。", "The plan cannot be read; choose again."))
    if not Resource.objects.filter(pk=bed[0], institution_id=institution_id, kind="bed").exists():
        raise NotPossible(T("床位不属于接诊机构。", "The bed is not the receiver's."))
    if not clock.now() - dt.timedelta(hours=12) <= bed[1] < bed[2] <= bed[1] + dt.timedelta(days=90):
        raise NotPossible(T("床位时间不对，请重新选择。", "The bed's time is not right; choose again."))
    return Plan(tuple(steps), Bed(max(bed[1], clock.now()), bed[0]), bed[2])


def _step(code: str, session: Session | None, seat: int) -> Step:
    if session is None or not 1 <= seat <= session.capacity:
        raise NotPossible(T("号源不属于接诊机构。", "Not a session of the receiver."))
    if code == CLINIC and session.kind == CLINIC:
        return Step(code, _visit(session, seat))
    if session.kind != "exam" or session.resource is None or code not in session.resource.items:
        raise NotPossible(
            T("该场次的设备不做此项目。", "The device of this session does not do this examination.")
        )
    wanted = exams.item(code)
    at = session.time_of(seat).astimezone(clock.ZONE)
    until = at + dt.timedelta(minutes=wanted.minutes)
    return Step(code, Slot(at, until, session.pk, seat, exams.units_of(session, wanted)))


def take(
    plan: Plan,
    person_id: int,
    channel: str,
    key: str,
    case_id: int | None = None,
    *,
    give_up: Iterable[int] = (),
) -> Held:
    """Take all of the plan or none of it. ``give_up``: ids of places cancelled in the same breath (an earlier plan's).

    Sessions are locked by id before anything else, so that two plans never wait for each other. The same key again gives the
    same places. Raises Full, SeatTaken, AlreadyBooked, NotPrepared, exclusive.Taken, exclusive.HasOne, NotPossible.
    """
    leaving = list(give_up)
    with transaction.atomic():
        exams.one_at_a_time(person_id)
        old = Place.objects.unscoped("what the new plan replaces").filter(pk__in=leaving)
        lock_sessions({*(s.slot.session_id for s in plan.steps), *old.values_list("session_id", flat=True)})
        for pk in leaving:
            booking.cancel(pk, "replaced by another plan")
        places = []
        for n, step in sorted(
            enumerate(plan.steps), key=lambda pair: (pair[1].slot.session_id, pair[1].slot.seat)
        ):
            made = f"{key}:{n}"
            if step.code == CLINIC:
                place = booking.book(
                    step.slot.session_id, person_id, channel, made, case_id, seat=step.slot.seat
                )
            else:
                place = exams.book(
                    step.slot.session_id, person_id, step.code, channel, made, case_id, seat=step.slot.seat
                )
            places.append(place)
        claim = None
        if plan.bed is not None and plan.until is not None:
            claim = exclusive.book(
                plan.bed.resource_id, person_id, plan.bed.at, plan.until, f"{key}:bed", case_id
            )
    return Held(plan, tuple(sorted(places, key=lambda p: p.at)), claim)


def lock_sessions(ids: Iterable[int]) -> None:
    """Lock sessions in the order that everybody keeps, before any of them changes."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pool_session WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE", [sorted(ids)]
        )


def take_first(
    choices: Iterable[Plan],
    person_id: int,
    channel: str,
    key: str,
    case_id: int | None = None,
    *,
    give_up: Iterable[int] = (),
) -> Held:
    """Take the first plan that can still be had whole. Raises Gone when somebody was faster with every one of them."""
    leaving = list(give_up)
    for n, plan in enumerate(choices):
        try:
            return take(plan, person_id, channel, f"{key}:{n}", case_id, give_up=leaving)
        except (Full, SeatTaken, exclusive.Taken):
            continue
    raise Gone([])
