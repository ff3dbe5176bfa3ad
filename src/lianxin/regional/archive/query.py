"""Queries at three levels, asked alike by QIDO-RS and C-FIND: what matches, within a scope, as attributes by keyword.

Patients are those of the index: a study is found under the person it is attached to, by our number, in characters or pinyin. Matching is
that of DICOM PS3.4 C.2.2.2: single value, list of UIDs, wildcards, ranges of dates and times; no fuzzy names.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

from django.db.models import Q, QuerySet

from lianxin.access.scope import Scope
from lianxin.index.models import Person
from lianxin.regional.archive import studies
from lianxin.regional.archive.models import Instance, Series, Study
from lianxin.standards import clock

VRS: dict[str, tuple[str, str]] = {
    "SpecificCharacterSet": ("00080005", "CS"), "StudyDate": ("00080020", "DA"), "StudyTime": ("00080030", "TM"),
    "AccessionNumber": ("00080050", "SH"), "InstanceAvailability": ("00080056", "CS"), "Modality": ("00080060", "CS"),
    "ModalitiesInStudy": ("00080061", "CS"), "InstitutionName": ("00080080", "LO"), "ReferringPhysicianName": ("00080090", "PN"),
    "StudyDescription": ("00081030", "LO"), "SeriesDescription": ("0008103E", "LO"), "RetrieveURL": ("00081190", "UR"),
    "PatientName": ("00100010", "PN"), "PatientID": ("00100020", "LO"), "PatientBirthDate": ("00100030", "DA"),
    "PatientSex": ("00100040", "CS"), "BodyPartExamined": ("00180015", "CS"), "StudyInstanceUID": ("0020000D", "UI"),
    "SeriesInstanceUID": ("0020000E", "UI"), "StudyID": ("00200010", "SH"), "SeriesNumber": ("00200011", "IS"),
    "InstanceNumber": ("00200013", "IS"), "NumberOfStudyRelatedSeries": ("00201206", "IS"),
    "NumberOfStudyRelatedInstances": ("00201208", "IS"), "NumberOfSeriesRelatedInstances": ("00201209", "IS"),
    "SOPClassUID": ("00080016", "UI"), "SOPInstanceUID": ("00080018", "UI"), "NumberOfFrames": ("00280008", "IS"),
    "Rows": ("00280010", "US"), "Columns": ("00280011", "US"), "BitsAllocated": ("00280100", "US"),
    "AvailableTransferSyntaxUID": ("00083002", "UI"), "SeriesDate": ("00080021", "DA"), "SeriesTime": ("00080031", "TM"),
    "SOPClassesInStudy": ("00080062", "UI"),
}  # fmt: skip
"""Attributes we answer with: keyword -> (tag, VR)."""
BY_TAG = {tag: keyword for keyword, (tag, _) in VRS.items()}
SEX = {"male": "M", "female": "F", "other": "O"}
LEVELS = ("study", "series", "instance")
Row = dict[str, Any]


class Unusable(ValueError):
    """A matching value that cannot be understood."""


def keyword(name: str) -> str | None:
    """The keyword of an attribute given as keyword or tag ("PatientID", "00100020"); None for one we do not match by."""
    if name in VRS:
        return name
    return BY_TAG.get(name.upper())


def search(
    scope: Scope,
    level: str,
    keys: Mapping[str, str],
    *,
    limit: int,
    offset: int = 0,
    within: QuerySet[Study] | None = None,
) -> list[Row]:
    """What matches ``keys`` (keyword -> value) at a level, the latest study first. ``within`` narrows the studies. Raises Unusable."""
    rows = (studies.seen(scope) if within is None else within).filter(_study_q(keys))
    if level == "study":
        found = rows.select_related("person", "institution").order_by("-study_at", "-pk")[
            offset : offset + limit
        ]
        counts = _series_counts([one.pk for one in found])
        return [study_row(one) | {"NumberOfStudyRelatedSeries": counts.get(one.pk, 0)} for one in found]
    ids = rows.values("pk")
    if level == "series":
        series = (
            Series.objects.filter(_series_q(keys), study_id__in=ids)
            .select_related("study__person", "study__institution")
            .order_by("-study__study_at", "study_id", "number", "pk")
        )
        return [study_row(one.study) | series_row(one) for one in series[offset : offset + limit]]
    items = (
        Instance.objects.filter(
            _instance_q(keys), _series_q(keys, "series__"), study_id__in=ids, live=True
        ).select_related("series", "study__person", "study__institution")
        .order_by("-study__study_at", "study_id", "series__number", "series_id", "number", "pk")
    )  # fmt: skip
    return [
        study_row(one.study) | series_row(one.series) | instance_row(one)
        for one in items[offset : offset + limit]
    ]


def _series_counts(ids: list[int]) -> dict[int, int]:
    from django.db.models import Count

    return dict(
        Series.objects.filter(study_id__in=ids).values_list("study_id").annotate(n=Count("pk")).order_by()
    )


def study_row(one: Study) -> Row:
    """Attributes of a study and its patient."""
    at = one.study_at.astimezone(clock.ZONE) if one.study_at else None
    person = one.person
    return {
        "StudyDate": f"{at:%Y%m%d}" if at else "", "StudyTime": f"{at:%H%M%S}" if at else "",
        "AccessionNumber": one.accession, "InstanceAvailability": "ONLINE",
        "ModalitiesInStudy": list(one.modalities) or ([one.modality] if one.modality else []),
        "InstitutionName": one.institution.name, "ReferringPhysicianName": one.referrer,
        "PatientName": patient_name(person) if person else "", "PatientID": person.number if person else "",
        "PatientBirthDate": person.birth_date.strftime("%Y%m%d") if person and person.birth_date else "",
        "PatientSex": SEX.get(person.sex, "") if person else "",
        "StudyInstanceUID": one.study_uid, "StudyID": one.study_id, "StudyDescription": one.description,
        "NumberOfStudyRelatedInstances": one.instances,
    }  # fmt: skip


def patient_name(person: Person) -> str:
    """A PN value of a person: in pinyin and in characters ("zhangsan=张三")."""
    if person.name.isascii():
        return person.name.replace(" ", "^")
    return f"{person.pinyin.split(' ')[0]}={person.name}"


def series_row(one: Series) -> Row:
    """Attributes of a series."""
    at = one.started_at.astimezone(clock.ZONE) if one.started_at else None
    return {
        "Modality": one.modality, "SeriesInstanceUID": one.uid, "SeriesNumber": one.number, "SeriesDescription": one.description,
        "BodyPartExamined": one.body_part, "NumberOfSeriesRelatedInstances": one.instances,
        "SeriesDate": f"{at:%Y%m%d}" if at else "", "SeriesTime": f"{at:%H%M%S}" if at else "",
    }  # fmt: skip


def instance_row(one: Instance) -> Row:
    """Attributes of an instance."""
    row: Row = {
        "SOPClassUID": one.sop_class, "SOPInstanceUID": one.sop_uid, "InstanceNumber": one.number,
        "AvailableTransferSyntaxUID": one.transfer_syntax,
    }  # fmt: skip
    if one.rows:
        row |= {
            "Rows": one.rows,
            "Columns": one.columns,
            "BitsAllocated": one.bits,
            "NumberOfFrames": one.frames,
        }
    return row


def _study_q(keys: Mapping[str, str]) -> Q:
    q = Q()
    for name, value in keys.items():
        value = value.strip()
        if value in ("", "*", '""'):
            continue
        if name == "StudyInstanceUID":
            q &= Q(study_uid__in=uids(value))
        elif name == "PatientID":
            q &= _text("person__number", value) | _text("person__card_number", value)
        elif name == "PatientName":
            q &= _name(value)
        elif name == "PatientBirthDate":
            first, last = days(value)
            q &= (
                Q(person__birth_date__gte=first.date()) & Q(person__birth_date__lt=last.date())
                if last > first
                else Q(pk__in=())
            )
        elif name == "PatientSex":
            q &= Q(person__sex={v: k for k, v in SEX.items()}.get(value.upper(), ""))
        elif name == "AccessionNumber":
            q &= _text("accession", value)
        elif name == "StudyDate":
            first, last = days(value)
            q &= Q(study_at__gte=first, study_at__lt=last)
        elif name == "StudyTime":
            q &= _times(value)
        elif name in ("ModalitiesInStudy", "Modality"):
            q &= Q(modalities__overlap=re.split(r"[\\,]", value.upper()))
        elif name == "StudyDescription":
            q &= _text("description", value)
        elif name == "StudyID":
            q &= _text("study_id", value)
        elif name == "ReferringPhysicianName":
            q &= _text("referrer", value)
        elif name == "InstitutionName":
            q &= _text("institution__name", value)
    return q


def _series_q(keys: Mapping[str, str], prefix: str = "") -> Q:
    q = Q()
    for name, field in (
        ("Modality", "modality"),
        ("SeriesDescription", "description"),
        ("BodyPartExamined", "body_part"),
    ):
        value = keys.get(name, "").strip()
        if value not in ("", "*"):
            parts = re.split(r"[\\,]", value) if name == "Modality" else [value]
            one = Q()
            for part in parts:
                one |= _text(prefix + field, part)
            q &= one
    if uid := keys.get("SeriesInstanceUID", "").strip("* "):
        q &= Q(**{f"{prefix}uid__in": uids(uid)})
    return q & _number(keys, "SeriesNumber", f"{prefix}number")  # fmt: skip


def _instance_q(keys: Mapping[str, str]) -> Q:
    q = _number(keys, "InstanceNumber", "number")
    for name, field in (("SOPInstanceUID", "sop_uid"), ("SOPClassUID", "sop_class")):
        if uid := keys.get(name, "").strip("* "):
            q &= Q(**{f"{field}__in": uids(uid)})
    return q


def _number(keys: Mapping[str, str], name: str, field: str) -> Q:
    value = keys.get(name, "").strip("* ")
    if not value:
        return Q()
    if not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise Unusable(f"{name}: {value[:40]}")
    return Q(**{field: int(value)})


def uids(value: str) -> list[str]:
    return [part.strip() for part in re.split(r"[\\,]", value) if part.strip()]


def _text(field: str, value: str) -> Q:
    """A single value, or one with wildcards."""
    if "*" in value or "?" in value:
        pattern = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in value)
        return Q(**{f"{field}__iregex": f"^{pattern}$"})
    return Q(**{field: value})


def _name(value: str) -> Q:
    """A name in characters or pinyin, in any of the three spellings of PN."""
    q = Q()
    for group in value.split("="):
        if not group.strip("^ *"):
            continue
        plain = re.sub(r"[\^ ]", "", group)
        if any(c > "\x7f" for c in plain):
            q |= _text("person__name", plain)
            continue
        q |= _text("person__pinyin", plain.lower()) | _text("person__name", group.replace("^", " ").strip())
        parts = [part for part in re.split(r"[\^ ]", group) if part]
        if len(parts) == 2 and "*" not in group:
            q |= Q(person__pinyin=(parts[1] + parts[0]).lower())
    return q


def _day(text: str) -> dt.datetime:
    text = text.strip().replace(".", "").replace("-", "")
    try:
        return dt.datetime.strptime(text, "%Y%m%d").replace(tzinfo=clock.ZONE)
    except ValueError:
        raise Unusable(f"not a date: {text[:40]}") from None


def days(value: str) -> tuple[dt.datetime, dt.datetime]:
    """A date or a range as the instants from which and before which."""
    one = dt.timedelta(days=1)
    first, dash, last = value.partition("-")
    if not dash:
        return _day(first), _day(first) + one
    begin = _day(first) if first.strip() else dt.datetime(1, 1, 2, tzinfo=clock.ZONE)
    end = _day(last) if last.strip() else dt.datetime(9999, 12, 30, tzinfo=clock.ZONE)
    return begin, end + one


def _time(text: str, fill: str) -> dt.time:
    digits = re.sub(r"[^0-9]", "", text.split(".")[0])[:6]
    try:
        return dt.datetime.strptime(digits + fill[len(digits) :], "%H%M%S").time()
    except ValueError:
        raise Unusable(f"not a time: {text[:40]}") from None


def _times(value: str) -> Q:
    first, dash, last = value.partition("-")
    if not dash:
        return Q(study_at__time__gte=_time(first, "000000"), study_at__time__lte=_time(first, "005959"))
    q = Q()
    if first.strip():
        q &= Q(study_at__time__gte=_time(first, "000000"))
    if last.strip():
        q &= Q(study_at__time__lte=_time(last, "235959"))
    return q


def json_value(name: str, value: Any) -> dict[str, Any]:
    """An attribute in the DICOM JSON model (PS3.18 F.2)."""
    _, vr = VRS[name]
    made: dict[str, Any] = {"vr": vr}
    if value in ("", None, []):
        return made
    values = value if isinstance(value, list) else [value]
    if vr == "PN":
        made["Value"] = [person_name(str(one)) for one in values]
    elif vr in ("IS", "US"):
        made["Value"] = [int(one) for one in values]
    else:
        made["Value"] = [str(one) for one in values]
    return made


def person_name(text: str) -> dict[str, str]:
    """A PN value in the DICOM JSON model."""
    groups = text.split("=")
    names = ("Alphabetic", "Ideographic", "Phonetic")
    return {name: part for name, part in zip(names, groups, strict=False) if part}
