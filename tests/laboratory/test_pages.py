"""The pages of both ends: the phone that collects, the desk that measures and verifies; strangers see nothing; bad input is said."""

from __future__ import annotations

import pytest
from django.test import Client

from lianxin.regional.laboratory import devices, diagram, labels, service
from lianxin.regional.laboratory.models import AutoRule, Control, Specimen
from tests.factories import SmallCounty
from tests.laboratory import world
from tests.reading.world import account_of

pytestmark = pytest.mark.django_db


def client(county: SmallCounty, who: str) -> Client:
    one = Client()
    one.force_login(account_of(county.posts[who]))
    return one


def test_the_documented_table_is_the_table() -> None:
    assert diagram.PAGE.read_text("utf-8") == diagram.page()


def test_from_the_phone_to_the_desk() -> None:
    county = world.make_world()
    phone, desk = client(county, "technician0"), client(county, "lab0")
    reading = world.order(county, "LAB-BMP")
    number, code = reading.case.number, reading.accession
    person = reading.person
    assert code in phone.get("/specimens").content.decode()
    assert phone.get("/specimens", {"q": code}).headers["Location"].endswith(f"/laboratory/cases/{number}")
    assert phone.get("/specimens", {"q": person.card_number}).status_code == 302
    assert phone.get("/specimens", {"q": "nobody"}).status_code == 200
    act = f"/laboratory/cases/{number}"
    assert phone.get(act).status_code == 200
    refused = phone.post(f"{act}/collect", {"identity": "asked", "volume_ml": "1", "_key": "c0"})
    assert refused.status_code == 422
    assert "容器" in refused.content.decode()
    good = {
        "identity": "scanned",
        "card": person.card_number,
        "volume_ml": "4",
        "container": "on",
        "_key": "c1",
    }
    assert phone.post(f"{act}/collect", good).status_code == 302
    assert phone.post(f"{act}/collect", good).status_code == 302  # a double click
    assert phone.post("/specimens/boxes", {"destination": "NOWHERE"}).status_code == 302
    box = phone.post("/specimens/boxes", {"destination": county.lead.code}).headers["Location"]
    assert phone.post(box, {"do": "pack", "tube": "X"}).status_code == 422
    assert phone.post(box, {"do": "pack", "tube": code}).status_code == 302
    assert phone.post(box, {"do": "log", "log": "abc"}).status_code == 422
    assert phone.post(box, {"do": "log", "log": "4.5"}).status_code == 302
    assert phone.post(box, {"do": "nothing"}).status_code == 404
    assert phone.post(box, {"do": "seal", "driver": "司机"}).status_code == 302
    assert world.state(reading) == "in_transit"
    assert phone.get(box).status_code == phone.get("/specimens/boxes").status_code == 200

    assert desk.post("/laboratory/receive", {"box": "NO"}).status_code == 422
    there = desk.post("/laboratory/receive", {"box": box.rpartition("/")[2]}).headers["Location"]
    assert code in desk.get(there).content.decode()
    assert desk.post(there, {"tubes": f"{code} X9"}).status_code == 422  # one of the two
    assert world.state(reading) == "received"
    values = {"v-K": "4.2", "v-NA": "abc", "v-CL": "103"}
    bad = desk.post(f"{act}/enter", values | {"_key": "e0"})
    assert bad.status_code == 422
    assert 'value="abc"' in bad.content.decode()
    rest = {"v-NA": "140", "v-CO2": "25", "v-CA": "2.3", "v-UREA": "5", "v-CREA": "80", "v-UA": "300"}
    assert desk.post(f"{act}/enter", values | rest | {"_key": "e1"}).status_code == 302
    assert world.state(reading) == "resulted"
    assert "4.20" not in client(county, "gp0").get(act).content.decode()  # not before it is verified
    assert desk.post(f"{act}/verify", {"a": ["K"], "_key": "v0"}).status_code == 409
    second = client(county, "lab1")
    shown = second.get(act).content.decode()
    seen = shown.partition('name="seen" value="')[2].partition('"')[0]
    assert second.post(f"{act}/verify", {"a": ["K"], "seen": "old", "_key": "v1"}).status_code == 422
    every = ["K", "NA", "CL", "CO2", "CA", "UREA", "CREA", "EGFR", "UA"]
    assert second.post(f"{act}/verify", {"a": every, "seen": seen, "_key": "v2"}).status_code == 302
    report = client(county, "gp0").get(act).content.decode()
    assert "4.20" in report
    assert "所检项目均在参考区间内" in report
    assert second.post(f"{act}/retract", {"a": ["K"], "reason": "", "_key": "r0"}).status_code == 422
    for name in ("measured", "by_rule", "order", "nonsense"):
        assert desk.post(f"{act}/{name}", {}).status_code == 404


def test_strangers_find_nothing() -> None:
    county = world.make_world()
    reading = world.received(county, "LAB-GLU")
    other, village = client(county, "technician1"), client(county, "desk")
    assert other.get(f"/laboratory/cases/{reading.case.number}").status_code == 404
    assert other.post(f"/laboratory/cases/{reading.case.number}/collect", {}).status_code == 404
    assert other.get("/specimens/labels.pdf", {"n": reading.accession}).status_code == 404
    box = Specimen.objects.unscoped("test").get(number=reading.accession).box
    assert box is not None
    assert other.get(f"/specimens/boxes/{box.number}").status_code == 404
    for path in (
        "/laboratory",
        "/laboratory/receive",
        "/laboratory/controls",
        "/laboratory/kept",
        "/laboratory/strays",
        "/laboratory/rules",
    ):
        assert village.get(path).status_code == 403, path


def test_controls_rules_strays_and_kept_tubes_on_their_pages() -> None:
    county = world.make_world()
    desk = client(county, "lab0")
    lot = {"analyte": "GLU", "level": "1", "lot": "A1", "mean": "5.0", "sd": "0.1", "allowed": "7"}
    for wrong in ({"sd": "0"}, {"mean": "x"}, {"lot": ""}, {"level": "9"}, {"analyte": "EGFR"}):
        assert desk.post("/laboratory/controls", lot | wrong).status_code == 422, wrong
    chart = desk.post("/laboratory/controls", lot).headers["Location"]
    assert desk.post("/laboratory/controls", lot).status_code == 422
    assert desk.post(chart, {"value": "5.05", "_key": "q1"}).status_code == 302
    assert desk.post(chart, {"value": "5.05", "_key": "q1"}).status_code == 302
    assert desk.post(chart, {"value": "9", "_key": "q2"}).status_code == 302
    assert desk.post(chart, {"value": "x", "_key": "q3"}).status_code == 422
    shown = desk.get(chart).content.decode()
    assert shown.count("<circle") == 2
    assert "1-3s" in shown
    control = Control.objects.get(lot="A1")
    measure = control.measures.latest("pk").pk
    assert (
        desk.post(
            chart, {"do": "correct", "measure": str(measure), "cause": "reagent", "action": ""}
        ).status_code
        == 422
    )
    assert (
        desk.post(
            chart, {"do": "correct", "measure": str(measure), "cause": "reagent", "action": "换试剂"}
        ).status_code
        == 302
    )
    assert desk.post("/laboratory/controls", lot | {"lot": "A2"}).status_code == 302
    control.refresh_from_db()
    assert control.closed_at is not None
    assert desk.post(chart, {"value": "5", "_key": "q4"}).status_code == 422  # a closed lot
    assert desk.get("/laboratory/controls").status_code == 200

    for wrong in (
        {"reason": ""},
        {"low": "9", "high": "1"},
        {"low": "x"},
        {"analyte": "NO"},
        {"analyte": "*", "low": "1"},
    ):
        assert (
            desk.post(
                "/laboratory/rules", {"analyte": "GLU", "on": "1", "reason": "验证"} | wrong
            ).status_code
            == 422
        ), wrong
    assert (
        desk.post(
            "/laboratory/rules", {"analyte": "GLU", "on": "1", "low": "4", "high": "6", "reason": "验证"}
        ).status_code
        == 302
    )
    assert AutoRule.objects.get().set_by
    assert "验证" in desk.get("/laboratory/rules").content.decode()

    devices.take(county.lead.pk, None, "LOST1", [{"test": "GLU", "raw": "5"}], "astm")
    assert "LOST1" in desk.get("/laboratory/strays").content.decode()
    assert desk.post("/laboratory/strays", {"stray": "1x", "note": "查"}).status_code == 422

    reading = world.received(county, "LAB-GLU")
    for path in (
        "/laboratory/kept",
        f"/laboratory/kept?q={reading.accession}",
        "/laboratory/kept?tab=over",
        "/laboratory/statistics?from=2020-01-01&to=bad",
        "/laboratory?tab=work",
    ):
        assert desk.get(path).status_code == 200, path
    assert (
        desk.post(
            "/laboratory/kept", {"do": "place", "tube": reading.accession, "position": "R1"}
        ).status_code
        == 302
    )
    assert (
        desk.post(
            "/laboratory/kept", {"do": "add", "tube": reading.accession, "item": ["LAB-CBC"]}
        ).status_code
        == 422
    )


def test_labels_are_paper_with_the_tubes_number() -> None:
    county = world.make_world()
    reading = world.order(county)
    answer = client(county, "technician0").get("/specimens/labels.pdf", {"n": [reading.accession, "X"]})
    assert answer.headers["Content-Type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF")
    assert service.reading_of(reading.case).accession in labels._code(reading.accession)
