"""The chest-pain channel: from the village to the wire, thrombolysis with its checklist, corrections, one open channel a person."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from lianxin.duty import machine
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Case, Duty
from lianxin.network.models import Capability
from lianxin.regional.ecg import service as ecg
from lianxin.regional.emergency import diagram, effects, forms, indicators, moves, rules, service
from lianxin.regional.emergency.models import Channel, Milestone
from lianxin.standards import clock
from tests.ecg import files, synthetic
from tests.factories import SINCE, SmallCounty
from tests.reading import world

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 11, 23, 9, 0, tzinfo=clock.ZONE)


def county_with_lab() -> SmallCounty:
    """The small county whose lead hospital has a cath lab."""
    county = world.make_world()
    Capability.objects.create(
        institution=county.lead, kind="procedure", code="PCI", name="急诊 PCI", since=SINCE
    )
    return county


def opened(county: SmallCounty, key: str = "x1", **form: Any) -> Channel:
    """Opened by a village doctor."""
    return service.start(
        world.scope_of(county, "village0"), world.make_person(), {"complaint": "胸痛半小时", **form}, key
    )


def state(channel: Channel) -> str:
    """Where it stands."""
    return str(Case.objects.unscoped("test").get(pk=channel.pk).state)


def due(channel: Channel, kind: str) -> dt.datetime:
    """When a duty is due."""
    return Duty.objects.unscoped("test").get(case_id=channel.pk, kind=kind, ended="").due_at


class Run:
    """Makes moves with one key each."""

    def __init__(self, county: SmallCounty, channel: Channel) -> None:
        self.county, self.channel, self.n = county, channel, 0

    def __call__(self, who: str, move: str, **form: Any) -> None:
        """One move."""
        self.n += 1
        service.act(
            world.scope_of(self.county, who),
            self.channel.case.number,
            move,
            form,
            None,
            f"r{self.channel.pk}:{self.n}",
        )


def test_from_the_village_to_the_wire() -> None:
    county = county_with_lab()
    with clock.at(NOW):
        channel = opened(county)
        run = Run(county, channel)
        assert due(channel, "ecg") == NOW + dt.timedelta(minutes=10)
    with clock.at(NOW + dt.timedelta(minutes=6)):
        run("village0", "ecg")
        assert due(channel, "diagnose") == NOW + dt.timedelta(minutes=16)
    with clock.at(NOW + dt.timedelta(minutes=11)):
        run("reader0", "diagnose")
    with clock.at(NOW + dt.timedelta(minutes=14)):
        run("clinician", "decide", strategy="pci", lab=str(county.lead.pk), travel="35")
    with clock.at(NOW + dt.timedelta(minutes=18)):
        run("clinician", "accept")
        assert due(channel, "lab") == NOW + dt.timedelta(minutes=48)
        assert due(channel, "depart") == NOW + dt.timedelta(minutes=30)
    with clock.at(NOW + dt.timedelta(minutes=25)):
        run("village0", "depart", transport="ambulance", travel="35")
        assert due(channel, "arrive") == NOW + dt.timedelta(minutes=60)
    with clock.at(NOW + dt.timedelta(minutes=62)):
        run("clinician", "lab_ready")
        run("clinician", "arrive", bypassed="on")
        assert due(channel, "wire") == NOW + dt.timedelta(minutes=120)
    with clock.at(NOW + dt.timedelta(minutes=95)):
        run("clinician", "wire")
        assert state(channel) == "treated"
    with clock.at(NOW + dt.timedelta(hours=3)):
        run("clinician", "close", outcome="reperfused")
    channel.refresh_from_db()
    assert (channel.live, channel.outcome, channel.bypassed) == (False, "reperfused", True)
    assert rules.intervals(forms.times(channel)) == {
        "fmc_ecg": 6, "ecg_diagnosed": 5, "dido": 25, "door_wire": 33, "fmc_wire": 95,
    }  # fmt: skip
    found = {i.name: i for i in indicators.indicators([channel], county.lead.pk)}
    assert (found["fmc_wire"].percent, found["door_wire"].median) == (100, 33)
    assert world.published("Encounter", channel.case.number)["status"] == "finished"
    assert world.published("Communication", f"{channel.case.number}-activate")["received"]


def test_a_far_village_is_advised_thrombolysis_and_the_checklist_binds() -> None:
    county = county_with_lab()
    with clock.at(NOW):
        channel = opened(county)
        run = Run(county, channel)
        run("village0", "ecg")
        run("reader0", "diagnose")
        with pytest.raises(Refused):
            run("clinician", "decide", strategy="pci", lab=str(county.lead.pk), travel="110")
        run("clinician", "decide", strategy="lysis", lab=str(county.lead.pk), travel="110")
        assert due(channel, "needle") == NOW + dt.timedelta(minutes=30)
        with pytest.raises(Refused):
            run("village0", "lyse", drug="阿替普酶 50 mg")
        with pytest.raises(Refused) as no:
            run("village0", "lyse", drug="阿替普酶 50 mg", gone_through="on", present=["ich"])
        assert "present" in no.value.errors
        with pytest.raises(Refused):
            run("village0", "lyse", drug="阿替普酶 50 mg", gone_through="on", present=["age75"])
        run(
            "village0",
            "lyse",
            drug="阿替普酶 50 mg",
            gone_through="on",
            present=["age75"],
            weighed="出血风险低，减量",
        )
        run("clinician", "assess", worked="no")
        assert state(channel) == "activated"
        run("clinician", "accept")
        run("village0", "depart", transport="ambulance")
    channel.refresh_from_db()
    assert channel.checklist["present"] == ["age75"]
    assert channel.lysis_worked is False


def test_a_correction_stands_beside_and_moves_the_clock() -> None:
    county = county_with_lab()
    with clock.at(NOW):
        channel = opened(county)
        run = Run(county, channel)
    with clock.at(NOW + dt.timedelta(minutes=5)):
        run("village0", "correct", code="fmc", at="2026-11-23 08:52", reason="手机时间慢了")
        assert due(channel, "ecg") == NOW + dt.timedelta(minutes=5)
        for bad in (
            {"code": "wire", "at": "2026-11-23 09:00"},
            {"code": "fmc", "at": "2026-11-23 09:30"},
            {"code": "fmc", "at": "2026-11-20 09:00"},
        ):
            with pytest.raises(Refused):
                run("village0", "correct", reason="试一试", **bad)
    rows = list(Milestone.objects.filter(channel=channel, code="fmc").order_by("version"))
    assert [(r.version, r.at.astimezone(clock.ZONE).minute) for r in rows] == [(1, 0), (2, 52)]


def test_a_confirmed_infarction_opens_the_channel_once() -> None:
    county = county_with_lab()
    person = world.make_person(sex="male", birth_date=dt.date(1960, 1, 1))
    data = files.csv(synthetic.ecg(st={"V1": 150, "V2": 300, "V3": 350}), at=clock.now())
    tracing = ecg.order_and_send(
        world.scope_of(county, "village0"), person, {"indication": "胸痛"}, "a.csv", data, "k1"
    )
    reader, _ = world.reader_of(county, "reader0", "ecg", ("ECG",))
    number = tracing.reading.case.number
    ecg.confirm(reader, number, "stemi")
    ecg.confirm(reader, number, "stemi")
    ecg.confirm(reader, number, "stemi_equivalent")
    channel = Channel.objects.unscoped("test").get(person_id=person)
    assert state(channel) == "confirmed"
    assert (channel.first_id, channel.centre_id, channel.lab_id, channel.reading_id) == (
        county.villages[0].pk,
        county.lead.pk,
        county.lead.pk,
        tracing.reading_id,
    )
    assert set(forms.times(channel)) == {"fmc", "ecg", "diagnosed"}
    with pytest.raises(Refused):
        service.start(world.scope_of(county, "village0"), person, {"complaint": "胸痛"}, "again")


def test_a_reader_confirms_what_the_village_opened() -> None:
    county = county_with_lab()
    channel = opened(county, "o1")
    data = files.csv(synthetic.ecg(st={"II": 250}), at=clock.now())
    tracing = ecg.order_and_send(
        world.scope_of(county, "village0"), channel.person_id, {"indication": "胸痛"}, "a.csv", data, "k2"
    )
    reader, _ = world.reader_of(county, "reader0", "ecg", ("ECG",))
    ecg.confirm(reader, tracing.reading.case.number, "stemi")
    assert state(channel) == "confirmed"
    channel.refresh_from_db()
    assert channel.reading_id == tracing.reading_id


def test_who_may_do_what() -> None:
    county = county_with_lab()
    channel = opened(county)
    run = Run(county, channel)
    with pytest.raises(NotAllowed):
        run("village2", "ecg")
    with pytest.raises(NotAllowed):
        run("village0", "diagnose")
    with pytest.raises(NotAllowed):
        run("village0", "stop", code="mistake", reason="点错了")
    with pytest.raises(Refused):
        opened(county, "x9", fmc_at="2099-01-01 10:00")
    run("clinician", "stop", code="dissection", reason="CTA 示主动脉夹层")
    channel.refresh_from_db()
    assert (channel.live, channel.stopped) == (False, "dissection")


def test_the_advice_by_time() -> None:
    now = NOW + dt.timedelta(minutes=20)
    times = {"fmc": NOW}
    assert rules.advise(times, now, travel=60, lab=30, within=120).strategy == "pci"
    assert rules.advise(times, now, travel=71, lab=30, within=120).strategy == "lysis"
    assert rules.advise(times | {"door": now}, now, travel=300, lab=30, within=120).expected == 50


def test_the_diagram_is_true() -> None:
    machine.get(moves.KIND).validate()
    page = Path(diagram.PAGE)
    assert page.read_text("utf-8") == diagram.page()
    assert set(effects._CLOCKS) <= {s.code for s in moves.STATES}
