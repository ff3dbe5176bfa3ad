"""Quotas worked out from history, and what accepting or declining them does."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.urls import reverse

from lianxin.access.models import AuditEvent
from lianxin.access.scope import Scope, scope_for_account
from lianxin.network import roles
from lianxin.network.models import Department, Institution
from lianxin.pool import littlewood as lw
from lianxin.pool import proposals, schedule
from lianxin.pool.models import Demand, RosterChange, Session, Template
from lianxin.resident.quotas import policy, service
from lianxin.resident.quotas.models import Policy, Proposal
from lianxin.standards import clock
from tests.factories import make_consortium, make_department, make_institution
from tests.quotas.test_usage import signed_in

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 11, 10, 9, tzinfo=clock.ZONE)


def wanted(department: Department, grassroots: int, public: int) -> Template:
    """A template of six numbers that keeps one, and six past sessions for which the township asked ``grassroots`` times, all told.

    Nothing is booked: what was asked is known from the refusals (a replay gives them out).
    """
    template = Template.objects.create(
        institution_id=department.institution_id, department=department, weekday=1, start=dt.time(8), end=dt.time(12), capacity=6,
        reserved_county=1, reserved_township=1, since=dt.date(2026, 1, 1),
    )  # fmt: skip
    for week in range(6):
        day = dt.date(2026, 11, 3) - dt.timedelta(weeks=week)
        session = schedule.session_of(template, day)
        assert session is not None
        session.save()
        asked = day - dt.timedelta(days=8)  # before release, a national holiday in between or not
        for channel, count, minute in (("public", public, 420), ("township", grassroots, 600)):
            if count:
                Demand.objects.create(
                    session=session, channel=channel, day=asked, people=count, times=count, units=count, minutes=[minute + n for n in range(count)]
                )  # fmt: skip
    return template


@pytest.fixture
def hospital() -> Institution:
    return make_institution(kind="hospital", name="甲医院", lon=121.0, lat=29.0)


def manager_of(institution: Institution) -> Any:
    client, account = signed_in(roles.MANAGER, institution)
    return client, scope_for_account(account)


def test_more_is_kept_where_the_grassroots_asked_in_vain(hospital: Institution) -> None:
    template = wanted(make_department(hospital), grassroots=4, public=6)
    with clock.at(NOW):
        assert service.refresh(hospital) == 1
        assert service.refresh(hospital) == 1  # the same again is the same
        row = Proposal.objects.get()
    assert (row.old, row.state) == ([1, 1, 0], "open")
    assert row.new[1] >= 3
    content = row.content
    assert content["sessions"] == content["weeks"] == 6
    assert content["old"]["served"] == {"public": 30, "county": 0, "township": 6, "village": 0}
    assert content["unseen"]["served"]["township"] > 12
    assert sum(content["new"]["served"].values()) + content["new"]["empty"] == 36
    assert template.reserved_township == 1


def test_quotas_that_fit_and_short_histories_make_no_proposal(hospital: Institution) -> None:
    wanted(make_department(hospital), grassroots=1, public=5)
    with clock.at(NOW):
        assert service.refresh(hospital) == 0
        Session.objects.filter(starts_at__lt=NOW - dt.timedelta(weeks=3)).delete()
        assert service.work_out(proposals.groups([hospital.pk])[0], hospital) is None
        assert service.run() == 1


def test_remote_townships_have_a_floor_and_policy_rows_take_effect_on_their_day(
    hospital: Institution,
) -> None:
    far = make_institution(kind="township", name="远乡卫生院", lon=121.5, lat=29.0)
    near = make_institution(kind="township", name="近镇卫生院", lon=121.01, lat=29.0)
    consortium = make_consortium(hospital, [far, near])
    wanted(make_department(hospital), grassroots=0, public=6)
    with clock.at(NOW):
        assert service.remote(hospital, 20) == [far]
        assert service.refresh(hospital) == 1
        row = Proposal.objects.get()
        assert (row.new, row.content["floor"], row.content["why"]) == ([2, 2, 1], [2, 1], "floor")
        Policy.objects.create(
            name="floor",
            consortium=consortium,
            value={"per_week": 0},
            effective_from=clock.today(),
            source="理事会决议",
        )
        assert policy.rules(hospital).per_week == 0
        assert policy.rules(hospital, clock.today() - dt.timedelta(days=1)).per_week == 2
        assert "理事会决议" in policy.rules(hospital).sources
        assert (
            service.refresh(hospital) == 1
        )  # nothing is owed any more, and nobody else asked for what was kept
        row.refresh_from_db()
        assert row.state == "replaced"
        assert Proposal.objects.get(state="open").new == [0, 0, 0]
        Policy.objects.create(
            name="values", value={"village": 0.1}, effective_from=clock.today(), source="误"
        )
        with pytest.raises(ValueError, match="worth"):
            policy.rules(hospital)


@pytest.mark.parametrize(
    ("townships", "sessions", "capacity", "floor"),
    [(0, 5, 20, (0, 0)), (5, 2, 20, (5, 2)), (5, 0, 20, (0, 0)), (9, 1, 10, (4, 1)), (1, 10, 20, (1, 1))],
)
def test_a_floor_is_shared_out_over_the_weeks_sessions(
    hospital: Institution, townships: int, sessions: float, capacity: int, floor: tuple[int, int]
) -> None:
    assert service.floor_of(policy.rules(hospital), townships, sessions, capacity) == floor


def test_accepting_changes_templates_and_sessions_from_the_day_on_and_nothing_before(
    hospital: Institution,
) -> None:
    template = wanted(make_department(hospital), grassroots=4, public=6)
    client, by = manager_of(hospital)
    with clock.at(NOW):
        schedule.make_sessions(clock.today(), 28, [hospital.pk])
        before, after, byhand = list(Session.objects.filter(starts_at__gt=NOW).order_by("starts_at"))[:3]
        Session.objects.filter(pk=byhand.pk).update(reserved_county=2, reserved_township=2)
        change = RosterChange.objects.create(
            template=template, day=after.starts_at.date() + dt.timedelta(weeks=2), off=True
        )
        service.refresh(hospital)
        row = Proposal.objects.get(state="open")
        url, day = reverse("quotas:proposal", args=[row.pk]), after.starts_at.astimezone(clock.ZONE).date()
        assert client.get(url).status_code == 200
        assert (
            client.post(url, {"decision": "accept", "from_day": clock.today().isoformat()}).status_code == 422
        )
        assert client.post(url, {"decision": "accept", "from_day": "morgen"}).status_code == 422
        assert client.post(url, {"decision": "decline"}).status_code == 422
        assert client.post(url, {}).status_code == 422
        assert client.post(url, {"decision": "accept", "from_day": day.isoformat()}).status_code == 302
        assert (
            client.post(url, {"decision": "accept", "from_day": day.isoformat()}).status_code == 302
        )  # a double click
        assert client.post(url, {"decision": "decline", "reason": "太多"}).status_code == 409
        assert client.get(url).status_code == 200
        template.refresh_from_db()
        new = Template.objects.exclude(pk=template.pk).get()
        assert (template.until, template.reserved_township) == (day, 1)
        assert (new.since, [new.reserved_county, new.reserved_township, new.reserved_village]) == (
            day,
            row.new,
        )
        change.refresh_from_db()
        assert change.template_id == new.pk
        for session, kept, made_by in ((before, 1, template), (after, row.new[1], new), (byhand, 2, new)):
            session.refresh_from_db()
            assert (session.reserved_township, session.template_id) == (kept, made_by.pk)
        count = Session.objects.count()
        schedule.make_sessions(clock.today(), 28, [hospital.pk])
        assert Session.objects.count() == count  # the new template makes none twice
        row.refresh_from_db()
        assert row.changed["templates"] == 1
    event = AuditEvent.objects.get(what=f"quotas proposal {row.pk} accepted")
    assert event.account_id == by.account_id


def test_who_may_decide_and_what_stands_in_the_way(hospital: Institution) -> None:
    template = wanted(make_department(hospital), grassroots=4, public=6)
    client, _ = manager_of(hospital)
    desk, _ = signed_in(roles.REFERRAL_DESK, hospital)
    stranger, _ = signed_in(roles.MANAGER, make_institution(kind="hospital"))
    with clock.at(NOW):
        assert client.post(reverse("quotas:refresh"), {"institution": hospital.pk}).status_code == 302
        row = Proposal.objects.get(state="open")
        url = reverse("quotas:proposal", args=[row.pk])
        tomorrow = {"decision": "accept", "from_day": (clock.today() + dt.timedelta(days=1)).isoformat()}
        assert desk.get(url).status_code == 200
        assert desk.post(url, tomorrow).status_code == 403
        assert desk.post(reverse("quotas:refresh"), {"institution": hospital.pk}).status_code == 403
        assert stranger.get(url).status_code == 404
        assert client.get(reverse("quotas:proposals")).context["rows"][0]["p"] == row
        assert client.get(reverse("quotas:proposals"), {"state": "x"}).status_code == 404
        Template.objects.filter(pk=template.pk).update(reserved_county=3, reserved_township=3)
        assert client.post(url, tomorrow).status_code == 409  # templates changed since
        assert client.post(url, {"decision": "decline", "reason": "科室不同意"}).status_code == 302
        row.refresh_from_db()
        assert (row.state, row.reason) == ("declined", "科室不同意")
        with pytest.raises(service.Refused):
            service.decide(Scope.system("test"), row.pk, True)
    assert Template.objects.count() == 1


def test_a_closed_door_at_which_nobody_knocked_hides_demand(hospital: Institution) -> None:
    template = wanted(make_department(hospital), grassroots=2, public=5)
    with clock.at(NOW):
        past = proposals.history(proposals.groups([hospital.pk])[0], dt.date(2026, 9, 1))
        assert len(past) == 6
        assert past[0].seen == ((5, False), (0, False), (2, False), (0, False))
        fitted = proposals.fit(past, 6, [1.0, 1.0, 2.0, 2.0])
        assert fitted.means == (5.0, 0.0, 2.0, 0.0)
        test = proposals.back_test(past, fitted.kept, 6, [1.0, 1.0, 2.0, 2.0])
        assert test.old.capacity == test.new.capacity == test.unseen.capacity == 36
        assert len(test.weeks) == 6
    assert proposals.raised((1, 1, 0), (3, 2), 2) == (2, 2, 2)
    assert isinstance(proposals.told(lw.Outcome())["served"], dict)
    assert template.capacity == 6
