"""The joint plan: against brute force on drawn days, and on the database: rules, all or nothing, who is faster."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lianxin.network.models import Department
from lianxin.pool import booking, exams, exclusive, plan
from lianxin.pool.errors import AlreadyBooked, NotPossible
from lianxin.pool.models import Claim, ExamItem, Place, Resource, Session
from lianxin.pool.plan import CLINIC, Bed, Candidates, Slot, Wanted
from lianxin.standards import clock
from tests.factories import make_department

from .test_booking import at, make_person, make_session
from .test_concurrency import at_once
from .test_exclusive import bed, ward

DAY = dt.datetime(2026, 11, 5, tzinfo=clock.ZONE)
WALK = dt.timedelta(minutes=15)
SHIPPED = {
    i["code"]: ExamItem(
        code=i["code"], modality=i["modality"], minutes=i["minutes"], fasting_hours=i.get("fasting", 0),
        contrast=i.get("contrast", False),
    )
    for i in exams.shipped()["items"]
}  # fmt: skip
CODES = ["CT-ABDO-C", "CT-CHEST", "US-ABDO", "XR-BARIUM", "MR-HEAD", "ECG-12", "ES-GASTRO"]


def slot(minute: int, length: int, session: int) -> Slot:
    start = DAY + dt.timedelta(minutes=7 * 60 + minute)
    return Slot(start, start + dt.timedelta(minutes=length), session, minute)


@st.composite
def days(draw: Any) -> tuple[Wanted, Candidates]:
    codes = draw(st.lists(st.sampled_from(CODES), max_size=3, unique=True))
    clinic = draw(st.booleans())
    wish = Wanted(
        tuple(codes), clinic=clinic, bed=draw(st.booleans()) or not (codes or clinic), results_first=draw(st.booleans())
    )  # fmt: skip
    minutes = st.lists(st.integers(0, 60).map(lambda n: n * 10), max_size=3, unique=True)
    free = {
        code: tuple(
            sorted(
                (
                    slot(m, SHIPPED[code].minutes, session)
                    for session in draw(st.lists(st.integers(1, 3), max_size=2, unique=True))
                    for m in draw(minutes)
                ),
                key=lambda s: (s.at, s.session_id),
            )
        )
        for code in codes
    }
    visits = tuple(slot(m, 10, 9) for m in sorted(draw(minutes))) if clinic else ()
    beds = tuple(
        Bed(DAY + dt.timedelta(hours=h), 1) for h in draw(st.lists(st.sampled_from([8, 14]), max_size=1))
    )
    return wish, Candidates(free, visits, beds)


def brute(wish: Wanted, free: Candidates) -> dt.datetime | None:
    """The earliest end over every choice of slots, checked pair by pair without the search's orders."""
    jobs = [*wish.exams, *([CLINIC] if wish.clinic else [])]
    best = None
    for chosen in product(*(free.clinic if job == CLINIC else free.exams[job] for job in jobs)):
        placed = sorted(zip(jobs, chosen, strict=True), key=lambda p: p[1].at)
        if len({s.session_id for _, s in placed}) < len(placed) or not _sound(placed, wish):
            continue
        if wish.bed and not free.beds:
            continue
        done = max((s.until for _, s in placed), default=free.beds[0].at if free.beds else None)
        best = done if best is None or done < best else best
    return best


def _sound(placed: list[tuple[str, Slot]], wish: Wanted) -> bool:
    for (a, first), (b, then) in permutations(placed, 2):
        if first.at > then.at:
            continue
        wait = WALK
        if wish.results_first and a == CLINIC:
            return False
        if wish.results_first and b == CLINIC:
            wait = max(wait, dt.timedelta(minutes=exams.report_minutes(a)))
        if then.at < first.until + wait:
            return False
        if CLINIC not in (a, b):
            if SHIPPED[b].fasting_hours and not SHIPPED[a].fasting_hours:
                return False
            if exams.conflict(exams.done_of(SHIPPED[a], first.at), exams.done_of(SHIPPED[b], then.at)):
                return False
    return all(
        exams.in_the_morning(s.at) for code, s in placed if code != CLINIC and SHIPPED[code].fasting_hours
    )


@settings(max_examples=80)
@given(days())
def test_the_plan_is_the_one_that_is_done_first(day: tuple[Wanted, Candidates]) -> None:
    wish, free = day
    found = plan.search(wish, SHIPPED, free, walk=WALK)
    best = brute(wish, free)
    assert (found is None) == (best is None)
    if found is not None:
        placed = [(s.code, s.slot) for s in found.steps]
        assert _sound(placed, wish)
        assert max((s.until for _, s in placed), default=found.at) == best
        assert Counter(code for code, _ in placed) == Counter(
            [*wish.exams, *([CLINIC] if wish.clinic else [])]
        )
        assert not wish.bed or (found.bed is not None and all(found.bed.at >= s.until for _, s in placed))


def test_rules_between_two_examinations() -> None:
    def done(code: str, hour: float, day: int = 5) -> exams.Done:
        return exams.done_of(SHIPPED[code], at(day, 0) + dt.timedelta(hours=hour))

    assert exams.conflict(done("XR-BARIUM", 8), done("CT-CHEST", 10)) is not None
    assert exams.conflict(done("CT-CHEST", 8), done("XR-BARIUM", 10)) is None
    assert exams.conflict(done("XR-BARIUM", 8), done("CT-CHEST", 9, 7)) is not None
    assert exams.conflict(done("XR-BARIUM", 8), done("CT-CHEST", 9, 9)) is None
    assert exams.conflict(done("CT-ABDO-C", 8), done("MR-LIVER-C", 20)) is not None
    assert exams.conflict(done("CT-ABDO-C", 8), done("MR-LIVER-C", 10, 6)) is None
    assert exams.conflict(done("US-THYROID", 8), done("ECG-12", 8)) is not None
    assert exams.conflict(done("US-THYROID", 8), done("ECG-12", 9)) is None


# ---------------------------------------------------------------- on the database


def device(where: Department, *codes: str, code: str = "CT1") -> Resource:
    return Resource.objects.create(
        institution=where.institution, department=where, kind="device", code=code, name=code, items=list(codes)
    )  # fmt: skip


def exam_session(where: Department, machine: Resource, day: int = 5, capacity: int = 24) -> Session:
    """A morning of ten-minute steps."""
    return make_session(
        where, kind="exam", resource=machine, starts_at=at(day, 8), ends_at=at(day, 12), capacity=capacity
    )  # fmt: skip


@pytest.fixture
def hospital(db: None) -> Department:
    exams.load_shipped()
    return ward()


def outfit(where: Department) -> tuple[Session, Session, Session, Resource]:
    """A CT morning, an ultrasound morning, an afternoon clinic, a bed."""
    images = make_department(where.institution, "YX", specialty="32", name="影像科")
    ct = exam_session(images, device(images, "CT-CHEST", "CT-HEAD", "CT-ABDO-C"))
    us = exam_session(images, device(images, "US-ABDO", "US-HEART", code="US1"))
    clinic = make_session(where, starts_at=at(5, 14), ends_at=at(5, 17), capacity=18)
    return ct, us, clinic, bed(where)


def wish(where: Department, *codes: str, **more: Any) -> Wanted:
    return Wanted(codes, specialty=where.specialty, **{"clinic": True, "bed": True} | more)


def test_fasting_first_reports_before_the_visit_then_the_bed(hospital: Department) -> None:
    ct, us, clinic, one = outfit(hospital)
    with clock.at(at(4, 9)):
        person = make_person()
        best = plan.plans(wish(hospital, "CT-CHEST", "US-ABDO"), person, hospital.institution_id, "township")
        assert [s.code for s in best[0].steps] == ["US-ABDO", "CT-CHEST", CLINIC]
        assert [f"{s.slot.at:%H:%M}" for s in best[0].steps] == ["08:00", "08:30", "14:00"]
        assert plan.rebuild(best[0].token, hospital.institution_id).steps == best[0].steps
        held = plan.take(best[0], person, "township", "k", 7)
        again = plan.take(best[0], person, "township", "k", 7)
        assert [p.pk for p in held.places] == [p.pk for p in again.places]
    assert held.visit is not None
    assert held.visit.session_id == clinic.pk
    assert held.claim is not None
    assert (held.claim.resource_id, held.claim.case_id, held.claim.state) == (one.pk, 7, "assigned")
    assert held.claim.during.lower == at(5, 14) + dt.timedelta(minutes=10)
    assert {p.session_id for p in held.places} == {ct.pk, us.pk, clinic.pk}
    assert Place.objects.unscoped("test").get(item="US-ABDO").units == 2, "15 minutes are two steps of ten"
    assert booking.recount() == []


def test_what_the_patient_has_on_the_calendar_is_respected(hospital: Department) -> None:
    _, us, _, _ = outfit(hospital)
    with clock.at(at(4, 9)):
        person = make_person()
        exams.book(us.pk, person, "US-HEART", "township", "x", seat=1)
        best = plan.plans(
            wish(hospital, "CT-CHEST", clinic=False, bed=False), person, hospital.institution_id, "township"
        )
        assert f"{best[0].at:%H:%M}" == "08:20", "the other one ends then"
        with pytest.raises(exams.NotPrepared, match="重叠"):
            exams.book(best[0].steps[0].slot.session_id, person, "CT-CHEST", "township", "y", seat=1)


def test_fasting_is_in_the_morning_and_the_device_must_do_it(hospital: Department) -> None:
    ct, us, _, _ = outfit(hospital)
    Session.objects.filter(pk=us.pk).update(starts_at=at(5, 13), ends_at=at(5, 17))
    with clock.at(at(4, 9)):
        person = make_person()
        assert plan.plans(wish(hospital, "US-ABDO"), person, hospital.institution_id, "county") == []
        assert exams.find("US-ABDO", [hospital.institution_id], at(4, 9), at(9, 9), "county") == []
        with pytest.raises(exams.NotPrepared, match="空腹"):
            exams.book(us.pk, person, "US-ABDO", "county", "a")
        with pytest.raises(NotPossible, match="不做"):
            exams.book(ct.pk, person, "US-ABDO", "county", "b")
        for bad in (Wanted(), Wanted(("CT-CHEST",) * 2), Wanted(tuple(CODES)), Wanted(("NONE",))):
            with pytest.raises(NotPossible):
                plan.plans(bad, person, hospital.institution_id, "county")


def test_all_or_nothing(hospital: Department) -> None:
    _, _, clinic, one = outfit(hospital)
    with clock.at(at(4, 9)):
        person = make_person()
        best = plan.plans(wish(hospital, "CT-CHEST"), person, hospital.institution_id, "township")[0]
        exclusive.book(one.pk, make_person(), at(5, 8), at(9, 8), "other")
        with pytest.raises(exclusive.Taken):
            plan.take(best, person, "township", "k")
        assert not Place.objects.unscoped("test").filter(person_id=person).exists()
        booking.book(clinic.pk, person, "township", "own")
        with pytest.raises(AlreadyBooked):
            plan.take(best, person, "township", "k")
        with pytest.raises(plan.Gone):
            plan.take_first([], person, "township", "k")
    assert booking.recount() == []


def test_a_new_plan_replaces_the_old_in_one_breath(hospital: Department) -> None:
    outfit(hospital)
    with clock.at(at(4, 9)):
        person, asked = make_person(), wish(hospital, "CT-CHEST", bed=False)
        first = plan.take(
            plan.plans(asked, person, hospital.institution_id, "township")[0], person, "township", "a", 7
        )
        old = [p.pk for p in first.places]
        best = plan.plans(asked, person, hospital.institution_id, "township", but=old)[0]
        again = plan.take(best, person, "township", "b", 7, give_up=old)
        assert {p.state for p in Place.objects.unscoped("test").filter(pk__in=old)} == {"cancelled"}
        assert len(again.places) == 2
    assert booking.recount() == []


@pytest.mark.parametrize(
    "token", ["", "x", "[]", '{"s":[],"b":null}', '{"s":[["clinic",0,1]],"b":null}', '{"s":1}', '{"s":[],"b":[1,"2026-11-05","2026-11-06"]}']
)  # fmt: skip
def test_a_plan_that_cannot_be_read_is_refused(hospital: Department, token: str) -> None:
    with pytest.raises(NotPossible):
        plan.rebuild(token, hospital.institution_id)


@pytest.mark.concurrency
@pytest.mark.django_db(transaction=True)
def test_many_plans_at_once_each_whole_or_not_at_all() -> None:
    exams.load_shipped()
    where = ward()
    outfit(where)
    bed(where)
    asked, people = wish(where, "CT-CHEST", "US-HEART"), [make_person() for _ in range(16)]
    with clock.at(at(2, 9)):
        best = {p: plan.plans(asked, p, where.institution_id, "township")[:1] for p in people}

    def go(person: int) -> plan.Held:
        while True:
            try:
                return plan.take_first(best[person], person, "township", f"p{person}")
            except plan.Gone:
                best[person] = plan.plans(asked, person, where.institution_id, "township")
                if not best[person]:
                    raise

    results = at_once([lambda p=p: go(p) for p in people])
    assert Counter(type(r).__name__ for r in results) == {"Held": 2, "Gone": 14}, "two beds"
    assert Place.objects.unscoped("test").exclude(state="cancelled").count() == 6
    assert Claim.objects.unscoped("test").filter(state="assigned").count() == 2
    assert booking.recount() == []
    assert exclusive.recount() == []
