"""The pages: answered in two taps, wrong words named, figures that open their calls, limits set by the office, the banner."""

from __future__ import annotations

import datetime as dt

import pytest
from django.template import Context, Template
from django.test import Client, RequestFactory
from django.urls import reverse

from lianxin.access.models import Account
from lianxin.regional.critical import limits, service
from lianxin.regional.critical.models import Attempt, Limit
from lianxin.standards import clock
from tests.critical import kit
from tests.factories import SmallCounty
from tests.reading import world

pytestmark = pytest.mark.django_db


def browser(county: SmallCounty, key: str) -> Client:
    """Signed in as the post called ``key``."""
    client = Client()
    client.force_login(Account.objects.get(pk=world.scope_of(county, key).account_id))
    return client


def test_answered_from_the_list_and_acted_on() -> None:
    county = kit.staffed()
    critical = kit.report(county, world.order(county, "gp0"))
    number = critical.case.number
    gp = browser(county, "gp0")
    body = gp.get(reverse("critical:list")).content.decode()
    assert number in body
    assert "6.8" not in body  # whoever answers has to look at it or be told
    url = reverse("critical:act", args=[number, "acknowledge"])
    assert gp.get(url).status_code == 302
    wrong = gp.post(url, {"readback": "8.6", "_key": "w"})
    assert wrong.status_code == 422
    assert "不一致" in wrong.content.decode()
    assert gp.post(url, {"readback": "", "_key": "w2"}).status_code == 422
    assert Attempt.objects.filter(critical=critical, outcome="WRONG_READBACK").count() == 1
    form = {"readback": "6.8", "_key": "r"}
    assert gp.post(url, form).status_code == 302
    assert gp.post(url, form).status_code == 302  # a double click
    assert gp.post(url, {"readback": "6.8", "_key": "r3"}).status_code == 409
    assert number in gp.get(reverse("critical:list"), {"tab": "act"}).content.decode()
    acted = {"action": "treated", "note": "已处理", "_key": "a"}
    assert gp.post(reverse("critical:act", args=[number, "act"]), acted).status_code == 302
    lab = browser(county, "lab0")
    assert number in lab.get(reverse("critical:list"), {"tab": "centre"}).content.decode()
    assert lab.post(reverse("critical:act", args=[number, "close"]), {"_key": "c"}).status_code == 302
    shown = lab.get(reverse("critical:show", args=[number])).content.decode()
    assert "已结案" in shown
    assert lab.get(reverse("critical:act", args=[number, "escalate"])).status_code == 404


def test_an_outsider_sees_nothing() -> None:
    county = kit.staffed()
    critical = kit.report(county, world.order(county, "gp0"))
    other = browser(county, "gp1")
    assert other.get(reverse("critical:show", args=[critical.case.number])).status_code == 404
    assert critical.case.number not in other.get(reverse("critical:list"), {"tab": "past"}).content.decode()
    assert browser(county, "system_admin").get(reverse("critical:list")).status_code == 403


def test_figures_open_their_calls() -> None:
    county = kit.staffed()
    gp, start = world.scope_of(county, "gp0"), clock.now() - dt.timedelta(hours=3)
    for minutes, value in ((3, "6.6"), (12, "6.9"), (60, "7.3")):
        with clock.at(start):
            critical = kit.report(county, world.order(county, "gp0"), value)
        with clock.at(start + dt.timedelta(minutes=minutes)):
            service.act(gp, critical.case.number, "acknowledge", {"readback": value}, None, f"k{minutes}")
    office = browser(county, "manager")
    body = office.get(reverse("critical:statistics")).content.decode()
    assert "33.3%" in body
    listed = office.get(
        reverse("critical:list"), {"tab": "past", "days": "30", "within": "late"}
    ).content.decode()
    assert listed.count("data-critical=") == 1
    assert critical.case.number in listed
    assert "7.3" not in listed  # the office follows cases, not values
    assert office.get(reverse("critical:list"), {"tab": "past", "within": "nonsense"}).status_code == 200


def test_the_office_sets_limits_from_a_day_on() -> None:
    county = kit.staffed()
    office = browser(county, "manager")
    url = reverse("critical:limit", args=["K"])
    today = clock.today().isoformat()
    good = {
        "below0": "2.8",
        "above0": "7",
        "below1": "2.5",
        "above1": "6.5",
        "below2": "3.0",
        "above2": "6.0",
        "from": today,
        "source": "医务〔2026〕3号",
    }
    for wrong in (
        {"above2": "abc"},
        {"below2": "7"},
        {"below2": "", "above2": ""},
        {"from": "2020-01-01"},
        {"from": ""},
        {"source": " "},
        {"above2": "-1"},
    ):
        assert office.post(url, good | wrong).status_code == 422
    assert Limit.objects.count() == 0
    assert office.post(url, good).status_code == 302
    assert office.post(url, good | {"above2": "6.1"}).status_code == 302
    assert Limit.objects.count() == 1
    hit = limits.check("K", "6.15", "mmol/L", age_days=9000, sex="male", institution_id=county.lead.pk)
    assert hit is not None
    assert hit.source == "医务〔2026〕3号"
    assert "本医共体" in office.get(reverse("critical:limits")).content.decode()
    assert office.get(reverse("critical:limit", args=["ECG-VF"])).status_code == 404
    assert browser(county, "gp0").get(url).status_code == 403
    assert browser(county, "gp0").get(reverse("critical:limits")).status_code == 200


def test_the_banner_stays_until_somebody_acted() -> None:
    county = kit.staffed()
    reading = world.order(county, "gp0")
    critical = kit.report(county, reading)
    number = critical.case.number

    def shown(key: str) -> str:
        request = RequestFactory().get("/")
        request.scope = world.scope_of(county, key)
        words = Template("{% load critical %}{% critical_banner person %}")
        return words.render(Context({"request": request, "person": reading.person_id}))

    assert "6.8" in shown("gp0")
    assert shown("gp1").strip() == ""
    gp = world.scope_of(county, "gp0")
    service.act(gp, number, "acknowledge", {"readback": "6.8"}, None, "b1")
    assert number in shown("gp0")
    service.act(gp, number, "act", {"action": "recheck", "note": "复查"}, None, "b2")
    assert shown("gp0").strip() == ""


def test_a_finding_is_chosen_from_the_list() -> None:
    county = kit.staffed()
    reader = world.scope_of(county, "reader0")
    critical = kit.report(
        county,
        world.order(county, "gp0"),
        "",
        "IMG-ICH",
        "",
        reader,
        source="reading",
        finding="急性颅内出血",
    )
    gp = browser(county, "gp0")
    assert "<select" in gp.get(reverse("critical:list")).content.decode()
    assert "张力性气胸" in gp.get(reverse("critical:show", args=[critical.case.number])).content.decode()
    url = reverse("critical:act", args=[critical.case.number, "acknowledge"])
    assert gp.post(url, {"readback": "脑疝", "_key": "1"}).status_code == 422
    assert gp.post(url, {"readback": "急性颅内出血", "_key": "2"}).status_code == 302
