"""The ECG centre's machine doors: a gateway's file and somebody's viewer over FHIR, a cart's waveform through the image archive."""

from __future__ import annotations

import base64
import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lianxin.access import connections
from lianxin.access.models import AuditEvent
from lianxin.duty.models import Case
from lianxin.index.models import Person
from lianxin.regional.archive import callers, settle, spool
from lianxin.regional.archive.models import Study
from lianxin.regional.ecg import importing, service
from lianxin.regional.ecg.models import Tracing
from lianxin.regional.imaging.models import Quality
from lianxin.regional.reading import items
from lianxin.regional.reading.models import Entry, Reading
from lianxin.standards import clock
from tests.archive import world as images
from tests.ecg import files, synthetic
from tests.exchange.client import Client
from tests.factories import SmallCounty
from tests.reading import world

# ------------------------------------------------------------------------------------------------------------- over FHIR


def ordered(county: SmallCounty, key: str = "d1", **fields: Any) -> Reading:
    """An ECG ordered at a village clinic."""
    person = world.make_person(**{"sex": "male", "birth_date": dt.date(1960, 3, 4), **fields})
    return service.order(world.scope_of(county, "village0"), person, {"indication": "胸闷"}, key)


def parameters(data: bytes, name: str = "a.csv") -> dict[str, Any]:
    """A file as Parameters."""
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "file", "valueBase64Binary": files.b64(data)}, {"name": "name", "valueString": name},
        ],
    }  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_a_gateway_sends_and_a_viewer_fetches_over_the_wire() -> None:
    items.load_shipped()
    county = world.make_world()
    village, other = Client("cart", county.villages[0].code), Client("stranger", county.villages[2].code)
    try:
        reading, second = ordered(county), ordered(county, "d2")
        number, path = reading.case.number, f"ServiceRequest/{reading.case.number}/$import-ecg"
        data = files.csv(synthetic.ecg(), patient=reading.accession, at=clock.now())
        for bad, status in (
            ({"resourceType": "Parameters"}, 400), ({"resourceType": "Parameters", "parameter": [{"name": "file", "valueString": "???"}]}, 400),
            (parameters(b"%PDF-1.4 scan"), 422), (parameters(b"\0" * 4000), 422),
            ({"resourceType": "DocumentReference", "content": "x"}, 422), ({"resourceType": "Binary", "contentType": "text/csv", "data": ""}, 400),
        ):  # fmt: skip
            reply = village("POST", path, bad)
            assert reply.status in (status, 422), (bad, reply.raw)
            assert reply.json["resourceType"] == "OperationOutcome"
        assert village("GET", f"Observation/{number}-ecg/$ecg-waveform").status == 404
        assert other("POST", path, parameters(data)).status in (403, 404)
        assert not Tracing.objects.unscoped("test").exists()

        made = village("POST", path, parameters(data))
        assert (made.status, made.json["resourceType"]) == (201, "Observation"), made.raw
        again = village("POST", path, {"resourceType": "Binary", "contentType": "text/csv", "data": files.b64(data)})  # fmt: skip
        assert again.status == 201
        assert Tracing.objects.unscoped("test").count() == 1
        assert Case.objects.unscoped("test").get(pk=reading.pk).state == "queued"

        shown = village("GET", f"Observation/{number}-ecg/$ecg-waveform")
        leads = [c for c in shown.json["component"] if "valueSampledData" in c]
        wave = importing.read(data).wave
        assert [c["code"]["coding"][0]["display"] for c in leads] == [f"MDC_ECG_LEAD_{n}" for n in wave.leads]
        sampled = leads[0]["valueSampledData"]
        assert np.array_equal(np.array(sampled["data"].split(), int), wave.counts[0])
        assert (sampled["period"], sampled["factor"]) == (1000 / wave.hz, wave.gains[0])
        fetched = village("GET", f"DocumentReference/{number}-ecg/$ecg-file")
        assert base64.b64decode(fetched.json["data"]) == data
        assert AuditEvent.objects.filter(person_id=reading.person_id, action="export").exists()
        for door in (f"Observation/{number}-ecg/$ecg-waveform", f"DocumentReference/{number}-ecg/$ecg-file"):
            assert other("GET", door).status in (403, 404)

        # the file of the first patient sent for the second: kept, attached to nobody
        wrong = village("POST", f"ServiceRequest/{second.case.number}/$import-ecg", parameters(data))
        assert wrong.status == 202, wrong.raw
        assert Tracing.objects.unscoped("test").get(reading=second).person_id is None
        assert Case.objects.unscoped("test").get(pk=second.pk).state == "ordered"
    finally:
        connections.close()


# ------------------------------------------------------------------------------------------------------ through the archive


@pytest.fixture
def archive(tmp_path: Path, settings: Any) -> Any:
    """An archive of its own; the rooms take part as they do in use."""
    settings.LIANXIN_ARCHIVE_DIR = tmp_path / "archive"
    settings.LIANXIN_ARCHIVE_RESERVE = 0
    settings.LIANXIN_ORTHANC_URL = ""
    callers.forget()
    yield
    spool._spool = None


def stored(reading: Reading, **said: Any) -> Study:
    """A cart's DICOM waveform arrives at the archive and its study is complete."""
    number = Person.objects.unscoped("test").get(pk=reading.person_id).number
    data = files.dicom(
        synthetic.ecg(), **{"patient": number, "accession": reading.accession, "name": "Ce^Shi", "at": clock.now().replace(tzinfo=None)} | said
    )  # fmt: skip
    (done,) = images.store(reading.performer, data)
    assert done.taken is not None
    settle.ended([done.taken.study_id])
    return Study.objects.unscoped("test").get(pk=done.taken.study_id)


@pytest.mark.django_db
@pytest.mark.usefixtures("archive")
def test_a_carts_waveform_becomes_the_orders_recording_once() -> None:
    reading = ordered(world.make_world())
    study = stored(reading)
    assert (study.state, study.person_id) == ("stored", reading.person_id)
    tracing = Tracing.objects.unscoped("test").get(reading=reading)
    assert (tracing.state, tracing.source, tracing.format) == ("attached", "archive", "DICOM")
    assert Case.objects.unscoped("test").get(pk=reading.pk).state == "queued"
    assert Entry.objects.unscoped("test").filter(reading=reading, state="waiting").count() == 1
    assert not Quality.objects.unscoped("test").exists(), "the imaging room judges no waveform"
    Study.objects.unscoped("told again").filter(pk=study.pk).update(settle_at=clock.now())
    settle.due()
    assert Tracing.objects.unscoped("test").count() == 1


@pytest.mark.django_db
@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize("said", [{"patient": "9999999"}, {"accession": "NEVER"}, {"name": "Li^Si=李四"}])
def test_a_waveform_of_somebody_else_waits_for_reconciling(said: dict[str, str]) -> None:
    reading = ordered(world.make_world())
    study = stored(reading, **said)
    assert (study.state, study.person_id) == ("quarantined", None)
    assert not Tracing.objects.unscoped("test").exists()
    assert Case.objects.unscoped("test").get(pk=reading.pk).state == "ordered"
