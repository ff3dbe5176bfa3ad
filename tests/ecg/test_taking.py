"""From a device's file to the readers' queue: attached, kept exactly, proposed; what is not theirs is attached to nobody."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pydicom.data
import pytest

from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Case
from lianxin.index.models import Person
from lianxin.regional.ecg import importing, service
from lianxin.regional.ecg.models import Confirmation, Proposal, Tracing
from lianxin.regional.reading.models import Entry, Reading
from lianxin.standards import clock
from tests.ecg import files, synthetic
from tests.reading import world

pytestmark = pytest.mark.django_db
DICOM = Path(pydicom.data.get_testdata_file("waveform_ecg.dcm")).read_bytes()  # type: ignore[arg-type]


def ordered(county: world.SmallCounty, **fields: object) -> Reading:
    """An ECG ordered at a village clinic."""
    person = world.make_person(**{"sex": "male", "birth_date": dt.date(1960, 3, 4), **fields})  # type: ignore[arg-type]
    return service.order(world.scope_of(county, "village0"), person, {"indication": "胸痛"}, f"e{person}")


def test_a_village_upload_is_in_the_queue_with_its_bytes_kept() -> None:
    county = world.make_world()
    reading = ordered(county)
    assert (reading.centre_of, reading.performer) == (county.lead, county.villages[0])
    data = files.csv(synthetic.ecg(), patient=reading.accession, at=clock.now())
    by = world.scope_of(county, "village0")
    tracing = service.take(by, reading, "a.csv", data)
    assert service.take(by, reading, "again.csv", data).pk == tracing.pk
    assert (tracing.state, tracing.person_id) == ("attached", reading.person_id)
    fresh = Tracing.objects.unscoped("test").get(pk=tracing.pk)
    assert fresh.bytes_as_sent() == data
    assert np.array_equal(fresh.wave.counts, importing.read(data).wave.counts)
    assert Case.objects.unscoped("test").get(pk=reading.pk).state == "queued"
    assert Entry.objects.unscoped("test").get(reading=reading).rank == 2
    number = reading.case.number
    assert world.published("Observation", f"{number}-ecg")["status"] == "preliminary"
    assert world.published("DocumentReference", f"{number}-ecg")["identifier"][0]["value"] == tracing.sha256
    assert [s.code for s in fresh.proposal.lines()] == ["sinus"]


def test_what_may_be_critical_goes_to_the_front() -> None:
    county = world.make_world()
    reading = ordered(county)
    lifted = synthetic.ecg(st={"V1": 150, "V2": 300, "V3": 350, "V4": 200}, noise=5)
    service.take(
        world.scope_of(county, "village0"), reading, "a.csv", files.csv(lifted, patient=reading.accession)
    )
    entry = Entry.objects.unscoped("test").get(reading=reading, state="waiting")
    assert entry.rank == 0
    assert entry.due_at <= clock.now() + dt.timedelta(minutes=10)


def test_another_patients_file_is_attached_to_nobody_until_somebody_checked() -> None:
    county = world.make_world()
    reading = ordered(county)
    by = world.scope_of(county, "village0")
    tracing = service.take(by, reading, "x.dcm", DICOM)
    assert (tracing.state, tracing.problem, tracing.person_id) == ("review", "wrong_id", None)
    assert Case.objects.unscoped("test").get(pk=reading.pk).state == "ordered"
    assert not Proposal.objects.unscoped("test").exists()
    technician = world.scope_of(county, "technician0")
    with pytest.raises(Refused):
        service.settle(technician, tracing.pk, attach=True, reason=" ")
    service.settle(technician, tracing.pk, attach=False, reason="文件是别人的")
    assert Tracing.objects.unscoped("test").get(pk=tracing.pk).state == "refused"
    with pytest.raises(Refused):
        service.settle(technician, tracing.pk, attach=True, reason="又改主意了")


def test_a_checked_file_is_attached_and_one_recording_has_one_owner() -> None:
    county = world.make_world()
    first, second = ordered(county), ordered(county)
    by, technician = world.scope_of(county, "village0"), world.scope_of(county, "technician0")
    tracing = service.take(by, first, "x.dcm", DICOM)
    settled = service.settle(technician, tracing.pk, attach=True, reason="设备中沿用了上一位的编号")
    assert settled.person_id == first.person_id
    assert "clock_past" in settled.flags
    assert settled.taken_at == settled.received_at
    assert Case.objects.unscoped("test").get(pk=first.pk).state == "queued"
    copy = service.take(by, second, "x.dcm", DICOM)
    assert copy.state == "review"
    with pytest.raises(Refused):
        service.settle(technician, copy.pk, attach=True, reason="再归一次试试")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "另一人"}, "wrong_name"),
        ({"birth": "1961-03-04"}, "wrong_birth"),
        ({"sex": "F"}, "wrong_sex"),
    ],
)
def test_a_header_that_contradicts_the_person_waits(fields: dict[str, str], problem: str) -> None:
    county = world.make_world()
    reading = ordered(county)
    data = files.csv(synthetic.ecg(), **fields)  # type: ignore[arg-type]
    assert service.take(world.scope_of(county, "village0"), reading, "a.csv", data).problem == problem


def test_a_bad_file_leaves_no_order_and_another_institution_may_not_record() -> None:
    county = world.make_world()
    person = world.make_person()
    by = world.scope_of(county, "village0")
    with pytest.raises(Refused):
        service.order_and_send(by, person, {"indication": "胸痛"}, "x.dcm", DICOM[:9000], "k1")
    assert not Reading.objects.unscoped("test").exists()
    reading = ordered(county)
    with pytest.raises(NotAllowed):
        service.take(world.scope_of(county, "village2"), reading, "a.csv", files.csv(synthetic.ecg()))


def test_only_a_reader_of_the_centre_confirms_and_once() -> None:
    county = world.make_world()
    reading = ordered(county)
    by = world.scope_of(county, "village0")
    lifted = synthetic.ecg(st={"II": 250}, noise=5)
    service.take(by, reading, "a.csv", files.csv(lifted, patient=reading.accession))
    with pytest.raises(NotAllowed):
        service.confirm(by, reading.case.number, "stemi")
    scope, _ = world.reader_of(county, "reader0", "ecg", ("ECG",))
    with pytest.raises(Refused):
        service.confirm(scope, reading.case.number, "no-such-thing")
    first = service.confirm(scope, reading.case.number, "stemi", "下壁")
    assert service.confirm(scope, reading.case.number, "stemi").pk == first.pk
    assert first.critical_number.startswith("WJ")
    assert Confirmation.objects.unscoped("test").count() == 1
    assert Person.objects.unscoped("test").get(pk=reading.person_id).pk == first.person_id
