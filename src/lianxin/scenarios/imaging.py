"""Images for the demonstration: phantoms drawn by arithmetic (no person's image is in the repository), sent through the archive.

A chest-like projection, a head-like and a chest-like CT series. They are ordered, acquired and read as any study: some wait for a reader,
one was returned by the quality gate, some are reported, so that every page of the imaging room has something to show.
"""

from __future__ import annotations

import datetime as dt
import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    RLELossless,
)

from lianxin.regional.imaging import wrapping

_CT, _DX = str(CTImageStorage), str(DigitalXRayImageStorageForPresentation)


@dataclass(frozen=True)
class Whose:
    """What the headers of a phantom say."""

    accession: str
    study_uid: str
    patient_id: str
    name: str
    sex: str = ""
    birth: str = ""
    at: dt.datetime = dt.datetime(2026, 1, 5, 9, 30, tzinfo=dt.UTC)
    description: str = ""
    institution: str = ""


# ----------------------------------------------------------------------------------------------------------------- drawing


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[-1 : 1 : complex(0, size), -1 : 1 : complex(0, size)].astype(np.float32)
    return x, y


def _oval(x: np.ndarray, y: np.ndarray, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1


def _noise(shape: tuple[int, int], amount: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, amount, shape).astype(np.float32)


def head(z: float, size: int, lesion: bool = False) -> np.ndarray:
    """A slice of a head in Hounsfield units; ``z`` from -1 (base) to 1 (vertex). ``lesion``: a bright spot as of blood."""
    x, y = _grid(size)
    around = max(0.35, (1 - 0.75 * z * z) ** 0.5)
    image = np.full((size, size), -1000, np.float32)
    image[_oval(x, y, 0, 0, 0.72 * around, 0.86 * around)] = 1100
    image[_oval(x, y, 0, 0, 0.66 * around, 0.80 * around)] = 34
    for side in (-1, 1):
        image[_oval(x, y, side * 0.14 * around, -0.05, 0.07 * around, 0.24 * around)] = 6
    image[_oval(x, y, 0, 0.32 * around, 0.02, 0.2 * around)] = 26
    if lesion and -0.25 < z < 0.25:
        image[_oval(x, y, 0.32, 0.08, 0.16 * (1 - 2 * abs(z)), 0.11)] = 68
    return image + _noise(image.shape, 6, int(z * 1000) + 5000)


def chest(z: float, size: int, nodule: bool = False) -> np.ndarray:
    """A slice of a chest in Hounsfield units; ``z`` from -1 (apex) to 1 (base). ``nodule``: a small one in the right lung."""
    x, y = _grid(size)
    image = np.full((size, size), -1000, np.float32)
    image[_oval(x, y, 0, 0, 0.88, 0.62)] = 40
    width = 0.20 + 0.14 * (1 - abs(z))
    for side in (-1, 1):
        image[_oval(x, y, side * 0.42, -0.02, width, 0.44)] = -850
        image[_oval(x, y, side * 0.84, 0.0, 0.03, 0.10)] = 700
    image[_oval(x, y, 0.10, 0.0, 0.2, 0.22)] = 45
    image[_oval(x, y, 0, 0.42, 0.10, 0.11)] = 500
    image[_oval(x, y, 0, -0.05, 0.035, 0.03)] = -1000
    if nodule and abs(z - 0.1) < 0.06:
        image[_oval(x, y, -0.45, 0.1, 0.045, 0.045)] = 30
    return image + _noise(image.shape, 12, int(z * 1000) + 9000)


def radiograph(size: int, lateral: bool = False) -> np.ndarray:
    """A chest-like projection, 12 bits, dark lungs on a bright body (MONOCHROME2)."""
    x, y = _grid(size)
    image = np.full((size, size), 150, np.float32)
    body = _oval(x, y, 0, 0.15, 0.55 if lateral else 0.82, 1.1)
    image[body] = 2300
    if lateral:
        image[_oval(x, y, 0.03, -0.05, 0.36, 0.62)] = 950
        image[_oval(x, y, 0.34, 0.1, 0.07, 0.9)] += 700
        image[_oval(x, y, -0.16, 0.25, 0.18, 0.22)] += 900
    else:
        for side in (-1, 1):
            image[_oval(x, y, side * 0.40, -0.08, 0.27, 0.58)] = 800
        image[_oval(x, y, 0.13, 0.18, 0.27, 0.27)] = 2700
        image[np.abs(x) < 0.06] += 500
        for n in range(9):
            rib = np.abs(y + 0.62 - 0.15 * n + 0.35 * x * x) < 0.017
            image[rib & body] += 330
    return np.clip(image + _noise(image.shape, 25, 7 + int(lateral)), 0, 4095)


# ------------------------------------------------------------------------------------------------------------------- DICOM


def _file(
    whose: Whose, sop_class: str, modality: str, series: int, number: int, part: str, words: str
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "GB18030"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = wrapping.uid(
        whose.study_uid, str(series), str(number)
    )
    ds.StudyInstanceUID, ds.SeriesInstanceUID = (
        whose.study_uid,
        wrapping.uid(whose.study_uid, f"series {series}"),
    )
    ds.AccessionNumber, ds.PatientID, ds.PatientName = whose.accession, whose.patient_id, whose.name
    ds.PatientSex, ds.PatientBirthDate = whose.sex, whose.birth
    local = whose.at.astimezone(dt.timezone(dt.timedelta(hours=8)))
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = local.strftime("%Y%m%d")
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = local.strftime("%H%M%S")
    ds.Modality, ds.BodyPartExamined, ds.SeriesNumber, ds.InstanceNumber = modality, part, series, number
    ds.StudyDescription, ds.SeriesDescription, ds.InstitutionName = (
        whose.description,
        words,
        whose.institution,
    )
    ds.StudyID, ds.ReferringPhysicianName, ds.Manufacturer = "1", "", "Lianxin phantom"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.BitsAllocated = 1, "MONOCHROME2", 16
    return ds


def _pack(ds: FileDataset, pixels: np.ndarray, packed: bool) -> bytes:
    ds.Rows, ds.Columns = pixels.shape
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW"
    if packed:
        ds.compress(RLELossless, generate_instance_uid=False)
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def ct(
    whose: Whose, part: str = "HEAD", slices: int = 24, size: int = 256, finding: bool = False, packed: bool = False
) -> list[bytes]:  # fmt: skip
    """A CT series from top to bottom as DICOM files; ``packed``: RLE."""
    files = []
    draw, words = (head, "头部平扫 5.0 mm") if part == "HEAD" else (chest, "胸部平扫 5.0 mm")
    for n in range(slices):
        z = 1 - 2 * n / max(slices - 1, 1)
        ds = _file(whose, _CT, "CT", 2, n + 1, part, words)
        pixels = np.clip(np.rint(draw(z * 0.9, size, finding)), -1024, 3071).astype("<i2")
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, 1
        spacing = (230.0 if part == "HEAD" else 360.0) / size
        ds.PixelSpacing, ds.SliceThickness = [round(spacing, 4)] * 2, "5"
        ds.ImageOrientationPatient, ds.ImagePositionPatient = (
            [1, 0, 0, 0, 1, 0],
            [-115, -115, round(-5.0 * n, 1)],
        )
        ds.FrameOfReferenceUID = wrapping.uid(whose.study_uid, "frame")
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "HU"
        ds.WindowCenter, ds.WindowWidth = ("35", "90") if part == "HEAD" else ("40", "400")
        ds.KVP, ds.ImageType = "120", ["ORIGINAL", "PRIMARY", "AXIAL"]
        files.append(_pack(ds, pixels, packed))
    return files


def dx(whose: Whose, size: int = 1024, views: int = 2, black: bool = False, packed: bool = True) -> list[bytes]:  # fmt: skip
    """A chest radiograph in one or two views; ``black``: as of a tube that did not fire."""
    files = []
    for n in range(views):
        ds = _file(whose, _DX, "DX", n + 1, 1, "CHEST", "侧位" if n else "正位")
        drawn = np.zeros((size, size), np.float32) if black else radiograph(size, lateral=n == 1)
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
        ds.ViewPosition, ds.PresentationIntentType = "LL" if n else "PA", "FOR PRESENTATION"
        ds.ImagerPixelSpacing, ds.PatientOrientation = [round(400 / size, 4)] * 2, ["L", "F"]
        ds.WindowCenter, ds.WindowWidth, ds.PresentationLUTShape = "1500", "2800", "IDENTITY"
        ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
        files.append(_pack(ds, drawn.astype("<u2"), packed))
    return files
