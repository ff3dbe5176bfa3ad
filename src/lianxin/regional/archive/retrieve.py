"""Queries and retrievals over DIMSE: what a device asked for, in DICOM's words and the device's character set."""

from __future__ import annotations

import fnmatch
import io
from typing import Any

from django.db.models import Q
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom.presentation import PresentationContext, build_context

from lianxin.regional.archive import deliver, desk, hooks, query, studies, text
from lianxin.regional.archive.desk import Caller
from lianxin.regional.archive.hooks import WorkItem
from lianxin.regional.archive.models import Device, Instance
from lianxin.standards import clock

MOST_ROWS = 2000
MOST_MOVED = 20_000
LEVELS = {"PATIENT": "patient", "STUDY": "study", "SERIES": "series", "IMAGE": "instance"}
Unusable = query.Unusable


def _keys(asked: Dataset) -> dict[str, str]:
    """The matching keys of an identifier: keyword -> value as text."""
    keys: dict[str, str] = {}
    for element in asked:
        if element.VR == "SQ" or not element.keyword:
            continue
        value = element.value
        if value is None or value == "":
            keys[element.keyword] = ""
        elif isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
            keys[element.keyword] = "\\".join(str(one) for one in value)
        else:
            keys[element.keyword] = str(value)
    return keys


def _level(keys: dict[str, str]) -> str:
    level = LEVELS.get(keys.get("QueryRetrieveLevel", "").strip().upper())
    if level is None:
        raise Unusable("no query level")
    return level


@desk.asked
def find(caller: Caller, asked: Dataset) -> list[Dataset]:
    """Answers to a C-FIND. Raises Unusable."""
    from lianxin.access import audit, journal

    keys = _keys(asked)
    level = _level(keys)
    scope = desk.scope(caller)
    rows = query.search(scope, "study" if level == "patient" else level, keys, limit=MOST_ROWS)
    if level == "patient":
        rows = list({row["PatientID"]: row for row in rows}.values())
    journal.keep([audit.entry(scope, "search", what="C-FIND " + level, detail={"found": len(rows)})])
    charset = text.spoken(keys.get("SpecificCharacterSet", ""), caller.charset)
    wanted = set(keys) | {"QueryRetrieveLevel"}
    made = []
    for row in rows:
        one = Dataset()
        one.SpecificCharacterSet = text.value_of(charset)
        one.QueryRetrieveLevel = keys["QueryRetrieveLevel"].strip().upper()
        one.RetrieveAETitle = desk.settings.LIANXIN_DICOM_AE
        for name in wanted - {"QueryRetrieveLevel", "SpecificCharacterSet", "RetrieveAETitle"}:
            value = row.get(name)
            if name == "PatientName" and value:
                pinyin, _, characters = str(value).rpartition("=")
                value = text.person_name(pinyin, characters, charset)
            elif isinstance(value, str) and not text.encodable(value, charset):
                value = value.encode("ascii", "ignore").decode()
            setattr(one, name, value if value is not None else None)
        made.append(one)
    return made


@desk.asked
def worklist(caller: Caller, asked: Dataset) -> list[Dataset]:
    """What a modality is to do (PS3.4 K), as far as it matches what it asked."""
    keys = _keys(asked)
    steps = asked.get("ScheduledProcedureStepSequence")
    step = _keys(steps[0]) if steps else {}
    charset = text.spoken(keys.get("SpecificCharacterSet", ""), caller.charset)
    device = Device.objects.select_related("institution").get(pk=caller.device_id)
    return [_entry(item, device, charset) for item in hooks.work(device) if _due(item, keys, step, device)]


def _due(item: WorkItem, keys: dict[str, str], step: dict[str, str], device: Device) -> bool:
    for name, value in (("AccessionNumber", item.accession), ("PatientID", item.patient_id),
                        ("RequestedProcedureID", item.procedure_id or item.accession)):  # fmt: skip
        if not _like(keys.get(name, ""), value):
            return False
    name = keys.get("PatientName", "").strip("^* ")
    if name and not any(
        _like(f"{part}*" if "*" in keys["PatientName"] else part, item.name)
        or _like(part.replace("^", "").replace(" ", "") + "*", item.pinyin.replace("^", ""))
        for part in name.split("=") if part.strip("^* ")
    ):  # fmt: skip
        return False
    modality = step.get("Modality", "")
    if modality and item.modality and not _like(modality, item.modality):
        return False
    station = step.get("ScheduledStationAETitle", "")
    if station and not _like(station, item.station or device.ae_title):
        return False
    date = step.get("ScheduledProcedureStepStartDate", "").strip()
    if date and date != "*" and item.starts_at is not None:
        first, last = query.days(date)
        return first <= item.starts_at < last
    return True


def _like(pattern: str, value: str) -> bool:
    pattern = pattern.strip()
    return pattern in ("", "*") or any(
        fnmatch.fnmatchcase(value.casefold(), one.casefold().replace("[", "[[]"))
        for one in pattern.split("\\")
    )


def _entry(item: WorkItem, device: Device, charset: str) -> Dataset:
    def said(words: str) -> str:
        return words if text.encodable(words, charset) else words.encode("ascii", "ignore").decode()

    at = (item.starts_at or clock.now()).astimezone(clock.ZONE)
    made = Dataset()
    made.SpecificCharacterSet = text.value_of(charset)
    made.AccessionNumber = item.accession
    made.ReferringPhysicianName = said(item.referrer)
    made.PatientName = text.person_name(item.pinyin, item.name, charset)
    made.PatientID = item.patient_id
    made.PatientBirthDate = item.birth_date.strftime("%Y%m%d") if item.birth_date else ""
    made.PatientSex = query.SEX.get(item.sex, "")
    made.StudyInstanceUID = item.study_uid
    made.RequestedProcedureDescription = said(item.description)[:64]
    made.RequestedProcedureID = (item.procedure_id or item.accession)[:16]
    step = Dataset()
    step.Modality = item.modality or device.modality
    step.ScheduledStationAETitle = item.station or device.ae_title
    step.ScheduledProcedureStepStartDate = f"{at:%Y%m%d}"
    step.ScheduledProcedureStepStartTime = f"{at:%H%M%S}"
    step.ScheduledPerformingPhysicianName = said(item.performer)
    step.ScheduledProcedureStepDescription = said(item.description)[:64]
    step.ScheduledProcedureStepID = (item.procedure_id or item.accession)[:16]
    if item.procedure_code:
        code = Dataset()
        code.CodeValue = item.procedure_code[:16]
        code.CodingSchemeDesignator = "99LIANXIN"
        code.CodeMeaning = said(item.description)[:64]
        step.ScheduledProtocolCodeSequence = [code]
        made.RequestedProcedureCodeSequence = [code]
    made.ScheduledProcedureStepSequence = [step]
    return made


@desk.asked
def wanted(caller: Caller, asked: Dataset) -> list[Instance]:
    """The instances that a C-MOVE or C-GET names, as far as the caller may look at them; audited. Raises Unusable."""
    from lianxin.access import audit, journal

    keys = _keys(asked)
    level = _level(keys)
    scope = desk.scope(caller)
    q = Q()
    if uid := keys.get("StudyInstanceUID", ""):
        q &= Q(study_uid__in=query.uids(uid))
    elif level == "patient" and keys.get("PatientID"):
        q &= Q(person__number=keys["PatientID"].strip()) | Q(person__card_number=keys["PatientID"].strip())
    else:
        raise Unusable("nothing is named")
    rows = Instance.objects.filter(study__in=list(studies.seen(scope).filter(q).values_list("pk", flat=True)), live=True)  # fmt: skip
    if level in ("series", "instance") and (uid := keys.get("SeriesInstanceUID", "")):
        rows = rows.filter(series__uid__in=query.uids(uid))
    if level == "instance":
        rows = rows.filter(sop_uid__in=query.uids(keys.get("SOPInstanceUID", "")))
    found = list(
        rows.select_related("series", "study__person").order_by("study_id", "series_id", "number", "pk")[
            :MOST_MOVED
        ]
    )
    seen = {(one.study_id, one.study.person_id) for one in found}
    journal.keep(
        [
            audit.entry(
                scope, "read", person_id=person, what=f"study {pk}", detail={"how": "C-MOVE or C-GET"}
            )
            for pk, person in sorted(seen)
        ]
    )
    return found


def contexts(instances: list[Instance]) -> list[PresentationContext]:
    """What is proposed to whom these are sent: each class in the syntaxes they are stored in (128 at most)."""
    pairs = sorted({(one.sop_class, one.transfer_syntax) for one in instances})
    return [build_context(sop_class, syntax) for sop_class, syntax in pairs][:128] or [
        build_context("1.2.840.10008.1.1")
    ]


@desk.asked
def dataset(instance: Instance) -> Dataset:
    """An instance as it is delivered, for the wire."""
    whole = b"".join(deliver.delivered(instance).chunks())
    found: Any = dcmread(io.BytesIO(whole), force=True)
    return found
