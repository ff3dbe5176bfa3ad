"""Files of other people through the doors and back: pydicom's own samples, and what becomes of broken ones."""

from __future__ import annotations

import io
import random
import threading
import zlib
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import orjson
import pytest
from dicomweb_client.api import DICOMwebClient
from django.core.handlers.wsgi import LimitedStream
from django.db import connections
from pydicom import dcmread
from pydicom.data import get_testdata_files
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE, _config

from lianxin.access import tokens
from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.regional.archive import header, scp, spool, web, whose
from lianxin.regional.archive.models import Instance
from lianxin.regional.archive.walk import Damaged
from tests.archive import world
from tests.archive.test_door import close_database
from tests.archive.test_web import call
from tests.factories import make_institution

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]
KIND = 'multipart/related; type="application/dicom"; boundary=b0undary'
MOST = 1_500_000


@pytest.fixture
def here() -> Institution:
    return make_institution("AR-1")


def samples() -> dict[str, bytes]:
    """pydicom's files that are instances of their own.

    Left out: what is no DICOM file (no prefix: "nothing to recognise it by"), what has no UIDs or no pixels' whole data set (made to be
    broken), directories (DICOMDIR: no composite instance), files beyond 1.5 MB, and further files with a UID that was there.
    """
    found: dict[str, bytes] = {}
    for path in sorted(Path(p) for p in get_testdata_files()):
        if path.suffix not in (".dcm", "") or path.name.startswith("DICOMDIR") or not path.is_file() or path.stat().st_size > MOST:  # fmt: skip
            continue
        data = path.read_bytes()
        try:
            syntax, at = header.meta(data, len(data))
            facts = header.read(memoryview(data)[at:], syntax)
        except (Damaged, ValueError):
            continue
        if not facts.sop_class.startswith("1.2.840.10008.1.3.10"):
            found.setdefault(facts.sop_uid, data)
    return found


def _contradicts(data: bytes) -> bool:
    """Whether the meta information names another instance than the data set: over the wire that is refused (0xA900)."""
    read = dcmread(io.BytesIO(data), stop_before_pixels=True)
    meta = read.file_meta
    return (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) != (read.SOPClassUID, read.SOPInstanceUID)  # fmt: skip


@pytest.fixture
def everybodys(here: Institution, monkeypatch: pytest.MonkeyPatch) -> Person:
    """Whatever comes is this person's: whose it would be is tried elsewhere."""
    made = world.person("张影像")
    monkeypatch.setattr(whose, "of", lambda *_: whose.Verdict(made.pk, "JC1"))
    return made


def test_pydicoms_files_come_back_byte_for_byte_over_both_doors(
    here: Institution, everybodys: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = samples()
    assert len(files) > 40
    world.device(here, "CT1")
    token = tokens.issue("pacs", "system/ImagingStudy.crs", here.code)
    over_web = {uid: data for n, (uid, data) in enumerate(files.items()) if n % 2 == 0 or _contradicts(data)}
    status, _, body = call("studies", token, world.parts(list(over_web.values())), CONTENT_TYPE=KIND)
    assert status == 200
    assert "00081198" not in orjson.loads(body)
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)  # the file's own bytes, not written anew
    door = scp.Door(scp.Settings(port=0, silent=20))
    door.start()
    try:
        over_wire = []
        for n, (uid, data) in enumerate(files.items()):
            if uid not in over_web:
                over_wire.append(tmp_path / f"{n}.dcm")
                over_wire[-1].write_bytes(data)
        ae = AE("CT1")
        read = [dcmread(one, stop_before_pixels=True) for one in over_wire]
        for pair in {(str(one.file_meta.MediaStorageSOPClassUID), str(one.file_meta.TransferSyntaxUID)) for one in read}:  # fmt: skip
            ae.add_requested_context(*pair)
        association = ae.associate("127.0.0.1", door.port, ae_title="LIANXIN")
        assert [association.send_c_store(one).Status for one in over_wire] == [0] * len(over_wire)
        association.release()
    finally:
        door.stop()
        close_database()
    assert spool.waiting() == 0
    stored = {one.sent_uid: one for one in Instance.objects.select_related("series", "study")}
    assert set(stored) == set(files)
    for uid, data in files.items():
        one = stored[uid]
        where = f"studies/{one.study.study_uid}/series/{one.series.uid}/instances/{one.sop_uid}"
        status, _, back = call(where, token, HTTP_ACCEPT="application/dicom")
        assert status == 200
        assert world.body(back) == world.body(data)
        assert uid not in over_web or back == data
        assert call(f"{where}/metadata", token)[0] == 200


def test_dicomweb_client_stores_searches_and_retrieves(here: Institution, everybodys: Person) -> None:
    token = tokens.issue("pacs", "system/ImagingStudy.crs", here.code)
    images = [dcmread(io.BytesIO(world.written(one))) for one in world.series(everybodys, "A1", 2)]

    def application(environ: dict[str, Any], start: Any) -> Any:
        environ["wsgi.input"] = LimitedStream(environ["wsgi.input"], int(environ.get("CONTENT_LENGTH") or 0))
        return web.application(environ, start)

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with make_server("127.0.0.1", 0, application, handler_class=Quiet) as server:

        def work() -> None:
            server.serve_forever(0.05)
            connections.close_all()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            peer = DICOMwebClient(
                f"http://127.0.0.1:{server.server_port}/dicomweb",
                headers={"Authorization": f"Bearer {token}"},
            )
            said = peer.store_instances(images)
            assert len(said.ReferencedSOPSequence) == 2
            study, series, uid = (str(images[0][name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))  # fmt: skip
            found = peer.search_for_studies(search_filters={"PatientID": everybodys.number})
            assert [one["0020000D"]["Value"] for one in found] == [[study]]
            assert len(peer.search_for_series(study)) == 1
            assert len(peer.search_for_instances(study, series)) == 2
            assert peer.retrieve_instance(study, series, uid).PixelData == images[0].PixelData
            assert len(peer.retrieve_series(study, series)) == 2
            assert len(peer.retrieve_study_metadata(study)) == 2
            assert peer.retrieve_instance_frames(study, series, uid, [1])[0] == images[0].PixelData
            assert peer.retrieve_instance_rendered(study, series, uid, media_types=("image/jpeg",))[:2] == b"\xff\xd8"  # fmt: skip
        finally:
            server.shutdown()
            thread.join()


def test_no_broken_file_is_half_stored_and_the_door_lives(here: Institution, folder: Path) -> None:
    token = tokens.issue("pacs", "system/ImagingStudy.c", here.code)
    whole = world.written(world.image(None, "", size=8))
    at = len(whole) - len(world.body(whole))
    dice = random.Random(7)
    broken = [whole[:n] for n in dice.sample(range(len(whole)), 40)]
    for _ in range(60):
        made = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            made[dice.randrange(at, len(made) - 130)] = dice.randrange(256)
        broken.append(bytes(made))
    for length in (b"\xff\xff\xff\x7f", b"\xfe\xff\xff\xff", b"\xff\xff\xff\xff"):
        broken.append(whole + b"\xe1\x7f\x10\x00OB\0\0" + length)
    deep = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    broken.append(
        whole + b"\xe1\x7f\x10\x00SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" + deep * 5000
    )
    bomb = zlib.compressobj(9, wbits=-15)
    mebibyte = bomb.compress(bytes(1 << 20)) + bomb.flush(zlib.Z_FULL_FLUSH)
    squeezed = mebibyte * 300 + bomb.flush()
    image = world.image(None, "", size=8)
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated = world.written(image)
    broken.append(deflated[: len(deflated) - len(world.body(deflated))] + squeezed)
    status, _, body = call("studies", token, world.parts(broken), CONTENT_TYPE=KIND)
    assert status in (202, 409)
    said = orjson.loads(body)
    refused = said["00081198"]["Value"]
    kept = said.get("00081199", {}).get("Value", [])
    assert len(refused) + len(kept) == len(broken)
    assert len(refused) >= 40
    assert all(one["00081197"]["Value"] for one in refused)
    assert not list(folder.rglob("*.part"))
    assert spool.waiting() == 0
    assert len(list((folder / "files").rglob("*.dcm"))) == Instance.objects.count() <= len(kept)
    assert call("studies", token, world.parts([whole]), CONTENT_TYPE=KIND)[0] == 202
    assert Instance.objects.filter(hash=_hash(world.body(whole))).exists()


def _hash(data: bytes) -> Any:
    import hashlib

    return hashlib.sha256(data).digest()
