"""The technician's pages: worklist, moves, uploads of DICOM, zips, pictures and documents, and what is refused."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pydicom
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from lianxin.access.models import AuditEvent
from lianxin.regional.archive.models import Instance, Study
from lianxin.regional.imaging import acquire, gate, wrapping
from lianxin.regional.imaging.models import Quality
from lianxin.regional.reading import service
from lianxin.regional.reading.models import Reading
from lianxin.scenarios import imaging as phantoms
from tests.factories import SmallCounty
from tests.imaging.test_gate import send, state, whose
from tests.reading import world

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_folder(settings: Any, tmp_path: Any) -> None:
    settings.LIANXIN_ARCHIVE_DIR = tmp_path
    settings.LIANXIN_ARCHIVE_RESERVE = 0


@pytest.fixture
def county() -> SmallCounty:
    return world.make_world()


def browser(county: SmallCounty, key: str) -> Client:
    client = Client()
    client.force_login(world.account_of(county.posts[key]))
    return client


def picture(kind: str = "PNG", seed: int = 1, size: tuple[int, int] = (600, 700)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((size[1], size[0])).save(out, kind)
    return out.getvalue()


def upload(client: Client, reading: Reading, *files: tuple[str, bytes]) -> Any:
    given = [SimpleUploadedFile(name, data) for name, data in files]
    return client.post(f"/acquire/{reading.case.number}/upload", {"files": given})


def test_the_worklist_is_the_performers_own(county: SmallCounty) -> None:
    mine = world.order(county, item="XR-CHEST", person=world.make_person("秦昭昭"))
    other = world.order(county, item="XR-CHEST", by="gp1", person=world.make_person("楚暮云"))
    lab = world.order(county, item="LAB-CBC", person=world.make_person("燕归来"))
    technician = browser(county, "technician0")
    text = technician.get("/acquire").content.decode()
    assert "秦昭昭" in text
    assert "楚暮云" not in text
    assert "燕归来" not in text
    assert technician.get(f"/acquire/{mine.case.number}").status_code == 200
    assert technician.get(f"/acquire/{other.case.number}").status_code == 404
    assert technician.get(f"/acquire/{lab.case.number}").status_code == 404
    assert browser(county, "desk").get("/acquire").status_code == 403
    assert technician.get(f"/acquire?q={mine.accession}").headers["Location"].endswith(mine.case.number)
    assert AuditEvent.objects.filter(action="search", what="acquisition: todo").exists()


def test_check_in_and_acquire_pressed_twice(county: SmallCounty) -> None:
    reading = world.order(county, item="XR-CHEST")
    technician = browser(county, "technician0")
    address = f"/acquire/{reading.case.number}/check_in"
    for _ in range(2):
        answer = technician.post(address, {"_key": "same", "_back": "list"})
        assert (answer.status_code, answer.headers["Location"]) == (302, "/acquire")
    assert state(reading) == "checked_in"
    assert technician.post(f"/acquire/{reading.case.number}/acquire", {"device": "DR-1"}).status_code == 302
    assert technician.post(f"/acquire/{reading.case.number}/check_in", {}).status_code == 409
    refused = technician.post(f"/acquire/{reading.case.number}/send", {})
    assert refused.status_code == 409
    assert "还没有收到" in refused.content.decode()
    assert technician.post(f"/acquire/{reading.case.number}/sign", {}).status_code == 404


def test_dicom_of_the_order_goes_to_the_queue(county: SmallCounty) -> None:
    reading = world.order(county, item="XR-CHEST")
    technician = browser(county, "technician0")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as box:
        for n, data in enumerate(phantoms.dx(whose(reading), size=1024)):
            box.writestr(f"DICOM/IM{n}", data)
        box.writestr("DICOMDIR", b"x")
        box.writestr("__MACOSX/._IM0", b"x")
    answer = upload(technician, reading, ("export.zip", packed.getvalue()))
    assert answer.status_code == 302, answer.content.decode()
    assert state(reading) == "queued"
    assert Study.objects.unscoped("t").get().instances == 2
    again = upload(technician, reading, ("export.zip", packed.getvalue()))
    assert again.status_code == 409


def test_images_of_somebody_else_are_not_taken(county: SmallCounty) -> None:
    mine = world.order(county, item="XR-CHEST", person=world.make_person("秦昭昭", pinyin="qinzhaozhao"))
    other = world.order(county, item="XR-CHEST", person=world.make_person("楚暮云", pinyin="chumuyun"))
    technician = browser(county, "technician0")
    theirs = phantoms.dx(whose(other), size=64, views=1)[0]
    answer = upload(technician, mine, ("IM1", theirs))
    assert answer.status_code == 422
    assert "检查号" in answer.content.decode()
    ds = pydicom.dcmread(io.BytesIO(theirs))
    ds.AccessionNumber = ""
    out = io.BytesIO()
    ds.save_as(out)
    answer = upload(technician, mine, ("IM1", out.getvalue()))
    assert "姓名" in answer.content.decode()
    assert not Instance.objects.exists()
    assert state(mine) == "ordered"


def test_images_that_name_nobody_get_the_orders_identity(county: SmallCounty) -> None:
    reading = world.order(county, item="XR-CHEST", person=world.make_person("秦昭昭", pinyin="qinzhaozhao"))
    files = []
    for n, data in enumerate(phantoms.dx(whose(reading), size=1024)):
        ds = pydicom.dcmread(io.BytesIO(data))
        ds.AccessionNumber, ds.PatientName, ds.PatientID = "", "", ""
        out = io.BytesIO()
        ds.save_as(out)
        files.append((f"IM{n}", out.getvalue()))
    assert upload(browser(county, "technician0"), reading, *files).status_code == 302
    study = Study.objects.unscoped("t").get()
    assert (study.state, study.accession, study.person_id) == ("stored", reading.accession, reading.person_id)
    assert state(reading) == "queued"


def test_pictures_and_documents_are_wrapped_once(county: SmallCounty) -> None:
    reading = world.order(county, item="US-ABDO", person=world.make_person("秦昭昭", pinyin="qinzhaozhao"))
    technician = browser(county, "technician0")
    files = [
        ("a.png", picture()),
        ("b.jpg", picture("JPEG", 2)),
        ("c.pdf", b"%PDF-1.4\n1 0 obj\nendobj\n%%EOF\n"),
    ]
    answer = upload(technician, reading, *files)
    assert answer.status_code == 302, answer.content.decode()
    rows = list(Instance.objects.order_by("pk"))
    assert [r.transfer_syntax for r in rows] == [
        "1.2.840.10008.1.2.5",
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.1",
    ]
    study = Study.objects.unscoped("t").get()
    assert (study.study_uid, study.person_id, study.instances) == (
        gate.study_uid(reading),
        reading.person_id,
        3,
    )
    assert state(reading) == "queued"
    for row in rows:
        assert technician.get(f"/imaging/{study.study_uid}/thumbs/{row.sop_uid}").status_code == 200


def test_the_same_picture_twice_is_one_image(county: SmallCounty) -> None:
    reading = world.order(county, item="US-ABDO")
    technician = browser(county, "technician0")
    black = io.BytesIO()
    Image.new("RGB", (640, 480)).save(black, "PNG")
    assert upload(technician, reading, ("a.png", black.getvalue())).status_code == 302
    answer = upload(technician, reading, ("a.png", black.getvalue()))
    assert "此前已上传" in answer.content.decode()
    assert Instance.objects.count() == 1
    assert state(reading) == "ordered"  # all black: the gate keeps it here


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("x.txt", b"hello", "不是 DICOM"),
        ("x.png", b"\x89PNG\r\n\x1a\nnothing", "损坏"),
        ("x.jpg", b"\xff\xd8\xff\xe0rubbish", "损坏"),
        ("x.pdf", b"%PDF-1.4 cut off", "损坏"),
        ("x.dcm", bytes(128) + b"DICM" + b"\xff" * 400, "损坏"),
        ("x.zip", b"PK\x03\x04rubbish", "压缩包损坏"),
        ("x.dcm", b"", "空"),
    ],
)
def test_what_cannot_be_taken_is_named(county: SmallCounty, name: str, data: bytes, said: str) -> None:
    reading = world.order(county, item="XR-CHEST")
    answer = upload(browser(county, "technician0"), reading, (name, data))
    assert answer.status_code == 422
    text = answer.content.decode()
    assert said in text
    assert name in text
    assert not Instance.objects.exists()


def test_a_truncated_file_and_a_bomb(county: SmallCounty) -> None:
    reading = world.order(county, item="XR-CHEST")
    whole = phantoms.dx(whose(reading), size=128, views=1, packed=False)[0]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as box:
        box.writestr("half", whole[: len(whole) // 2])
        box.writestr("bomb", bytes(30_000_000))
    answer = upload(browser(county, "technician0"), reading, ("e.zip", packed.getvalue()))
    text = answer.content.decode()
    assert (answer.status_code, "不完整" in text, "压缩比" in text) == (422, True, True)
    assert upload(browser(county, "technician0"), reading).status_code == 422


def test_returned_by_the_gate_sent_all_the_same_with_a_reason(county: SmallCounty) -> None:
    reading = world.order(county, item="XR-CHEST")
    send(reading, phantoms.dx(whose(reading), size=256, black=True))
    technician = browser(county, "technician0")
    listed = technician.get("/acquire?tab=again").content.decode()
    assert "全黑" in listed
    number = reading.case.number
    refused = technician.post(f"/acquire/{number}/send", {})
    assert refused.status_code == 422
    assert "写明理由" in refused.content.decode()
    assert technician.post(f"/acquire/{number}/send", {"note": "金属遮挡，无法重做"}).status_code == 302
    assert state(reading) == "queued"
    quality = Quality.objects.unscoped("t").get()
    assert (quality.anyway, quality.stands) == ("金属遮挡，无法重做", False)


def test_a_retake_stands_on_top_with_what_the_reader_asked(county: SmallCounty) -> None:
    world.order(county, item="XR-CHEST", priority="emergency")
    reading = world.order(county, item="XR-CHEST", person=world.make_person("秦昭昭", pinyin="qinzhaozhao"))
    send(reading, phantoms.dx(whose(reading), size=1024))
    scope, _ = world.reader_of(county, "reader0")
    service.claim(scope, "imaging")
    service.act(
        scope, reading.case.number, "return_retake", {"code": "position", "reason": "肋膈角未包全"}, None, "r"
    )
    rows = acquire._rows(world.scope_of(county, "technician0"), "todo")
    assert next(iter(rows)).pk == reading.pk
    technician = browser(county, "technician0")
    for address in ("/acquire", f"/acquire/{reading.case.number}"):
        text = technician.get(address).content.decode()
        assert "体位或范围不符" in text
        assert "肋膈角未包全" in text


def test_the_technicians_own_grade(county: SmallCounty) -> None:
    reading = world.order(county, item="XR-CHEST")
    technician = browser(county, "technician0")
    assert technician.post(f"/acquire/{reading.case.number}/rate", {"rating": "fair"}).status_code == 302
    reading.refresh_from_db()
    assert reading.facts["rating"] == "fair"
    assert technician.post(f"/acquire/{reading.case.number}/rate", {"rating": "superb"}).status_code == 404
    assert technician.get("/imaging/quality").status_code == 200


def test_a_turned_camera_picture_stands_upright() -> None:
    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    who = wrapping.Identity("1", "2.25.1", "1", "甲", "JIA", "male", None, "US", "腹部超声", "镇卫生院", phantoms.Whose("", "", "", "").at)  # fmt: skip
    ds = pydicom.dcmread(io.BytesIO(wrapping.picture(out.getvalue(), who, 1)))
    assert (ds.Rows, ds.Columns, ds.PixelData[:2] != b"") == (40, 20, True)
    assert str(ds.PatientName) == "JIA=甲"
