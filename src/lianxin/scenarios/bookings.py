"""Residents' bookings of the demonstration: weeks of visits booked, seen, missed and cancelled, and the days to come.

Everything goes through ``resident.booking.service`` on a clock of its own: a session that is full with people waiting, one that was
stopped, somebody barred who appeals. The people are the scenario's; what they do is drawn from its seed.
"""

from __future__ import annotations

import datetime as dt
from random import Random

from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.clinical.referral.parties import role_at
from lianxin.duty import periodic
from lianxin.duty.errors import MoveError
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.network.models import Institution, Post
from lianxin.pool import booking as pool
from lianxin.pool.errors import BookingError
from lianxin.pool.models import Session
from lianxin.resident.booking import service
from lianxin.resident.booking.models import Appointment
from lianxin.resident.booking.moves import DESK
from lianxin.scenarios.build import Progress, quiet
from lianxin.standards import clock
from lianxin.standards.text import T

PAST, COMING, STOPPED_VISITS, WAITERS = 60, 30, 4, 3
_WHY = "bookings of the demonstration"
_SYSTEM = Scope.system(_WHY)
_REFUSED = (BookingError, MoveError)
_WORDS = ("老人夜里急诊住院，家里没顾上取消", "大雪封路，班车停运")


class Desks:
    """The scope of whoever receives patients at an institution (None where nobody does)."""

    def __init__(self) -> None:
        self._known: dict[int, Scope | None] = {}

    def of(self, institution: Institution) -> Scope | None:
        """Reception where there is one, else whoever stands in for it."""
        if institution.pk not in self._known:
            self._known[institution.pk] = self._find(institution)
        return self._known[institution.pk]

    def _find(self, institution: Institution) -> Scope | None:
        first = role_at(institution, "reception")
        posts = (
            Post.objects.live().filter(institution=institution, role__in=DESK).select_related("practitioner")
        )
        for post in sorted(posts, key=lambda p: (p.role != first, p.pk)):
            account = Account.objects.filter(practitioner_id=post.practitioner_id, is_active=True).first()
            if account is not None:
                return scope_for_account(account, post)
        return None


class Play:
    """One run: draws people and sessions, books for them, keeps a counter for keys."""

    def __init__(self, seed: int, now: dt.datetime) -> None:
        self.rng, self.now, self.count = Random(f"bookings:{seed}"), now, 0
        self.desks = Desks()
        ids = list(
            Person.objects.unscoped(_WHY).filter(status="active", deceased_on=None).order_by("pk").values_list("pk", flat=True)[:4000]
        )  # fmt: skip
        self.people = self.rng.sample(ids, min(len(ids), 400))

    def person(self) -> Scope:
        """The next resident, as they act for themselves."""
        person = self.people[self.count % len(self.people)]
        return Scope(roles=frozenset({roles.RESIDENT}), resident_ids=frozenset({person}), name="居民本人")

    def key(self) -> str:
        """A key of its own for each request."""
        self.count += 1
        return f"demo:booking:{self.now:%Y%m%d%H%M%S}:{self.count}"

    def book(self, by: Scope, session: Session, at: dt.datetime) -> Appointment | None:
        """Book at that instant; None when the rules refuse."""
        with clock.at(max(at, session.opens_at + dt.timedelta(minutes=5))):
            try:
                return service.book(by, session.pk, min(by.resident_ids), self.key())
            except _REFUSED:
                return None

    def act(self, by: Scope, visit: Appointment, move: str, at: dt.datetime, **form: object) -> None:
        """Make one move at that instant."""
        with clock.at(at):
            service.act(by, visit.case.number, move, form, None, self.key())


def _sessions(since: dt.datetime, until: dt.datetime) -> list[Session]:
    return list(
        Session.objects.filter(
            kind="clinic", status="open", owner="platform", starts_at__gte=since, ends_at__lt=until
        )
        .select_related("institution", "department")
        .order_by("starts_at", "pk")
    )


def play(seed: int, since: dt.datetime, now: dt.datetime, progress: Progress = quiet) -> int:
    """Play the bookings of a consortium up to ``now`` and for the days after; returns how many visits there are.

    Played once: where there are visits already, nothing is done. Without sessions or people, nothing either.
    """
    if Appointment.objects.unscoped(_WHY).exists():
        return 0
    run = Play(seed, now)
    past, coming = _sessions(since, now - dt.timedelta(hours=1)), _sessions(now, now + dt.timedelta(days=8))
    if not past or not coming or not run.people:
        return 0
    parts = [
        (_past, past),
        (_barred, past),
        (_coming, coming),
        (_full, coming),
        (_stopped, coming),
        (_accounts, coming),
    ]
    with periodic.held():
        for part, sessions in progress(T("居民预约", "Residents' bookings"), parts, len(parts)):
            part(run, sessions)
    return Appointment.objects.unscoped(_WHY).count()


def _past(run: Play, sessions: list[Session]) -> None:
    for session in sorted(run.rng.choices(sessions, k=PAST), key=lambda s: (s.starts_at, s.pk)):
        desk = run.desks.of(session.institution)
        by = run.person()
        visit = run.book(by, session, session.starts_at - dt.timedelta(hours=run.rng.randint(14, 60)))
        if visit is None or desk is None:
            continue
        fate = run.rng.random()
        if fate < 0.08:
            run.act(by, visit, "cancel", session.starts_at - dt.timedelta(hours=3), reason="临时有事")
        elif fate < 0.2:
            _miss(run, desk, visit, confirm=session.ends_at < run.now - dt.timedelta(days=3))
        else:
            run.act(desk, visit, "arrive", visit.at - dt.timedelta(minutes=run.rng.randint(0, 25)))
            run.act(desk, visit, "fulfil", visit.at + dt.timedelta(minutes=run.rng.randint(5, 40)))


def _miss(run: Play, desk: Scope, visit: Appointment, *, confirm: bool) -> None:
    over = visit.ends_at + dt.timedelta(minutes=31)
    if over >= run.now:
        return
    run.act(_SYSTEM, visit, "miss", over)
    if confirm:
        run.act(desk, visit, "confirm_missed", over + dt.timedelta(hours=2))


def _barred(run: Play, sessions: list[Session]) -> None:
    """Two people missed three visits each; one of them appeals."""
    early = [s for s in sessions if s.ends_at < run.now - dt.timedelta(days=1, hours=4)]
    for nth, words in enumerate(_WORDS):
        by, missed = run.person(), 0
        for session in run.rng.sample(early, min(len(early), 12)):
            desk = run.desks.of(session.institution)
            if missed == 3 or desk is None:
                continue
            visit = run.book(by, session, session.starts_at - dt.timedelta(hours=20))
            if visit is not None:
                _miss(run, desk, visit, confirm=True)
                missed += 1
        if missed == 3 and nth == 0:
            with clock.at(run.now - dt.timedelta(hours=2)):
                service.appeal(by, min(by.resident_ids), words, run.key())


def _coming(run: Play, sessions: list[Session]) -> None:
    for session in run.rng.choices(sessions, k=COMING):
        run.book(run.person(), session, run.now - dt.timedelta(hours=run.rng.randint(2, 30)))


def _full(run: Play, sessions: list[Session]) -> None:
    """A small session the day after tomorrow or later that is full for the public, with people waiting."""
    later = [s for s in sessions if s.starts_at > run.now + dt.timedelta(days=2)]
    if not later:
        return
    session = min(later, key=lambda s: (s.capacity - s.reserved_county, s.starts_at, s.pk))
    at = run.now - dt.timedelta(hours=5)
    for _ in range(session.capacity):
        if run.book(run.person(), session, at) is None:
            break
    for n in range(WAITERS):
        by = run.person()
        with clock.at(run.now - dt.timedelta(minutes=90 - n * 20)):
            try:
                service.wait(by, session.pk, min(by.resident_ids), run.key())
            except _REFUSED:
                run.count += 1


def _stopped(run: Play, sessions: list[Session]) -> None:
    """A doctor is called away: four patients are owed another time, one has chosen it."""
    later = [s for s in sessions if s.starts_at > run.now + dt.timedelta(days=3) and s.taken == 0]
    if len(later) < 2:
        return
    session = run.rng.choice(later)
    visits = [
        run.book(run.person(), session, run.now - dt.timedelta(hours=20)) for _ in range(STOPPED_VISITS)
    ]
    with clock.at(run.now - dt.timedelta(hours=1)):
        pool.stop_session(session.pk, "医生外出会诊")
    others = [s for s in later if s.pk != session.pk and s.specialty == session.specialty]
    first = visits[0]
    if first is not None and others:
        with clock.at(run.now - dt.timedelta(minutes=30)):
            by = Scope(
                roles=frozenset({roles.RESIDENT}), resident_ids=frozenset({first.person_id}), name="居民本人"
            )
            try:
                service.reschedule(by, first.case.number, others[0].pk, run.key())
            except _REFUSED:
                run.count += 1


def _accounts(run: Play, sessions: list[Session]) -> None:
    """Whoever has an account of the demonstration has visits before them."""
    for account in Account.objects.filter(resident=True, is_active=True).order_by("pk")[:3]:
        scope = scope_for_account(account)
        for person in sorted(scope.resident_ids):
            by = Scope(
                account_id=account.pk, roles=scope.roles, resident_ids=frozenset({person}), name=scope.name
            )
            run.book(by, run.rng.choice(sessions), run.now - dt.timedelta(hours=run.rng.randint(2, 20)))
