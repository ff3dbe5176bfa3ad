"""What became of numbers, worked out by hand beside what the report says."""

from __future__ import annotations

import datetime as dt

import pytest
from django.test import Client
from django.urls import reverse

from lianxin.access import accounts
from lianxin.access.models import Account, AuditEvent
from lianxin.access.scope import Scope
from lianxin.network import roles
from lianxin.network.models import Department, Practitioner
from lianxin.pool import booking, usage
from lianxin.pool.models import Demand, Session
from lianxin.resident.quotas import report
from lianxin.standards import clock
from tests.factories import make_consortium, make_department, make_institution, make_post
from tests.pool.test_booking import at, make_person, make_session

pytestmark = pytest.mark.django_db
PASSWORD = "Meihua-2026"
MONDAY = dt.date(2026, 11, 2)


def used_session(department: Department, **fields: object) -> Session:
    """Ten numbers, four kept (one of them for the village): 3 public, 1 township and 1 village before release, 2 public after."""
    session = make_session(
        department, capacity=10, reserved_county=4, reserved_township=4, reserved_village=1, **fields
    )
    key = f"u{session.pk}"
    with clock.at(at(2, 9)):
        places = [
            booking.book(session.pk, make_person(), c, f"{key}{n}")
            for n, c in enumerate(["public"] * 3 + ["township", "village"])
        ]
        booking.cancel(booking.book(session.pk, make_person(), "township", f"{key}c"), "不来了")
    with clock.at(at(4, 18)):
        places += [booking.book(session.pk, make_person(), "public", f"{key}l{n}") for n in range(4)]
    with clock.at(at(5, 12)):
        for place in places[:-1]:
            booking.arrive(place)
        booking.no_show(places[-1])
    Demand.objects.create(
        session=session, channel="public", day=MONDAY, people=3, times=4, units=3, minutes=[420, 421, 430]
    )
    return session


def test_every_number_is_accounted_for() -> None:
    department = make_department(make_institution(kind="hospital"))
    session = used_session(department)
    make_session(department, starts_at=at(6, 8), ends_at=at(6, 12), capacity=5, status="stopped")
    with clock.at(at(9, 8)):
        rows = usage.sessions([department.institution_id], MONDAY, MONDAY + report.WEEK)
        f = rows[0].figures
        assert (rows[0].session_id, rows[0].day) == (session.pk, dt.date(2026, 11, 5))
        assert (f.capacity, f.all_taken, f.kept) == (10, 9, 4)
        assert f.used == {"village": 1, "township": 1, "county": 0}
        # Two kept numbers were released; three of the six open ones were still free then, so the fourth late booking took one.
        assert (f.released, f.released_taken, f.released_empty) == (2, 1, 1)
        assert (f.empty, f.no_shows, f.waste, f.waste_share) == (1, 1, 2, 20.0)
        assert f.away == {"public": 3, "county": 0, "township": 0, "village": 0}
        whole = usage.total(rows)
        assert (whole.sessions, whole.stopped, whole.capacity, whole.fill) == (2, 1, 10, 90.0)
        assert usage.sessions([], MONDAY, MONDAY + report.WEEK) == []
    with clock.at(at(3, 8)):  # nothing is released and nothing is over yet
        early = usage.total(usage.sessions([department.institution_id], MONDAY, MONDAY + report.WEEK))
        assert (early.released, early.empty, early.waste_share) == (0, 0, None)


def signed_in(scope_role: str, institution: object) -> tuple[Client, Account]:
    practitioner = Practitioner.objects.create(
        code=f"U{institution.pk}-{scope_role.replace(chr(95), chr(45))}", name="甄测试"
    )
    make_post(institution, scope_role, practitioner)
    account, _ = accounts.create(
        Scope.system("test"), f"u{practitioner.pk}", "甄测试", practitioner=practitioner, password=PASSWORD, must_change=False
    )  # fmt: skip
    client = Client()
    client.force_login(account)
    return client, account


def test_the_pages_show_ones_own_and_what_one_oversees_and_every_figure_opens() -> None:
    lead = make_institution(kind="hospital", name="甲医院", name_en="Alpha")
    member, stranger = (
        make_institution(kind="hospital", name="乙医院"),
        make_institution(kind="hospital", name="丙医院"),
    )
    make_consortium(lead, [member])
    for institution in (lead, member, stranger):
        used_session(make_department(institution, name=f"{institution.name}内科"))
    desk, _ = signed_in(roles.REFERRAL_DESK, member)
    manager, _ = signed_in(roles.MANAGER, lead)
    clinician, _ = signed_in(roles.CLINICIAN, lead)
    with clock.at(at(9, 8)):
        page = desk.get(reverse("quotas:usage"))
        assert page.status_code == 200
        assert "乙医院内科" in page.content.decode()
        assert "甲医院内科" not in page.content.decode()
        for url in (
            page.context["opens"]["away"],
            page.context["all_url"],
            page.context["bars"]["bars"][0]["url"],
        ):
            opened = desk.get(url)
            assert opened.status_code == 200
            assert len(opened.context["rows"]) == 1
        assert desk.get(page.context["opens"]["stopped"]).context["rows"] == []
        assert manager.get(reverse("quotas:usage"), {"institution": "all"}).status_code == 200
        assert desk.get(reverse("quotas:usage"), {"institution": stranger.pk}).status_code == 404
        assert clinician.get(reverse("quotas:usage")).status_code == 403
        for bad in ({"week": "x"}, {"week": "1990-01-01"}, {"institution": "x"}, {"institution": "9" * 30}):
            assert desk.get(reverse("quotas:usage"), bad).status_code == 404
        assert desk.get(reverse("quotas:sessions"), {"what": "nothing"}).status_code == 404
        sheet = desk.get(reverse("quotas:report_csv"))
        lines = sheet.content.decode("utf-8-sig").splitlines()
        assert len(lines) == 2
        assert lines[1].startswith("乙医院,乙医院内科,门诊,普通,1,0,10,7,0,1,1,4,1,1,0,2,1,1,1,1,3,0,0,0")
        assert desk.get(reverse("quotas:report_pdf")).content.startswith(b"%PDF")
        client_en = desk.get(reverse("quotas:usage"), headers={"accept-language": "en"})
        assert client_en.status_code == 200
    assert AuditEvent.objects.filter(action="export", what__startswith="quota report").exists()


def test_a_cell_that_would_be_a_formula_stays_text() -> None:
    department = make_department(make_institution(kind="hospital", name="=1+1"), name="@内科")
    used_session(department)
    with clock.at(at(9, 8)):
        text = report.as_csv(report.make([department.institution], MONDAY))
    assert text.splitlines()[1].startswith("'=1+1,'@内科")
