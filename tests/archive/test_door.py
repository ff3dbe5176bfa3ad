"""The DICOM door with real peers: dcmtk's programs, pynetdicom, a wire that is cut, a process that is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    CTImageStorage,
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from lianxin.access import seal
from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.regional.archive import hooks, scp, spool
from lianxin.regional.archive.models import Device, Instance, Knock, Step, Study
from lianxin.standards import clock
from tests.archive import world
from tests.factories import make_institution

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]
DCMTK = {
    name: f"/usr/bin/{name}" for name in ("storescu", "findscu", "movescu", "getscu", "echoscu", "storescp")
}
peers = pytest.mark.skipif(not all(os.path.exists(p) for p in DCMTK.values()), reason="needs Debian's dcmtk")


def close_database() -> None:
    from lianxin.regional.archive import desk

    def away() -> None:
        from django.db import connections

        connections.close_all()

    for found in [desk._pool.submit(lambda: (time.sleep(0.05), away())) for _ in range(4)]:
        found.result()


@pytest.fixture
def door(folder: Path) -> Iterator[scp.Door]:
    """The door, listening in this process."""
    made = scp.Door(scp.Settings(port=0, silent=5))
    made.start()
    try:
        yield made
    finally:
        made.stop()
        close_database()


@pytest.fixture
def here() -> Institution:
    return make_institution("AR-1")


@pytest.fixture
def patient(here: Institution, orders: dict[str, hooks.Order]) -> Person:
    made = world.person("张影像")
    orders["A1"] = hooks.Order(made.pk, here.pk, "JC1")
    return made


def until(what: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DCMTK[name], *map(str, arguments)], capture_output=True, text=True, errors="replace", timeout=60, check=False,
        env=os.environ | {"TCP_NODELAY": "1"},
    )  # fmt: skip


def sent(door: scp.Door, images: list[Dataset], ae_title: str = "CT1", called: str = "LIANXIN") -> list[int]:
    """Statuses of images stored over one association."""
    ae = AE(ae_title)
    for syntax in {(str(i.SOPClassUID), str(i.file_meta.TransferSyntaxUID)) for i in images}:
        ae.add_requested_context(*syntax)
    association = ae.associate("127.0.0.1", door.port, ae_title=called)
    assert association.is_established
    try:
        return [int(association.send_c_store(one).get("Status", -1)) for one in images]
    finally:
        association.release()


@peers
def test_dcmtk_stores_finds_moves_and_gets(
    door: scp.Door, here: Institution, patient: Person, tmp_path: Path
) -> None:
    world.device(here, "CT1")
    images = world.series(patient, "A1", 3)
    files = []
    for n, made in enumerate(images):
        files.append(tmp_path / f"{n}.dcm")
        files[-1].write_bytes(world.written(made))
    us = ("-aet", "CT1", "-aec", "LIANXIN", "127.0.0.1", door.port)
    assert run("echoscu", *us).returncode == 0
    assert run("storescu", *us, *files).returncode == 0
    found = run("findscu", "-S", *us, "-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientID={patient.number}", "-k", "StudyInstanceUID",
                "-k", "PatientName", "-k", "NumberOfStudyRelatedInstances")  # fmt: skip
    assert images[0].StudyInstanceUID in found.stdout + found.stderr
    assert "[3 ]" in found.stdout + found.stderr
    target = tmp_path / "moved"
    target.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world.device(here, "DEST", address="127.0.0.1", port=port)
    listening = subprocess.Popen([DCMTK["storescp"], "-aet", "DEST", "-od", str(target), "+xa", str(port)])
    try:
        time.sleep(0.5)
        key = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={images[0].StudyInstanceUID}")
        moved = run("movescu", "-S", "-aem", "DEST", *us, *key)
        assert moved.returncode == 0, moved.stderr
        nowhere = run("movescu", "-v", "-S", "-aem", "NOWHERE", *us, *key)
        assert "MoveDestinationUnknown" in nowhere.stderr + nowhere.stdout
    finally:
        listening.terminate()
        listening.wait()
    back = {str(one.SOPInstanceUID): one for one in map(dcmread, target.iterdir())}
    assert {str(i.SOPInstanceUID) for i in images} == set(back)
    assert all(back[str(i.SOPInstanceUID)].PixelData == i.PixelData for i in images)
    got = tmp_path / "got"
    got.mkdir()
    assert run("getscu", "-S", "-od", got, *us, *key).returncode == 0
    assert len(list(got.iterdir())) == 3
    stored = Study.objects.unscoped("test").get()
    until(lambda: Study.objects.unscoped("test").get().instances == 3)
    assert (stored.person_id, stored.state) == (patient.pk, "stored")


def test_strangers_are_turned_away_and_written_down(door: scp.Door, here: Institution) -> None:
    world.device(here, "CT1")
    world.device(here, "OLD", active=False)
    world.device(here, "PINNED", pinned=True, address="10.9.9.9")
    world.device(here, "LOCAL", pinned=True, address="127.0.0.1")
    for calling, called, reason in (
        ("NOBODY", "LIANXIN", "unknown"), ("CT1", "OTHER", "called"), ("OLD", "LIANXIN", "inactive"), ("PINNED", "LIANXIN", "address"),
    ):  # fmt: skip
        ae = AE(calling)
        ae.add_requested_context(Verification)
        association = ae.associate("127.0.0.1", door.port, ae_title=called)
        assert association.is_rejected
        assert Knock.objects.get(calling=calling, called=called).reason == reason
    ae = AE("LOCAL")
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", door.port, ae_title="LIANXIN")
    assert association.send_c_echo().Status == 0
    association.release()
    assert Device.objects.get(ae_title="LOCAL").last_from == "127.0.0.1"


def test_what_is_wrong_with_one_instance_is_its_answer_and_the_next_is_taken(
    door: scp.Door, here: Institution, patient: Person, settings: Any
) -> None:
    world.device(here, "CT1")
    world.device(here, "ASKS", may_store=False)
    whole, liar = world.series(patient, "A1", 2)
    truncated = world.series(patient, "A1", 1)[0]
    ae = AE("CT1")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", door.port, ae_title="LIANXIN")
    from pynetdicom import association as wire

    real = wire.encode
    try:
        wire.encode = lambda *a, **k: (real(*a, **k) or b"")[:-40]  # type: ignore[assignment]
        assert association.send_c_store(truncated).Status == 0xC000
        wire.encode = real
        liar_encoded = real(liar, False, True)
        wire.encode = lambda *a, **k: liar_encoded  # type: ignore[assignment]
        assert association.send_c_store(world.image(patient, "A1")).Status == 0xA900
    finally:
        wire.encode = real
    settings.LIANXIN_ARCHIVE_RESERVE = 1 << 60
    assert association.send_c_store(whole).Status == 0xA700
    settings.LIANXIN_ARCHIVE_RESERVE = 0
    assert association.send_c_store(whole).Status == 0
    association.release()
    assert sent(door, [liar], "ASKS") == [0x0124]
    until(lambda: Instance.objects.count() == 1)
    assert spool.waiting() == 0


def test_a_wire_that_is_cut_leaves_what_was_acknowledged_and_the_rest_is_sent_again(
    door: scp.Door, here: Institution, patient: Person, folder: Path
) -> None:
    world.device(here, "CT1")
    images = world.series(patient, "A1", 6, size=64)
    ae = AE("CT1")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", door.port, ae_title="LIANXIN")
    for one in images[:3]:
        assert association.send_c_store(one).Status == 0
    raw = association.dul.socket.socket
    raw.send(b"\x04\x00\x00\x00\x20\x00" + bytes(500))  # a PDU that breaks off
    raw.shutdown(socket.SHUT_RDWR)
    until(lambda: Instance.objects.count() == 3)
    assert sent(door, images) == [0] * 6
    until(lambda: Instance.objects.count() == 6)
    until(lambda: spool.waiting() == 0)
    assert Study.objects.unscoped("test").get().instances == 6
    assert not list(folder.rglob("*.part"))


def test_callers_that_do_not_speak_dicom_or_speak_too_much_are_cut_off(
    door: scp.Door, here: Institution
) -> None:
    world.device(here, "CT1")
    for noise in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\xff\xff\xff\xff" + bytes(64),
        bytes(6),
        b"\x04\0\0\0\0\x04abcd",
    ):
        with socket.create_connection(("127.0.0.1", door.port), timeout=10) as wire:
            wire.sendall(noise)
            wire.shutdown(socket.SHUT_WR)
            while wire.recv(4096):
                pass
    ae = AE("CT1")
    ae.add_requested_context(Verification)
    association = ae.associate("127.0.0.1", door.port, ae_title="LIANXIN")
    association.dul.socket.socket.sendall(b"\x04\x00\xff\xff\xff\xf0" + bytes(100))
    until(lambda: not association.is_established)
    association = ae.associate("127.0.0.1", door.port, ae_title="LIANXIN")
    assert association.send_c_echo().Status == 0
    association.release()


def test_queries_worklist_and_performed_steps(
    door: scp.Door, here: Institution, patient: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.device(here, "CT1")
    world.device(make_institution(), "ELSE")
    image = world.image(patient, "A1")
    item = hooks.WorkItem("A2", patient.number, patient.name, "Zhang^Yingxiang", "male", study_uid="1.2.3.4", modality="CT",
                          starts_at=clock.now(), description="头颅平扫", procedure_code="CT-HEAD")  # fmt: skip
    monkeypatch.setattr(hooks, "_worklist", [lambda device: [item] if device.ae_title == "CT1" else []])
    assert sent(door, [image]) == [0]

    def ask(ae_title: str, model: Any, **keys: Any) -> list[Dataset]:
        ae = AE(ae_title)
        ae.add_requested_context(model)
        association = ae.associate("127.0.0.1", door.port, ae_title="LIANXIN")
        wanted = Dataset()
        for name, value in keys.items():
            setattr(wanted, name, value)
        found = [(status.Status, data) for status, data in association.send_c_find(wanted, model)]
        association.release()
        assert found[-1][0] == 0
        return [data for status, data in found if status in (0xFF00, 0xFF01)]

    study = StudyRootQueryRetrieveInformationModelFind
    rows = ask(
        "CT1",
        study,
        QueryRetrieveLevel="STUDY",
        PatientName="ZHANG*",
        StudyInstanceUID="",
        PatientID="",
        SpecificCharacterSet="",
    )
    assert [(str(r.PatientName), r.StudyInstanceUID) for r in rows] == [
        ("zhangyingxiang=张影像", image.StudyInstanceUID)
    ]
    assert (
        len(
            ask(
                "CT1",
                study,
                QueryRetrieveLevel="IMAGE",
                StudyInstanceUID=image.StudyInstanceUID,
                SOPInstanceUID="",
            )
        )
        == 1
    )
    assert (
        len(
            ask(
                "CT1",
                study,
                QueryRetrieveLevel="SERIES",
                StudyInstanceUID=image.StudyInstanceUID,
                Modality="CT",
            )
        )
        == 1
    )
    assert not ask(
        "CT1", study, QueryRetrieveLevel="STUDY", StudyDate="19900101-19900102", StudyInstanceUID=""
    )
    assert not ask("ELSE", study, QueryRetrieveLevel="STUDY", StudyInstanceUID="")
    step = Dataset()
    step.Modality, step.ScheduledProcedureStepStartDate = "CT", f"{clock.now():%Y%m%d}"
    work = ask("CT1", ModalityWorklistInformationFind, PatientName="", ScheduledProcedureStepSequence=[step])
    assert [
        (w.AccessionNumber, str(w.PatientName), w.ScheduledProcedureStepSequence[0].Modality) for w in work
    ] == [("A2", "Zhang^Yingxiang=张影像", "CT")]
    step.Modality = "MR"
    assert not ask(
        "CT1", ModalityWorklistInformationFind, PatientName="", ScheduledProcedureStepSequence=[step]
    )
    assert not ask("ELSE", ModalityWorklistInformationFind, PatientName="")

    ae = AE("CT1")
    ae.add_requested_context(ModalityPerformedProcedureStep)
    association = ae.associate("127.0.0.1", door.port, ae_title="LIANXIN")
    begun, ended, scheduled = Dataset(), Dataset(), Dataset()
    scheduled.AccessionNumber, scheduled.StudyInstanceUID = "A1", image.StudyInstanceUID
    begun.PerformedProcedureStepStatus, begun.ScheduledStepAttributesSequence = "IN PROGRESS", [scheduled]
    ended.PerformedProcedureStepStatus = "COMPLETED"
    assert association.send_n_create(begun, ModalityPerformedProcedureStep, "1.2.3.9")[0].Status == 0
    assert association.send_n_set(ended, ModalityPerformedProcedureStep, "1.2.3.9")[0].Status == 0
    assert association.send_n_set(ended, ModalityPerformedProcedureStep, "1.2.3.8")[0].Status == 0x0112
    association.release()
    assert Step.objects.get().state == "COMPLETED"
    assert Study.objects.unscoped("test").get().settled == 1


def test_c_get_of_a_study_that_is_not_for_the_caller_gives_nothing(
    door: scp.Door, here: Institution, patient: Person
) -> None:
    world.device(here, "CT1")
    world.device(make_institution(), "ELSE")
    image = world.image(patient, "A1")
    assert sent(door, [image]) == [0]
    got: list[str] = []
    ae = AE("ELSE")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_requested_context(CTImageStorage)
    from pynetdicom import build_role

    association = ae.associate(
        "127.0.0.1", door.port, ae_title="LIANXIN", ext_neg=[build_role(CTImageStorage, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, lambda event: got.append("one") or 0)],
    )  # fmt: skip
    wanted = Dataset()
    wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", image.StudyInstanceUID
    assert [
        s.Status for s, _ in association.send_c_get(wanted, StudyRootQueryRetrieveInformationModelGet)
    ] == [0]
    association.release()
    assert not got


@peers
def test_killed_under_load_nothing_acknowledged_is_lost_and_nothing_is_there_twice(
    here: Institution, patient: Person, tmp_path: Path, folder: Path
) -> None:
    from django.db import connection

    world.device(here, "CT1")
    images = [one for _ in range(3) for one in world.series(patient, "A1", 60, size=48)]
    files = []
    for n, made in enumerate(images):
        files.append(tmp_path / f"{n}.dcm")
        files[-1].write_bytes(world.written(made))
    name = connection.settings_dict["NAME"]
    base = os.environ.get("DATABASE_URL", "")
    if "?" not in base:
        pytest.skip("needs a database named by DATABASE_URL")
    port = _free()
    environment = {
        **os.environ,
        "DATABASE_URL": base.split("?")[0].rpartition("/")[0] + f"/{name}?" + base.split("?")[1],
        "LIANXIN_ARCHIVE_DIR": str(folder), "LIANXIN_ARCHIVE_RESERVE_MB": "0", "LIANXIN_DICOM_PORT": str(port),
        "LIANXIN_SECRET": seal.settings.SECRET.hex(), "LIANXIN_LOG": "WARNING",
    }  # fmt: skip

    def listening() -> subprocess.Popen[bytes]:
        made = subprocess.Popen([sys.executable, "-m", "lianxin.config.dicom"], env=environment)
        until(lambda: _answers(port), 60)
        return made

    acknowledged: set[str] = set()

    def load(part: list[Path]) -> None:
        done = subprocess.run(
            [DCMTK["storescu"], "-v", "-aet", "CT1", "-aec", "LIANXIN", "127.0.0.1", str(port), *map(str, part)],
            capture_output=True, text=True, env=os.environ | {"TCP_NODELAY": "1"}, check=False,
        )  # fmt: skip
        said = (done.stdout + done.stderr).splitlines()
        current = ""
        for line in said:
            if "Sending file: " in line:
                current = line.split("Sending file: ")[1].strip()
            elif "Received Store Response (Success)" in line:
                acknowledged.add(current)

    process = listening()
    threads = [threading.Thread(target=load, args=(files[n::3],)) for n in range(3)]
    for one in threads:
        one.start()
    until(lambda: len(list((folder / "files").rglob("*.dcm"))) > 10, 30)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for one in threads:
        one.join()
    assert acknowledged
    assert len(acknowledged) < len(files)
    process = listening()
    try:
        wanted = {str(images[files.index(Path(name))].SOPInstanceUID) for name in acknowledged}
        until(lambda: wanted <= set(Instance.objects.values_list("sop_uid", flat=True)), 30)
        load(files)  # the sender sends everything again
        until(lambda: Instance.objects.count() == len(images), 30)
        until(lambda: spool.waiting() == 0, 30)
    finally:
        process.terminate()
        process.wait(20)
    assert sum(Study.objects.unscoped("test").values_list("instances", flat=True)) == len(images)
    assert len(list((folder / "files").rglob("*.dcm"))) == len(images)


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True
