"""The system administrator's pages of subscriptions."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client as Browser

from lianxin.access.models import AuditEvent, Client
from lianxin.exchange.subscriptions.models import Subscription, SubscriptionEvent
from lianxin.standards import clock
from tests.exchange import smart_world as w
from tests.factories import make_institution, make_post
from tests.referral import world as worlds

pytestmark = pytest.mark.django_db


def signed(role: str) -> Browser:
    return w.signed_in(worlds.account_for(make_post(make_institution("SYS", "hospital"), role)))


@pytest.fixture
def admin() -> Browser:
    return signed("system_admin")


def make(**more: Any) -> Subscription:
    client, _ = Client.objects.get_or_create(name="检验系统")
    values: dict[str, Any] = {
        "fhir_id": f"s{Subscription.objects.count()}", "version": 1, "client": client, "smart": "system/*.rs", "base": "http://t/fhir",
        "form": "plain", "rtypes": ["Observation"], "criteria": "Observation?code=8480-6", "filters": [["Observation", [["code", "8480-6"]]]],
        "endpoint": "https://lis.example.org/hook", "payload": "application/fhir+json", "content": "full-resource", "timeout": 15,
        "max_count": 20, "status": "active", "since_rid": 1, "read_rid": 1, "created_at": clock.now(),
    }  # fmt: skip
    return Subscription.objects.create(**{**values, **more})


def event(one: Subscription, number: int, **more: Any) -> SubscriptionEvent:
    values: dict[str, Any] = {
        "rid": number, "rtype": "Observation", "resource_id": f"o{number}", "version": 1, "interaction": "create",
        "happened_at": clock.now() - dt.timedelta(hours=10 - number),
    }  # fmt: skip
    return SubscriptionEvent.objects.create(subscription=one, number=number, **{**values, **more})


def test_the_list_shows_state_backlog_and_trouble(admin: Browser) -> None:
    good = make()
    bad = make(
        failures=3, not_before=clock.now(), last_error="接收方应答 HTTP 500\nThe receiver answered HTTP 500"
    )
    make(status="off", criteria="Encounter?status=finished")
    make(
        form="topic", criteria="http://lianxin.example/SubscriptionTopic/patient-changed", status="requested"
    )
    event(bad, 1)
    event(bad, 2)
    page = admin.get("/manage/subscriptions").content.decode()
    assert "连续失败 3 次" in page
    assert "接收方应答 HTTP 500" in page
    assert "患者信息变化" in page
    assert "Encounter?status=finished" not in page
    assert "Encounter?status=finished" in admin.get("/manage/subscriptions?state=off").content.decode()
    trouble = admin.get("/manage/subscriptions?state=trouble").content.decode()
    assert f"/manage/subscriptions/{bad.pk}" in trouble
    assert f'/manage/subscriptions/{good.pk}"' not in trouble
    assert "没有订阅" in admin.get("/manage/subscriptions?q=zzz").content.decode()
    english = admin.get("/manage/subscriptions", headers={"accept-language": "en"}).content.decode()
    assert "The receiver answered HTTP 500" in english


def test_one_shows_its_events_and_what_may_be_done(admin: Browser) -> None:
    one = make(headers="sealed", events=3)
    event(one, 1, status="sent", sent_at=clock.now(), size=2048, attempts=1)
    event(one, 2, status="withheld")
    event(one, 3, attempts=2, error="连接失败\nThe connection failed")
    page = admin.get(f"/manage/subscriptions/{one.pk}").content.decode()
    for words in ("Observation/o1", "2.0", "不予发送", "连接失败", "带专用报头", "重发", "暂停发送"):
        assert words in page, words
    assert "sealed" not in page
    waiting = admin.get(f"/manage/subscriptions/{one.pk}?status=waiting").content.decode()
    assert "Observation/o3" in waiting
    assert "Observation/o1" not in waiting
    assert admin.get("/manage/subscriptions/999999").status_code == 404


def test_pause_resume_retry_and_replay(admin: Browser) -> None:
    one = make(failures=2, not_before=clock.now() + dt.timedelta(minutes=9), slow=True)
    for number in (1, 2, 3):
        event(one, number, status="sent")

    def press(what: str, **form: str) -> str:
        answer = admin.post(f"/manage/subscriptions/{one.pk}/{what}", form, follow=True)
        one.refresh_from_db()
        return answer.content.decode()

    assert "已暂停发送" in press("pause")
    assert one.paused
    assert "已恢复发送" in press("resume")
    assert not one.paused
    assert "马上重试" in press("retry")
    assert (one.failures, one.not_before, one.slow) == (0, None, False)
    assert "2 个事件" in press("replay", number="2")
    assert list(SubscriptionEvent.objects.order_by("number").values_list("status", flat=True)) == [
        "sent",
        "waiting",
        "waiting",
    ]
    since = (clock.now() - dt.timedelta(hours=9, minutes=30)).strftime("%Y-%m-%dT%H:%M")
    assert "从第 1 号起" in press("replay", since=since)
    for form in ({}, {"number": "99"}, {"number": "x"}, {"since": "tomorrow"}, {"since": "2099-01-01T00:00"}):
        assert "没有可重发的事件" in press("replay", **form), form
    assert admin.post(f"/manage/subscriptions/{one.pk}/spy").status_code == 404
    assert admin.get(f"/manage/subscriptions/{one.pk}/pause").status_code == 405
    assert AuditEvent.objects.filter(action="admin", what=f"Subscription/{one.fhir_id}").count() == 5


@pytest.mark.parametrize("role", ["gp", "security_admin", "audit_admin", "manager"])
def test_others_are_refused(role: str) -> None:
    one = make()
    browser = signed(role)
    assert browser.get("/manage/subscriptions").status_code == 403
    assert browser.get(f"/manage/subscriptions/{one.pk}").status_code == 403
    assert browser.post(f"/manage/subscriptions/{one.pk}/pause").status_code == 403
