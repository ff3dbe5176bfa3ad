"""The FHIR projection of laboratory work, written to the record in the transaction of the move.

``ServiceRequest`` (id = case number) the order, ``Task`` (number + "-lab") what the laboratory owes, ``Specimen`` (number + "-s1" …) every
tube, ``Observation`` (number + "-" + analyte) each value that went out, ``DiagnosticReport`` (number) the report. Values are published when
the report goes out, not before; a value that is taken back is marked so at once and its report is partial until the corrected one follows.
"""

from __future__ import annotations

from typing import Any

from lianxin.duty.machine import Ctx
from lianxin.record import publish as record
from lianxin.record.building import instant, org, trim
from lianxin.regional.laboratory import calc, catalogue, results
from lianxin.regional.laboratory.models import Result, Specimen
from lianxin.regional.reading import publish as reading
from lianxin.regional.reading import reports
from lianxin.regional.reading.models import Reading, Report
from lianxin.regional.reading.publish import CS, ID, LOINC, patient

UCUM = "http://unitsofmeasure.org"
INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_WORDS = {
    "N": "Normal", "L": "Low", "H": "High", "LL": "Critical low", "HH": "Critical high", "A": "Abnormal", "AA": "Critical abnormal",
}  # fmt: skip
_TASK = {
    "ordered": "requested", "recollect": "on-hold", "collected": "accepted", "in_transit": "accepted", "received": "ready",
    "in_analysis": "in-progress", "resulted": "in-progress", "verified": "in-progress", "issued": "completed",
    "acknowledged": "completed", "cancelled": "cancelled",
}  # fmt: skip
_TUBE = {"refused": "unsatisfactory", "void": "entered-in-error", "disposed": "unavailable"}


def publish(ctx: Ctx) -> None:
    """Write the projection of the case as it stands now."""
    subject: Reading | None = ctx.subject
    if subject is None:
        return
    state, number = ctx.act.to_state, ctx.case.number
    items = [o.item for o in subject.ordered.select_related("item").filter(active=True).order_by("pk")]
    tubes = list(
        Specimen.objects.unscoped("the case's own tubes").filter(reading=subject).order_by("attempt")
    )
    tube = subject.laboratory.specimen
    if tube.reading_id != subject.pk:
        tubes = []  # a tube that was kept is published by the work it was taken for
    resources = [
        reading.service_request(subject, number, state, ctx.case.priority, items),
        _task(subject, number, state, ctx.case.priority),
        *(_specimen(subject, number, one) for one in tubes if one.state not in ("planned", "void")),
    ]
    if subject.issued_at is not None and (state in ("issued", "acknowledged") or ctx.act.move == "retract"):
        report = ctx.extra.get("report") or reports.issued(subject)
        if report is not None:
            resources += _report(subject, number, report, items, taken_back=ctx.act.move == "retract")
    record.publish(resources, person_id=subject.person_id, institution_id=subject.centre_of_id)


def _task(subject: Reading, number: str, state: str, priority: str) -> dict[str, Any]:
    return trim(
        {
            "resourceType": "Task",
            "id": f"{number}-lab",
            "identifier": [{"system": f"{ID}/reading", "value": number}],
            "basedOn": [{"reference": f"ServiceRequest/{number}"}],
            "status": _TASK[state],
            "businessStatus": {"coding": [{"system": f"{CS}/laboratory-state", "code": state}]},
            "intent": "order",
            "priority": reading.PRIORITY[priority],
            "code": {"coding": [{"system": f"{CS}/task", "code": "read-laboratory"}]},
            "focus": {"reference": f"ServiceRequest/{number}"},
            "for": patient(subject),
            "authoredOn": instant(subject.ordered_at),
            "requester": org(subject.orderer),
            "owner": org(subject.centre_of),
            "restriction": {"period": {"end": instant(subject.report_due_at)}},
            "output": [
                {
                    "type": {"coding": [{"system": LOINC, "code": "11502-2"}], "text": "检验报告"},
                    "valueReference": {"reference": f"DiagnosticReport/{number}"},
                }
            ]
            if subject.issued_at
            else [],
        }
    )


def specimen_id(tube: Specimen, number: str) -> str:
    """The id of a tube's resource."""
    return f"{number}-s{tube.attempt}"


def _specimen(subject: Reading, number: str, tube: Specimen) -> dict[str, Any]:
    kind = catalogue.kind(tube.kind)
    volume = (
        {"value": float(tube.volume_ml), "unit": "mL", "system": UCUM, "code": "mL"}
        if tube.volume_ml is not None
        else None
    )
    return trim(
        {
            "resourceType": "Specimen",
            "id": specimen_id(tube, number),
            "identifier": [{"system": f"{ID}/specimen", "value": tube.number}],
            "accessionIdentifier": {"system": f"{ID}/accession", "value": subject.accession},
            "status": _TUBE.get(tube.state, "available"),
            "type": {
                "coding": [{"system": "http://snomed.info/sct", "code": kind.snomed}, {"system": f"{CS}/specimen-kind", "code": kind.code}],
                "text": kind.label.zh,
            },
            "subject": patient(subject),
            "receivedTime": instant(tube.received_at),
            "request": [{"reference": f"ServiceRequest/{number}"}],
            "collection": trim({"collectedDateTime": instant(tube.collected_at), "quantity": volume}),
            "container": [{"description": kind.container.zh}],
            "condition": [{"coding": [{"system": f"{CS}/specimen-refusal", "code": tube.refused}], "text": catalogue.refusals()[tube.refused].zh}]
            if tube.refused
            else [],
            "note": [{"text": tube.note}] if tube.note else [],
        }
    )  # fmt: skip


def _report(
    subject: Reading, number: str, report: Report, items: list[Any], *, taken_back: bool
) -> list[dict[str, Any]]:
    have = results.current(subject)
    gone: dict[str, Result] = {}
    rows = (
        Result.objects.unscoped("the case's own")
        .filter(reading=subject, state="retracted")
        .order_by("attempt")
    )
    for row in rows:
        if row.analyte not in have:
            gone[row.analyte] = row
    tube = subject.laboratory.specimen
    of = tube.reading.case.number if tube.reading_id != subject.pk else number
    specimen = {"reference": f"Specimen/{specimen_id(tube, of)}", "display": tube.number}
    signers = [reading.doctor(p) for p in (report.practitioner, report.approver) if p is not None]
    amended = bool(report.reason)
    out = [
        _observation(subject, number, row, specimen, signers or [org(subject.centre_of)], "corrected" if amended and row.at > (subject.issued_at or row.at) else "final", report)
        for row in have.values()
    ]  # fmt: skip
    out += [
        _observation(subject, number, row, specimen, [org(subject.centre_of)], "entered-in-error", report)
        for row in gone.values()
    ]
    status = "partial" if taken_back else "corrected" if amended else "final"
    section = reading.SECTIONS["laboratory"]
    out.append(
        trim(
            {
                "resourceType": "DiagnosticReport",
                "id": number,
                "identifier": [{"system": f"{ID}/report", "value": f"{number}-{report.version}"}],
                "basedOn": [{"reference": f"ServiceRequest/{number}"}],
                "status": status,
                "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": section}]}],
                "code": reading.code_of(items),
                "subject": patient(subject),
                "effectiveDateTime": instant(tube.collected_at),
                "issued": instant(report.signed_at),
                "performer": [org(subject.centre_of)],
                "resultsInterpreter": signers,
                "specimen": [specimen],
                "result": [{"reference": f"Observation/{observation_id(number, code)}"} for code in [*have, *gone]],
                "conclusion": "部分结果已撤回，更正报告将另行发布。" if taken_back else report.conclusion,
            }
        )
    )  # fmt: skip
    return out


def observation_id(number: str, code: str) -> str:
    """The id of a value's resource."""
    return f"{number}-{code.lower()}"


def _observation(
    subject: Reading,
    number: str,
    row: Result,
    specimen: dict[str, Any],
    performer: list[Any],
    status: str,
    report: Report,
) -> dict[str, Any]:
    one = catalogue.analyte(row.analyte)
    body: dict[str, Any] = {
        "resourceType": "Observation",
        "id": observation_id(number, one.code),
        "status": status,
        "basedOn": [{"reference": f"ServiceRequest/{number}"}],
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}
        ],
        "code": {
            "coding": [{"system": LOINC, "code": one.loinc, "display": one.label.en}, {"system": f"{CS}/analyte", "code": one.code}],
            "text": one.label.zh,
        },
        "subject": patient(subject),
        "effectiveDateTime": instant(subject.laboratory.specimen.collected_at or row.measured_at),
        "issued": instant(report.signed_at),
        "performer": performer,
        "interpretation": [{"coding": [{"system": INTERPRETATION, "code": row.flag, "display": _WORDS[row.flag]}]}] if row.flag else [],
        "method": {"text": row.method} if row.method else None,
        "device": {"display": row.device} if row.device else None,
        "specimen": specimen,
        "referenceRange": _range(row, one.unit),
        "derivedFrom": [{"reference": f"Observation/{observation_id(number, need)}"} for need in calc.needs(one.formula)]
        if one.formula
        else [],
    }  # fmt: skip
    if row.value is not None:
        body["valueQuantity"] = _quantity(one.shown(row.value), one.unit, row.comparator)
    else:
        body["valueCodeableConcept"] = {"text": row.text}
    return trim(body)


def _quantity(shown: str, unit: str, comparator: str = "") -> dict[str, Any]:
    value = float(shown) if "." in shown else int(shown)
    return trim({"value": value, "comparator": comparator, "unit": unit, "system": UCUM, "code": unit})


def _range(row: Result, unit: str) -> list[dict[str, Any]]:
    one: dict[str, Any] = {"text": row.range_text}
    if row.low is not None:
        one["low"] = _quantity(catalogue.plain(row.low), unit)
    if row.high is not None:
        one["high"] = _quantity(catalogue.plain(row.high), unit)
    return [one] if row.range_text else []
