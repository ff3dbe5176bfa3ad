"""One person's record as a page needs it: a timeline across institutions, a summary, and series for trends.

Every call takes a scope, asks for the relationship, and writes one audit event.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from django.db import connection, transaction

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.record import visible
from lianxin.record.definitions import sources
from lianxin.record.keys import key_scoped
from lianxin.record.store import opened
from lianxin.standards import clock
from lianxin.standards.text import T, Text

KINDS: dict[str, Text] = {
    "Encounter": T("就诊", "Encounter"),
    "Condition": T("诊断", "Diagnosis"),
    "Observation": T("检验检查结果", "Result"),
    "DiagnosticReport": T("报告", "Report"),
    "MedicationRequest": T("处方", "Prescription"),
    "Procedure": T("操作", "Procedure"),
    "Immunization": T("接种", "Immunization"),
    "AllergyIntolerance": T("过敏", "Allergy"),
    "DocumentReference": T("文书", "Document"),
    "Composition": T("文书", "Document"),
    "ServiceRequest": T("申请", "Request"),
    "Task": T("任务", "Task"),
    "Appointment": T("预约", "Appointment"),
    "ImagingStudy": T("影像", "Imaging"),
    "CarePlan": T("照护计划", "Care plan"),
    "CareTeam": T("照护团队", "Care team"),
    "Communication": T("沟通", "Message"),
    "EpisodeOfCare": T("照护过程", "Episode of care"),
    "Flag": T("警示", "Alert"),
    "Consent": T("知情同意", "Consent"),
}
DEFAULT_TYPES = [t for t in KINDS if t not in ("Task", "CareTeam", "Communication", "Consent")]
VISITS: dict[str, Text] = {  # v3-ActCode of Encounter.class
    "AMB": T("门诊", "Outpatient visit"),
    "IMP": T("住院", "Inpatient stay"),
    "ACUTE": T("住院", "Inpatient stay"),
    "EMER": T("急诊", "Emergency visit"),
    "HH": T("入户", "Home visit"),
    "OBSENC": T("留观", "Observation"),
    "SS": T("日间手术", "Day surgery"),
    "VR": T("远程诊疗", "Remote visit"),
}
DIASTOLIC = "8462-4"  # blood pressure is read systolic first, whatever the order it came in
LATEST = 40  # codes shown in the summary
WINDOW = 600  # last measurements it looks at


@dataclass(frozen=True)
class Entry:
    """One line of the timeline. ``kind`` is the resource type, ``label`` its name in the active language."""

    date: datetime | None
    kind: str
    title: str
    institution: str
    ref: str
    summary: str = ""

    @property
    def whole_day(self) -> bool:
        """Only the day is known (sources that give a date are stored at its midnight)."""
        local = self.date.astimezone(clock.ZONE) if self.date else None
        return local is None or (local.hour, local.minute, local.second) == (0, 0, 0)

    @property
    def label(self) -> Text:
        """The kind in both languages."""
        return KINDS.get(self.kind, Text(self.kind, self.kind))


@dataclass(frozen=True)
class Point:
    """One measured value of a series."""

    date: datetime
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    ref: str = ""


@dataclass
class Summary:
    """Problems, medicines, allergies and latest results of one person, each a dict with ``title``, ``date``, ``ref``, ``institution`` …"""

    problems: list[dict[str, Any]] = field(default_factory=list)
    medicines: list[dict[str, Any]] = field(default_factory=list)
    allergies: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    points: dict[str, list[Point]] = field(default_factory=dict)

    def series(self, code: str) -> list[Point]:
        """Values of one code (as in ``results[i]["code"]``) among the measurements read, oldest first."""
        return self.points.get(code, [])


def timeline(
    scope: Scope,
    person_id: int,
    *,
    types: list[str] | None = None,
    before: datetime | None = None,
    limit: int = 50,
) -> list[Entry]:
    """Entries of one person from every institution, newest first; ``before`` continues an earlier page.

    Raises NoRelationship unless the scope has a relationship with the person.
    """
    relationships.require(scope, person_id)
    kinds = types or DEFAULT_TYPES
    who, seen, facts, args = _seen(scope, person_id)
    with connection.cursor() as cur:
        cur.execute(
            f"{who} SELECT r.rtype, r.id, r.at, r.body, i.name FROM (SELECT r.rid FROM record_resource r WHERE r.person_id = %s"
            f" AND r.rtype = ANY(%s::text[]) AND NOT r.deleted AND r.at IS NOT NULL AND {seen}"
            # A letter of the platform stands as Composition and as DocumentReference: it is one entry for a reader.
            " AND NOT (r.platform AND r.rtype = 'DocumentReference') AND (%s::timestamptz IS NULL OR r.at < %s)"
            " ORDER BY r.at DESC, r.rid DESC LIMIT %s) p JOIN record_resource r USING (rid)"
            " LEFT JOIN network_institution i ON i.id = r.institution_id ORDER BY r.at DESC, r.rid DESC",
            [*facts, person_id, kinds, *args, before, before, limit],
        )
        rows = cur.fetchall()
    _note(scope, person_id, "timeline", len(rows))
    return [_entry(*row) for row in rows]


def counts(scope: Scope, person_id: int) -> dict[str, int]:
    """How many resources of each type the person has (for the tabs of a page); no audit: no content is shown."""
    relationships.require(scope, person_id)
    who, seen, facts, args = _seen(scope, person_id)
    with connection.cursor() as cur:
        cur.execute(
            f"{who} SELECT r.rtype, count(*) FROM record_resource r WHERE r.person_id = %s AND NOT r.deleted AND {seen}"
            " GROUP BY r.rtype",
            [*facts, person_id, *args],
        )
        return dict(cur.fetchall())


def _seen(scope: Scope, person_id: int) -> tuple[str, str, list[Any], list[Any]]:
    """The part of one person's record the scope may see: WITH clause, condition on ``r``, and the values of each."""
    facts, given = visible.person_facts(scope, f"{int(person_id)}::bigint")
    condition, args = visible.about_one(scope)
    return f"WITH who AS MATERIALIZED (SELECT {facts})", condition, given, args


def _listed(cur: Any, scope: Scope, person_id: int, types: list[str]) -> list[tuple[Any, ...]]:
    """All resources of some types, newest first."""
    who, seen, facts, args = _seen(scope, person_id)
    cur.execute(
        f"{who} SELECT r.rtype, r.id, r.at, r.body, i.name FROM record_resource r"
        " LEFT JOIN network_institution i ON i.id = r.institution_id"
        f" WHERE r.person_id = %s AND r.rtype = ANY(%s) AND NOT r.deleted AND {seen}"
        " ORDER BY r.at DESC NULLS LAST, r.rid DESC LIMIT 2000",
        [*facts, person_id, types, *args],
    )
    return cur.fetchall()


def _measured(cur: Any, scope: Scope, person_id: int) -> list[tuple[Any, ...]]:
    """The last measurements."""
    who, seen, facts, args = _seen(scope, person_id)
    cur.execute(
        f"{who} SELECT r.rtype, r.id, r.at, r.body, i.name FROM record_resource r"
        " LEFT JOIN network_institution i ON i.id = r.institution_id"
        f" WHERE r.person_id = %s AND r.rtype = 'Observation' AND NOT r.deleted AND r.at IS NOT NULL AND {seen}"
        f" ORDER BY r.at DESC LIMIT {WINDOW}",
        [*facts, person_id, *args],
    )
    return cur.fetchall()


def summary(scope: Scope, person_id: int) -> Summary:
    """Active problems, current medicines, allergies, alerts, and the latest value of each measured code.

    Raises NoRelationship unless the scope has a
    relationship with the person.
    """
    relationships.require(scope, person_id)
    made = Summary()
    with connection.cursor() as cur:
        listed = _listed(
            cur, scope, person_id, ["Condition", "MedicationRequest", "AllergyIntolerance", "Flag"]
        )
        measured = _measured(cur, scope, person_id)
    for row in listed:
        _list_one(made, *row)
    _results(made, measured)
    _note(scope, person_id, "summary", len(listed) + len(measured))
    return made


def banner(scope: Scope, person_id: int, *, noted: bool = False) -> Summary:
    """Allergies and alerts alone, for the banner of a page.

    ``noted``: the page writes the audit event of this look itself. Raises NoRelationship like :func:`summary`.
    """
    relationships.require(scope, person_id)
    made = Summary()
    with connection.cursor() as cur:
        listed = _listed(cur, scope, person_id, ["AllergyIntolerance", "Flag"])
    for row in listed:
        _list_one(made, *row)
    if not noted:
        _note(scope, person_id, "summary", len(listed))
    return made


def series(scope: Scope, person_id: int, code: str, *, limit: int = 500) -> list[Point]:
    """Values of one code of a person, oldest first, from the whole record."""
    relationships.require(scope, person_id)
    who, seen, facts, args = _seen(scope, person_id)
    with connection.cursor() as cur:
        cur.execute("SELECT subj FROM record_patient WHERE person_id = %s", [person_id])
        numbers = [source.number for source in sources("Observation", "combo-code")]
        keys = [key_scoped(subj, n, code) for (subj,) in cur.fetchall() for n in numbers]
        cur.execute(
            f"{who} SELECT r.id, r.at, r.body FROM record_resource r WHERE r.keys && %s::bigint[] AND r.person_id = %s"
            f" AND NOT r.deleted AND r.at IS NOT NULL AND {seen} ORDER BY r.at DESC LIMIT %s",
            [*facts, keys, person_id, *args, limit],
        )
        rows = cur.fetchall()
    found: list[Point] = []
    for rid, at, body in rows:
        found += [
            p
            for c, p in _points(orjson.loads(opened("Observation", body)), at, f"Observation/{rid}")
            if c == code
        ]
    _note(scope, person_id, "series", len(found))
    return sorted(set(found), key=lambda p: p.date)


def _note(scope: Scope, person_id: int, what: str, rows: int) -> None:
    with transaction.atomic():
        audit.write(scope, "read", person_id=person_id, what=what, detail={"rows": rows})


def concept(value: Any) -> str:
    """What a CodeableConcept says to a reader: its text, else a display, else a code."""
    if not isinstance(value, dict):
        return ""
    if value.get("text"):
        return value["text"]
    codings = value.get("coding") or [{}]
    return next((c["display"] for c in codings if c.get("display")), codings[0].get("code", ""))


def _status(resource: dict[str, Any], name: str) -> str:
    return next((c.get("code", "") for c in resource.get(name, {}).get("coding", ())), "")


def _entry(rtype: str, rid: str, at: datetime | None, body: bytes, institution: str | None) -> Entry:
    resource = orjson.loads(opened(rtype, body))
    title = ""
    for name in ("code", "medicationCodeableConcept", "vaccineCode", "type", "category", "serviceType"):
        value = resource.get(name)
        value = value[0] if isinstance(value, list) and value else value
        title = concept(value)
        if title:
            break
    visit = resource.get("class", {}) if rtype == "Encounter" else {}
    title = (
        resource.get("title")
        or resource.get("description")
        or title
        or str(VISITS.get(visit.get("code", ""), visit.get("display", "")))
    )
    return Entry(
        at,
        rtype,
        title or str(KINDS.get(rtype, rtype)),
        institution or _by_reference(resource),
        f"{rtype}/{rid}",
        _says(resource),
    )


def _by_reference(resource: dict[str, Any]) -> str:
    for name in ("serviceProvider", "custodian", "managingOrganization"):
        display = resource.get(name, {}).get("display") if isinstance(resource.get(name), dict) else None
        if display:
            return display
    return ""


def _says(resource: dict[str, Any]) -> str:
    """The line below the title: value, conclusion, dose, reason."""
    if (
        "valueQuantity" in resource
        or "component" in resource
        or "valueCodeableConcept" in resource
        or "valueString" in resource
    ):
        return value_text(resource)
    if resource.get("conclusion"):
        return resource["conclusion"]
    dosage = resource.get("dosageInstruction") or []
    if dosage and isinstance(dosage[0], dict) and dosage[0].get("text"):
        return dosage[0]["text"]
    reasons = [concept(r) for r in resource.get("reasonCode", ())]
    if any(reasons):
        return "；".join(r for r in reasons if r)
    period = resource.get("period")
    if isinstance(period, dict) and period.get("end"):
        return f"{str(period.get('start', ''))[:10]} – {period['end'][:10]}"
    return ""


def value_text(resource: dict[str, Any]) -> str:
    """An Observation's value as people read it (components joined by slashes)."""
    quantity = resource.get("valueQuantity")
    if quantity:
        return f"{_short(quantity.get('value'))} {quantity.get('unit') or quantity.get('code') or ''}".strip()
    if "valueCodeableConcept" in resource:
        return concept(resource["valueCodeableConcept"])
    if "valueString" in resource:
        return resource["valueString"]
    components = sorted(resource.get("component", ()), key=lambda c: _code(c) == DIASTOLIC)
    parts = [p["valueQuantity"] for p in components if "valueQuantity" in p]
    if parts:
        unit = parts[0].get("unit", "")
        return "/".join(_short(p.get("value")) for p in parts) + (f" {unit}" if unit else "")
    return ""


def _short(number: Any) -> str:
    return f"{number:.4g}" if isinstance(number, float) else str(number)


def _list_one(
    made: Summary, rtype: str, rid: str, at: datetime | None, body: bytes, institution: str | None
) -> None:
    resource = orjson.loads(opened(rtype, body))
    line = {
        "ref": f"{rtype}/{rid}", "date": at, "institution": institution or "", "title": concept(resource.get("code")), "resource": resource,
    }  # fmt: skip
    if rtype == "Condition":
        status = _status(resource, "clinicalStatus")
        if (
            status in ("", "active", "recurrence", "relapse")
            and _status(resource, "verificationStatus") != "entered-in-error"
        ):
            _once(made.problems, line)
    elif rtype == "MedicationRequest":
        if resource.get("status") == "active":
            line["title"] = concept(resource.get("medicationCodeableConcept")) or resource.get(
                "medicationReference", {}
            ).get("display", "")
            line["dose"] = _says(resource)
            _once(made.medicines, line)
    elif rtype == "AllergyIntolerance":
        if _status(resource, "clinicalStatus") != "resolved":
            line["criticality"] = resource.get("criticality", "")
            _once(made.allergies, line)
    elif resource.get("status") == "active":
        _once(made.alerts, line)


def _once(lines: list[dict[str, Any]], line: dict[str, Any]) -> None:
    if not any(other["title"] == line["title"] for other in lines):
        lines.append(line)


def _results(made: Summary, measured: list[tuple[Any, ...]]) -> None:
    points: dict[str, list[Point]] = defaultdict(list)
    seen: set[str] = set()
    for _, rid, at, body, institution in measured:
        resource = orjson.loads(opened("Observation", body))
        ref = f"Observation/{rid}"
        for code, point in _points(resource, at, ref):
            points[code].append(point)
        code = _code(resource)
        if code and code not in seen and len(seen) < LATEST:
            text = value_text(resource)
            if text:
                seen.add(code)
                made.results.append(
                    {
                        "code": code, "title": concept(resource.get("code")), "value": text, "date": at, "ref": ref,
                        "institution": institution or "", "flag": _status({"i": (resource.get("interpretation") or [{}])[0]}, "i"),
                        "codes": [_code(c) for c in resource.get("component", ())] or [code],
                    }
                )  # fmt: skip
    made.points = {code: found[::-1] for code, found in points.items()}


def _code(resource: dict[str, Any]) -> str:
    return next((c["code"] for c in resource.get("code", {}).get("coding", ()) if c.get("code")), "")


def _points(resource: dict[str, Any], at: datetime, ref: str) -> list[tuple[str, Point]]:
    found = []
    for part in (resource, *resource.get("component", ())):
        quantity = part.get("valueQuantity")
        code = _code(part)
        if code and quantity and type(quantity.get("value")) in (int, float):
            bounds = (part.get("referenceRange") or [{}])[0]
            found.append(
                (
                    code,
                    Point(
                        at, float(quantity["value"]), quantity.get("unit") or quantity.get("code") or "",
                        bounds.get("low", {}).get("value"), bounds.get("high", {}).get("value"), ref,
                    ),
                )
            )  # fmt: skip
    return found


__all__ = ["Entry", "Point", "Summary", "concept", "counts", "series", "summary", "timeline", "value_text"]
