"""The quality gate and the glue to the archive: what a device is to do, whose an accession number is, what follows when images arrive."""

from __future__ import annotations

import io
import logging
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydicom
from django.db import transaction
from pydicom.errors import InvalidDicomError
from pydicom.pixels import pixel_array

from lianxin.duty import notices
from lianxin.network.policy import Settings
from lianxin.regional.archive import hooks as archive
from lianxin.regional.archive import store, studies
from lianxin.regional.archive.models import Device, Instance, Study
from lianxin.regional.imaging import rules
from lianxin.regional.imaging.models import Quality
from lianxin.regional.reading import effects, moves, service
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock, pinyin
from lianxin.standards.text import T

SETTINGS = Settings(Path(__file__).parent / "data" / "quality.yaml", "reading.Policy")
LOOKED = 3
"""Of so many images a series the pixels are looked at: the first, the middle and the last."""
_SPACE = uuid.UUID("6f2d2a53-7a0b-5d0e-9a7c-0d1c0f4be6a1")
_UNREADABLE = (InvalidDicomError, ValueError, RuntimeError, NotImplementedError, AttributeError, KeyError, TypeError, OSError, EOFError)  # fmt: skip
_log = logging.getLogger(__name__)


# ---------------------------------------------------------------------------------------------------- what the archive asks


def study_uid(reading: Reading) -> str:
    """The UID under which images of this attempt are expected: the same for worklist, upload and retries (DICOM PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_SPACE, f'{reading.accession}:{reading.retakes}').int}"


def order_of(accession: str) -> tuple[int, int, str] | None:
    """Whose an accession number is: person, performing institution, number of the order; None when it is no order of ours (or a
    cancelled one)."""
    row = (
        Reading.objects.unscoped("the archive asks whose an accession number is")
        .filter(accession=accession)
        .exclude(case__state="cancelled")
        .values_list("person_id", "performer_id", "case__number")
        .first()
    )
    return (row[0], row[1], row[2]) if row else None


def worklist(device: Device) -> list[archive.WorkItem]:
    """What is to be done at a device now: orders of its institution and modality that wait to be acquired."""
    rows = (
        Reading.objects.unscoped("a device's own worklist")
        .filter(performer_id=device.institution_id, live=True, case__state__in=("ordered", "checked_in", "retake"))
        .exclude(centre="laboratory")
        .select_related("person", "case", "orderer", "practitioner", "performer")
        .prefetch_related("ordered__item")
        .order_by("checked_in_at", "ordered_at", "pk")
    )  # fmt: skip
    if device.modality:
        fits = {m for m, backs in SETTINGS.value("imaging.modalities", device.institution_id).items() if device.modality in backs}  # fmt: skip
        rows = rows.filter(modality__in={device.modality, *fits})
    return [_item(reading, device) for reading in rows[:500]]


def _item(reading: Reading, device: Device) -> archive.WorkItem:
    person = reading.person
    items = [o.item for o in reading.ordered.all() if o.active]
    return archive.WorkItem(
        accession=reading.accession, patient_id=person.number, name=person.name, pinyin=romanised(person.name), sex=person.sex,
        birth_date=person.birth_date, study_uid=study_uid(reading), modality=device.modality or reading.modality,
        starts_at=reading.checked_in_at or reading.ordered_at, station=device.ae_title,
        description="、".join(i.name for i in items)[:64], procedure_code=items[0].code[:16] if items else "",
        procedure_id=reading.accession, referrer=reading.practitioner.name if reading.practitioner else reading.orderer.name,
        performer="", body_part=items[0].body_part if items else "",
    )  # fmt: skip


def romanised(name: str) -> str:
    """A name in Latin letters as DICOM writes one: surname^given ("ZHANG^SANFENG"); "" for a name without any."""
    spelt = [s.upper() for s in pinyin.syllables(name)]
    if len(spelt) != len(name) or name.isascii():  # not written in characters alone: one word
        return "".join(spelt)
    length = 2 if name[:2] in pinyin.COMPOUND and len(name) > 2 else 1
    return "^".join(part for part in ("".join(spelt[:length]), "".join(spelt[length:])) if part)


# ------------------------------------------------------------------------------------------------------------- arriving


def on_study(study: Study) -> None:
    """Images of an order are complete: judge them, and let the order into the queue or leave it with its performer.

    Called again for the same study; what was judged before a retake and has not grown is not taken for the new attempt.
    """
    reading = (
        Reading.objects.unscoped("the archive knows the accession number")
        .select_related("case", "performer", "centre_of", "person")
        .filter(accession=study.accession)
        .exclude(centre="ecg")  # a waveform is no image: the ECG centre takes it
        .first()
    )
    if reading is None or reading.person_id != study.person_id:
        return
    with transaction.atomic():
        before = Quality.objects.unscoped("the study's own").select_for_update().filter(study_uid=study.study_uid).first()  # fmt: skip
        if before is not None and before.images == study.instances and before.attempt <= reading.retakes:
            if before.stands or before.attempt < reading.retakes or reading.case.state not in moves.BEFORE:
                return
            quality = before
        else:
            quality = judged(reading, study, before)
        if reading.case.state not in moves.BEFORE or quality.stands:
            return
        service.arrived(
            reading.accession, study.study_uid, study.device.ae_title if study.device else reading.device,
            {"quality": quality.verdict, "images": study.instances},
        )  # fmt: skip


def judged(reading: Reading, study: Study, before: Quality | None = None) -> Quality:
    """What the gate says of a study, kept; its performer is told when it comes back to them."""
    verdict = judge(reading, study)
    quality: Quality = before or Quality(
        reading=reading, person_id=reading.person_id, institution_id=reading.performer_id,
        centre_id=reading.centre_of_id, study_uid=study.study_uid, modality=reading.modality,
    )  # fmt: skip
    quality.attempt, quality.images, quality.judged_at = reading.retakes, study.instances, clock.now()
    quality.verdict, quality.codes, quality.findings = verdict.verdict, verdict.codes, verdict.findings
    quality.anyway, quality.anyway_by = "", None
    quality.save()
    if quality.stands and reading.case.state in moves.BEFORE:
        said = [rules.words(f) for f in verdict.findings]
        text = T("{no} 影像质控退回：{why}", "{no}: images returned by the quality gate: {why}")
        why = T("".join(w.zh for w in said), " ".join(w.en for w in said))
        notices.tell(
            reading.case, reading.performer_id, effects.role_at(reading.performer, "acquire"),
            text.format(no=reading.accession, why=why),
        )  # fmt: skip
    return quality


def judge(reading: Reading, study: Study) -> rules.Verdict:
    """What the rules say of a study against its order."""
    items = [o.item for o in reading.ordered.select_related("item").filter(active=True)]
    asked = rules.Asked(
        items=tuple(i.code for i in items), modality=reading.modality,
        part=items[0].body_part if items else "", side=_side(reading, [i.name for i in items]),
    )  # fmt: skip
    values = SETTINGS.values(reading.performer_id)
    return rules.judge(asked, list(_images(study, values)), _clock(study), values)


def _side(reading: Reading, names: Iterable[str]) -> str:
    given = str(reading.facts.get("side", "")).upper()[:1]
    if given in rules.SIDES:
        return given
    words = "".join(names)
    left, right = "左" in words, "右" in words
    return "L" if left and not right else "R" if right and not left else ""


def _clock(study: Study) -> str:
    if not study.clock:
        return ""
    return study.study_at.astimezone(clock.ZONE).strftime("%Y-%m-%d %H:%M") if study.study_at else "—"


def _images(study: Study, values: dict[str, Any]) -> Iterable[rules.Image]:
    rows = list(studies.instances(study))
    by_series: dict[int, list[Instance]] = {}
    for row in rows:
        if row.sop_class.startswith(rules.NO_IMAGE):
            continue
        by_series.setdefault(row.series_id, []).append(row)
    for found in by_series.values():
        looked = {found[0].pk, found[len(found) // 2].pk, found[-1].pk} if len(found) > LOOKED else {r.pk for r in found}  # fmt: skip
        for row in found:
            yield _image(row, row.pk in looked, values)


def _image(row: Instance, look: bool, values: dict[str, Any]) -> rules.Image:
    modality, part = row.series.modality, row.series.body_part
    if row.sop_class.startswith(rules.DOCUMENTS):
        return rules.Image(modality=modality, part=part, document=True)
    known: dict[str, Any] = {
        "modality": modality,
        "part": part,
        "rows": row.rows or 0,
        "columns": row.columns or 0,
        "frames": row.frames,
    }
    if not look:
        return rules.Image(**known, pixels=bool(row.rows))
    try:
        with store.opened(row.path) as data:
            file = io.BytesIO(data)
    except store.Full:
        _log.warning("the pixels of %s could not be read", row.sop_uid)
        return rules.Image(**known)
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        side = str(header.get("ImageLaterality", "") or header.get("Laterality", ""))[:1]
        known["part"] = part or str(header.get("BodyPartExamined", ""))
        file.seek(0)
        if "PixelData" not in pydicom.dcmread(file, defer_size=1024):
            return rules.Image(**known, side=side, pixels=False)
        file.seek(0)
        pixels = pixel_array(file, index=0, raw=True)
    except _UNREADABLE as error:
        _log.info("%s cannot be decoded: %s", row.sop_uid, error)
        return rules.Image(**known, readable=False)
    return rules.Image(**known, side=side, empty=rules.empty(pixels, float(values["imaging.empty_percent"])))


# --------------------------------------------------------------------------------------------- what the reading mechanism asks


def acquired(reading: Reading) -> Any:
    """None when there are images of this attempt to read, else why not."""
    if present(reading) is not None:
        return None
    if reading.retakes:
        return T("还没有收到重做后的影像。", "No image has arrived since it was to be taken again.")
    return T(
        "还没有收到该检查的影像：请从设备发送，或在此上传。",
        "No image of this order has arrived: send it from the device, or upload it here.",
    )


def present(reading: Reading) -> Study | None:
    """The last study that answers the present attempt: what was judged before a retake and has not grown does not."""
    before = Quality.objects.unscoped("the order was reached within the scope").filter(reading=reading)
    old = {q.study_uid: q.images for q in before.filter(attempt__lt=reading.retakes)}
    found = [s for s in stored(reading) if old.get(s.study_uid) != s.instances]
    return found[-1] if found else None


def stored(reading: Reading) -> Any:
    """The studies in the archive under an order's accession number, of its person, the first first."""
    rows = Study.objects.unscoped("the order was reached within the scope")
    return rows.filter(accession=reading.accession, person_id=reading.person_id, state="stored").order_by(
        "received_at", "pk"
    )
