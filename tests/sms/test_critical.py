"""Messages of critical values: stored once, sent at night, without value, finding or name; what cannot go counts as not told."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.access import seal
from lianxin.network.models import Practitioner
from lianxin.regional.critical.models import Attempt
from lianxin.resident.sms import composing, critical
from lianxin.resident.sms.models import Gateway, Message
from lianxin.standards import clock
from tests.critical import kit
from tests.reading import world

pytestmark = pytest.mark.django_db
PHONE = "13800001112"


def test_without_a_gateway_or_a_mobile_number_nothing_is_said_to_be_sent() -> None:
    assert not critical.send(PHONE, "staff", "WJ1", "k")
    Gateway.objects.create(kind="kept")
    assert not critical.send("0971-6123456", "staff", "WJ1", "k")
    assert not Message.objects.exists()
    assert critical.send(PHONE, "staff", "WJ1", "k")
    assert critical.send(PHONE, "staff", "WJ1", "k")  # asked again: the same message
    assert Message.objects.count() == 1


@pytest.mark.parametrize("kind", ["staff", "patient"])
@pytest.mark.parametrize("language", ["zh-hans", "en"])
def test_the_words_carry_no_name_and_no_finding(kind: str, language: str) -> None:
    shape = composing.template(critical.TEMPLATES[kind])
    assert shape.urgent
    assert shape.places <= {"number"}
    assert composing.compose(shape, {"number": "WJ26"}, language)


def test_a_call_at_night_reaches_doctor_and_patient_by_message() -> None:
    county = kit.staffed()
    Gateway.objects.create(kind="kept")
    Practitioner.objects.update(phone=PHONE)
    person = world.make_person("祁玉莲", phone_sealed=seal.seal("13900002223"))
    with clock.at(kit.NIGHT):
        reading = world.order(county, "village0", person=person, performer=county.villages[0])
        found = kit.report(county, reading)
        assert found.orderer_id == county.villages[0].pk
    texts = {m.template: (seal.unseal(m.text_sealed), m.next_at) for m in Message.objects.all()}
    assert set(texts) == {"critical_staff", "critical_patient"}
    for words, due in texts.values():
        assert due == kit.NIGHT  # not kept until the morning
        assert not any(x in words for x in ("6.8", "血钾", "祁", "钾"))
    assert found.case.number in texts["critical_staff"][0]
    assert "SENT" in Attempt.objects.filter(critical=found, channel="sms").values_list("outcome", flat=True)
    with clock.at(kit.NIGHT + dt.timedelta(minutes=1)):
        kit.report(county, reading, key="again")  # the same value seen again: nobody is told twice
    assert Message.objects.count() == len(Message.objects.values("key").distinct())
