"""HR marks: only an item that took part in an external quality assessment and passed carries one, within its reach."""

from __future__ import annotations

import datetime as dt

from lianxin.clinical.recognition import knowing
from lianxin.clinical.recognition.knowing import Known, Place
from lianxin.clinical.recognition.models import MARKS, Assessment, Result
from lianxin.standards import clock, divisions
from lianxin.standards.models import Division

_ORDER = {reach: n for n, reach in enumerate(MARKS)}
_DIGITS = {"province": 2, "city": 4, "county": 6}


def held(known: Known, institution_id: int, group_id: int, on: dt.date) -> Assessment | None:
    """The assessment that gives an institution's results of a group their mark on a day: the widest that passed; a failure for a reach
    in the same or a later year takes that reach away."""
    group = known.groups.get(group_id)
    if group is None:
        return None
    mine = [
        a for a in known.assessments.values()
        if a.institution_id == institution_id and (a.group_id == group_id or (a.group_id is None and a.kind == group.kind))
        and a.effective_from <= on and (a.effective_until is None or on < a.effective_until)
    ]  # fmt: skip
    failed = [a for a in mine if not a.passed]
    passed = [
        a for a in mine
        if a.passed and not any(f.reach == a.reach and f.year >= a.year and (f.group_id or a.group_id is None) for f in failed)
    ]  # fmt: skip
    return min(passed, key=lambda a: (_ORDER[a.reach], -a.year, a.pk), default=None)


_names: dict[str, str] = {}


def _division(code: str) -> str:
    """A division's name: a county with what it lies in, as marks are printed; the code while it is not known."""
    if code not in _names:
        short = (
            Division.objects.filter(pk=code).values_list("name", flat=True).first()
            if code.endswith("00")
            else ""
        )
        name = short or divisions.full_name(code)
        if not name:
            return code
        _names[code] = name
    return _names[code]


def text(assessment: Assessment) -> str:
    """The mark as it is printed: 互认范围 + HR."""
    if assessment.reach == "national":
        return "全国HR"
    if assessment.reach == "consortium":
        return f"{assessment.consortium.name if assessment.consortium else ''}HR"
    return f"{_division(assessment.region)}HR"


def holds_at(assessment: Assessment, place: Place) -> bool:
    """Whether the mark says anything at an institution: a city's mark only inside that city."""
    if assessment.reach == "national":
        return True
    if assessment.reach == "consortium":
        return assessment.consortium_id in place.consortia
    digits = _DIGITS[assessment.reach]
    return bool(place.division) and place.division[:digits] == assessment.region[:digits]


def remark(assessment: Assessment) -> int:
    """An assessment was entered or changed: results of its institution made from its first day on get the mark they now have a right to.
    Returns how many changed."""
    knowing.forget()
    known = knowing.known()
    groups = [assessment.group_id] if assessment.group_id else [g.pk for g in known.groups.values() if g.kind == assessment.kind]  # fmt: skip
    since = dt.datetime.combine(assessment.effective_from, dt.time(), clock.ZONE)
    changed = 0
    for row in (
        Result.objects.unscoped("marks follow the quality assessment")
        .filter(institution_id=assessment.institution_id, group_id__in=groups, at__gte=since, state="live")
        .iterator()
    ):
        now = held(known, row.institution_id, row.group_id, row.at.astimezone(clock.ZONE).date())
        if row.assessment_id != (now.pk if now else None):
            Result.objects.unscoped("as above").filter(pk=row.pk).update(assessment=now)
            changed += 1
    return changed
