"""HL7 v2 scheduling in: SRM asks for a visit in the shared pool (answered by SRR), SIU tells of what a hospital booked itself.

``SRM^S01`` books, ``S02`` and ``S03`` move, ``S04`` cancels. ``SIU^S12`` books, ``S13`` and ``S14`` move, ``S15`` cancels, ``S26`` is a
no-show, when they are about a session of the pool (its own number in SCH-5 or ARQ-5, or department, doctor and start) or a booking that is
known by its numbers; other SIU stay what they were, Appointments of the record. A booking is known by the sender's own number (SCH-1,
ARQ-1, else SCH-2): the same number again is the same booking.

What cannot be done is answered AE with the reason and kept as answered, so that a repetition is answered alike and no replay books later.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Q

from lianxin.access import tokens
from lianxin.access.errors import AccessError
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.exchange.v2 import adt, errors, kinds
from lianxin.exchange.v2.errors import Place as At
from lianxin.exchange.v2.errors import Refused
from lianxin.exchange.v2.kinds import Outcome, Taken
from lianxin.exchange.v2.message import Message
from lianxin.exchange.v2.writing import instant, segment
from lianxin.index import registry
from lianxin.pool import booking as pool
from lianxin.pool.errors import AlreadyBooked, BookingError, Full
from lianxin.pool.models import Session
from lianxin.resident.booking import service
from lianxin.resident.booking.models import Appointment
from lianxin.resident.scheduling.models import Number
from lianxin.standards import clock
from lianxin.standards.text import T, Text

SRM = ("S01", "S02", "S03", "S04")
SIU = ("S12", "S13", "S14", "S15", "S26")
MOVES = frozenset({"S02", "S03", "S13", "S14"})
STATUS = {
    "requested": ("Pending", "待定"), "booked": ("Booked", "已预约"), "arrived": ("Started", "已到诊"), "to_rebook": ("Blocked", "待改约"),
    "missed": ("Noshow", "未到诊"), "fulfilled": ("Complete", "已完成"), "no_show": ("Noshow", "未到诊"), "cancelled": ("Cancelled", "已取消"),
}  # fmt: skip


def register() -> None:
    """Take these messages."""
    kinds.register("SRM", SRM, request)
    kinds.register_claim("SIU", SIU, ours, told)


@dataclass(frozen=True)
class _Said:
    """What a message says of a visit: the numbers it is known by, the session, the number in it."""

    placer: str
    filler: str
    schedule: str
    department: str
    doctor: str
    start: dt.datetime | None
    seat: int | None
    reason: str


def _read(asked: Message) -> _Said:
    name = "SCH" if asked.first("SCH") is not None else "ARQ"
    start = (
        asked.text("ARQ", 11) or asked.text("SCH", 11, 4) or asked.text("TQ1", 7) or asked.text("AIS", 4) or asked.text("AIP", 6)
        or asked.text("AIL", 6)
    )  # fmt: skip
    seat = asked.text("AIS", 3, 2).strip()
    return _Said(
        asked.text(name, 1).strip()[:180], asked.text(name, 2).strip()[:180], asked.text(name, 5).strip()[:80],
        (asked.text("AIL", 3) or asked.text("PV1", 3)).strip()[:60], asked.text("AIP", 3).strip()[:60], _moment(start),
        int(seat) if seat.isascii() and seat.isdigit() and 0 < len(seat) < 6 and int(seat) else None,
        (asked.text(name, 6, 2) or asked.text(name, 6) or asked.text("NTE", 3)).strip()[:200],
    )  # fmt: skip


def _moment(text: str) -> dt.datetime | None:
    plain = text.strip()
    if len(plain) < 12 or not plain[:12].isascii() or not plain[:12].isdigit():
        return None
    try:
        return dt.datetime.strptime(plain[:12], "%Y%m%d%H%M").replace(tzinfo=clock.ZONE)
    except ValueError:
        return None


def _session(said: _Said, institution_id: int) -> Session | None:
    """The session a message means: by the hospital's own number of it, by ours (``slot-12``), or by department, doctor and start."""
    rows = Session.objects.select_related("institution")
    if said.schedule:
        own = rows.filter(institution_id=institution_id, external_id=said.schedule).first()
        if own is not None:
            return own
        plain = said.schedule.rpartition("/")[2].removeprefix("slot-")
        if (
            said.schedule.rpartition("/")[2].startswith("slot-")
            and plain.isascii()
            and plain.isdigit()
            and len(plain) < 18
        ):
            return rows.filter(pk=int(plain)).first()
    if not said.department or said.start is None:
        return None
    found = rows.filter(
        institution_id=institution_id, department__code=said.department, starts_at__lte=said.start, ends_at__gt=said.start,
    )  # fmt: skip
    if said.doctor:
        found = found.filter(practitioner__code=said.doctor)
    several = list(found.order_by("starts_at", "pk")[:2])
    return several[0] if len(several) == 1 else None


def _source(scope: Scope) -> str:
    return f"client:{scope.client_id}"


def _known(said: _Said, scope: Scope) -> Appointment | None:
    """The booking a message is about, by the sender's own number or ours."""
    numbers = Number.objects.unscoped("the sender's own numbers").filter(source=_source(scope))
    row = None
    if said.placer:
        row = numbers.filter(kind="placer", value=said.placer).first()
    if row is None and said.filler:
        row = numbers.filter(kind="filler", value=said.filler).first()
    number = row.case_number if row is not None else said.filler if said.filler.startswith("YY") else ""
    if not number:
        return None
    rows = Appointment.objects.within(scope).select_related("case", "place", "session")
    return rows.filter(case__number=number).first()


def ours(asked: Message, scope: Scope) -> bool:
    """Whether an SIU is about the pool."""
    if scope.institution_id is None:
        return False
    said = _read(asked)
    return _known(said, scope) is not None or _session(said, scope.institution_id) is not None


# ------------------------------------------------------------------------------------------------------------------ taken


def request(cur: Any, taken: Taken) -> Outcome:
    """An SRM: done, or told why not; the SRR says where the booking stands."""
    said, event = _read(taken.message), taken.message.kind[1]
    if not said.placer and not said.filler:
        raise Refused(
            errors.REQUIRED,
            T("缺少预约号 ARQ-1。", "The number of the request, ARQ-1, is missing."),
            At("ARQ", 1, 1),
        )
    outcome = _do(cur, taken, said, event, own_word=False)
    outcome.kind = ("SRR", event, "SRR_S01")
    return outcome


def told(cur: Any, taken: Taken) -> Outcome:
    """An SIU of the hospital's own bookings."""
    said, event = _read(taken.message), taken.message.kind[1]
    if not said.placer and not said.filler:
        raise Refused(
            errors.REQUIRED,
            T("缺少预约号 SCH-1/SCH-2。", "The number of the booking, SCH-1 or SCH-2, is missing."),
            At("SCH", 1, 1),
        )
    outcome = _do(cur, taken, said, event, own_word=True)
    outcome.segments = ()
    return outcome


def _do(cur: Any, taken: Taken, said: _Said, event: str, *, own_word: bool) -> Outcome:
    if not tokens.allows(taken.scope, "Appointment", "c"):
        raise Refused(
            errors.INTERNAL,
            T(
                "该系统的授权范围不含 Appointment。",
                "The permissions of this system do not include Appointment.",
            ),
        )
    person_id = _person(cur, taken)
    # the permission on Appointment is enough for a booking's own moves, which the kernel knows as writes of a Task
    taken = replace(taken, scope=replace(taken.scope, smart=(*taken.scope.smart, "system/Task.cruds")))
    try:
        known = _known(said, taken.scope)
        if event in ("S01", "S12"):
            made = known if known is not None and known.live else _book(taken, said, person_id, own_word)
        elif known is None:
            raise Refused(
                errors.UNKNOWN_KEY,
                T("没有这个预约号的预约。", "There is no booking with this number."),
                At("SCH" if own_word else "ARQ", 1, 1),
            )
        else:
            if known.person_id != person_id:
                raise Refused(
                    errors.UNKNOWN_KEY,
                    T("该预约属于另一位患者。", "This booking is another patient's."),
                    At("PID", 1, 3),
                )
            made = _change(taken, said, event, known, own_word)
    except Refused as refused:
        return Outcome(
            person_id, code="AE", errors=[refused], segments=[_sch(said, "", ("Cancelled", "未受理"))]
        )
    except (BookingError, kernel.MoveError, AccessError) as error:
        return _no(error, person_id, said)
    made = (
        Appointment.objects.unscoped("what was just done")
        .select_related("case", "place", "session")
        .get(pk=made.pk)
    )
    status = STATUS[made.case.state]
    return Outcome(person_id, segments=[_sch(said, made.case.number, status, made)])


def _person(cur: Any, taken: Taken) -> int:
    pid = taken.message.first("PID")
    if pid is None:
        raise Refused(errors.SEQUENCE, T("缺少 PID 段。", "The segment PID is missing."), At("PID"))
    stored = adt.save(cur, taken, pid)
    found = stored.person_id or registry.by_patient_id(stored.id)
    assert found is not None
    return found


def _no(error: Exception, person_id: int, said: _Said) -> Outcome:
    """A refusal by the rules: definite, with other sessions that are free."""
    text: Text = (
        error.message
        if isinstance(error, AccessError)
        else getattr(error, "text", T("不能办理", "It cannot be done"))
    )
    code = errors.DUPLICATE_KEY if isinstance(error, AlreadyBooked) else errors.UNKNOWN_KEY
    if isinstance(error, kernel.Refused):
        text = next(iter(error.errors.values()), text)
    segments = [_sch(said, "", ("Cancelled", "未受理"))]
    if isinstance(error, Full):
        for n, other in enumerate(error.alternatives, 1):
            words = f"slot-{other.session_id} {other.starts_at:%Y-%m-%d %H:%M} {other.institution} {other.department} {other.practitioner}"
            segments.append(segment("NTE", str(n), "L", words.strip()))
    return Outcome(person_id, code="AE", errors=[Refused(code, text)], segments=segments)


def _sch(said: _Said, number: str, status: tuple[str, str], made: Appointment | None = None) -> str:
    times: Any = ""
    if made is not None:
        end = made.place.at + (made.ends_at - made.starts_at) / max(made.session.capacity, 1)
        times = ("", "", "", instant(made.place.at), instant(end))
    return segment(
        "SCH", said.placer, number, "", "", f"slot-{made.session_id}" if made is not None else said.schedule, "", "", "", "", "", times,
        "", "", "", "", "LIANXIN", "", "", "", "LIANXIN", "", "", "", "", (*status, "HL70278"), made.place.seat_no if made is not None else "",
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- changes


def _key(taken: Taken, said: _Said, event: str, more: str = "") -> str:
    return f"v2:{taken.scope.client_id}:{event}:{said.placer or said.filler}:{more}"[:200]


def _book(taken: Taken, said: _Said, person_id: int, own_word: bool) -> Appointment:
    session = _session(said, taken.institution_id)
    if session is None:
        raise Refused(
            errors.UNKNOWN_KEY,
            T("号源池中没有该场次（ARQ-5/SCH-5，或科室、医生与时间）。", "There is no such session in the pool (ARQ-5/SCH-5, or department, doctor and start)."),
            At("SCH" if own_word else "ARQ", 1, 5),
        )  # fmt: skip
    mine = own_word and session.institution_id == taken.institution_id and session.owner == "hospital"
    used = Number.objects.unscoped("how often this number was used").filter(source=_source(taken.scope))
    word = said.placer or said.filler
    count = used.filter(Q(value=word) | Q(value__startswith=f"{word}#")).count()
    key = _key(taken, said, "book", str(count))
    try:
        made = service.book(taken.scope, session.pk, person_id, key, seat=said.seat, source="v2")
    except Full:
        if not mine or session.status != "open":
            raise
        pool.add_numbers(
            session.pk, 1
        )  # its own numbers: the hospital has the last word on how many there are
        made = service.book(taken.scope, session.pk, person_id, key, source="v2")
    if mine and made.case.state == "requested":
        kernel.execute(
            "confirmed",
            made.case,
            _system(),
            {"external": (said.filler or said.placer)[:80]},
            None,
            f"{key}:ok",
        )
    _remember(taken, said, made.case.number)
    return made


def _system() -> Scope:
    return Scope.system("told by the hospital's system")


def _remember(taken: Taken, said: _Said, number: str) -> None:
    now = clock.now()
    rows = [
        Number(source=_source(taken.scope), kind=kind, value=value, institution_id=taken.institution_id, case_number=number, made_at=now)
        for kind, value in (("placer", said.placer), ("filler", said.filler))
        if value and not value.startswith("YY")
    ]  # fmt: skip
    for row in rows:
        old = Number.objects.unscoped("the sender's own number").filter(
            source=row.source, kind=row.kind, value=row.value
        )
        earlier = old.first()
        if (
            earlier is not None and earlier.case_number != number
        ):  # used before for one that ended: kept under another name
            used = (
                Number.objects.unscoped("how often")
                .filter(source=row.source, value__startswith=f"{row.value}#")
                .count()
            )
            old.update(value=f"{row.value}#{used + 1}")
    Number.objects.bulk_create(rows, ignore_conflicts=True)


def _change(taken: Taken, said: _Said, event: str, known: Appointment, own_word: bool) -> Appointment:
    number, version = known.case.number, known.case.version
    if event in ("S04", "S15"):
        if known.case.state == "cancelled":
            return known
        return service.cancel(taken.scope, number, _key(taken, said, "cancel", str(version)), said.reason)
    if event == "S26":
        return _missed(taken, said, known)
    session = _session(said, taken.institution_id)
    if session is None:
        raise Refused(
            errors.UNKNOWN_KEY,
            T("号源池中没有改到的场次。", "The session to move to is not in the pool."),
            At("SCH" if own_word else "ARQ", 1, 5),
        )
    if session.pk == known.session_id and said.seat in (None, known.place.seat_no):
        return known
    key = _key(taken, said, "move", str(version))
    if (
        own_word
        and session.institution_id == taken.institution_id
        and session.owner == "hospital"
        and known.case.state in ("requested", "booked")
    ):
        moved = service.act(
            _system(), number, "moved", {"session": session.pk, "seat": said.seat or ""}, None, key
        )
        if moved.case.state == "requested":
            kernel.execute(
                "confirmed",
                moved.case,
                _system(),
                {"external": (said.filler or said.placer)[:80]},
                None,
                f"{key}:ok",
            )
        return moved
    return service.reschedule(taken.scope, number, session.pk, key, said.seat)


def _missed(taken: Taken, said: _Said, known: Appointment) -> Appointment:
    """The hospital says that nobody came: its word is its desk's."""
    if known.case.state == "no_show":
        return known
    if known.case.state == "booked":
        kernel.execute(
            "miss", known.case, _system(), {}, None, _key(taken, said, "miss", str(known.case.version))
        )
    return service.act(
        taken.scope, known.case.number, "confirm_missed", {}, None, _key(taken, said, "missed")
    )
