"""One resource of the record as people read it: title, day, author, sections of plain lines. Senders' markup is never markup here."""

from __future__ import annotations

import datetime as dt
import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.utils.dateparse import parse_date, parse_datetime
from django.utils.html import strip_tags

from lianxin.record import timeline
from lianxin.standards.text import T, Text

TYPES = frozenset(
    {"Composition", "DocumentReference", "DiagnosticReport", "Encounter", "Observation", "Condition", "MedicationRequest",
     "Procedure", "Immunization", "AllergyIntolerance", "CarePlan", "ImagingStudy"}
)  # fmt: skip
"""What a person may open of their own record, one by one."""
_DATES = (
    "date", "effectiveDateTime", "issued", "authoredOn", "recordedDate", "performedDateTime", "occurrenceDateTime", "started", "onsetDateTime",
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """A heading and its lines."""

    title: Any
    lines: list[str]


@dataclass(frozen=True)
class Sheet:
    """A resource for reading."""

    title: str
    kind: Text
    at: dt.datetime | dt.date | None
    where: str
    author: str
    sections: list[Section]


def sheet(resource: dict[str, Any]) -> Sheet:
    """A resource for reading."""
    rtype = resource["resourceType"]
    title = resource.get("title") or resource.get("description") or ""
    for name in ("code", "medicationCodeableConcept", "vaccineCode", "type"):
        value = resource.get(name)
        title = title or timeline.concept(value[0] if isinstance(value, list) and value else value)
    kind = timeline.KINDS.get(rtype, Text(rtype, rtype))
    found = [s for s in _sections_of(resource) if s.lines]
    if not found:
        found = [
            s
            for s in [Section(T("正文", "Text"), plain((resource.get("text") or {}).get("div", "")))]
            if s.lines
        ]
    return Sheet(
        title or str(kind), kind, _date(resource), _display(resource, "custodian", "serviceProvider", "managingOrganization", "encounter"),
        _display(resource, "author", "performer", "recorder", "requester", "participant", "asserter"), found,
    )  # fmt: skip


def _sections_of(resource: dict[str, Any]) -> Iterable[Section]:
    for s in _deep(resource.get("section", ())):
        yield Section(
            s.get("title") or timeline.concept(s.get("code")), plain((s.get("text") or {}).get("div", ""))
        )
    value = timeline.value_text(resource)
    if value:
        yield Section(T("结果", "Result"), [value])
    ranges = [_range(r) for r in resource.get("referenceRange", ()) if isinstance(r, dict)]
    yield Section(T("正常参考", "Normal range"), [r for r in ranges if r])
    if resource.get("conclusion"):
        yield Section(T("结论", "Conclusion"), str(resource["conclusion"]).splitlines())
    for name, label in (
        ("reasonCode", T("原因", "Reason")), ("dosageInstruction", T("用法", "How to take it")), ("reaction", T("反应", "Reaction")),
        ("note", T("备注", "Remark")), ("bodySite", T("部位", "Site")), ("modality", T("方式", "Method")),
    ):  # fmt: skip
        given = resource.get(name)
        given = given if isinstance(given, list) else [given]
        lines = [_said(v) for v in given if isinstance(v, dict)]
        yield Section(label, [line for text in lines if text for line in text.splitlines()])


def _said(value: dict[str, Any]) -> str:
    if value.get("manifestation"):
        return "、".join(timeline.concept(m) for m in value["manifestation"])
    return timeline.concept(value) or str(
        value.get("text") or value.get("display") or value.get("code") or ""
    )


def _range(given: dict[str, Any]) -> str:
    if given.get("text"):
        return str(given["text"])
    low, high = (given.get(side) or {} for side in ("low", "high"))
    unit = low.get("unit") or high.get("unit") or ""
    if "value" not in low and "value" not in high:
        return ""
    return f"{low.get('value', '')}–{high.get('value', '')} {unit}".strip()


def _deep(found: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for section in found:
        yield section
        yield from _deep(section.get("section", ()))


def plain(div: str) -> list[str]:
    """The words of a narrative, line by line."""
    text = re.sub(r"(?i)<(br|/p|/li|/tr|/div|/h[1-6])[^>]*>", "\n", div)
    text = html.unescape(strip_tags(re.sub(r"(?i)</t[dh]>", " ", text)))
    return [line.strip() for line in text.splitlines() if line.strip()]


def _date(resource: dict[str, Any]) -> dt.datetime | dt.date | None:
    period = resource.get("period") or resource.get("onsetPeriod") or {}
    raw = next((str(resource[n]) for n in _DATES if resource.get(n)), "") or str(period.get("start", ""))
    try:
        return parse_datetime(raw) if len(raw) > 10 else parse_date(raw) if len(raw) == 10 else None
    except ValueError:  # an impossible day: the sender's mistake is not shown as a date
        return None


def _display(resource: dict[str, Any], *names: str) -> str:
    for name in names:
        value = resource.get(name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                one = one.get("individual") or one.get("actor") or one
                if one.get("display"):
                    return str(one["display"])
    return ""
