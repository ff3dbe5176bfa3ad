"""DICOMweb and the reconcile page: who sees what, byte for byte, and what a correction delivers."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest
from pydicom import dcmread

from lianxin.access import tokens
from lianxin.access.models import AuditEvent
from lianxin.access.scope import Scope
from lianxin.network.models import Institution
from lianxin.network.roles import TECHNICIAN
from lianxin.regional.archive import hooks, quarantine, web
from lianxin.regional.archive.models import Instance, Study
from tests.archive import world
from tests.factories import make_institution

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def here() -> Institution:
    return make_institution("AR-1")


def call(path: str, token: str = "", body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Ask the door."""
    said: dict[str, Any] = {}

    def start(status: str, given: list[tuple[str, str]], error: Any = None) -> None:
        said["status"], said["headers"] = int(status[:3]), dict(given)

    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST" if body else "GET", "PATH_INFO": f"/dicomweb/{path.partition('?')[0]}", "QUERY_STRING": path.partition("?")[2],
        "HTTP_HOST": "testserver", "SERVER_NAME": "testserver", "SERVER_PORT": "80", "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body)), "REMOTE_ADDR": "127.0.0.1", **headers,
    }  # fmt: skip
    if token:
        environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    answer = b"".join(web.application(environ, start))
    return said["status"], said["headers"], answer


def test_what_is_stored_comes_back_byte_for_byte(here: Institution, orders: dict[str, hooks.Order]) -> None:
    patient = world.person("张影像")
    orders["A1"] = hooks.Order(patient.pk, here.pk, "JC1")
    token = tokens.issue("pacs", "system/ImagingStudy.crs", here.code)
    made = world.series(patient, "A1", 2)
    files = [world.written(one) for one in made]
    kind = 'multipart/related; type="application/dicom"; boundary=b0undary'
    status, _, body = call("studies", token, world.parts(files), CONTENT_TYPE=kind)
    assert status == 200
    assert len(orjson.loads(body)["00081199"]["Value"]) == 2
    study = made[0].StudyInstanceUID
    where = f"studies/{study}/series/{made[0].SeriesInstanceUID}/instances/{made[0].SOPInstanceUID}"
    status, headers, body = call(where, token, HTTP_ACCEPT="application/dicom; transfer-syntax=*")
    assert (status, body) == (200, files[0])
    assert int(headers["Content-Length"]) == len(body)
    status, headers, body = call(f"studies/{study}", token)
    assert status == 200
    assert int(headers["Content-Length"]) == len(body)
    assert all(one in body for one in files)
    status, _, body = call(f"studies/{study}/metadata", token)
    rows = orjson.loads(body)
    assert [r["00100010"]["Value"][0]["Ideographic"] for r in rows] == ["张影像"] * 2
    assert rows[0]["00081030"]["Value"] == ["头颅平扫"]
    pixels = rows[0]["7FE00010"]["BulkDataURI"].partition("/dicomweb/")[2]
    assert call(pixels, token, HTTP_ACCEPT="application/octet-stream")[2] == made[0].PixelData
    assert call(f"{where}/frames/1", token, HTTP_ACCEPT="application/octet-stream")[2] == made[0].PixelData
    assert made[0].PixelData in call(f"{where}/frames/1", token)[2]
    assert call(f"{where}/frames/2", token)[0] == 404
    assert call(f"{where}/rendered", token, HTTP_ACCEPT="image/jpeg")[2].startswith(b"\xff\xd8")
    assert call(f"studies/{study}/thumbnail", token, HTTP_ACCEPT="image/png")[2].startswith(b"\x89PNG")
    assert len(orjson.loads(call("studies?PatientName=ZHANG*&limit=5", token)[2])) == 1
    assert len(orjson.loads(call("studies?00100020=NOBODY", token)[2])) == 0
    assert len(orjson.loads(call(f"studies/{study}/instances", token)[2])) == 2
    assert call("studies?StudyDate=yesterday", token)[0] == 400
    assert AuditEvent.objects.filter(action="read", person_id=patient.pk).count() == 1


def test_strangers_see_nothing_and_refusals_are_said(
    here: Institution, orders: dict[str, hooks.Order]
) -> None:
    patient = world.person()
    orders["A1"] = hooks.Order(patient.pk, here.pk, "JC1")
    made = world.image(patient, "A1")
    world.store(here, made)
    study = f"studies/{made.StudyInstanceUID}"
    theirs = tokens.issue("other", "system/ImagingStudy.rs", make_institution().code)
    assert call(study, theirs)[0] == 404
    assert orjson.loads(call("studies", theirs)[2]) == []
    assert call(study)[0] == 401
    assert call(study, "x" * 43)[0] == 401
    search = tokens.issue("searches", "system/ImagingStudy.s", here.code)
    assert call(study, search)[0] == 403
    kind = 'multipart/related; type="application/dicom"; boundary=b0undary'
    assert call("studies", theirs, world.parts([b"x"]), CONTENT_TYPE=kind)[0] == 403
    writer = tokens.issue("writes", "system/ImagingStudy.c", here.code)
    assert call("studies", writer, world.parts([b"no image"]), CONTENT_TYPE=kind)[0] == 409
    whole = world.parts([world.written(world.image())])
    assert call("studies", writer, whole[:-60], CONTENT_TYPE=kind)[0] == 400
    assert call("studies", writer, whole, CONTENT_TYPE=kind)[0] == 202
    assert call("studies/../../etc/passwd", theirs)[0] == 404


def test_a_study_that_was_attached_by_hand_is_delivered_with_the_right_header(
    here: Institution, orders: dict[str, hooks.Order], folder: Any
) -> None:
    patient = world.person("李影像", sex="female")
    orders["A1"] = hooks.Order(patient.pk, here.pk, "JC1")
    made = world.image(None, "")
    file = world.written(made)
    world.store(here, file)
    study = Study.objects.unscoped("test").get()
    by = Scope(
        account_id=1,
        institution_id=here.pk,
        institution_ids=frozenset({here.pk}),
        roles=frozenset({TECHNICIAN}),
    )
    with pytest.raises(Exception, match="检查号"):
        quarantine.attach(by, study.pk, "NEVER", "对照登记")
    with pytest.raises(Exception, match="理由"):
        quarantine.attach(by, study.pk, "A1", "")
    quarantine.attach(by, study.pk, "A1", "对照登记本核实")
    with pytest.raises(Exception, match="处理过"):
        quarantine.attach(by, study.pk, "A1", "再点一次")
    token = tokens.issue("pacs", "system/ImagingStudy.r", here.code)
    where = f"studies/{made.StudyInstanceUID}/series/{made.SeriesInstanceUID}/instances/{made.SOPInstanceUID}"
    body = call(where, token, HTTP_ACCEPT="application/dicom")[2]
    back = dcmread(io.BytesIO(body))
    assert (str(back.PatientName), back.PatientID, back.PatientSex, back.AccessionNumber) == (
        "liyingxiang=李影像", patient.number, "F", "A1",
    )  # fmt: skip
    assert back.PixelData == made.PixelData
    assert back.StudyDescription == made.StudyDescription
    assert orjson.loads(call(f"{where}/metadata", token)[2])[0]["00100020"]["Value"] == [patient.number]
    assert (folder / Instance.objects.get().path).read_bytes() == file


def test_a_conflict_that_is_attached_gets_uids_of_its_own(
    here: Institution, orders: dict[str, hooks.Order]
) -> None:
    first, second = world.person("甲影像"), world.person("乙影像")
    orders["A1"] = hooks.Order(first.pk, here.pk, "JC1")
    orders["A2"] = hooks.Order(second.pk, here.pk, "JC2")
    one = world.image(first, "A1")
    two = world.image(second, "A2", StudyInstanceUID=one.StudyInstanceUID, SOPInstanceUID=one.SOPInstanceUID)
    world.store(here, one)
    world.store(here, two)
    waiting = Study.objects.unscoped("test").get(state="quarantined")
    by = Scope(
        account_id=1,
        institution_id=here.pk,
        institution_ids=frozenset({here.pk}),
        roles=frozenset({TECHNICIAN}),
    )
    quarantine.reject(by, waiting.pk, "先退回")
    quarantine.reopen(by, waiting.pk)
    study = quarantine.attach(by, waiting.pk, "A2", "两台设备UID重复")
    assert study.study_uid != one.StudyInstanceUID
    token = tokens.issue("pacs", "system/ImagingStudy.r", here.code)
    instance = Instance.objects.get(study=study)
    path = f"studies/{study.study_uid}/series/{instance.series.uid}/instances/{instance.sop_uid}"
    back = dcmread(io.BytesIO(call(path, token, HTTP_ACCEPT="application/dicom")[2]))
    assert (back.SOPInstanceUID, back.file_meta.MediaStorageSOPInstanceUID) == (
        instance.sop_uid,
        instance.sop_uid,
    )
    assert (back.StudyInstanceUID, back.PatientID) == (study.study_uid, second.number)
    assert call(f"studies/{one.StudyInstanceUID}", token)[2].count(first.number.encode()) == 1
