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
    UID,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    RLELossless,
)

from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.network.models import Institution, Post
from lianxin.regional.archive import settle, spool, taking
from lianxin.regional.imaging import gate, wrapping
from lianxin.regional.reading import service
from lianxin.regional.reading.models import Item, Reader, Reading
from lianxin.standards import clock

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
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = UID(sop_class), ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "GB18030"
    ds.SOPClassUID = sop_class
    own = UID(wrapping.uid(whose.study_uid, str(series), str(number)))
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = own
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


# -------------------------------------------------------------------------------------------------------------- the story


@dataclass(frozen=True)
class Told:
    """One study of the story: where, what, how long ago it was ordered, and how far it got.

    ``patient``: the same number is the same person. ``until``: ordered, checked_in, queued, returned, retake or issued.
    """

    township: str
    patient: int
    item: str
    ago: dt.timedelta
    until: str
    indication: str
    priority: str = "routine"
    finding: bool = False
    findings: str = ""
    conclusion: str = ""


_HOURS = dt.timedelta(hours=1)
STORY = (
    Told("TT-CC", 0, "XR-CHEST", 24 * 20 * _HOURS, "issued", "咳嗽两周，查因", findings="双肺纹理增多，未见实变影。心影大小形态正常。双侧膈面光滑，肋膈角锐利。", conclusion="双肺纹理增多，请结合临床。"),
    Told("TT-CC", 0, "XR-CHEST", 0.5 * _HOURS, "queued", "咳嗽复查，与前片对比"),
    Told("TT-CC", 1, "CT-HEAD", 0.2 * _HOURS, "queued", "突发头痛伴左侧肢体无力 2 小时", priority="emergency", finding=True),
    Told("TT-CC", 2, "US-ABDO", 1.5 * _HOURS, "ordered", "右上腹不适，查因"),
    Told("TT-CC", 3, "XR-CHEST", 3 * _HOURS, "retake", "胸闷一周"),
    Told("TT-CC", 4, "CT-HEAD", 0.1 * _HOURS, "checked_in", "外伤后头晕", priority="urgent"),
    Told("TT-BH", 5, "CT-CHEST", 30 * _HOURS, "issued", "体检发现肺结节，复查", finding=True, findings="右肺上叶见一枚实性结节，直径约 6 mm，边缘光滑。纵隔未见肿大淋巴结。", conclusion="右肺上叶实性小结节（约 6 mm），建议 6～12 个月复查。"),
    Told("TT-BH", 6, "XR-CHEST", 1 * _HOURS, "returned", "入职体检"),
    Told("TT-BH", 7, "CT-HEAD", 0.9 * _HOURS, "queued", "头痛三天，查因"),
)  # fmt: skip
_PERSONS = 8
READERS = (("CT", "MR", "DX", "US"),) * 4


def play(seed: int, now: dt.datetime, lead: str = "TT-RMYY") -> int:
    """Play the story of two townships and their imaging centre up to ``now``; returns how many studies it has.

    Through the platform's own doors: orders, the archive's spool and gate, claims and signatures. Played once; nothing without staff.
    """
    centre = Institution.objects.filter(code=lead).first()
    made = 0
    if (
        centre is None
        or Reading.objects.unscoped("scenario: played before?").filter(requisition__startswith="YX").exists()
    ):
        return made
    readers = _readers(centre)
    if not readers:
        return made
    people: dict[int, Person] = {}
    for n, told in enumerate(STORY):
        place = Institution.objects.filter(code=told.township).first()
        doctor = _scope(place, roles.GP) if place else None
        technician = _scope(place, roles.TECHNICIAN) if place else None
        if place is None or doctor is None or technician is None:
            continue
        person = people.get(told.patient) or _person(place, told.patient, told.item)
        if person is None:
            continue
        people[told.patient] = person
        _one(told, f"YX{seed % 10000:04d}{n:02d}", person, place, centre, doctor, technician, readers, now)
        made += 1
    return made


def _scope(place: Institution, role: str) -> Scope | None:
    post = Post.objects.live().filter(institution=place, role=role).order_by("pk").first()
    account = (
        Account.objects.filter(practitioner_id=post.practitioner_id, is_active=True).first() if post else None
    )
    return scope_for_account(account, post) if account and post else None


def _readers(centre: Institution) -> list[Scope]:
    """The imaging readers of the centre; registered when nobody is."""
    found: list[Scope] = []
    for post in Post.objects.live().filter(institution=centre, role=roles.READER).order_by("pk"):
        account = Account.objects.filter(practitioner_id=post.practitioner_id, is_active=True).first()
        own = Reader.objects.filter(account=account, institution=centre) if account else Reader.objects.none()
        if account is None or (own.exists() and not own.filter(centre="imaging", active=True).exists()):
            continue  # another centre's reader
        if len(found) < len(READERS):
            Reader.objects.get_or_create(
                account=account, institution=centre, centre="imaging", defaults={"modalities": list(READERS[len(found)])}
            )  # fmt: skip
            found.append(scope_for_account(account, post))
    return found


def _person(place: Institution, n: int, item: str) -> Person | None:
    """A grown-up resident of a township, the same in every build."""
    rows = Person.objects.unscoped("scenario: whom the story is about").filter(
        home_institution__in=[place.pk, *place.children.values_list("pk", flat=True)], status="active", deceased_on=None,
        birth_date__lt=dt.date(1985, 1, 1),
    )  # fmt: skip
    return rows.order_by("pk")[37 * (n + 1)] if rows.count() > 37 * (_PERSONS + 1) else None


def _one(
    told: Told, requisition: str, person: Person, place: Institution, centre: Institution, doctor: Scope, technician: Scope,
    readers: list[Scope], now: dt.datetime,
) -> None:  # fmt: skip
    item = Item.objects.get(code=told.item)
    at = now - told.ago
    step = min(told.ago / 6, dt.timedelta(minutes=12))
    with clock.at(at):
        reading = service.order(
            doctor, person.pk, [item], {"indication": told.indication}, f"scenario:{requisition}", performer=place,
            centre_of=centre, priority=told.priority, requisition=requisition,
        )  # fmt: skip
    number = reading.case.number

    def act(by: Scope, minutes: int, move: str, form: dict[str, str] | None = None) -> None:
        with clock.at(at + minutes * step):
            service.act(by, number, move, form or {}, None, f"scenario:{requisition}:{move}")

    if told.until == "ordered":
        return
    act(technician, 1, "check_in")
    if told.until == "checked_in":
        return
    with clock.at(at + 2 * step):
        _arrive(reading, told)
    if told.until in ("queued", "returned"):
        return
    # the signature may be anybody's who reads this modality; the one who claims it writes
    reader = readers[int(reading.accession) % len(readers)]
    with clock.at(at + 3 * step):
        claimed = service.claim(reader, "imaging", number)
    if claimed is None:
        return
    if told.until == "retake":
        act(reader, 4, "return_retake", {"code": "position", "reason": "双侧肋膈角未包全，请深吸气后重摄。"})
        return
    with clock.at(at + 4 * step):
        content = {"findings": told.findings, "conclusion": told.conclusion, "positive": told.finding}
        service.save_draft(reader, number, str(claimed[1].token), content)
        service.act(reader, number, "sign", {}, None, f"scenario:{requisition}:sign")
    reading.refresh_from_db()
    if reading.issued_at:
        act(doctor, 5, "acknowledge", {"note": "已告知患者。"})


def _arrive(reading: Reading, told: Told) -> None:
    person = reading.person
    whose = Whose(
        reading.accession, gate.study_uid(reading), person.number, f"{gate.romanised(person.name)}={person.name}",
        {"male": "M", "female": "F"}.get(person.sex, ""), person.birth_date.strftime("%Y%m%d") if person.birth_date else "",
        clock.now(), " / ".join(o.item.name for o in reading.ordered.select_related("item")), reading.performer.name,
    )  # fmt: skip
    if told.item.startswith("CT"):
        part, count = ("HEAD", 20) if told.item == "CT-HEAD" else ("CHEST", 30)
        files = ct(whose, part, count, 256, told.finding, packed=True)
    else:
        files = dx(whose, 1024, black=told.until == "returned")
    sender = spool.Sender(reading.performer_id, None, "dicom")
    taken = []
    for data in files:
        incoming = spool.Incoming()
        incoming.write(data)
        facts, digest = incoming.examine()
        taken.append(incoming.keep(facts, digest, sender))
    settle.ended({t.study_id for t in taking.take(taken)})
