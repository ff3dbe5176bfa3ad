"""Receiving and indexing: durable, once, never with the wrong person."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from lianxin.access import seal
from lianxin.access.models import AuditEvent
from lianxin.access.scope import Scope
from lianxin.network.models import Institution
from lianxin.regional.archive import deliver, header, hooks, settle, spool, store, studies, taking, walk
from lianxin.regional.archive.models import Device, Instance, Study
from lianxin.standards import clock
from tests.archive import world
from tests.factories import make_institution
from tests.reading.world import published

pytestmark = pytest.mark.django_db
ALL = Scope.system("test")


@pytest.fixture
def here() -> Institution:
    return make_institution("AR-1")


def study_of(uid: str, **given: Any) -> Study:
    found: Study = Study.objects.unscoped("test").get(sent_uid=uid, **given)
    return found


def test_what_belongs_to_an_order_is_attached_published_and_told(
    here: Institution, orders: dict[str, hooks.Order], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    patient = world.person("张影像")
    orders["A1"] = hooks.Order(patient.pk, here.pk, "JC1")
    made = world.series(patient, "A1", 3)
    told: list[Study] = []
    monkeypatch.setattr(hooks, "_study", [told.append])
    machine = world.device(here)
    done = world.store(here, *made, device=machine)
    assert [one.taken.outcome for one in done if one.taken] == ["stored"] * 3
    study = study_of(made[0].StudyInstanceUID)
    assert (study.person_id, study.order_number, study.accession, study.instances) == (
        patient.pk,
        "JC1",
        "A1",
        3,
    )
    assert study.bytes == sum(len(world.body(world.written(one))) for one in made)
    assert study.modalities == ["CT"]
    assert study.description == "头颅平扫"
    assert patient.name not in study.header
    assert patient.name in seal.unseal(study.header)
    for one in Instance.objects.all():
        file = (folder / one.path).read_bytes()
        assert hashlib.sha256(file[one.offset :]).digest() == bytes(one.hash)
        assert one.path.startswith("files/")
        assert one.sop_uid not in one.path
    assert spool.waiting() == 0
    assert not told
    with clock.at(clock.now() + dt.timedelta(minutes=1)):
        assert settle.due() == 1
        assert settle.due() == 0
    assert [one.pk for one in told] == [study.pk]
    resource = published("ImagingStudy", f"study-{study.pk}")
    assert resource["subject"] == {"reference": f"Patient/{patient.number}"}
    assert resource["numberOfInstances"] == 3
    assert resource["basedOn"] == [{"reference": "ServiceRequest/JC1"}]
    assert len(resource["series"][0]["instance"]) == 3
    assert published("Endpoint", "dicomweb")["address"].endswith("/dicomweb")
    assert (
        AuditEvent.objects.filter(action="create", what=f"study {study.pk}", person_id=patient.pk).count()
        == 1
    )
    assert Device.objects.get().last_stored_at is not None


def test_the_same_bytes_are_taken_once_and_other_bytes_are_a_conflict(
    here: Institution, orders: dict[str, hooks.Order]
) -> None:
    patient = world.person()
    orders["A1"] = hooks.Order(patient.pk, here.pk, "JC1")
    one = world.image(patient, "A1")
    assert world.store(here, one)[0].taken.outcome == "stored"  # type: ignore[union-attr]
    again = world.store(here, one, one)
    assert [r.taken.outcome for r in again if r.taken] == ["duplicate"] * 2
    one.PixelData = bytes(len(one.PixelData))
    other = world.store(here, one)[0].taken
    assert other is not None
    assert (other.outcome, other.problem) == ("quarantined", "sop_conflict")
    assert Instance.objects.filter(live=True).count() == 1
    assert world.store(here, one)[0].taken.outcome == "duplicate"  # type: ignore[union-attr]
    assert Instance.objects.count() == 2
    assert study_of(one.StudyInstanceUID, state="stored").instances == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"AccessionNumber": ""}, "no_accession"),
        ({"AccessionNumber": "NEVER"}, "unknown_accession"),
        ({"PatientID": "99999"}, "wrong_person"),
        ({"PatientName": "Li^Si=李四"}, "wrong_person"),
        ({"PatientSex": "F"}, "wrong_person"),
        ({"PatientBirthDate": "19500102"}, "wrong_person"),
        ({"PatientName": "", "PatientID": ""}, "wrong_person"),
        ({"AccessionNumber": "THEIRS"}, "foreign_device"),
    ],
)
def test_what_does_not_say_clearly_whose_it_is_is_nobodys(
    here: Institution, orders: dict[str, hooks.Order], change: dict[str, str], problem: str
) -> None:
    patient = world.person(birth_date=dt.date(1950, 1, 1))
    orders["A1"] = hooks.Order(patient.pk, here.pk, "JC1")
    orders["THEIRS"] = hooks.Order(patient.pk, make_institution().pk, "JC2")
    made = world.image(patient, "A1", **change)
    taken = world.store(here, made)[0].taken
    assert taken is not None
    assert (taken.outcome, taken.problem) == ("quarantined", problem)
    assert study_of(made.StudyInstanceUID).person_id is None
    assert not studies.of_person(ALL, patient.pk)
    assert studies.find(ALL, made.StudyInstanceUID) is None


@pytest.mark.parametrize(
    "written", ["ZHANG^SAN", "San^Zhang", "zhang san", "=张三", "ZhangSan=张^三", "张三"]
)
def test_a_name_in_pinyin_in_either_order_or_in_characters_is_the_name(
    here: Institution, orders: dict[str, hooks.Order], written: str
) -> None:
    patient = world.person("张三")
    orders["A1"] = hooks.Order(patient.pk, here.pk, "JC1")
    assert world.store(here, world.image(patient, "A1", PatientName=written))[0].taken.outcome == "stored"  # type: ignore[union-attr]


@pytest.mark.parametrize("charset", ["GB18030", "GBK", "ISO_IR 192", ["", "ISO 2022 IR 58"]])
def test_names_in_every_chinese_character_set(
    here: Institution, orders: dict[str, hooks.Order], charset: Any
) -> None:
    patient = world.person("王小东")
    orders["A1"] = hooks.Order(patient.pk, here.pk, "JC1")
    made = world.image(patient, "A1", charset=charset, PatientName="Wang^XiaoDong=王^小东")
    file = world.written(made)
    facts = header.read(world.body(file), walk.EXPLICIT)
    assert facts.name == "Wang^XiaoDong=王^小东"
    assert world.store(here, file)[0].taken.outcome == "stored"  # type: ignore[union-attr]


def test_chinese_text_by_escapes_and_chinese_text_that_declares_nothing() -> None:
    names = header.encodings("\\ISO 2022 IR 58")
    written = b"Wang^XiaoDong=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab"
    assert header.decode(written, names, person=True) == "Wang^XiaoDong=王^小东"
    assert header.decode("王小东".encode("gbk"), header.encodings("")) == "王小东"
    assert header.decode("王小东".encode(), header.encodings("ISO_IR 100")) == "王小东"
    assert header.decode("Müller".encode("latin-1"), header.encodings("ISO_IR 100")) == "Müller"
    assert header.decode(b"\xff\xfe", header.encodings("NO SUCH SET")) == "ÿþ"


def test_a_study_uid_that_is_somebody_elses_is_a_conflict(
    here: Institution, orders: dict[str, hooks.Order]
) -> None:
    first, second = world.person("甲影像"), world.person("乙影像")
    orders["A1"] = hooks.Order(first.pk, here.pk, "JC1")
    orders["A2"] = hooks.Order(second.pk, here.pk, "JC2")
    one = world.image(first, "A1")
    two = world.image(second, "A2", StudyInstanceUID=one.StudyInstanceUID)
    world.store(here, one)
    taken = world.store(here, two)[0].taken
    assert taken is not None
    assert taken.problem == "study_conflict"
    assert [s.person_id for s in studies.seen(ALL)] == [first.pk]
    more = world.image(first, "", StudyInstanceUID=one.StudyInstanceUID)
    assert world.store(here, more)[0].taken.outcome == "stored"  # type: ignore[union-attr]


def test_a_device_whose_clock_is_wrong_is_marked_and_what_it_sent_is_kept(
    here: Institution, orders: dict[str, hooks.Order]
) -> None:
    patient = world.person()
    orders["A1"] = hooks.Order(patient.pk, here.pk, "JC1")
    machine = world.device(here)
    now = clock.now()
    ahead = now + dt.timedelta(hours=2)
    made = world.image(
        patient, "A1", StudyDate=f"{ahead:%Y%m%d}", StudyTime=f"{ahead:%H%M%S}", ContentDate=f"{ahead:%Y%m%d}", ContentTime=f"{ahead:%H%M%S}"
    )  # fmt: skip
    world.store(here, made, device=machine)
    study = study_of(made.StudyInstanceUID)
    assert study.clock == "future"
    assert abs(study.received_at - now) < dt.timedelta(minutes=1)
    assert abs((Device.objects.get().drift or 0) - 7200) < 60
    old = world.image(patient, "A1", StudyDate="19700101")
    world.store(here, old)
    assert study_of(old.StudyInstanceUID).clock == "past"
    none = world.image(patient, "A1", StudyDate="")
    world.store(here, none)
    assert study_of(none.StudyInstanceUID).clock == "none"


def test_a_process_that_died_before_indexing_is_adopted_once(
    here: Institution, orders: dict[str, hooks.Order], folder: Path
) -> None:
    patient = world.person()
    orders["A1"] = hooks.Order(patient.pk, here.pk, "JC1")
    kept = []
    for made in world.series(patient, "A1", 5):
        incoming = spool.Incoming()
        incoming.write(world.written(made))
        facts, digest = incoming.examine()
        kept.append(incoming.keep(facts, digest, spool.Sender(here.pk)))
    taking.take(kept[:1])
    paths = store.place(
        [(a.path, a.facts.study_uid, a.hash) for a in kept[1:2]]
    )  # died between the file and the row
    assert paths
    (spool.mine().folder / "9-9.part").write_bytes(b"half")
    spool_folder = spool.mine().folder
    os.close(spool.mine().lock)
    spool._spool = None
    assert spool.adopt() == 4
    assert spool.adopt() == 0
    assert not spool_folder.exists()
    assert Instance.objects.count() == 5
    assert Study.objects.unscoped("test").get().instances == 5
    again = spool.Incoming()
    again.write(
        deliver.delivered(Instance.objects.select_related("study__person", "series").all()[0])
        .chunks()
        .__next__()
    )
    facts, digest = again.examine()
    assert taking.take([again.keep(facts, digest, spool.Sender(here.pk))])[0].outcome == "duplicate"


def test_a_disk_that_is_full_or_gone_takes_nothing_and_comes_back(
    here: Institution,
    orders: dict[str, hooks.Order],
    folder: Path,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    patient = world.person()
    orders["A1"] = hooks.Order(patient.pk, here.pk, "JC1")
    made = world.series(patient, "A1", 2)
    settings.LIANXIN_ARCHIVE_RESERVE = 1 << 60
    done = world.store(here, *made)
    assert [one.reason for one in done] == [0xA700] * 2
    assert not list(folder.rglob("*.dcm"))
    settings.LIANXIN_ARCHIVE_RESERVE = 0
    real = os.fsync

    def broken(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    assert [one.reason for one in world.store(here, *made)] == [0xA700] * 2
    monkeypatch.setattr(os, "fsync", real)
    assert not list(folder.rglob("*.dcm"))
    assert not list(folder.rglob("*.part"))
    assert Instance.objects.count() == 0
    assert [one.reason for one in world.store(here, *made)] == [0, 0]
    assert Instance.objects.count() == 2


def test_an_instance_that_is_too_large_is_refused_and_a_large_one_streams_to_disk(
    here: Institution, settings: Any, folder: Path
) -> None:
    made = world.image(size=1024)
    file = world.written(made)
    assert len(file) > spool.IN_MEMORY
    settings.LIANXIN_ARCHIVE_MOST_BYTES = 1_500_000
    assert world.store(here, file)[0].reason == 0xA700
    settings.LIANXIN_ARCHIVE_MOST_BYTES = 1 << 30
    assert world.store(here, file)[0].reason == 0
    assert (folder / Instance.objects.get().path).read_bytes() == file


def test_a_room_that_fails_is_told_again(
    here: Institution, orders: dict[str, hooks.Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = world.person()
    orders["A1"] = hooks.Order(patient.pk, here.pk, "JC1")
    world.store(here, world.image(patient, "A1"))
    calls: list[int] = []

    def room(study: Study) -> None:
        calls.append(study.pk)
        if len(calls) == 1:
            raise RuntimeError("not today")

    monkeypatch.setattr(hooks, "_study", [room])
    with clock.at(clock.now() + dt.timedelta(minutes=1)):
        assert settle.due() == 0
    with clock.at(clock.now() + dt.timedelta(minutes=3)):
        assert settle.due() == 1
    assert len(calls) == 2
