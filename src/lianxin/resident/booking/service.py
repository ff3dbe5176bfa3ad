"""What pages, doors and scenarios call to book for somebody. Every change goes through ``duty.kernel``.

Lock order: sessions (by id), then cases, then waiting rows. A stopped session holds its own lock when it moves its appointments, so
every move here takes the session's lock before the case's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from lianxin.access import relationships
from lianxin.access.errors import NotPermitted
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Case
from lianxin.network.models import Institution
from lianxin.pool import booking as pool
from lianxin.pool.models import RANK, Session
from lianxin.resident.booking import appeals, policy, rows, units, waiting
from lianxin.resident.booking import standing as standings
from lianxin.resident.booking.effects import Ask
from lianxin.resident.booking.errors import Barred, TooMany
from lianxin.resident.booking.models import SOURCES, Appointment, Waiting
from lianxin.resident.booking.moves import KIND
from lianxin.resident.booking.standing import Standing
from lianxin.standards import clock
from lianxin.standards.text import T

__all__ = [
    "Barred", "Queue", "Standing", "TooMany", "act", "appeal", "arrive", "book", "cancel", "decline", "fulfil", "get", "leave",
    "of_person", "queue", "reschedule", "standing", "take_offer", "wait", "waiting_of",
]  # fmt: skip

standing = standings.standing


# ---------------------------------------------------------------------------------------------------------------- who may


def _session(session_id: int) -> Session:
    found = rows.session(session_id)
    if found is None:
        raise Refused({"session": T("没有该场次，请重新选择。", "There is no such session; choose again.")})
    return found


def check_person(by: Scope, session: Session, person_id: int) -> None:
    """Residents book for themselves and family; clinicians and programs for whom they may see; a reception at its own institution."""
    if by.everything:
        return
    if by.resident:
        if person_id not in by.resident_ids:
            raise NotPermitted(
                T(
                    "只能为本人或已绑定的家人预约。",
                    "You book for yourself and for family bound to your account only.",
                )
            )
        return
    by.demand("book")
    if by.institution_id is None:
        raise NotAllowed(T("请先选择执业机构（岗位）。", "Choose the post you act in first."))
    if by.clinical:
        relationships.require(by, person_id)
    elif session.institution_id not in by.institution_ids:
        raise NotPermitted(
            T(
                "登记岗位只能预约本机构的号；外院号源请由医生或转诊办预约。",
                "A reception books its own institution's numbers; doctors and the referral desk book elsewhere.",
            )
        )


def _booker(by: Scope) -> Institution | None:
    return Institution.objects.get(pk=by.institution_id) if by.institution_id is not None else None


def channel_for(by: Scope, channel: str | None, booker: Institution | None = None) -> str:
    """The channel somebody books through: residents the public one, staff their tier's or one before it.

    ``booker``: the acting institution when the caller has it at hand.
    """
    booker = booker or _booker(by)
    if by.resident:
        own = "public"
    elif booker is not None:
        own = pool.channel_of(booker.tier)
    else:
        own = channel or "public"
    if channel is None:
        return own
    if channel not in RANK or RANK[channel] > RANK[own]:
        raise NotAllowed(T("您不能使用该号源渠道。", "This channel's numbers are not yours to book."))
    return channel


_ONE_BY_ONE = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 17))"
_LOOK = """
SELECT (SELECT p.number FROM index_person p WHERE p.id = %(person)s),
       (SELECT count(*) FROM booking_appointment a WHERE a.person_id = %(person)s AND a.live AND a.at >= %(now)s
           AND a.day = %(day)s AND a.specialty = %(specialty)s AND %(specialty)s <> ''),
       (SELECT count(*) FROM booking_appointment a WHERE a.person_id = %(person)s AND a.live AND a.at >= %(now)s
           AND a.source = 'resident'),
       (SELECT b.id FROM booking_bar b WHERE b.person_id = %(person)s AND b.until > %(now)s AND b.since <= %(now)s
           AND b.lifted_at IS NULL ORDER BY b.until DESC LIMIT 1),
       EXISTS (SELECT 1 FROM booking_waiting w WHERE w.state IN ('waiting', 'offered') AND w.department_id = %(department)s
           AND w.day = %(day)s)"""


def look(by: Scope, session: Session, person_id: int, channel: str, key: str = "") -> bool:
    """Ask the policy, one request of a person at a time; True when somebody waits for numbers like these.

    Call it inside a transaction. Nothing is asked of a request that was done before (``key``). Raises Barred, TooMany, NotAllowed,
    Refused (there is no such person).
    """
    if key and replayed(key, person_id) is not None:
        return False
    return _look(by, session, person_id, channel)[1]


def _look(by: Scope, session: Session, person_id: int, channel: str) -> tuple[str, bool]:
    """The person's number, and what :func:`look` says."""
    now = clock.now()
    setting = policy.values(session.institution_id, now.date())
    day = session.starts_at.astimezone(clock.ZONE).date()
    with connection.cursor() as cursor:
        cursor.execute(_ONE_BY_ONE, [f"book:{person_id}"])
        cursor.execute(
            _LOOK,
            {"person": person_id, "now": now, "day": day, "specialty": session.specialty, "department": session.department_id},
        )  # fmt: skip
        number, same, coming, bar_id, waits = cursor.fetchone()
    if number is None:
        raise Refused({"person": T("没有该居民。", "There is no such person.")})
    if by.resident and session.starts_at <= now:
        raise NotAllowed(
            T("该场次已开始，请到院挂号。", "This session has begun; register at the institution.")
        )
    if bar_id is not None and channel == "public":
        bar = standings.bar_of(person_id, now)
        if bar is not None:
            raise Barred(bar.until, bar.why)
    if by.everything:
        return number, waits
    limit = setting["limit.specialty_day.public" if channel == "public" else "limit.specialty_day.staff"]
    if same >= limit:
        raise TooMany(
            T(
                "同一就诊日同一专科最多预约 {n} 个号，该患者已约满。",
                "At most {n} numbers of one specialty on one day; this patient has them already.",
            ).format(n=str(limit))
        )
    if by.resident and coming >= setting["limit.coming.public"]:
        raise TooMany(
            T(
                "待就诊的预约最多 {n} 个，请先就诊或取消后再约。",
                "At most {n} coming visits; attend or cancel one first.",
            ).format(n=str(setting["limit.coming.public"]))
        )
    return number, waits


# ---------------------------------------------------------------------------------------------------------------- booking


def book(
    by: Scope,
    session_id: int,
    person_id: int,
    key: str,
    *,
    seat: int | None = None,
    item: str = "",
    note: str = "",
    source: str = "staff",
    channel: str | None = None,
) -> Appointment:
    """Book a number of a session for a person; the same ``key`` again gives the same appointment.

    Raises pool errors (Full with alternatives, SeatTaken, AlreadyBooked, NotPossible), Barred, TooMany, NotAllowed, NotPermitted,
    NoRelationship. ``channel``: the caller's own unless told (the platform itself, for a door, names it).
    """
    return _open(
        by, session_id, person_id, key, seat=seat, item=item, note=note, source=source, channel=channel
    )


def _open(
    by: Scope,
    session_id: int,
    person_id: int,
    key: str,
    *,
    seat: int | None,
    item: str,
    note: str,
    source: str,
    channel: str | None,
) -> Appointment:
    source = "resident" if by.resident else source
    if source not in SOURCES:
        raise ValueError(f"unknown source {source}")
    session = _session(session_id)
    check_person(by, session, person_id)
    booker = _booker(by)
    through = channel_for(by, channel, booker)
    fee = units.item_of(item).fee_fen if item else 0
    form = {"session": session_id, "seat": seat, "item": item, "note": note, "source": source}
    parties = {"provider": session.institution_id}
    if booker is not None:
        parties["booker"] = booker.pk

    def work(*, served: bool) -> Appointment:
        def check() -> str:
            number, waits = _look(by, session, person_id, through)
            if waits and not served:
                raise _SomebodyWaits
            return number

        ask = Ask(session, through, source, seat, item, note[:400], fee, booker, check)
        done = kernel.open_case(
            KIND, person_id, by, form, key, parties=parties, move="book_auto" if by.everything else "book",
            extra={"ask": ask},
        )  # fmt: skip
        return ask.made if ask.made is not None and not done.replayed else get_by_case(done.case)

    try:
        return work(served=False)
    except _SomebodyWaits:  # they are served first, and stay served whatever becomes of this request
        kernel.collision_proof(lambda: waiting.refresh(session_id))
        return work(served=True)


class _SomebodyWaits(Exception):
    """Numbers like these are waited for."""


def replayed(key: str, person_id: int | None = None) -> int | None:
    """The case (of ``person_id``) that the request ``key`` opened or moved before, if any: then nothing is asked again."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.case_id FROM duty_act a JOIN duty_case c ON c.id = a.case_id"
            " WHERE a.key = %s AND (%s::bigint IS NULL OR c.person_id = %s)",
            [key, person_id, person_id],
        )
        row = cursor.fetchone()
    return row[0] if row else None


def get_by_case(case: Case) -> Appointment:
    """The appointment of a case that the caller has reached."""
    found = Appointment.objects.unscoped("the case was reached by its own way").select_related(
        "place", "session__department", "session__practitioner", "institution", "case"
    )
    return found.get(pk=case.pk)


def get(by: Scope, number: str) -> Appointment:
    """The appointment of this number as ``by`` may see it; ``Case.DoesNotExist`` otherwise."""
    return get_by_case(_case(by, number))


def _case(by: Scope, number: str) -> Case:
    case = kernel.get_case(number, by)
    if case.kind != KIND:
        raise Case.DoesNotExist(number)
    return case


def act(
    by: Scope,
    number: str,
    move: str,
    form: Mapping[str, Any] | None = None,
    version: int | None = None,
    key: str = "",
) -> Appointment:
    """Make any move of the table. Raises like ``duty.kernel.execute``, or pool errors; ``Case.DoesNotExist`` out of scope."""
    case = _case(by, number)
    sessions = {_session_id(case)}
    wanted = (form or {}).get("session")
    if move in ("reschedule", "rebook", "moved") and str(wanted or "").isdigit():
        target = _session(int(str(wanted)))
        sessions.add(target.pk)
    else:
        target = None

    if target is not None and replayed(key) is None:
        _before_moving(by, case, target)

    def work() -> Appointment:
        with transaction.atomic():
            waiting.lock_sessions(sessions)
            done = kernel.execute(move, case, by, form or {}, version, key)
            return get_by_case(done.case)

    return kernel.collision_proof(work)


def _before_moving(by: Scope, case: Case, target: Session) -> None:
    """Residents move to sessions that have not begun; whoever waits for the target is served first."""
    if by.resident and target.starts_at <= clock.now():
        raise NotAllowed(T("该场次已开始，请另选场次。", "This session has begun; choose another."))
    if _session_id(case) != target.pk:
        kernel.collision_proof(lambda: waiting.refresh(target.pk))


def _session_id(case: Case) -> int:
    return (
        Appointment.objects.unscoped("the case was reached within the scope")
        .values_list("session_id", flat=True)
        .get(pk=case.pk)
    )


def cancel(by: Scope, number: str, key: str, reason: str = "") -> Appointment:
    """Cancel a coming visit; its number goes to who waits. Raises like :func:`act`."""
    return act(by, number, "cancel", {"reason": reason}, None, key)


def reschedule(by: Scope, number: str, session_id: int, key: str, seat: int | None = None) -> Appointment:
    """Move a visit to another session (or number), both or neither; from *to_rebook* it is the rebooking. Raises like :func:`act`."""
    case = _case(by, number)
    move = "rebook" if case.state == "to_rebook" else "reschedule"
    with (
        connection.cursor() as cursor
    ):  # a repeated request is the move it was, wherever the case stands since
        cursor.execute("SELECT move FROM duty_act WHERE key = %s AND case_id = %s", [key, case.pk])
        row = cursor.fetchone()
    return act(by, number, row[0] if row else move, {"session": session_id, "seat": seat or ""}, None, key)


def arrive(by: Scope, number: str, key: str) -> Appointment:
    """The patient is here. Raises like :func:`act`."""
    return act(by, number, "arrive", {}, None, key)


def fulfil(by: Scope, number: str, key: str) -> Appointment:
    """The patient has been seen. Raises like :func:`act`."""
    return act(by, number, "fulfil", {}, None, key)


# ------------------------------------------------------------------------------------------------------------ waiting list


def wait(
    by: Scope,
    session_id: int,
    person_id: int,
    key: str,
    *,
    whole_day: bool = False,
    urgent: bool = False,
    source: str = "staff",
    channel: str | None = None,
) -> Waiting:
    """Stand on the waiting list of a full session (``whole_day``: of any session of its department that day).

    ``urgent``: for a clinical reason, staff only. Raises NotAllowed when numbers are free, Barred, TooMany, and who-may errors.
    """
    session = _session(session_id)
    check_person(by, session, person_id)
    booker = _booker(by)
    through = channel_for(by, channel, booker)
    if urgent and (by.resident or not (by.clinical or by.everything)):
        raise NotAllowed(T("临床优先由医生登记。", "Clinical priority is set by a clinician."))
    return kernel.collision_proof(
        lambda: waiting.join(
            by, session, person_id, key, through, whole_day=whole_day, urgent=urgent,
            source="resident" if by.resident else source,
        )
    )  # fmt: skip


def _waiting_of(by: Scope, waiting_id: int) -> Waiting:
    return Waiting.objects.within(by).select_related("session", "place").get(pk=waiting_id)


def leave(by: Scope, waiting_id: int) -> Waiting:
    """Step off the list (an offered number goes to the next). Raises Waiting.DoesNotExist out of scope; leaving again changes nothing."""
    row = _waiting_of(by, waiting_id)
    return kernel.collision_proof(lambda: waiting.give_up(row.pk, "left"))


def decline(by: Scope, waiting_id: int) -> Waiting:
    """Decline the number offered; the next is served at once."""
    row = _waiting_of(by, waiting_id)
    return kernel.collision_proof(lambda: waiting.give_up(row.pk, "declined"))


def take_offer(by: Scope, waiting_id: int, key: str) -> Appointment:
    """Turn the offered number into an appointment. Raises NotPossible when the offer has lapsed, and like :func:`book`."""
    row = _waiting_of(by, waiting_id)
    if replayed(key) is None:
        waiting.require_offer(row)
    assert row.place is not None
    return _open(
        by, row.place.session_id, row.person_id, key, seat=row.place.seat_no, item=row.item, note="",
        source=row.source, channel=row.channel,
    )  # fmt: skip


def waiting_of(by: Scope, person_id: int) -> list[Waiting]:
    """A person's places on waiting lists that still stand, offers first."""
    found = Waiting.objects.within(by).filter(person_id=person_id, state__in=("waiting", "offered"))
    return list(
        found.select_related("session__practitioner", "department", "institution", "place").order_by(
            "state", "since"
        )
    )


# ---------------------------------------------------------------------------------------------------------------- looking


def of_person(by: Scope, person_id: int) -> list[Appointment]:
    """A person's appointments that ``by`` may see: coming ones first (soonest first), then past ones (latest first)."""
    own = Appointment.objects.within(by).filter(person_id=person_id)
    found = list(
        own.select_related(
            "case", "place", "session__department", "session__practitioner", "institution"
        ).order_by("-at")[:200]
    )
    now = clock.now()
    coming = [a for a in found if a.live and a.ends_at > now]
    return coming[::-1] + [a for a in found if not (a.live and a.ends_at > now)]


@dataclass(frozen=True)
class Queue:
    """Where somebody stands in the session: their number, how many before them are still to be seen, how many of those are here."""

    seat_no: int
    ahead: int
    arrived: int


def queue(appointment: Appointment) -> Queue:
    """Who is before this visit in its session (numbers lower than its own that are booked or here and not seen)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), count(*) FILTER (WHERE state = 'arrived') FROM pool_place"
            " WHERE session_id = %s AND seat_no < %s AND state IN ('booked', 'arrived')",
            [appointment.session_id, appointment.place.seat_no],
        )
        ahead, arrived = cursor.fetchone()
    return Queue(appointment.place.seat_no, ahead, arrived)


def appeal(by: Scope, person_id: int, text: str, key: str) -> Any:
    """Appeal against missed visits held against a person. Raises NotAllowed when there is nothing to appeal against."""
    if not by.everything and not by.resident:
        by.demand("serve_desk")
    return appeals.file(by, person_id, text, key)
