"""The quality gate: rules one by one, and what happens to an order when its images arrive."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianxin.duty.models import Notice
from lianxin.regional.archive import hooks as archive
from lianxin.regional.archive import settle, spool, taking
from lianxin.regional.archive.models import Device, Study
from lianxin.regional.imaging import gate, rules
from lianxin.regional.imaging.models import Quality
from lianxin.regional.imaging.rules import Asked, Image
from lianxin.regional.reading import service
from lianxin.regional.reading.models import Reading
from lianxin.scenarios import imaging as phantoms
from lianxin.standards import clock
from tests.reading import world

VALUES = gate.SETTINGS.shipped
CT = Asked(("CT-HEAD",), "CT", "HEAD")
SLICE = Image(modality="CT", rows=512, columns=512, part="HEAD", empty=False)


def codes(asked: Asked, images: list[Image], clock_: str = "") -> list[str]:
    return rules.judge(asked, images, clock_, VALUES).codes


@pytest.mark.parametrize(
    ("asked", "images", "found", "verdict"),
    [
        (CT, [SLICE] * 20, [], "pass"),
        (CT, [], ["no_images"], "return"),
        (CT, [SLICE] * 3, ["few_images"], "flag"),
        (CT, [Image("CT", 512, 512, frames=40, part="HEAD")], [], "pass"),
        (CT, [*[SLICE] * 20, Image("CT", 512, 512, pixels=False)], ["no_pixels"], "return"),
        (CT, [*[SLICE] * 20, Image("CT", 512, 512, readable=False)], ["unreadable"], "return"),
        (CT, [*[SLICE] * 20, Image("CT", 512, 512, empty=True)], ["empty"], "return"),
        (CT, [Image("CT", 128, 128, part="HEAD")] * 20, ["matrix"], "flag"),
        (CT, [Image("MR", 512, 512, part="HEAD")] * 20, ["modality"], "flag"),
        (CT, [Image("CT", 512, 512, part="CHEST")] * 20, ["part"], "flag"),
        (CT, [Image("CT", 512, 512, part="BRAIN")] * 20, [], "pass"),
        (Asked(("XR-CHEST",), "DX", "CHEST"), [Image("CR", 2000, 2000, part="CHEST")] * 2, [], "pass"),
        (Asked(("XR-CHEST",), "DX", "CHEST"), [Image("OT", 600, 800)] * 2, [], "pass"),
        (Asked(("XR-CHEST",), "DX", "CHEST"), [Image("DOC", document=True)], [], "pass"),
        (Asked(("X",), "DX", side="L"), [Image("DX", 2000, 2000, side="R")], ["side"], "return"),
        (Asked(("X",), "DX", side="L"), [Image("DX", 2000, 2000, side="L")], [], "pass"),
    ],
)
def test_each_rule(asked: Asked, images: list[Image], found: list[str], verdict: str) -> None:
    judged = rules.judge(asked, images, "", VALUES)
    assert (judged.codes, judged.verdict) == (found, verdict)
    for finding in judged.findings:
        words = rules.words(finding)
        assert "{" not in words.zh + words.en


def test_a_wrong_clock_is_told_to_the_reader() -> None:
    judged = rules.judge(CT, [SLICE] * 20, "2031-01-01 08:00", VALUES)
    assert (judged.codes, judged.verdict) == (["clock"], "flag")


def test_what_follows_is_data() -> None:
    values = {**VALUES, "imaging.follows": {**VALUES["imaging.follows"], "few_images": ["off", ""]}}
    assert rules.judge(CT, [SLICE], "", values).verdict == "pass"


@given(
    st.lists(
        st.sampled_from(
            [SLICE, Image("CT", 512, 512, empty=True), Image("MR", 64, 64), Image(document=True)]
        ),
        max_size=30,
    )
)
def test_the_verdict_is_the_worst_finding(images: list[Image]) -> None:
    judged = rules.judge(CT, images, "", VALUES)
    ranks = {"flag": 1, "return": 2}
    worst = max((ranks[VALUES["imaging.follows"][f["code"]][0]] for f in judged.findings), default=0)
    assert {"pass": 0, "flag": 1, "return": 2}[judged.verdict] == worst


def test_empty_pictures() -> None:
    assert rules.empty(np.zeros((64, 64)), 99.5)
    assert rules.empty(np.full((64, 64), 4095), 99.5)
    speck = np.zeros((200, 200))
    speck[0, 0] = 100
    assert rules.empty(speck, 99.5)
    assert not rules.empty(phantoms.radiograph(128), 99.5)
    assert not rules.empty(phantoms.head(0, 128), 99.5)
    assert rules.empty(np.zeros((0, 0)), 99.5)


# ---------------------------------------------------------------------------------------------------------------- arriving


def whose(reading: Reading, **more: Any) -> phantoms.Whose:
    person = reading.person
    return phantoms.Whose(
        reading.accession, more.pop("study_uid", gate.study_uid(reading)), person.number, person.name, at=clock.now(), **more
    )  # fmt: skip


def send(reading: Reading, files: list[bytes]) -> Study:
    """Files as a device of the performer sends them; the study is complete."""
    sender = spool.Sender(reading.performer_id, None, "dicom")
    taken = []
    for data in files:
        incoming = spool.Incoming()
        incoming.write(data)
        facts, digest = incoming.examine()
        taken += taking.take([incoming.keep(facts, digest, sender)])
    settle.ended({t.study_id for t in taken})
    return Study.objects.unscoped("test").get(pk=taken[0].study_id)


@pytest.fixture(autouse=True)
def _own_folder(settings: Any, tmp_path: Any) -> None:
    settings.LIANXIN_ARCHIVE_DIR = tmp_path
    settings.LIANXIN_ARCHIVE_RESERVE = 0


def state(reading: Reading) -> str:
    return str(Reading.objects.unscoped("test").select_related("case").get(pk=reading.pk).case.state)


@pytest.mark.django_db
def test_good_images_enter_the_queue_by_themselves() -> None:
    county = world.make_world()
    reading = world.order(county, item="CT-HEAD")
    study = send(reading, phantoms.ct(whose(reading), slices=16, size=256))
    assert study.state == "stored", study.problem
    assert state(reading) == "queued"
    fresh = Reading.objects.unscoped("test").get(pk=reading.pk)
    assert fresh.study_uid == study.study_uid
    assert fresh.facts["quality"] == "pass", Quality.objects.unscoped("t").get().findings
    gate.on_study(study)  # told again: nothing happens
    assert Quality.objects.unscoped("test").count() == 1


@pytest.mark.django_db
def test_black_images_come_back_and_what_was_taken_again_goes_on() -> None:
    county = world.make_world()
    reading = world.order(county, item="XR-CHEST")
    study = send(reading, phantoms.dx(whose(reading), size=256, black=True))
    quality = Quality.objects.unscoped("test").get(study_uid=study.study_uid)
    assert quality.stands
    assert "empty" in quality.codes
    assert state(reading) == "ordered"
    notice = Notice.objects.get(case=reading.case, text_zh__contains="质控退回")
    assert reading.person.name not in notice.text_zh
    gate.on_study(study)
    assert state(reading) == "ordered"
    assert Notice.objects.filter(case=reading.case, text_zh__contains="质控退回").count() == 1
    send(reading, phantoms.dx(whose(reading, study_uid="2.25.77"), size=1024))
    assert state(reading) == "queued"


@pytest.mark.django_db
def test_old_images_do_not_answer_a_retake() -> None:
    county = world.make_world()
    reading = world.order(county, item="XR-CHEST")
    study = send(reading, phantoms.dx(whose(reading), size=1024))
    scope, _ = world.reader_of(county, "reader0")
    assert service.claim(scope, "imaging")
    service.act(
        scope,
        reading.case.number,
        "return_retake",
        {"code": "position", "reason": "肋膈角未包全"},
        None,
        "r1",
    )
    gate.on_study(study)
    assert state(reading) == "retake"
    reading.refresh_from_db()
    assert gate.study_uid(reading) != study.study_uid
    said = gate.acquired(reading)
    assert said is not None
    assert "重做后" in said.zh
    again = send(reading, phantoms.dx(whose(reading), size=1024))
    assert (again.pk != study.pk, state(reading)) == (True, "queued")


@pytest.mark.django_db
def test_a_devices_worklist_is_its_own() -> None:
    county = world.make_world()
    person = world.make_person("欧阳晓丽", pinyin="ouyangxiaoli", initials="oyxl", sex="female")
    here = world.order(county, item="CT-HEAD", person=person)
    world.order(county, item="CT-HEAD", by="gp1")
    world.order(county, item="XR-CHEST")
    world.queued(county, item="CT-HEAD")
    device = Device.objects.create(
        ae_title="CT1", name="CT", institution=county.townships[0], modality="CT", created_at=clock.now()
    )
    items = archive.work(device)
    assert [i.accession for i in items] == [here.accession]
    item = items[0]
    assert (item.name, item.pinyin, item.modality, item.body_part) == (
        "欧阳晓丽",
        "OUYANG^XIAOLI",
        "CT",
        "HEAD",
    )
    assert item.study_uid == gate.study_uid(here)
    assert len(item.study_uid) <= 64
    assert archive.order(here.accession) == (person, county.townships[0].pk, here.case.number)
    assert archive.order("000000000000") is None


@pytest.mark.parametrize(
    ("name", "spelt"),
    [
        ("王芳", "WANG^FANG"),
        ("单雄信", "SHAN^XIONGXIN"),
        ("司马光", "SIMA^GUANG"),
        ("Mary", "MARY"),
        ("", ""),
    ],
)
def test_names_in_latin_letters(name: str, spelt: str) -> None:
    assert gate.romanised(name) == spelt
