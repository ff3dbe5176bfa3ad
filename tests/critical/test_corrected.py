"""A result that was called is corrected: the open call shows it and whoever had it is told; the banner stands on the reader's page."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from lianxin.access.models import Account
from lianxin.duty.models import Notice
from lianxin.regional.critical.models import Critical, Note
from lianxin.regional.reading import service
from tests.critical import kit
from tests.laboratory import world as laboratory
from tests.reading import world

pytestmark = pytest.mark.django_db


def notes(critical: Critical) -> list[tuple[str, str]]:
    """What became known after the call, and why."""
    rows = Note.objects.filter(critical=critical, kind="corrected").order_by("pk")
    return list(rows.values_list("value", "reason"))


def test_a_retracted_value_is_shown_at_its_call_and_again_when_it_is_replaced() -> None:
    county = laboratory.make_world()
    reading = laboratory.received(county, "LAB-GLU")
    laboratory.measured(reading, GLU="1.9")
    laboratory.act(county, "lab0", reading, "verify", notified="1")
    laboratory.act(county, "lab1", reading, "confirm", notified="1")
    call = Critical.objects.unscoped("test").get(source_case_id=reading.pk)
    laboratory.act(county, "lab0", reading, "retract", analytes="GLU", reason="标本混淆")
    assert notes(call) == [("已撤回，待更正", "标本混淆")]
    laboratory.enter(county, reading, who="lab1", GLU="5.1")
    laboratory.act(county, "lab0", reading, "verify")
    assert notes(call) == [("已撤回，待更正", "标本混淆"), ("5.10", "标本混淆")]
    assert kit.state(call) == "notified"  # the call itself stays until somebody has answered it
    assert Notice.objects.filter(case_id=call.pk, text_zh__contains="已更正").exists()


def test_an_amended_report_is_shown_at_its_call() -> None:
    county = kit.staffed()
    reading = world.queued(county, priority="emergency")
    number = reading.case.number
    scope, _ = world.reader_of(county, "reader0")
    got = service.claim(scope, "imaging")
    assert got
    call = kit.report(
        county, reading, "脑出血", "CT-ICH", "", by=scope, source="reading", finding="脑出血", limit=""
    )
    other = kit.report(county, world.order(county, "gp0", person=reading.person_id), "6.8")
    page = Client()
    page.force_login(Account.objects.get(pk=scope.account_id))
    body = page.get(reverse("reading:show", args=[number])).content.decode()
    assert f'data-critical="{call.case.number}"' in body
    world.write(scope, got[1], reading)
    service.act(scope, number, "sign", {}, None, "s")
    form = {"findings": "未见高密度影。", "conclusion": "未见出血，原为钙化。", "reason": "误判"}
    service.act(scope, number, "amend", form, None, "a")
    service.act(scope, number, "amend", form, None, "a")  # a double click
    assert notes(call) == [("未见出血，原为钙化。", "误判")]
    assert notes(other) == []
