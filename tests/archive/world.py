"""Made-up images and orders for the tests of the archive. Names are invented."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.regional.archive import header, storing
from lianxin.regional.archive.models import Device
from lianxin.regional.archive.spool import Sender
from lianxin.standards import clock, pinyin

CT = "1.2.840.10008.5.1.4.1.1.2"
_serial = itertools.count(1)


def person(name: str = "甄影像", **fields: Any) -> Person:
    """Somebody of the index."""
    number = f"{8_000_000_000 + next(_serial)}"
    fields.setdefault("sex", "male")
    return Person.objects.create(
        number=number, card_number=f"69{number}0000", name=name, pinyin=pinyin.full(name), initials=pinyin.initials(name), **fields
    )  # fmt: skip


def device(institution: Institution, ae_title: str = "CT1", **fields: Any) -> Device:
    """A device that may do everything."""
    fields.setdefault("may_query", True)
    return Device.objects.create(
        ae_title=ae_title, name=ae_title, institution=institution, created_at=clock.now(), **fields
    )


def image(of: Person | None = None, accession: str = "", **fields: Any) -> Dataset:
    """A small CT image; ``fields`` are attributes by keyword, ``size`` its edge, ``syntax`` its transfer syntax."""
    size = fields.pop("size", 16)
    syntax = fields.pop("syntax", ExplicitVRLittleEndian)
    charset = fields.pop("charset", "GB18030")
    made = Dataset()
    made.SpecificCharacterSet = charset
    made.SOPClassUID, made.SOPInstanceUID = CT, generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    now = clock.now()
    made.StudyDate, made.StudyTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    made.Modality, made.AccessionNumber = "CT", accession
    made.PatientName = f"{of.pinyin}={of.name}" if of else "Nobody^Known"
    made.PatientID = of.number if of else "X1"
    made.PatientBirthDate = of.birth_date.strftime("%Y%m%d") if of and of.birth_date else ""
    made.PatientSex = {"male": "M", "female": "F"}.get(of.sex, "") if of else ""
    made.SeriesNumber, made.InstanceNumber = 1, next(_serial)
    made.StudyDescription = "头颅平扫" if charset == "GB18030" else "HEAD"
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows = made.Columns = size
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    pixels = np.random.default_rng(int(made.InstanceNumber)).integers(0, 4096, (size, size), dtype="u2")
    made.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(made, name, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def series(of: Person | None, accession: str, count: int, **fields: Any) -> list[Dataset]:
    """Images of one series."""
    study, uid = generate_uid(), generate_uid()
    return [
        image(of, accession, **{"StudyInstanceUID": study, "SeriesInstanceUID": uid} | fields)
        for _ in range(count)
    ]


def written(made: Dataset) -> bytes:
    """As a DICOM file."""
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def body(file: bytes) -> bytes:
    """The data set's bytes of a DICOM file."""
    return file[header.meta(file, len(file))[1] :]


def store(
    institution: Institution, *images: Dataset | bytes, device: Device | None = None
) -> list[storing.Received]:
    """Take images as if they had been sent by an institution."""
    files = [one if isinstance(one, bytes) else written(one) for one in images]
    return storing.receive(
        [[one] for one in files], Sender(institution.pk, device.pk if device else None, "web")
    )


def parts(files: list[bytes], boundary: str = "b0undary") -> bytes:
    """A STOW body."""
    return b"".join(pieces(files, boundary))


def pieces(files: list[bytes], boundary: str) -> Iterator[bytes]:
    """The same, bit by bit."""
    for one in files:
        yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + one + b"\r\n"
    yield f"--{boundary}--\r\n".encode()
