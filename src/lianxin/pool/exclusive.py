"""Beds, theatres and rooms: one claim at a time, and no cron that has to run for that to be true.

A resource has no state of its own: it is *free* when no live claim stands in the way. A claim goes held → assigned → occupied,
the bed is then cleaned (a claim of nobody) and free again; ``blocked`` is out of use. What the clock decides is decided in the
predicate: a hold past its expiry is no longer in the way, an occupied or uncleaned bed is in the way until somebody says
otherwise, however long its time is over. The exclusion constraints of the table cannot see the clock, so holds that ran out are
cancelled in the taker's own transaction before the insert, under the resource's row lock.

Lock order everywhere: sessions, places, then resources (by id), then their claims.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Q
from psycopg.types.range import Range

from lianxin.index.models import Person
from lianxin.pool.errors import BookingError, KeyReused, NotPossible
from lianxin.pool.models import CLAIMS, LIVE_CLAIMS, OF_A_PATIENT, RESOURCES, Claim, Resource
from lianxin.pool.vacancy import (
    FOREVER,
    IN_THE_WAY,
    STAYS,
    Standing,
    age_class,
    alternatives,
    find,
    standing,
    window,
)
from lianxin.standards import clock
from lianxin.standards.text import T, Text

__all__ = [
    "FOREVER", "STAYS", "HasOne", "Standing", "Taken", "age_class", "alternatives", "assign", "block", "book", "cancel", "cancel_case",
    "clean", "extend", "find", "hold", "move", "occupy", "of_case", "recount", "standing", "vacate", "vacate_case",
]  # fmt: skip

HOLD_MINUTES = 120


class Taken(BookingError):
    """Somebody else has it at that time. ``alternatives``: up to three others that are free then, ``claim_id``: what is in the way."""

    def __init__(
        self, text: Text, alternatives: list[Resource] | None = None, claim_id: int | None = None
    ) -> None:
        super().__init__(text)
        self.alternatives = alternatives or []
        self.claim_id = claim_id


class HasOne(BookingError):
    """The patient has another resource of the kind at that time; ``claim`` is it (None when it vanished meanwhile)."""

    def __init__(self, claim: Claim | None, kind: str) -> None:
        super().__init__(
            T(
                "该患者同一时间已有{kind}安排，请先取消或改期。",
                "This patient already has a {kind} at that time; cancel or move it first.",
            ).format(kind=RESOURCES[kind])
        )
        self.claim = claim


def _claims() -> Any:
    return Claim.objects.unscoped("the pool keeps claims apart whoever they are of")


# ---------------------------------------------------------------- taking


def _lock(resource_ids: Iterable[int]) -> list[Resource]:
    rows = Resource.objects.filter(pk__in=list(resource_ids)).order_by("pk")
    return list(rows.select_for_update(of=("self",), no_key=True))


def _lapse(resource_ids: Iterable[int], person_id: int | None, kind: str, now: dt.datetime) -> None:
    """Cancel the holds that ran out and would still stand in the constraints' way. The resources must be locked."""
    gone = Q(resource_id__in=list(resource_ids))
    if person_id is not None:
        gone |= Q(person_id=person_id, kind=kind)
    _claims().filter(gone, state="held", expires_at__lte=now).update(
        state="cancelled", expires_at=None, reason="expired", changed_at=now
    )


def _blocking(resource_id: int, at: dt.datetime, until: dt.datetime, but: int = 0) -> Claim | None:
    """The first claim in the way (``but`` one's own)."""
    sql = f"""SELECT c.id FROM pool_claim c WHERE c.resource_id = %(resource)s AND c.id <> %(but)s AND {IN_THE_WAY}
               ORDER BY c.state <> ALL(%(stays)s), c.during LIMIT 1"""
    with connection.cursor() as cursor:
        cursor.execute(sql, window(at, until) | {"resource": resource_id, "but": but})
        row = cursor.fetchone()
    return _claims().get(pk=row[0]) if row else None


def _when(claim: Claim) -> str:
    lower, upper = (x.astimezone(clock.ZONE) for x in (claim.during.lower, claim.during.upper))
    return (
        f"{lower:%m-%d %H:%M}–{upper:%m-%d %H:%M}"
        if upper.year < FOREVER.year - 1
        else f"{lower:%m-%d %H:%M}–"
    )


def _taken(
    resource: Resource, at: dt.datetime, until: dt.datetime, way: Claim | None, person_id: int | None = None
) -> Taken:
    """Who or what is in the way, in words that name no patient."""
    others = alternatives(resource, at, until, person_id)
    if way is None:
        return Taken(T("刚被占用，请另选。", "It has just been taken; choose another."), others)
    if way.state in STAYS and way.during.upper <= clock.now():
        text = T(
            "{code} 的上一位尚未办理离开或清洁（{state}），请先办理，或另选。",
            "{code}: the one before has not been signed out or cleaned after ({state}); do that first, or choose another.",
        )
    else:
        text = T(
            "{code} 在 {when} 已有安排（{state}），请另选或调整时间。",
            "{code} is claimed {when} ({state}); choose another or another time.",
        )
    words = text.format(code=resource.code, state=CLAIMS[way.state], when=_when(way))
    return Taken(words, others, way.pk)


def _unfit(resource: Resource, person_id: int | None) -> Text | None:
    """Why this resource is not for this patient."""
    if not resource.active:
        return T("该资源已停用，请另选。", "This is no longer in use; choose another.")
    if person_id is None or resource.kind != "bed":
        return None
    person = Person.objects.unscoped("does the bed suit the patient?").get(pk=person_id)
    if resource.sex in ("male", "female") and person.sex in ("male", "female") and resource.sex != person.sex:
        return T("该床位与患者性别不符，请另选。", "This bed is for the other sex; choose another.")
    own = age_class(person.birth_date)
    if resource.age != "any" and own and resource.age != own:
        return T("该床位与患者年龄不符，请另选。", "This bed is not for the patient's age; choose another.")
    return None


def _take(wanted: Claim) -> Claim:
    """Insert a claim or raise; the same key again gives the same claim.

    The refusal is raised after the inner block has ended well, so that a caller in a larger transaction may catch it.
    """
    if not wanted.key:
        raise ValueError("claiming needs its idempotency key")
    if wanted.during.upper <= wanted.during.lower:
        raise NotPossible(T("结束时间须晚于开始时间。", "The end must come after the beginning."))
    with transaction.atomic(savepoint=False):
        resource = next(iter(_lock([wanted.resource_id])), None)
        if resource is None:
            raise NotPossible(T("没有这一资源。", "There is no such resource."))
        wanted.kind, wanted.institution_id = resource.kind, resource.institution_id
        done = _known(wanted) or _insert(wanted, resource)
    if isinstance(done, BookingError):
        raise done
    return done


def _known(wanted: Claim) -> Claim | BookingError | None:
    before = _claims().filter(key=wanted.key).first()
    if before is None:
        return None
    same = (before.resource_id, before.person_id) == (wanted.resource_id, wanted.person_id)
    return before if same else KeyReused()


def _insert(wanted: Claim, resource: Resource) -> Claim | BookingError:
    at, until, now = wanted.during.lower, wanted.during.upper, wanted.made_at
    unfit = _unfit(resource, wanted.person_id)
    if unfit is not None:
        return NotPossible(unfit)
    way = _blocking(resource.pk, at, until)
    if way is not None:
        return _taken(resource, at, until, way, wanted.person_id)
    _lapse([resource.pk], wanted.person_id, resource.kind, now)
    try:
        with transaction.atomic():
            wanted.save(force_insert=True)
    except IntegrityError:
        wanted.pk = None
        return _known(wanted) or _has_one(wanted) or _taken(resource, at, until, None, wanted.person_id)
    return wanted


def _has_one(wanted: Claim) -> HasOne | None:
    mine = _claims().filter(
        person_id=wanted.person_id, kind=wanted.kind, state__in=OF_A_PATIENT, during__overlap=wanted.during
    )
    found = mine.exclude(pk=wanted.pk).first() if wanted.person_id is not None else None
    return HasOne(found, wanted.kind) if found is not None else None


def _claim(
    state: str, resource_id: int, person_id: int | None, at: dt.datetime, until: dt.datetime, key: str, **more: Any
) -> Claim:  # fmt: skip
    now = clock.now()
    return _take(
        Claim(
            resource_id=resource_id, person_id=person_id, state=state, during=Range(at, until, "[)"), key=key, made_at=now,
            changed_at=now, **more,
        )
    )  # fmt: skip


def hold(
    resource_id: int,
    person_id: int,
    at: dt.datetime,
    until: dt.datetime,
    key: str,
    minutes: int = HOLD_MINUTES,
    case_id: int | None = None,
    reason: str = "",
) -> Claim:
    """Keep a resource for ``minutes``, then it is free again by itself. Raises Taken (with alternatives), HasOne, KeyReused,
    NotPossible (sex, age, out of use)."""
    expires = clock.now() + dt.timedelta(minutes=minutes)
    return _claim(
        "held", resource_id, person_id, at, until, key, expires_at=expires, case_id=case_id, reason=reason[:200]
    )  # fmt: skip


def book(
    resource_id: int,
    person_id: int,
    at: dt.datetime,
    until: dt.datetime,
    key: str,
    case_id: int | None = None,
    reason: str = "",
) -> Claim:
    """Assign a resource at once, now or ahead (a planned admission, an operation). Raises like :func:`hold`."""
    return _claim("assigned", resource_id, person_id, at, until, key, case_id=case_id, reason=reason[:200])


def block(resource_id: int, at: dt.datetime, until: dt.datetime | None, key: str, reason: str) -> Claim:
    """Out of use (broken, kept free), until further notice without ``until``. Raises Taken when somebody has it by then."""
    return _claim("blocked", resource_id, None, at, until or FOREVER, key, reason=reason[:200])


# ---------------------------------------------------------------- what becomes of a claim


def _cannot(claim: Claim, target: str) -> NotPossible:
    lapsed = not _alive(claim, clock.now())
    if lapsed or (claim.state == "cancelled" and claim.reason == "expired"):
        return NotPossible(T("暂留已过期，请重新选择。", "The hold has run out; choose again."))
    return NotPossible(
        T("当前为「{now}」，不能改为「{then}」。", "It is “{now}” and cannot become “{then}”.").format(
            now=CLAIMS[claim.state], then=CLAIMS[target]
        )
    )


def _on(claim: Claim | int, work: Callable[[Claim, Resource, dt.datetime], Claim | BookingError]) -> Claim:
    """Run ``work`` on the claim as it stands under its resource's lock; raise what it returns when that is a refusal."""
    pk = claim if isinstance(claim, int) else claim.pk
    with transaction.atomic(savepoint=False):
        resource = _lock([_claims().values_list("resource_id", flat=True).get(pk=pk)])[0]
        done = work(_claims().get(pk=pk), resource, clock.now())
    if isinstance(done, BookingError):
        raise done
    return done


def _save(claim: Claim, resource: Resource, *, moved: bool = False) -> Claim | BookingError:
    """Write the claim; when the constraints refuse its new time, say who is in the way."""
    claim.changed_at = clock.now()
    fields = ["state", "expires_at", "during", "reason", "changed_at"]
    try:
        with transaction.atomic():
            claim.save(update_fields=fields)
    except IntegrityError:
        if not moved:
            raise
        at, until = claim.during.lower, claim.during.upper
        return _has_one(claim) or _taken(
            resource, at, until, _blocking(resource.pk, at, until, claim.pk), claim.person_id
        )
    return claim


def _alive(claim: Claim, now: dt.datetime) -> bool:
    return claim.expires_at is None or claim.expires_at > now


def assign(claim: Claim | int) -> Claim:
    """A hold that has not run out becomes firm; assigning again changes nothing."""

    def work(row: Claim, resource: Resource, now: dt.datetime) -> Claim | BookingError:
        if row.state == "assigned":
            return row
        if row.state != "held" or not _alive(row, now):
            return _cannot(row, "assigned")
        row.state, row.expires_at = "assigned", None
        return _save(row, resource)

    return _on(claim, work)


def occupy(claim: Claim | int, until: dt.datetime | None = None) -> Claim:
    """The patient lies in it from now on (until the planned end, or ``until``); occupying again changes nothing.

    Raises Taken when the one before has not left or the bed is not clean, or when somebody has the time until the plan begins.
    """

    def work(row: Claim, resource: Resource, now: dt.datetime) -> Claim | BookingError:
        if row.state == "occupied":
            return row
        if row.state not in ("held", "assigned") or not _alive(row, now):
            return _cannot(row, "occupied")
        end = until or row.during.upper
        end = end if end > now else now + dt.timedelta(days=1)
        elsewhere = _claims().filter(person_id=row.person_id, kind=row.kind, state="occupied").first()
        if elsewhere is not None:  # an overstay's time is over, so the constraint would not see it
            return HasOne(elsewhere, row.kind)
        way = _blocking(resource.pk, now, max(end, row.during.upper), row.pk)
        if way is not None:
            return _taken(resource, now, end, way, row.person_id)
        _lapse([resource.pk], row.person_id, row.kind, now)
        row.state, row.expires_at, row.during = "occupied", None, Range(now, end, "[)")
        return _save(row, resource, moved=True)

    return _on(claim, work)


def extend(claim: Claim | int, until: dt.datetime) -> Claim:
    """Another end: a longer stay, an overstay written down, or a shorter one. Raises Taken in words when a plan is in the way."""

    def work(row: Claim, resource: Resource, now: dt.datetime) -> Claim | BookingError:
        if row.state not in ("assigned", "occupied", "blocked"):
            return NotPossible(
                T("当前为「{now}」，不能改期。", "It is “{now}”; its end cannot be changed.").format(
                    now=CLAIMS[row.state]
                )
            )
        if until <= max(row.during.lower, now):
            return NotPossible(T("结束时间须在将来。", "The new end must lie ahead."))
        way = _blocking(resource.pk, row.during.lower, until, row.pk)
        if way is not None:
            return _taken(resource, max(way.during.lower, now), until, way)
        _lapse([resource.pk], row.person_id, row.kind, now)
        row.during = Range(row.during.lower, until, "[)")
        return _save(row, resource, moved=True)

    return _on(claim, work)


def vacate(claim: Claim | int) -> Claim:
    """The patient has left; the bed is to be cleaned (nobody's claim, :func:`clean` ends it). Vacating again changes nothing."""

    def work(row: Claim, resource: Resource, now: dt.datetime) -> Claim | BookingError:
        if row.state == "ended":
            return row
        if row.state != "occupied":
            return _cannot(row, "ended")
        lower = row.during.lower
        row.state, row.during = "ended", Range(lower, max(now, lower + dt.timedelta(seconds=1)), "[)")
        _save(row, resource)
        if resource.clean_minutes:
            _begin_cleaning(row, resource, now)
        return row

    return _on(claim, work)


def _begin_cleaning(left: Claim, resource: Resource, now: dt.datetime) -> None:
    """Cleaning from now on. Its end is only what is expected, so it yields to the next plan; a plan whose time has begun waits."""
    _lapse([resource.pk], None, resource.kind, now)
    end = now + dt.timedelta(minutes=resource.clean_minutes)
    soon = _claims().filter(
        resource=resource, state__in=("held", "assigned", "blocked"), during__overlap=Range(now, end, "[)")
    )
    for waiting in soon.order_by("during"):
        if waiting.during.lower > now:
            end = min(end, waiting.during.lower)
            continue
        start = now + dt.timedelta(minutes=1)
        end = min(end, start)
        waiting.during = Range(start, max(waiting.during.upper, start + dt.timedelta(minutes=1)), "[)")
        waiting.save(update_fields=["during"])
    Claim.objects.create(
        resource=resource, kind=resource.kind, institution_id=resource.institution_id, state="cleaning",
        during=Range(now, end, "[)"), key=f"clean:{left.pk}", case_id=left.case_id, made_at=now, changed_at=now,
    )  # fmt: skip


def clean(claim: Claim | int) -> Claim:
    """The bed is clean and free; again changes nothing."""

    def work(row: Claim, resource: Resource, now: dt.datetime) -> Claim | BookingError:
        if row.state == "ended":
            return row
        if row.state != "cleaning":
            return _cannot(row, "ended")
        return _end(row, resource, now)

    return _on(claim, work)


def _end(row: Claim, resource: Resource, now: dt.datetime) -> Claim | BookingError:
    lower = row.during.lower
    row.state, row.during = "ended", Range(lower, max(now, lower + dt.timedelta(seconds=1)), "[)")
    return _save(row, resource)


def cancel(claim: Claim | int, reason: str) -> Claim:
    """Give back what is held, assigned or out of use; again changes nothing. An occupied bed is vacated, not cancelled."""

    def work(row: Claim, resource: Resource, now: dt.datetime) -> Claim | BookingError:
        if row.state in ("cancelled", "ended"):
            return row
        if row.state not in ("held", "assigned", "blocked"):
            return _cannot(row, "cancelled")
        if row.state == "blocked" and row.during.lower < now:
            return _end(row, resource, now)
        row.state, row.expires_at, row.reason = "cancelled", None, reason[:200]
        return _save(row, resource)

    return _on(claim, work)


def move(claim: Claim | int, resource_id: int, key: str) -> Claim:
    """The same patient in another bed: the new claim, the old one given back (or vacated and to be cleaned). Both or neither.

    Raises like :func:`hold`.
    """
    pk = claim if isinstance(claim, int) else claim.pk
    with transaction.atomic():
        _lock([_claims().values_list("resource_id", flat=True).get(pk=pk), resource_id])
        before = _claims().filter(key=key).first()
        row, now = _claims().get(pk=pk), clock.now()
        if before is not None:
            if (before.resource_id, before.person_id) != (resource_id, row.person_id):
                raise KeyReused
            return before
        if row.state not in OF_A_PATIENT or not _alive(row, now):
            raise _cannot(row, "occupied")
        if row.resource_id == resource_id:
            raise NotPossible(T("已在这张床上。", "It is that bed already."))
        state, expires, at, until = row.state, row.expires_at, row.during.lower, row.during.upper
        if state == "occupied":
            vacate(row)
            at, until = now, until if until > now else now + dt.timedelta(days=1)
        else:
            cancel(row, "moved")
        return _claim(
            state, resource_id, row.person_id, at, until, key, case_id=row.case_id, expires_at=expires
        )  # fmt: skip


def of_case(case_id: int) -> list[Claim]:
    """Live claims made for a case, soonest first."""
    now = clock.now()
    rows = (
        _claims().filter(case_id=case_id, state__in=OF_A_PATIENT).exclude(state="held", expires_at__lte=now)
    )
    return list(rows.select_related("resource__department", "resource__institution").order_by("during"))


def cancel_case(case_id: int, reason: str) -> int:
    """Give back whatever is held or assigned for a case (a bed somebody lies in is the ward's to vacate); how many."""
    rows = _claims().filter(case_id=case_id, state__in=("held", "assigned")).order_by("resource_id")
    ids = list(rows.values_list("pk", "resource_id"))
    if not ids:
        return 0
    with transaction.atomic(savepoint=False):
        _lock({resource for _, resource in ids})
        return (
            _claims()
            .filter(pk__in=[pk for pk, _ in ids], state__in=("held", "assigned"))
            .update(state="cancelled", expires_at=None, reason=reason[:200], changed_at=clock.now())
        )


def vacate_case(case_id: int) -> int:
    """The patient of a case has gone home: whatever they lie in is to be cleaned; how many."""
    ids = list(
        _claims()
        .filter(case_id=case_id, state="occupied")
        .order_by("resource_id")
        .values_list("pk", flat=True)
    )
    for pk in ids:
        vacate(pk)
    return len(ids)


_IMPOSSIBLE = """
SELECT 'claim ' || c.id || ': of another institution or kind than its resource ' || r.id
  FROM pool_claim c JOIN pool_resource r ON r.id = c.resource_id
 WHERE (c.institution_id, c.kind) IS DISTINCT FROM (r.institution_id, r.kind)
UNION ALL
SELECT 'resource ' || c.resource_id || ': claims ' || string_agg(c.id::text, ', ' ORDER BY c.id) || ' occupy or clean it at once'
  FROM pool_claim c WHERE c.state IN ('occupied', 'cleaning') GROUP BY c.resource_id HAVING count(*) > 1
UNION ALL
SELECT 'person ' || c.person_id || ': lies in ' || count(*) || ' beds' FROM pool_claim c
 WHERE c.state = 'occupied' AND c.kind = 'bed' GROUP BY c.person_id HAVING count(*) > 1
UNION ALL
SELECT 'claims ' || a.id || ' and ' || b.id || ' of resource ' || a.resource_id || ' overlap'
  FROM pool_claim a JOIN pool_claim b ON b.resource_id = a.resource_id AND b.id > a.id AND b.during && a.during
 WHERE a.state = ANY(%(live)s) AND b.state = ANY(%(live)s)
LIMIT 200"""


def recount() -> list[str]:
    """Rows that cannot be, one line each; the constraints forbid most of them, this looks anyway."""
    with connection.cursor() as cursor:
        cursor.execute(_IMPOSSIBLE, {"live": list(LIVE_CLAIMS)})
        return [row[0] for row in cursor.fetchall()]
