"""Staff's pages of visits and appeals."""

from __future__ import annotations

import pytest
from django.test import Client

from lianxin.access.models import Account
from lianxin.access.scope import Scope
from lianxin.network import roles
from lianxin.network.models import Post
from lianxin.resident.booking import jobs, service
from lianxin.standards import clock
from tests.booking.world import at, make_hospital, make_person, make_session, resident, staff

pytestmark = pytest.mark.django_db


def browser(scope: Scope) -> Client:
    client = Client()
    client.force_login(Account.objects.get(pk=scope.account_id))
    assert Post.objects.filter(pk=scope.post_id).exists()
    return client


def test_missed_visits_are_confirmed_together_or_excused_and_an_appeal_is_decided() -> None:
    house = make_hospital()
    desk, manager = staff(house.institution, roles.RECEPTION), staff(house.institution, roles.MANAGER)
    session, people = make_session(house), [make_person("测试甲"), make_person("测试乙")]
    with clock.at(at(2, 9)):
        visits = [service.book(resident(p), session.pk, p, f"k{p}") for p in people]
    page = browser(desk)
    with clock.at(at(5, 13)):
        shown = page.get(f"/pools/visits/{visits[0].case.number}")
        assert "登记到诊" in shown.content.decode()
        jobs.mark_missed()
        listed = page.get("/pools/appeals")
        assert "测试甲" in listed.content.decode()
        refused = page.post(f"/pools/visits/{visits[0].case.number}/excuse", {"reason": ""})
        assert refused.status_code == 422
        done = page.post(f"/pools/visits/{visits[0].case.number}/excuse", {"reason": "下雪封路", "_key": "x"})
        assert done.status_code == 302
        assert page.post("/pools/appeals/confirm", {"day": "2026-11-05"}).status_code == 302
        assert page.post("/pools/appeals/confirm", {"day": "x"}).status_code == 404
        assert service.get(desk, visits[1].case.number).case.state == "no_show"
        assert page.post(f"/pools/visits/{visits[1].case.number}/excuse", {"reason": "晚"}).status_code == 409
        appeal = service.appeal(resident(people[1]), people[1], "当日住院", "a")
        for tab in ("appeals", "bars", "past"):
            assert page.get("/pools/appeals", {"tab": tab}).status_code == 200
        office = browser(manager)
        assert "当日住院" in office.get(f"/pools/appeals/{appeal.case.number}").content.decode()
        assert office.post(f"/pools/appeals/{appeal.case.number}/grant", {"words": ""}).status_code == 422
        assert office.post(f"/pools/appeals/{appeal.case.number}/grant", {"words": "属实"}).status_code == 302
        assert service.standing(people[1]).misses == 0


def test_another_institution_sees_nothing() -> None:
    house, other = make_hospital(), make_hospital()
    session, person = make_session(house), make_person("测试丙")
    with clock.at(at(2, 9)):
        visit = service.book(resident(person), session.pk, person, "k")
    page = browser(staff(other.institution, roles.RECEPTION))
    with clock.at(at(5, 13)):
        jobs.mark_missed()
        assert "测试丙" not in page.get("/pools/appeals").content.decode()
        assert page.get(f"/pools/visits/{visit.case.number}").status_code == 404
    assert Client().get("/pools/appeals").status_code == 302
    assert browser(staff(other.institution, roles.PHARMACIST)).get("/pools/appeals").status_code == 403
