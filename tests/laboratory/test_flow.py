"""From the order in the village to the acknowledged report, and everything that may happen to a tube on the way."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Duty
from lianxin.regional.laboratory import results, service, transport
from lianxin.regional.laboratory.models import Result, Specimen, Verification
from lianxin.regional.reading import reports
from lianxin.regional.reading.models import Item, Report
from lianxin.standards import clock
from tests.laboratory import world

pytestmark = pytest.mark.django_db


def test_from_the_village_to_the_acknowledged_report() -> None:
    county = world.make_world()
    reading = world.order(county, "LAB-BMP", "LAB-LFT")
    assert reading.case.number.startswith("JY")
    assert world.tube(reading).number == reading.accession
    box = world.sent(county, reading)
    assert world.state(reading) == "in_transit"
    _, done, why = service.receive_box(
        world.scope_of(county, "lab0"), box, [world.tube(reading).number, "X1"], world.key()
    )
    assert (done, list(why)) == ([reading.accession], ["X1"])
    world.enter(
        county, reading, K="4.2", NA="140", CL="103", CO2="25", CA="2.3", UREA="5", CREA="80", UA="300"
    )
    assert world.state(reading) == "in_analysis"
    world.enter(
        county, reading, ALT="80", AST="30", ALP="70", GGT="30", TBIL="12", DBIL="4", TP="72", ALB="44"
    )
    assert world.state(reading) == "resulted"
    have = world.values(reading)
    assert (have["EGFR"], have["AG"], have["GLOB"], have["IBIL"]) == ("100", "1.57", "28.0", "8.0")
    with pytest.raises(NotAllowed):
        world.act(county, "lab0", reading, "verify")  # their own
    world.act(county, "lab1", reading, "verify")
    assert world.state(reading) == "issued"
    report = reports.issued(service.reading_of(reading.case))
    assert report is not None
    assert "丙氨酸氨基转移酶↑" in report.conclusion
    number = reading.case.number
    found = world.published("DiagnosticReport", number)
    assert (found["status"], len(found["result"])) == ("final", 20)
    one = world.published("Observation", f"{number}-alt")
    assert one["valueQuantity"] == {
        "value": 80,
        "unit": "U/L",
        "system": "http://unitsofmeasure.org",
        "code": "U/L",
    }
    assert one["interpretation"][0]["coding"][0]["code"] == "H"
    assert one["referenceRange"][0]["high"]["value"] == 50
    assert world.published("Observation", f"{number}-egfr")["derivedFrom"] == [
        {"reference": f"Observation/{number}-crea"}
    ]
    assert world.published("Specimen", f"{number}-s1")["collection"]["quantity"]["value"] == 10
    assert world.published("Task", f"{number}-lab")["status"] == "completed"
    world.act(county, "gp0", reading, "acknowledge", note="已告知")
    assert world.state(reading) == "acknowledged"


def test_one_request_one_kind_of_specimen() -> None:
    county = world.make_world()
    with pytest.raises(Refused):
        world.order(county, "LAB-CBC", "LAB-BMP")
    with pytest.raises(Refused):
        world.order(county, "CT-HEAD")


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"volume_ml": "0.5"}, "volume_ml"),
        ({"container": ""}, "container"),
        ({"identity": "scanned", "card": ""}, "card"),
        ({"identity": "scanned", "card": "9999999999"}, "card"),
        ({"collected_at": "2999-01-01 00:00"}, "collected_at"),
        ({"pregnant_weeks": "12"}, "pregnant_weeks"),
    ],
)
def test_a_collection_that_cannot_be_is_refused(form: dict[str, str], field: str) -> None:
    county = world.make_world()
    reading = world.order(county)
    with pytest.raises(Refused) as refused:
        world.collect(county, reading, **form)
    assert field in refused.value.errors
    assert world.state(reading) == "ordered"


def test_a_refused_tube_goes_back_and_the_next_has_its_own_number() -> None:
    county = world.make_world()
    reading = world.received(county, "LAB-BMP")
    first = world.tube(reading)
    world.enter(county, reading, K="9.8")
    world.act(county, "lab0", reading, "refuse", code="haemolysed", reason="重度溶血")
    assert world.state(reading) == "recollect"
    duty = Duty.objects.unscoped("test").get(case_id=reading.pk, ended="")
    assert (duty.kind, duty.owner_institution_id) == ("recollect", county.townships[0].pk)
    assert world.values(reading) == {}
    assert Result.objects.unscoped("test").get(reading=reading).state == "retracted"
    box = world.sent(county, reading)
    second = world.tube(reading)
    assert (second.number, second.attempt) == (f"{reading.accession}-2", 2)
    _, done, why = service.receive_box(world.scope_of(county, "lab0"), box, [first.number], world.key())
    assert (done, list(why)) == ([], [first.number])  # the refused tube again
    _, done, _ = service.receive_box(world.scope_of(county, "lab0"), box, [second.number], world.key())
    assert done == [second.number]
    assert transport.missing(transport.box_of(world.scope_of(county, "lab0"), box)) == []


def test_too_late_and_too_warm_is_refused_at_receipt() -> None:
    county = world.make_world()
    late, warm = world.order(county, "LAB-COAG"), world.order(county, "LAB-CBC")
    lab = world.scope_of(county, "lab0")
    start = clock.now()
    box = world.sent(county, late)
    other = world.sent(county, warm)
    with clock.at(start + dt.timedelta(hours=4, minutes=30)):
        _, done, why = service.receive_box(lab, box, [late.accession], world.key())
        assert done == []
        assert "4" in str(why[late.accession])
        world.act(county, "lab0", late, "refuse", code="too_late")
        said = "\n".join(
            f"{start + dt.timedelta(minutes=m):%Y-%m-%d %H:%M},{c}"
            for m, c in ((1, "5.0"), (60, "31.5"), (90, "6"))
        )
        readings = transport.parse_log(said)
        assert transport.log(lab, other, readings) == 3
        assert transport.log(lab, other, readings) == 0
        _, done, why = service.receive_box(lab, other, [warm.accession], world.key())
        assert (done, len(why)) == ([], 1)
    assert world.state(late) == "recollect"


@pytest.mark.parametrize(
    "text", ["abc", "2026-13-01 10:00, 4", "2999-01-01 10:00,4", "4,5,6", "2026-01-02 10:00, 900"]
)
def test_a_log_that_cannot_be_read_names_its_line(text: str) -> None:
    with pytest.raises(Refused):
        transport.parse_log(text)


def test_a_box_takes_only_what_goes_where_it_goes() -> None:
    county = world.make_world()
    reading, cold = world.order(county), world.order(county, "LAB-COAG")
    by = world.scope_of(county, "technician0")
    box = transport.open_box(by, county.lead)
    assert transport.open_box(by, county.lead).pk == box.pk
    with pytest.raises(Refused):
        transport.pack(by, box.number, reading.accession)  # not collected
    world.collect(county, reading)
    world.collect(county, cold)
    with pytest.raises(Refused):
        transport.pack(by, box.number, cold.accession)  # citrate is not sent on ice
    with pytest.raises(Refused):
        transport.seal(by, box.number)
    transport.pack(by, box.number, reading.accession)
    transport.pack(by, box.number, reading.accession)
    transport.unpack(by, box.number, reading.accession)
    transport.pack(by, box.number, reading.accession)
    with pytest.raises(NotAllowed):
        transport.arrive(world.scope_of(county, "lab0"), box.number)
    with pytest.raises(NotAllowed):
        transport.pack(world.scope_of(county, "technician1"), box.number, reading.accession)
    transport.seal(by, box.number, "司机甲")
    with pytest.raises(Refused):
        transport.seal(by, box.number, "司机乙")
    assert world.state(reading) == "in_transit"


def test_cancelled_before_it_was_taken() -> None:
    county = world.make_world()
    reading = world.order(county)
    world.act(county, "gp0", reading, "cancel", reason="患者离开")
    assert world.state(reading) == "cancelled"
    assert world.tube(reading).state == "void"


def test_a_result_that_was_taken_back_goes_out_again() -> None:
    county = world.make_world()
    reading = world.received(county, "LAB-GLU")
    world.measured(reading, GLU="15.2")
    world.act(county, "lab0", reading, "verify")
    assert world.state(reading) == "issued"
    world.act(county, "lab0", reading, "retract", analytes="GLU", reason="标本混淆")
    number = reading.case.number
    assert world.state(reading) == "in_analysis"
    assert world.published("DiagnosticReport", number)["status"] == "partial"
    assert world.published("Observation", f"{number}-glu")["status"] == "entered-in-error"
    assert not Duty.objects.unscoped("test").filter(case_id=reading.pk, kind="acknowledge", ended="").exists()
    with pytest.raises(NotAllowed):
        world.act(county, "lab0", reading, "refuse", code="haemolysed")
    world.enter(county, reading, who="lab1", GLU="5.1")
    world.act(county, "lab0", reading, "verify")
    found = world.published("DiagnosticReport", number)
    assert (found["status"], world.published("Observation", f"{number}-glu")["valueQuantity"]["value"]) == (
        "corrected",
        5.1,
    )
    versions = Report.objects.unscoped("test").filter(reading=reading, state="signed").order_by("version")
    assert [(r.version, r.reason) for r in versions] == [(1, ""), (2, "标本混淆")]
    assert [(r.attempt, r.state) for r in Result.objects.unscoped("test").filter(reading=reading).order_by("attempt")] == [
        (1, "retracted"), (2, "current"),
    ]  # fmt: skip
    assert Verification.objects.count() == 2


def test_tests_are_added_to_a_kept_tube_while_it_is_stable() -> None:
    county = world.make_world()
    reading = world.received(county, "LAB-BMP")
    lft, lipid, cbc = (Item.objects.get(code=c) for c in ("LAB-LFT", "LAB-LIPID", "LAB-CBC"))
    lab = world.scope_of(county, "lab0")
    added = service.add_on(lab, reading.accession, [lft], {"indication": "加做肝功"}, world.key())
    assert (world.state(added), world.tube(added).pk) == ("received", world.tube(reading).pk)
    with pytest.raises(Refused):
        service.add_on(lab, reading.accession, [lft], {"indication": "再加"}, world.key())
    with pytest.raises(Refused):
        service.add_on(lab, reading.accession, [cbc], {"indication": "管型不符"}, world.key())
    with pytest.raises(Refused):
        world.act(county, "lab0", reading, "refuse", code="haemolysed")  # somebody else's tests are on it
    with clock.at(clock.now() + dt.timedelta(hours=97)), pytest.raises(Refused):
        service.add_on(lab, reading.accession, [lipid], {"indication": "太晚"}, world.key())
    assert world.published("ServiceRequest", added.case.number)["status"] == "active"


def test_kept_tubes_are_found_and_disposed_of_when_their_time_is_over() -> None:
    county = world.make_world()
    reading, other = world.received(county, "LAB-GLU"), world.received(county, "LAB-GLU")
    lab = world.scope_of(county, "lab0")
    service.place(lab, reading.accession, "冰箱2-架3-05")
    world.measured(reading, GLU="5.0")
    world.act(county, "lab0", reading, "verify")
    numbers = [reading.accession, other.accession]
    assert service.dispose(lab, numbers) == 0
    with clock.at(clock.now() + dt.timedelta(days=4)):
        assert service.dispose(lab, numbers) == 1  # the other has work left on it
    assert Specimen.objects.unscoped("test").get(number=reading.accession).state == "disposed"
    assert results.current(service.reading_of(reading.case))["GLU"].value == 5
