"""Changing templates, single days and sessions without moving anybody.

A session follows its template until somebody has booked in it or it was changed by hand; from then on it stays as it is and is
listed as different. Where a session is no longer wanted it is withdrawn: removed when its numbers are not open yet (nobody can
be asking for one), else stopped, so that whoever is just booking gets a typed answer.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, Max, ProtectedError

from lianxin.access.scope import Scope
from lianxin.pool import booking, hooks, schedule
from lianxin.pool.models import Place, RosterChange, Session, Template
from lianxin.resident.schedules import jobs, policy
from lianxin.resident.schedules.acts import Refused
from lianxin.resident.schedules.models import BY_HAND, Act
from lianxin.standards import calendar, clock
from lianxin.standards.text import T, Text

FIELDS: dict[str, Text] = {
    "department_id": T("科室", "department"),
    "practitioner_id": T("医生", "doctor"),
    "resource_id": T("设备", "device"),
    "kind": T("种类", "kind"),
    "clinic_type": T("号别", "clinic type"),
    "starts_at": T("开始时间", "start"),
    "ends_at": T("结束时间", "end"),
    "capacity": T("号数", "numbers"),
    "reserved_county": T("县级及以下预留", "kept for the county and below"),
    "reserved_township": T("乡镇及以下预留", "kept for townships and below"),
    "reserved_village": T("村级预留", "kept for villages"),
    "release_county": T("预留释放时间", "release"),
    "opens_at": T("放号时间", "opening"),
    "fee_fen": T("挂号费", "fee"),
}
_SET = (*FIELDS, "release_township", "release_village", "specialty", "institution_id")


@dataclass(frozen=True)
class Difference:
    """A session that its template would make otherwise: what differs, or None when it would not be there at all."""

    session: Session
    fields: tuple[Text, ...] | None
    taken: int
    by_hand: bool


@dataclass
class Applied:
    """What a change did: sessions changed, withdrawn, made; those that stay as they are; those that would collide."""

    changed: int = 0
    withdrawn: int = 0
    made: int = 0
    kept: int = 0
    collided: int = 0

    def words(self) -> Text:
        """The outcome in a sentence."""
        text = T(
            "新增 {made} 场，更新 {changed} 场，撤下 {withdrawn} 场。",
            "{made} sessions added, {changed} changed, {withdrawn} withdrawn.",
        ).format(made=self.made, changed=self.changed, withdrawn=self.withdrawn)
        if self.kept:
            text = T(
                "{a}另有 {n} 场已有预约或经人工调整，保持原样，见下方清单。",
                "{a} {n} are booked or were changed by hand and stay as they are; see the list below.",
            ).format(a=text, n=self.kept)
        if self.collided:
            text = T(
                "{a}有 {n} 场与同一时段的其他场次冲突，未改动。",
                "{a} {n} would collide with another session of the same time and were left alone.",
            ).format(a=text, n=self.collided)
        return text


def _local_day(session: Session) -> dt.date:
    return session.starts_at.astimezone(clock.ZONE).date()


def _future(template: Template, day: dt.date | None = None) -> Any:
    rows = Session.objects.filter(template=template, starts_at__gt=clock.now()).order_by("pk")
    if day is not None:
        start = dt.datetime.combine(day, dt.time(), clock.ZONE)
        rows = rows.filter(starts_at__gte=start, starts_at__lt=start + dt.timedelta(days=1))
    return rows


def _wanted(template: Template, day: dt.date, changes: dict[dt.date, RosterChange]) -> Session | None:
    return schedule.session_of(template, day, changes.get(day)) if schedule.fits(template, day) else None


def _differs(session: Session, wanted: Session | None) -> tuple[Text, ...] | None:
    if wanted is None:
        return None
    return tuple(
        label
        for name, label in FIELDS.items()
        if getattr(session, name) != getattr(wanted, name)
        and not (name == "capacity" and session.planned == wanted.capacity)  # extra numbers are no difference
    )


def _by_hand(ids: Iterable[int]) -> set[int]:
    return set(
        Act.objects.filter(session_id__in=list(ids), kind__in=BY_HAND).values_list("session_id", flat=True)
    )


def _withdrawn(ids: Iterable[int]) -> set[int]:
    return set(
        Act.objects.filter(session_id__in=list(ids), kind="withdraw").values_list("session_id", flat=True)
    )


def _places(ids: Iterable[int]) -> set[int]:
    rows = Place.objects.unscoped("whether a session has ever been booked").filter(session_id__in=list(ids))
    return set(rows.values_list("session_id", flat=True))


def _bound(session: Session, by_hand: set[int]) -> bool:
    """Whether the session must stay: somebody has a number, somebody changed it, or the hospital owns it."""
    return session.taken > 0 or session.pk in by_hand or session.owner == "hospital"


def differing(template: Template) -> list[Difference]:
    """Future sessions that differ from what the template says now, soonest first."""
    changes = {c.day: c for c in RosterChange.objects.filter(template=template, day__gte=clock.today())}
    rows = list(_future(template).select_related("department", "practitioner").order_by("starts_at"))
    by_hand, withdrawn = _by_hand(s.pk for s in rows), _withdrawn(s.pk for s in rows)
    found = []
    for session in rows:
        fields = _differs(session, _wanted(template, _local_day(session), changes))
        if fields is None and session.status == "stopped":
            continue
        if fields == () and (session.status == "open" or session.pk not in withdrawn):
            continue
        found.append(Difference(session, fields, session.taken, session.pk in by_hand))
    return found


def apply(by: Scope, template: Template, day: dt.date | None = None) -> Applied:
    """Bring future sessions of the template (or of one day) in line where nobody is bound to them, then make what is missing.

    Runs inside the caller's transaction; sessions are locked in order of id, as booking does.
    """
    changes = {c.day: c for c in RosterChange.objects.filter(template=template, day__gte=clock.today())}
    template = Template.objects.select_related("department").get(pk=template.pk)
    done = Applied()
    with transaction.atomic():
        rows = list(_future(template, day).select_for_update(of=("self",), no_key=True))
        by_hand, withdrawn = _by_hand(s.pk for s in rows), _withdrawn(s.pk for s in rows)
        known = _places(s.pk for s in rows)
        for session in rows:
            wanted = _wanted(template, _local_day(session), changes)
            back = session.status == "stopped" and session.pk in withdrawn
            if session.status == "stopped" and not back:
                continue
            if wanted is None:
                if back:
                    continue
                if _bound(session, by_hand):
                    done.kept += 1
                else:
                    _withdraw(by, session, template, session.pk in known)
                    done.withdrawn += 1
            elif back or _differs(session, wanted):
                if _bound(session, by_hand):
                    done.kept += 1
                elif _reshape(session, wanted):
                    done.changed += 1
                else:
                    done.collided += 1
    since, days = (day, 1) if day else (clock.today(), jobs.ahead_days([template.institution_id]))
    done.made = schedule.make_sessions(since, days, [template.institution_id])
    return done


def _reshape(session: Session, wanted: Session) -> bool:
    """Give an unbooked session the values of ``wanted``; False when another session stands there."""
    for name in _SET:
        setattr(session, name, getattr(wanted, name))
    session.extra, session.status = 0, "open"
    try:
        with transaction.atomic():
            session.save()
    except IntegrityError:
        return False
    Act.objects.filter(session=session, kind="withdraw").delete()
    return True


def _withdraw(by: Scope, session: Session, template: Template, known: bool) -> None:
    if not known and session.opens_at > clock.now():
        try:
            with transaction.atomic():
                session.delete()
        except (ProtectedError, IntegrityError):
            known = True  # somebody waits for it or it is counted elsewhere: it is kept, stopped
        else:
            return
    booking.stop_session(session.pk, "withdrawn")
    Act.objects.get_or_create(
        key=f"withdraw:{session.pk}",
        defaults={"kind": "withdraw", "institution_id": session.institution_id, "session": session, "template": template,
                  "account_id": by.account_id, "name": by.name[:120]},
    )  # fmt: skip


def bound_on(template: Template, day: dt.date) -> Session | None:
    """The open session of that day in which somebody has a number; None when there is none."""
    return next((s for s in _future(template, day).filter(status="open") if s.taken), None)


def change_day(
    by: Scope,
    template: Template,
    day: dt.date,
    *,
    off: bool,
    practitioner_id: int | None,
    capacity: int | None,
    reason: str,
) -> Applied:
    """Leave, a substitute or another number of numbers on one day; applied at once where nobody has booked.

    Raises Refused when somebody has a number on that day: such a session is stopped or changed on its own page, in sight of
    the people it concerns.
    """
    if not schedule.fits(template, day):
        raise Refused(
            T("该模板在 {day} 没有场次。", "The template has no session on {day}.").format(
                day=day.isoformat()
            ),
            422,
        )
    with transaction.atomic():
        list(_future(template, day).select_for_update(of=("self",), no_key=True))
        bound = bound_on(template, day)
        if bound is not None:
            raise Refused(
                T(
                    "该日已有 {n} 个号被预约：停诊请走“停诊”，换医生或加减号请在该场次页办理。",
                    "{n} numbers of that day are booked: stop the session, or change doctor and numbers on its own page.",
                ).format(n=bound.taken)
            )
        RosterChange.objects.update_or_create(
            template=template, day=day,
            defaults={"off": off, "practitioner_id": practitioner_id, "capacity": capacity, "reason": reason[:200],
                      "account_id": by.account_id, "made_at": clock.now()},
        )  # fmt: skip
        return apply(by, template, day)


def undo_day(by: Scope, change: RosterChange) -> Applied:
    """Take a change of a day back; the session follows its template again unless somebody has booked in it."""
    template, day = change.template, change.day
    with transaction.atomic():
        change.delete()
        return apply(by, template, day)


def _lock(session_id: int, *, open_only: bool = True) -> Session:
    session = Session.objects.select_for_update(of=("self",), no_key=True).filter(pk=session_id).first()
    if session is None or session.ends_at <= clock.now() or (open_only and session.status != "open"):
        raise Refused(
            T("该场次已停诊或已结束，不能调整。", "This session is stopped or over and cannot be changed.")
        )
    return session


def add_extra(session_id: int, count: int) -> Session:
    """Add ``count`` extra numbers for whoever comes (those who wait first), within the house's limit. Raises Refused."""
    session = _lock(session_id)
    _room(session, count)
    return booking.add_numbers(session_id, count)


def _room(session: Session, count: int) -> None:
    limit = policy.number("extra_max")
    if session.extra + count > limit:
        raise Refused(
            T(
                "每场最多加号 {limit} 个，已加 {now} 个。",
                "A session takes at most {limit} extra numbers; {now} have been added.",
            ).format(limit=limit, now=session.extra),
            422,
        )


def widen_for_one(session_id: int) -> int:
    """One extra number for a patient who stands here; returns its seat, to be booked in the same transaction.

    Those who wait are not asked: the doctor adds this number for one patient and answers for it.
    """
    session = _lock(session_id)
    _room(session, 1)
    session.capacity += 1
    session.extra += 1
    session.save(update_fields=["capacity", "extra"])
    return session.capacity


def set_quotas(session_id: int, county: int, township: int, village: int) -> Session:
    """Set what is kept for each tier (nested: village ⊂ township ⊂ county); freed numbers go to those who wait first."""
    session = _lock(session_id)
    if not 0 <= village <= township <= county <= session.capacity:
        raise Refused(
            T(
                "预留须逐级包含：村级 ≤ 乡镇及以下 ≤ 县级及以下 ≤ 总号数 {n}。",
                "Quotas are nested: villages ≤ townships and below ≤ county and below ≤ all {n} numbers.",
            ).format(n=session.capacity),
            422,
        )
    session.reserved_county, session.reserved_township, session.reserved_village = county, township, village
    session.save(update_fields=["reserved_county", "reserved_township", "reserved_village"])
    hooks.freed(session_id)
    return session


def fewer(session_id: int, count: int) -> Session:
    """Take ``count`` free numbers off the end; the session ends earlier, nobody's time changes. Raises Refused."""
    session = _lock(session_id)
    last = (
        Place.objects.unscoped("the highest number taken")
        .filter(session_id=session_id)
        .exclude(state="cancelled")
        .aggregate(last=Max(F("seat_no") + F("units") - 1))["last"]
        or 0
    )
    left = session.capacity - count
    if count < 1 or left < max(last, session.taken, 1) or session.planned - count < 1:
        raise Refused(
            T(
                "{last} 号已被占用，最多能减到 {last} 个号；要减得更多请停诊改约。",
                "Number {last} is taken, so at least {last} must stay; to go lower, stop the session and rebook.",
            ).format(last=max(last, 1)),
            422,
        )
    step = (session.ends_at - session.starts_at) / session.planned
    session.capacity = left
    session.ends_at = session.starts_at + step * session.planned
    session.reserved_county = min(session.reserved_county, left)
    session.reserved_township = min(session.reserved_township, left)
    session.reserved_village = min(session.reserved_village, left)
    session.save()
    return session


def substitute(session_id: int, practitioner_id: int) -> Session:
    """Another doctor takes the session; everybody keeps number and time. Raises Refused when that doctor is busy then."""
    session = _lock(session_id)
    busy = (
        Session.objects.filter(practitioner_id=practitioner_id, status="open",
                               starts_at__lt=session.ends_at, ends_at__gt=session.starts_at)
        .exclude(pk=session_id)
        .exists()
    )  # fmt: skip
    if busy:
        raise Refused(
            T(
                "该医生此时段另有门诊，请另选替诊医生。",
                "This doctor has another clinic at that time; choose another substitute.",
            ),
            422,
        )
    session.practitioner_id = practitioner_id
    try:
        with transaction.atomic():
            session.save(update_fields=["practitioner"])
    except IntegrityError:
        raise Refused(
            T(
                "该医生此时段已有同类场次（可能已停诊），请另选替诊医生。",
                "This doctor already has such a session at that time (perhaps stopped); choose another substitute.",
            ),
            422,
        ) from None
    return session


@dataclass(frozen=True)
class Copied:
    """What copying a week did."""

    made: int
    there: int
    holidays: int


def copy_week(rows: Iterable[Session], weeks: int) -> Copied:
    """Make the same open sessions ``weeks`` weeks later; those already there stay, days off work are left out.

    Opening and release keep their distance: the same number of days, or of working days, before the session.
    """
    delta = dt.timedelta(weeks=weeks)
    made = there = holidays = 0
    for old in rows:
        day = _local_day(old) + delta
        source = old.template
        if not calendar.is_workday(day) and not (source is not None and source.holidays):
            holidays += 1
            continue
        release = schedule.release_before(
            day,
            source.release_days if source else 1,
            source.release_time if source else old.release_county.astimezone(clock.ZONE).time(),
        )
        same = {
            name: getattr(old, name)
            for name in ("institution_id", "department_id", "practitioner_id", "resource_id", "specialty", "kind", "clinic_type", "fee_fen",
                         "reserved_county", "reserved_township", "reserved_village")
        }  # fmt: skip
        capacity = max(old.planned, 1)
        for name in ("reserved_county", "reserved_township", "reserved_village"):
            same[name] = min(same[name], capacity)
        fresh = Session(
            **same, template=source, capacity=capacity, starts_at=old.starts_at + delta, ends_at=old.ends_at + delta,
            opens_at=old.opens_at + delta, release_county=release, release_township=release, release_village=release,
        )  # fmt: skip
        if source is not None and Session.objects.filter(template=source, starts_at=fresh.starts_at).exists():
            there += 1
            continue
        try:
            with transaction.atomic():
                fresh.save()
        except IntegrityError:
            there += 1
        else:
            made += 1
    return Copied(made, there, holidays)
