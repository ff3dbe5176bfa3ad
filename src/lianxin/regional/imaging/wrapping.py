"""What comes from devices without DICOM, made into DICOM: a picture becomes a Secondary Capture, a document an Encapsulated PDF
(PS3.3 A.8.1, A.45.1), with the identity of the order. Pure: bytes in, bytes out."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import uuid
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)

MOST_PIXELS = 60_000_000
"""A picture with more is refused (a 60 MP camera's; beyond lie decompression bombs)."""
QUALITY = 92
_SPACE = uuid.UUID("b2fbb4c8-6f52-5f0c-8d9b-5b8a0f5b6b53")
_SEXES = {"male": "M", "female": "F", "other": "O"}


class NotAPicture(Exception):
    """The bytes are no picture or document that can be wrapped."""


@dataclass(frozen=True)
class Identity:
    """Whose it is and which order it answers: what is written into the header."""

    accession: str
    study_uid: str
    patient_id: str
    name: str
    pinyin: str
    sex: str
    birth_date: dt.date | None
    modality: str
    description: str
    institution: str
    at: dt.datetime


def uid(*parts: str) -> str:
    """The same UID for the same parts, whatever the process (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_SPACE, chr(31).join(parts)).int}"


def picture(data: bytes, who: Identity, number: int) -> bytes:
    """A JPEG or PNG as a Secondary Capture: turned as its camera says, without what else the camera wrote. Raises NotAPicture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
            if opened.width * opened.height > MOST_PIXELS:
                raise NotAPicture("too large")
            lossy = opened.format == "JPEG"
            turned = ImageOps.exif_transpose(opened)
            image = turned.convert("L" if turned.mode in ("1", "L", "I", "I;16", "F") else "RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # fmt: skip
        raise NotAPicture(str(error)) from error
    ds = _common(SecondaryCaptureImageStorage, data, who, number)
    ds.Modality, ds.ConversionType = who.modality, "DI"
    ds.Rows, ds.Columns = image.height, image.width
    grey = image.mode == "L"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (1, "MONOCHROME2") if grey else (3, "RGB")
    if not grey:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    if lossy:
        out = io.BytesIO()
        image.save(out, "JPEG", quality=QUALITY, subsampling=0)
        ds.PixelData = encapsulate([out.getvalue()])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", "ISO_10918_1"
        if not grey:
            ds.PhotometricInterpretation = "YBR_FULL"
    else:
        pixels = image.tobytes()
        ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
        ds["PixelData"].VR = "OB"
        ds.compress(RLELossless, generate_instance_uid=False)
    return _bytes(ds)


def document(data: bytes, who: Identity, number: int) -> bytes:
    """A PDF as an Encapsulated PDF. Raises NotAPicture for what only begins like one."""
    if not data.startswith(b"%PDF-") or b"%%EOF" not in data[-2048:]:
        raise NotAPicture("no whole PDF")
    ds = _common(EncapsulatedPDFStorage, data, who, number)
    ds.Modality, ds.ConversionType, ds.BurnedInAnnotation = "DOC", "SD", "YES"
    ds.DocumentTitle, ds.MIMETypeOfEncapsulatedDocument = who.description, "application/pdf"
    ds.EncapsulatedDocument = data + b"\0" * (len(data) % 2)
    ds.EncapsulatedDocumentLength = len(data)
    return _bytes(ds)


def _common(sop_class: str, data: bytes, who: Identity, number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = UID(sop_class), ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = UID(
        uid(who.accession, hashlib.sha256(data).hexdigest())
    )
    ds.StudyInstanceUID = who.study_uid
    kind = "doc" if sop_class == EncapsulatedPDFStorage else "sc"
    ds.SeriesInstanceUID = uid(who.study_uid, kind)
    ds.SeriesNumber, ds.InstanceNumber = 901 if kind == "sc" else 902, number
    ds.SeriesDescription = "扫描图像" if kind == "sc" else "扫描文档"
    ds.StudyDescription, ds.StudyID, ds.AccessionNumber = who.description, who.accession, who.accession
    ds.PatientName = f"{who.pinyin}={who.name}" if who.pinyin else who.name
    ds.PatientID, ds.PatientSex = who.patient_id, _SEXES.get(who.sex, "")
    ds.PatientBirthDate = who.birth_date.strftime("%Y%m%d") if who.birth_date else ""
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = who.at.strftime("%Y%m%d")
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = who.at.strftime("%H%M%S")
    ds.TimezoneOffsetFromUTC = who.at.strftime("%z")
    ds.InstitutionName, ds.ReferringPhysicianName, ds.PatientOrientation = who.institution, "", ""
    ds.Manufacturer = "Lianxin"
    return ds


def _bytes(ds: FileDataset) -> bytes:
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()
