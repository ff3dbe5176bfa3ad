"""Files that a technician uploads on the page of an order: DICOM (single, several, in a zip), pictures and PDF.

A DICOM file that names another patient or another order is refused in words and nothing of it is kept; one that names nobody (a film
scanner, an anonymised export) gets the identity of the order it was uploaded to. Everything goes through the archive's own spool and
index, so a file is durable before it is acknowledged and twice the same file is one image.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.regional.archive import settle, spool, taking, whose
from lianxin.regional.archive.models import Instance
from lianxin.regional.archive.store import Full
from lianxin.regional.archive.walk import Damaged
from lianxin.regional.imaging import gate, wrapping
from lianxin.regional.reading.effects import items_text
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock
from lianxin.standards.text import T, Text

MOST_FILES = 3000
MOST_BYTES = 2 * 1024**3
"""Of one upload, unpacked."""
MOST_RATIO = 200
"""A zip entry that unpacks to more than so many times its size is a bomb (DICOM packs at most some 20 times)."""
_SKIP = ("__MACOSX/", "DICOMDIR", "Thumbs.db", ".DS_Store", "desktop.ini")
_DIFFERS: dict[str, Text] = {
    "name": T("姓名", "name"),
    "id": T("患者编号", "patient number"),
    "sex": T("性别", "sex"),
    "birth": T("出生日期", "date of birth"),
}
_PARSE = (InvalidDicomError, ValueError, KeyError, AttributeError, NotImplementedError, TypeError, EOFError, OSError, RuntimeError)  # fmt: skip


@dataclass
class Outcome:
    """What became of one file."""

    name: str
    ok: bool
    words: Text


class Refuse(Exception):
    """A file is not taken; ``words`` say why."""

    def __init__(self, words: Text) -> None:
        super().__init__(words.en)
        self.words = words


def accept(scope: Scope, reading: Reading, files: Iterable[Any]) -> list[Outcome]:
    """Store every file that belongs to the order; one outcome for each. The gate has judged the study when this returns.

    ``files``: Django's uploaded files. The caller has checked that the scope may acquire this order.
    """
    sender = spool.Sender(reading.performer_id, None, "page")
    outcomes: list[Outcome] = []
    studies: set[int] = set()
    stored = 0
    for name, data, trouble in _unpacked(files):
        if trouble is not None:
            outcomes.append(Outcome(name, False, trouble))
            continue
        try:
            taken = _store(_made(data, reading, stored + 1), sender)
        except Refuse as refusal:
            outcomes.append(Outcome(name, False, refusal.words))
            continue
        studies.add(taken.study_id)
        if taken.outcome == "stored":
            stored += 1
            outcomes.append(Outcome(name, True, T("已归档", "Stored")))
        elif taken.outcome == "duplicate" and not taken.problem:
            outcomes.append(Outcome(name, True, T("此前已上传", "Uploaded before")))
        else:
            outcomes.append(
                Outcome(name, False, T("已收到，但归属待核对，请到影像核对页处理。", "Received, but whose it is must be decided on the reconcile page."))
            )  # fmt: skip
    settle.ended(studies)
    audit.write(
        scope, "create", person_id=reading.person_id, what=f"images of {reading.accession}",
        detail={"files": len(outcomes), "stored": stored},
    )  # fmt: skip
    return outcomes


def _store(data: bytes, sender: spool.Sender) -> taking.Taken:
    incoming = spool.Incoming()
    try:
        incoming.write(data)
        facts, digest = incoming.examine()
        return taking.take([incoming.keep(facts, digest, sender)])[0]
    except Damaged as error:
        incoming.drop()
        raise Refuse(T("不是完整的 DICOM 文件。", "No whole DICOM file.")) from error
    except Full as error:
        incoming.drop()
        raise Refuse(
            T("影像归档空间不足，请稍后再试。", "The archive cannot take it now; try again later.")
        ) from error


# ------------------------------------------------------------------------------------------------------------- what it is


def _unpacked(files: Iterable[Any]) -> Iterator[tuple[str, bytes, Text | None]]:
    """(name, bytes, why not) of every file, zips opened one level deep."""
    count = size = 0
    for file in files:
        name = str(getattr(file, "name", "") or "")[-120:]
        data = file.read()
        parts: Iterable[tuple[str, bytes, Text | None]]
        parts = _zip(name, data) if data[:4] in (b"PK\x03\x04", b"PK\x05\x06") else [(name, data, None)]
        for one, content, trouble in parts:
            count += 1
            size += len(content)
            if count > MOST_FILES or size > MOST_BYTES:
                yield name, b"", T("一次上传过多，其余未处理，请分批上传。", "Too much at once: the rest was left; upload it in parts.")  # fmt: skip
                return
            yield one, content, trouble


def _zip(name: str, data: bytes) -> Iterator[tuple[str, bytes, Text | None]]:
    broken = T("压缩包损坏或加密，无法打开。", "The zip is damaged or encrypted.")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as box:
            for entry in box.infolist()[: MOST_FILES + 1]:
                base = entry.filename.rsplit("/", 1)[-1]
                if (
                    entry.is_dir()
                    or entry.filename.startswith(_SKIP)
                    or base in _SKIP
                    or base.startswith("._")
                ):
                    continue
                if entry.file_size > MOST_RATIO * max(entry.compress_size, 1024):
                    yield base, b"", T("压缩比异常，未解压。", "Suspicious compression: not unpacked.")
                    continue
                try:
                    yield base[-120:], box.read(entry), None
                except (zipfile.BadZipFile, RuntimeError, zlib.error, NotImplementedError, OSError, EOFError):
                    yield base[-120:], b"", broken
    except (zipfile.BadZipFile, OSError, ValueError):
        yield name, b"", broken


def _made(data: bytes, reading: Reading, number: int) -> bytes:
    """The bytes to store: a DICOM file that is this order's, or a picture or document wrapped as one. Raises Refuse."""
    if not data:
        raise Refuse(T("文件是空的。", "The file is empty."))
    if data[128:132] == b"DICM":
        return _dicom(data, reading)
    wrap = (
        wrapping.picture if data[:3] == b"\xff\xd8\xff" or data[:8] == b"\x89PNG\r\n\x1a\n"
        else wrapping.document if data[:5] == b"%PDF-" else None
    )  # fmt: skip
    if wrap is None:
        raise Refuse(T("不是 DICOM、JPEG、PNG 或 PDF 文件。", "Neither DICOM nor JPEG, PNG or PDF."))
    who = identity(reading)
    made = wrapping.uid(who.accession, hashlib.sha256(data).hexdigest())
    known = Instance.objects.filter(sop_uid=made, live=True).select_related("study").first()
    if known is not None and known.study.accession == reading.accession:
        raise Refuse(T("此前已上传。", "Uploaded before."))
    try:
        return wrap(data, who, number)
    except wrapping.NotAPicture as error:
        raise Refuse(T("图片或文档损坏，无法读取。", "The picture or document is damaged.")) from error


def identity(reading: Reading) -> wrapping.Identity:
    """The identity that a wrapped file gets."""
    person = reading.person
    return wrapping.Identity(
        accession=reading.accession, study_uid=gate.study_uid(reading), patient_id=person.number, name=person.name,
        pinyin=gate.romanised(person.name), sex=person.sex, birth_date=person.birth_date, modality=reading.modality,
        description=items_text(reading).zh[:64], institution=reading.performer.name[:64], at=clock.now(),
    )  # fmt: skip


def _dicom(data: bytes, reading: Reading) -> bytes:
    try:
        header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        facts = _facts(data)
    except Damaged as error:
        raise Refuse(T("DICOM 文件不完整或损坏。", "The DICOM file is incomplete or damaged.")) from error
    except _PARSE as error:
        raise Refuse(T("DICOM 文件损坏。", "The DICOM file is damaged.")) from error
    if facts.accession and facts.accession != reading.accession:
        raise Refuse(
            T("影像的检查号是 {found}，不是本申请的 {own}。", "The images carry accession number {found}, not {own}.").format(
                found=facts.accession, own=reading.accession
            )
        )  # fmt: skip
    differs = whose.difference(reading.person, facts, reading.performer_id)
    if differs and differs != ("nobody",):
        names = [_DIFFERS[d] for d in differs]
        raise Refuse(
            T("影像中的{what}与本申请的居民不符，未收入。", "The images' {what} differs from this order's person; not taken.").format(
                what=T("、".join(n.zh for n in names), ", ".join(n.en for n in names))
            )
        )  # fmt: skip
    if facts.accession and not differs:
        return data
    return _stamped(data, header, reading)


def _facts(data: bytes) -> Any:
    incoming = spool.Incoming()
    try:
        incoming.write(data)
        return incoming.examine()[0]
    finally:
        incoming.drop()


def _stamped(data: bytes, header: pydicom.Dataset, reading: Reading) -> bytes:
    """The same images with the accession number, and the person where they named nobody."""
    try:
        ds = pydicom.dcmread(io.BytesIO(data))
        who = identity(reading)
        ds.AccessionNumber = who.accession
        if not str(header.get("PatientName", "")).strip("^= ") and not header.get("PatientID", ""):
            ds.decode()
            ds.SpecificCharacterSet = "ISO_IR 192"
            ds.PatientName = f"{who.pinyin}={who.name}" if who.pinyin else who.name
            ds.PatientID = who.patient_id
        out = io.BytesIO()
        ds.save_as(out, enforce_file_format=True)
    except _PARSE as error:
        raise Refuse(T("DICOM 文件损坏。", "The DICOM file is damaged.")) from error
    return out.getvalue()
