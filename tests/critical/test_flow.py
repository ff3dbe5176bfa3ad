"""A critical value from the laboratory to the doctor: told, read back, acted on, closed; every attempt a row."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import Error, connection, transaction

from lianxin.access import seal
from lianxin.duty import machine
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Duty, Notice
from lianxin.network.models import Post
from lianxin.regional.critical import chores, diagram, hooks, service
from lianxin.regional.critical.models import Attempt, Critical
from lianxin.standards import clock
from tests.critical import kit
from tests.reading import world

pytestmark = pytest.mark.django_db


def test_the_table_is_sound() -> None:
    machine.get("critical").validate()


def test_from_detection_to_the_end() -> None:
    county = kit.staffed()
    with clock.at(kit.DAY):
        reading = world.order(county, "gp0")
        critical = kit.report(county, reading)
        number = critical.case.number
        assert kit.state(critical) == "notified"
        duty = Duty.objects.unscoped("test").get(case_id=critical.pk, ended="")
        gp = world.scope_of(county, "gp0")
        assert (duty.kind, duty.owner_institution_id, duty.owner_account_id) == (
            "acknowledge",
            county.townships[0].pk,
            gp.account_id,
        )
        assert duty.due_at == kit.DAY + dt.timedelta(minutes=5)
        told = Notice.objects.filter(case_id=critical.pk, account_id=gp.account_id).get()
        assert "6.8" not in told.text_zh  # notices carry no value
        assert service.open_of(reading.person_id) == [critical]
    with clock.at(kit.DAY + dt.timedelta(minutes=2)):
        with pytest.raises(Refused, match="不一致"):
            service.act(gp, number, "acknowledge", {"readback": "8.6"}, None, "wrong1")
        with pytest.raises(Refused):
            service.act(gp, number, "acknowledge", {"readback": "8.6"}, None, "wrong1")
        assert kit.state(critical) == "notified"
        service.act(gp, number, "acknowledge", {"readback": "６.80 mmol/L"}, None, "right")
    critical = kit.again(critical)
    assert (critical.acknowledged_by, critical.readback) == (gp.name, "６.80 mmol/L")
    outcomes = list(
        Attempt.objects.filter(critical=critical).order_by("pk").values_list("channel", "outcome")
    )
    assert outcomes == [("page", "SENT"), ("page", "WRONG_READBACK"), ("page", "CONFIRMED")]
    with clock.at(kit.DAY + dt.timedelta(minutes=9)):
        lab = world.scope_of(county, "lab0")
        with pytest.raises(NotAllowed):
            service.act(lab, number, "close", {}, None, "early")  # nobody has acted yet
        service.act(gp, number, "act", {"action": "treated", "note": "葡萄糖酸钙静推，转上级"}, None, "act")
        service.act(lab, number, "close", {"note": "复查 5.1"}, None, "close")
    assert kit.state(critical) == "closed"
    assert service.open_of(reading.person_id) == []
    assert world.published("Communication", number)["status"] == "completed"
    assert world.published("Communication", number)["received"].startswith("2026-11-24T10:02")
    assert world.published("Flag", f"{number}-flag")["status"] == "inactive"


def test_nobody_answers_and_it_climbs_by_the_clock() -> None:
    county = kit.staffed()
    with clock.at(kit.DAY):
        critical = kit.report(county, world.order(county, "gp0"))
        assert chores.climb() == 0
    levels = []
    for minutes in (4, 5, 7, 10, 12, 15, 40):
        with clock.at(kit.DAY + dt.timedelta(minutes=minutes)):
            chores.climb()
            levels.append(kit.again(critical).level)
    assert levels == [0, 1, 1, 2, 2, 3, 3]
    rows = Attempt.objects.filter(critical=critical, channel="page").order_by("pk")
    first, second = rows[0], rows[1]
    assert (first.level, second.level) == (0, 1)
    assert first.recipient_account_id != second.recipient_account_id
    assert rows.filter(level=3, institution=county.lead).exists()
    critical = kit.again(critical)
    assert critical.county_id == county.lead.pk
    duties = Duty.objects.unscoped("test").filter(case_id=critical.pk, ended="")
    assert set(duties.values_list("kind", flat=True)) == {"acknowledge", "phone"}
    number = critical.case.number
    lab = world.scope_of(county, "lab0")
    with clock.at(kit.DAY + dt.timedelta(minutes=41)):
        service.act(lab, number, "call", {"outcome": "UNABLE_TO_REACH", "recipient": "全科值班"}, None, "c1")
        assert duties.filter(kind="phone").count() == 0  # a call was made
        with pytest.raises(Refused):
            service.act(
                lab,
                number,
                "call",
                {"outcome": "CONFIRMED", "recipient": "王医生 全科", "heard": "8.8"},
                None,
                "c2",
            )
        with pytest.raises(Refused):
            service.act(
                lab, number, "call", {"outcome": "CONFIRMED", "recipient": "", "heard": ""}, None, "c3"
            )
        service.act(
            lab,
            number,
            "call",
            {"outcome": "CONFIRMED", "recipient": "王医生 全科", "heard": "6.8"},
            None,
            "c4",
        )
    assert kit.state(critical) == "acknowledged"
    phoned = Attempt.objects.filter(critical=critical, channel="phone").order_by("pk")
    assert list(phoned.values_list("outcome", flat=True)) == [
        "UNABLE_TO_REACH",
        "WRONG_READBACK",
        "CONFIRMED",
    ]


def test_a_village_at_night_goes_to_the_team_the_county_and_the_patient() -> None:
    county = kit.staffed()
    sent: list[tuple[str, str]] = []

    def sender(phone: str, kind: str, number: str, key: str) -> bool:
        sent.append((phone, kind))
        return True

    hooks.register_sender(sender)
    try:
        person = world.make_person(phone_sealed=seal.seal("13900000000"), phone_tail="0000")
        with clock.at(kit.NIGHT):
            critical = kit.report(
                county, world.order(county, "village0", person=person, performer=county.villages[0])
            )
    finally:
        hooks.forget_sender(sender)
    critical = kit.again(critical)
    assert (critical.team_id, critical.county_id) == (county.townships[0].pk, county.lead.pk)
    duty = Duty.objects.unscoped("test").get(case_id=critical.pk, ended="")
    assert duty.owner_institution_id == county.townships[0].pk
    assert ("13900000000", "patient") in sent
    assert Attempt.objects.filter(
        critical=critical, recipient__startswith="患者本人", outcome="SENT"
    ).exists()
    family = world.scope_of(county, "family0")
    service.act(family, critical.case.number, "acknowledge", {"readback": "6.8"}, None, "n1")
    assert kit.again(critical).acknowledged_at_institution_id in {
        county.townships[0].pk,
        county.villages[0].pk,
    }


def test_a_village_by_day_answers_itself() -> None:
    county = kit.staffed()
    with clock.at(kit.DAY):
        critical = kit.report(county, world.order(county, "village0", performer=county.villages[0]))
    duty = Duty.objects.unscoped("test").get(case_id=critical.pk, ended="")
    assert duty.owner_institution_id == county.villages[0].pk
    assert kit.again(critical).county_id is None


def test_the_same_value_is_one_call_and_a_worse_one_is_another() -> None:
    county = kit.staffed()
    with clock.at(kit.DAY):
        reading = world.order(county, "gp0")
        one = kit.report(county, reading, "6.8", key="a")
        assert kit.report(county, reading, "6.8", key="a") == one
        assert kit.report(county, reading, "6.80", key="b") == one
        assert kit.report(county, reading, "6.5", key="c") == one  # milder while unanswered: noted there
        assert kit.report(county, reading, "6.5", key="c") == one
        worse = kit.report(county, reading, "7.2", key="d")
        low = kit.report(county, reading, "2.1", key="e")
    assert len({one.pk, worse.pk, low.pk}) == 3
    assert one.notes.filter(kind="seen").count() == 2
    gp = world.scope_of(county, "gp0")
    with clock.at(kit.DAY + dt.timedelta(minutes=1)):
        service.act(gp, worse.case.number, "acknowledge", {"readback": "7.2"}, None, "k")
        service.act(gp, one.case.number, "acknowledge", {"readback": "6.8"}, None, "k1")
        later = kit.report(county, reading, "6.6", key="f")  # after the answer a new value is a new call
    assert later.pk not in {one.pk, worse.pk, low.pk}


def test_a_later_correction_never_erases_the_call() -> None:
    county = kit.staffed()
    critical = kit.report(county, world.order(county, "gp0"))
    lab = world.scope_of(county, "lab0")
    told = {
        "source": "laboratory",
        "case_id": critical.source_case_id,
        "code": "K",
        "unit": "mmol/L",
        "reason": "溶血，重测",
    }
    assert service.corrected(lab, value="4.4", key="c1", **told) == 1
    assert service.corrected(lab, value="4.4", key="c1", **told) == 1
    critical = kit.again(critical)
    assert (critical.value, kit.state(critical)) == ("6.8", "notified")
    assert [n.value for n in critical.notes.filter(kind="corrected")] == ["4.4"]
    gp = world.scope_of(county, "gp0")
    service.act(gp, critical.case.number, "acknowledge", {"readback": "6.8"}, None, "k")
    assert "4.4" in world.published("Communication", critical.case.number)["note"][-1]["text"]


def test_the_database_keeps_snapshot_and_attempts() -> None:
    county = kit.staffed()
    critical = kit.report(county, world.order(county, "gp0"))
    statements = [
        "UPDATE critical_critical SET value = '4.0'",
        "DELETE FROM critical_critical",
        "UPDATE critical_attempt SET outcome = 'CONFIRMED', heard = 'x'",
        "DELETE FROM critical_attempt",
        "UPDATE critical_critical SET live = false, closed_at = now()",
    ]
    for statement in statements:
        with pytest.raises(Error), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    assert Critical.objects.unscoped("test").get(pk=critical.pk).value == "6.8"


def test_a_finding_in_words_is_read_back_in_words() -> None:
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
    gp = world.scope_of(county, "gp0")
    with pytest.raises(Refused):
        service.act(gp, critical.case.number, "acknowledge", {"readback": "脑梗死"}, None, "k1")
    service.act(gp, critical.case.number, "acknowledge", {"readback": " 急性 颅内出血"}, None, "k2")
    assert kit.state(critical) == "acknowledged"


def test_bad_reports_are_refused() -> None:
    county = kit.staffed()
    reading = world.order(county, "gp0")
    with pytest.raises(Refused):
        kit.report(county, reading, "长" * 61)
    with pytest.raises(Refused):
        kit.report(county, reading, code="", finding="x")
    with pytest.raises(ValueError, match="come from"):
        kit.report(county, reading, source="kitchen")
    with pytest.raises(NotAllowed):
        kit.report(county, reading, by=world.scope_of(county, "gp1"))  # not the centre


def test_an_institution_without_anybody_to_answer_leaves_the_call_with_the_centre() -> None:
    county = world.make_world("WN")
    reading = world.order(county, "surgeon")
    county.posts["surgeon"].practitioner.posts.update(until=dt.date(2021, 1, 1))
    Post.objects.filter(institution=county.lead, role__in=["clinician", "ward", "gp"]).update(
        until=dt.date(2021, 1, 1)
    )
    critical = kit.report(county, reading)
    assert kit.state(critical) == "detected"
    assert Attempt.objects.get(critical=critical).outcome == "UNABLE_TO_REACH"
    duty = Duty.objects.unscoped("test").get(case_id=critical.pk, ended="")
    assert (duty.kind, duty.owner_role) == ("notify", "laboratory")
    lab = world.scope_of(county, "lab0")
    service.act(
        lab,
        critical.case.number,
        "call",
        {"outcome": "REACHED_NO_READBACK", "recipient": "总值班"},
        None,
        "k",
    )
    assert kit.state(critical) == "notified"


def test_the_diagram_is_the_table() -> None:
    assert diagram.PAGE.read_text("utf-8") == diagram.page(), (
        "run python -m lianxin.regional.critical.diagram"
    )
