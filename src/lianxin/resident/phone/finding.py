"""Finding where to go: what was typed → specialties, doctors, institutions; and the numbers of a choice by day.

What is known of the network (departments, doctors, institutions) changes seldom: each process keeps it for a minute. Numbers are
always asked anew, in two statements a page.
"""

from __future__ import annotations

import datetime as dt
import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from django.db.models import F, Q

from lianxin.clinical.referral.receivers import specialty_label
from lianxin.network import directory
from lianxin.network.models import Department, Institution, Post
from lianxin.pool import search
from lianxin.pool.models import Session
from lianxin.resident.phone import words
from lianxin.standards import clock, pinyin
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

DAYS = 14
MOST = 60
"""Sessions shown of one day."""
_KEEP_SECONDS = 60.0
_FILE = Path(__file__).parent / "data" / "complaints.yaml"
CLINIC_TYPES = {
    "普通": T("普通门诊", "General clinic"), "专家": T("专家门诊", "Specialist clinic"), "专科": T("专科门诊", "Specialty clinic"),
    "名医": T("名医门诊", "Senior specialist"), "急诊": T("急诊", "Emergency"),
}  # fmt: skip


@dataclass(frozen=True)
class Hit:
    """Something found: what kind it is, its name, a line about it, and the query that lists its numbers."""

    kind: str
    label: Text
    more: Text
    query: str


@dataclass(frozen=True)
class Network:
    """Who can be booked at: read once a minute."""

    institutions: dict[int, Institution]
    departments: dict[int, Department]
    doctors: dict[int, tuple[Any, Department | None, Institution]]
    specialties: dict[str, Text]


_network: tuple[float, Network] | None = None


def network() -> Network:
    """Institutions, departments and doctors of the platform, at most a minute old."""
    global _network
    if _network is None or time.monotonic() - _network[0] > _KEEP_SECONDS:
        _network = (time.monotonic(), _read())
    return _network[1]


def forget() -> None:
    """Read the network anew at the next question."""
    global _network
    _network = None


def _read() -> Network:
    institutions = {i.pk: i for i in Institution.objects.filter(active=True)}
    departments = {
        d.pk: d
        for d in Department.objects.filter(active=True, institution_id__in=institutions).order_by("pk")
    }
    posts = (
        Post.objects.live()
        .filter(institution_id__in=institutions, practitioner__active=True, department__isnull=False)
        .exclude(department__specialty="")
        .select_related("practitioner")
        .order_by("pk")
    )
    doctors = {
        p.practitioner_id: (
            p.practitioner,
            departments.get(p.department_id or 0),
            institutions[p.institution_id],
        )
        for p in posts
    }
    found = sorted({d.specialty for d in departments.values() if d.specialty})
    return Network(institutions, departments, doctors, {code: specialty_label(code) for code in found})


@functools.cache
def _complaints() -> list[tuple[list[tuple[str, str, str]], list[str], list[str]]]:
    """(words with pinyin and initials, English words, specialties) of each complaint."""
    rows = yaml.load(_FILE.read_text("utf-8"), Loader=yaml.CSafeLoader)["complaints"]
    return [([(w, *pinyin.term_keys(w)) for w in r["words"]], r["en"], r["specialties"]) for r in rows]


def _like(text: str, full: str, initials: str, asked: str) -> bool:
    """Whether a name (or its pinyin, or its initials) holds what was typed."""
    if asked in text.lower():
        return True
    return asked.isascii() and len(asked) > 1 and (asked in full or initials.startswith(asked))


def suggest(typed: str) -> list[Hit]:
    """What may be meant by the words typed: complaint, specialty, doctor, department, institution; at most a dozen of each."""
    asked = "".join(typed.lower().split())[:40]
    if not asked or (asked.isascii() and len(asked) < 2):
        return []
    known = network()
    hits = _specialties(asked, typed.lower().strip(), known)
    for who, department, there in known.doctors.values():
        if department is not None and _like(
            who.name + " " + who.name_en.lower(), who.pinyin, who.initials, asked
        ):
            more = Text(
                f"{there.short} · {department.name}",
                f"{there.name_en or there.short}, {department.name_en or department.name}",
            )
            hits.append(Hit("doctor", who.label, more, urlencode({"doctor": who.pk})))
    for department in known.departments.values():
        if department.specialty and _like(
            department.name + " " + department.name_en.lower(), department.pinyin, department.initials, asked
        ):
            there = known.institutions[department.institution_id]
            hits.append(
                Hit(
                    "department",
                    department.label,
                    there.short_label,
                    urlencode({"department": department.pk}),
                )
            )
    for there in known.institutions.values():
        if _like(
            f"{there.name} {there.short_name} {there.name_en.lower()}", there.pinyin, there.initials, asked
        ):
            hits.append(
                Hit("institution", there.label, there.kind_label, urlencode({"institution": there.pk}))
            )
    kept: dict[str, int] = {}
    out = []
    for hit in hits:
        kept[hit.kind] = kept.get(hit.kind, 0) + 1
        if kept[hit.kind] <= 12:
            out.append(hit)
    return out


def _specialties(asked: str, spoken: str, known: Network) -> list[Hit]:
    found: dict[str, Text] = {}
    for entries, english, specialties in _complaints():
        meant = next(
            (
                w
                for w, full, initials in entries
                if w in asked or (len(asked) > 1 and (asked in w or asked in full or asked == initials))
            ),
            "",
        ) or next((e for e in english if e in spoken or (len(spoken) > 2 and spoken in e)), "")
        if meant:
            for code in specialties:
                if code in known.specialties:
                    found.setdefault(code, T("「{w}」可看这个科", "for “{w}”").format(w=meant))
    for code, label in known.specialties.items():
        full, initials = pinyin.term_keys(label.zh)
        if _like(label.zh, full, initials, asked) or spoken in label.en.lower():
            found.setdefault(code, T("专科", "Specialty"))
    return [
        Hit("specialty", known.specialties[c], why, urlencode({"specialty": c})) for c, why in found.items()
    ]


@dataclass(frozen=True)
class Wanted:
    """What numbers are asked for: any of these, narrowed together."""

    specialty: str = ""
    institution: int | None = None
    department: int | None = None
    doctor: int | None = None

    @classmethod
    def of(cls, given: Any) -> Wanted:
        """From a query string; nonsense counts as not given."""

        def number(name: str) -> int | None:
            value = given.get(name, "")
            return int(value) if value.isascii() and value.isdigit() and len(value) < 18 else None

        specialty = given.get("specialty", "")[:20]
        return cls(specialty, number("institution"), number("department"), number("doctor"))

    @property
    def empty(self) -> bool:
        """Whether nothing is asked for."""
        return not (self.specialty or self.institution or self.department or self.doctor)

    @property
    def query(self) -> dict[str, Any]:
        """The query string's parts."""
        return {k: v for k, v in vars(self).items() if v}

    def title(self) -> Text:
        """What is asked for, in words."""
        known = network()
        parts = []
        if self.doctor and self.doctor in known.doctors:
            parts.append(known.doctors[self.doctor][0].label)
        if self.department and self.department in known.departments:
            department = known.departments[self.department]
            parts += [department.label, known.institutions[department.institution_id].short_label]
        if self.specialty:
            parts.append(known.specialties.get(self.specialty) or specialty_label(self.specialty))
        if self.institution and self.institution in known.institutions:
            parts.append(known.institutions[self.institution].short_label)
        return (
            Text(" · ".join(p.zh for p in parts), " · ".join(p.en for p in parts))
            if parts
            else T("挂号", "Book")
        )


@dataclass
class Line:
    """A session as a line of the list."""

    session: Session
    free: int
    travel: Text | None
    km: float

    @property
    def doctor(self) -> Any:
        """Who sees the patients, if it is somebody by name."""
        return self.session.practitioner

    @property
    def clinic_type(self) -> Text:
        """The kind of clinic."""
        return type_words(self.session.clinic_type)

    @property
    def fee(self) -> str:
        """Price in yuan."""
        return Money(self.session.fee_fen).yuan()

    @property
    def hours(self) -> str:
        """From when to when."""
        return f"{words.local(self.session.starts_at):%H:%M}–{words.local(self.session.ends_at):%H:%M}"

    @property
    def half_day(self) -> Text:
        """Morning, afternoon or evening."""
        return words.half_day(self.session.starts_at)


@dataclass(frozen=True)
class DayCount:
    """A day of the strip: how many numbers are free, whether anything is held at all."""

    day: dt.date
    free: int
    sessions: int
    chosen: bool

    @property
    def label(self) -> Text:
        """今天, 明天 or the weekday."""
        gap = (self.day - clock.today()).days
        return words.day_words(self.day) if gap < 2 else words.WEEKDAYS[self.day.weekday()]


@dataclass
class Listing:
    """A page of numbers: the strip of days and the chosen day's sessions."""

    days: list[DayCount]
    day: dt.date
    lines: list[Line] = field(default_factory=list)
    more: int = 0


def type_words(code: str) -> Text:
    """普通门诊, 专家门诊 …"""
    return CLINIC_TYPES.get(code, Text(code, code))


def numbers(wanted: Wanted, day: dt.date | None, home: Institution | None, sort: str = "near") -> Listing:
    """Sessions of a fortnight by day, and one day's (default: the first with a free number): near ones first, or by time."""
    now = clock.now()
    today = now.date()
    free = _free(wanted, now)
    sessions = _sessions(wanted, now)
    by_day: dict[dt.date, list[tuple[int, dt.datetime]]] = {}
    for pk, starts_at in sessions:
        by_day.setdefault(words.local(starts_at).date(), []).append((pk, starts_at))
    shown = [today + dt.timedelta(days=n) for n in range(DAYS)]
    if day not in shown:
        day = next(
            (d for d in shown if any(free.get(pk) for pk, _ in by_day.get(d, ()))), next(iter(by_day), today)
        )
    counts = [
        DayCount(d, sum(free.get(pk, 0) for pk, _ in by_day.get(d, ())), len(by_day.get(d, ())), d == day)
        for d in shown
    ]
    lines = _lines([pk for pk, _ in by_day.get(day, ())], free, home)
    if sort == "time":
        lines.sort(key=lambda line: (line.free == 0, line.session.starts_at, line.km, line.session.pk))
    else:
        lines.sort(key=lambda line: (line.free == 0, line.km, line.session.starts_at, line.session.pk))
    return Listing(counts, day, lines[:MOST], max(len(lines) - MOST, 0))


def _free(wanted: Wanted, now: dt.datetime) -> dict[int, int]:
    offers = search.find(
        specialty=wanted.specialty or None, institution=wanted.institution, department=wanted.department,
        practitioner=wanted.doctor, until=now + dt.timedelta(days=DAYS), channel="public", limit=2000,
    )  # fmt: skip
    return {o.session_id: o.free for o in offers}


def _sessions(wanted: Wanted, now: dt.datetime) -> list[tuple[int, dt.datetime]]:
    """Those that are full too: one may wait for them."""
    rows = Session.objects.filter(
        starts_at__gt=now,
        starts_at__lt=now + dt.timedelta(days=DAYS),
        kind="clinic",
        status="open",
        opens_at__lte=now,
    )
    for name, value in (
        ("specialty", wanted.specialty), ("institution_id", wanted.institution), ("department_id", wanted.department),
        ("practitioner_id", wanted.doctor),
    ):  # fmt: skip
        if value:
            rows = rows.filter(**{name: value})
    return list(rows.order_by("starts_at", "pk").values_list("pk", "starts_at")[:2000])


def _lines(ids: Iterable[int], free: dict[int, int], home: Institution | None) -> list[Line]:
    known = network()
    lines = []
    for session in Session.objects.filter(pk__in=list(ids)).select_related("practitioner"):
        there = known.institutions.get(session.institution_id)
        department = known.departments.get(session.department_id)
        if there is None or department is None:
            continue  # it has been closed since
        session.institution, session.department = there, department
        km = directory.distance_km(home, there) if home is not None else None
        lines.append(
            Line(session, free.get(session.pk, 0), words.travel(home, there), km if km is not None else 1e6)
        )
    return lines


def public_free(session: Session, now: dt.datetime) -> int:
    """Numbers the public could take now, from the session's row alone (holds that have run out not counted back)."""
    limits = [session.capacity - session.taken]
    taken = session.taken_public
    for tier in ("county", "township", "village"):
        if getattr(session, f"release_{tier}") > now:
            limits.append(session.capacity - getattr(session, f"reserved_{tier}") - taken)
        taken += getattr(session, f"taken_{tier}")
    return max(min(limits), 0)


def lapsed_holds(session_id: int, now: dt.datetime) -> bool:
    """Whether a hold of the session has run out, so that a number may be had although the counters say full."""
    from lianxin.pool.models import Place

    why = "whether a number of a session is free; nobody is named"
    return (
        Place.objects.unscoped(why).filter(session_id=session_id, state="held", expires_at__lte=now).exists()
    )


def free_seats(session: Session, now: dt.datetime) -> list[tuple[int, dt.datetime]]:
    """(number, time) of every number nobody has, in order; which of them the public may take is booking's to say."""
    from lianxin.pool.models import Place

    gone = (
        Place.objects.unscoped("which numbers of a session are taken; nobody is named")
        .filter(session_id=session.pk)
        .exclude(Q(state="cancelled") | Q(state="held", expires_at__lte=now))
        .annotate(last=F("seat_no") + F("units"))
        .values_list("seat_no", "last")
    )
    taken = {n for first, last in gone for n in range(first, last)}
    return [(n, words.local(session.time_of(n))) for n in range(1, session.capacity + 1) if n not in taken]


def bands(lines: Iterable[Line]) -> list[tuple[Text, list[Line]]]:
    """Lines by half day, in order."""
    out: dict[Text, list[Line]] = {}
    for line in lines:
        out.setdefault(line.half_day, []).append(line)
    return list(out.items())


def seat_bands(seats: Iterable[tuple[int, dt.datetime]]) -> list[dict[str, Any]]:
    """Free numbers by the hour, each with its own time."""
    out: dict[int, dict[str, Any]] = {}
    for n, at in seats:
        band = out.setdefault(
            at.hour, {"from": f"{at.hour:02d}:00", "until": f"{at.hour + 1:02d}:00", "seats": []}
        )
        band["seats"].append({"n": n, "at": f"{at:%H:%M}"})
    return list(out.values())
