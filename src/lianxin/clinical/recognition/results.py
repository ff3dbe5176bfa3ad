"""The table of recognisable results: offered when a report goes out, offered again when it is amended, withdrawn when it was an error."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from lianxin.access.scope import Scope
from lianxin.clinical.recognition import knowing, marks
from lianxin.clinical.recognition.models import LIVE, WITHDRAWN, Group, Result
from lianxin.record import rows, store
from lianxin.record.keys import ref_key
from lianxin.record.problems import Problem
from lianxin.standards import clock


def offer(
    person_id: int,
    groups: Iterable[Group],
    *,
    institution_id: int,
    at: dt.datetime,
    ref: str,
    quality: str = "",
) -> int:
    """Make the result at ``ref`` recognisable for each of ``groups``; a group that fell away is withdrawn. Returns how many rows stand.

    Doing it again (an amendment, the same message twice) changes the same rows. ``quality`` "limited": images of limited quality.
    """
    known, key, wanted = knowing.known(), ref_key(ref), {g.pk for g in groups}
    day = at.astimezone(clock.ZONE).date()
    made = []
    for group_id in sorted(wanted):
        mark = marks.held(known, institution_id, group_id, day)
        made.append(
            Result(
                person_id=person_id, group_id=group_id, institution_id=institution_id, at=at, key=key, ref=ref[:90],
                assessment=mark, state=LIVE, quality=quality,
            )
        )  # fmt: skip
    Result.objects.bulk_create(
        made, update_conflicts=True, unique_fields=["key", "group"],
        update_fields=["person", "institution", "at", "assessment", "state", "quality"],
    )  # fmt: skip
    rest = (
        Result.objects.unscoped("the report's own rows")
        .filter(key=key, state=LIVE)
        .exclude(group_id__in=wanted)
    )
    rest.update(state=WITHDRAWN)
    return len(made)


def withdraw(refs: Iterable[str]) -> int:
    """What was entered in error, cancelled or deleted is recognised by nobody any more. Returns how many rows fell away."""
    keys = [ref_key(ref) for ref in refs]
    found: int = (
        Result.objects.unscoped("the report's own rows")
        .filter(key__in=keys, state=LIVE)
        .update(state=WITHDRAWN)
    )
    return found


@dataclass
class Content:
    """What a result says: values and findings are the result; ``conclusion`` is the physician's and is shown as information only."""

    values: list[str] = field(default_factory=list)
    findings: str = ""
    conclusion: str = ""
    title: str = ""
    images: bool = False


def content(scope: Scope, refs: Iterable[str]) -> dict[str, Content]:
    """What results say, by ref, as far as ``scope`` may read them in the record (a result it may not read is not in the answer)."""
    found: dict[str, Content] = {}
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        for ref in dict.fromkeys(refs):
            resource = _read(cur, scope, ref)
            if resource is not None:
                found[ref] = _said(cur, scope, resource)
    return found


def _read(cur: Any, scope: Scope, ref: str) -> dict[str, Any] | None:
    rtype, _, rid = ref.partition("/")
    try:
        held = store.read(cur, scope, rtype, rid)
    except Problem:
        return None
    if held is None or held.deleted:
        return None
    resource: dict[str, Any] = json.loads(held.body)
    return resource


MOST_VALUES = 24


def _said(cur: Any, scope: Scope, resource: dict[str, Any]) -> Content:
    said = Content(title=_label(resource), images=resource["resourceType"] == "ImagingStudy")
    if resource["resourceType"] == "Observation":
        _add(said, resource)
        return said
    said.conclusion = str(resource.get("conclusion") or "")
    for entry in (resource.get("result") or [])[:MOST_VALUES]:
        ref = str(entry.get("reference") or "") if type(entry) is dict else ""
        one = _read(cur, scope, ref) if ref.startswith("Observation/") else None
        if one is not None:
            _add(said, one)
    said.images = said.images or bool(resource.get("imagingStudy"))
    return said


def _add(said: Content, resource: dict[str, Any]) -> None:
    label, codes = _label(resource), {c.get("code") for c in (resource.get("code") or {}).get("coding") or []}
    text = resource.get("valueString")
    if text and "59776-5" in codes:  # LOINC: procedure findings narrative
        said.findings = str(text)
        return
    for part in [resource, *(resource.get("component") or [])]:
        value = _value(part)
        if value:
            said.values.append(f"{label if part is resource else _label(part)} {value}".strip())


def _label(resource: dict[str, Any]) -> str:
    code = resource.get("code") or {}
    return str(
        code.get("text") or next((c.get("display") for c in code.get("coding") or [] if c.get("display")), "")
    )


def _value(part: dict[str, Any]) -> str:
    quantity = part.get("valueQuantity")
    if type(quantity) is dict and quantity.get("value") is not None:
        flags = [c.get("code") for i in part.get("interpretation") or [] for c in i.get("coding") or []]
        arrow = {"H": " ↑", "HH": " ↑↑", "L": " ↓", "LL": " ↓↓"}.get(str(flags[0]) if flags else "", "")
        return (
            f"{quantity.get('comparator', '')}{quantity['value']} {quantity.get('unit', '')}{arrow}".strip()
        )
    concept = part.get("valueCodeableConcept")
    if type(concept) is dict:
        return _label({"code": concept})
    return str(part.get("valueString") or "")
