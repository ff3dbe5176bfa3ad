"""FHIR resources that a desk or a doctor's page writes: encounter, condition, measurements. Pure functions."""

from __future__ import annotations

from typing import Any

from lianxin.access.scope import Scope
from lianxin.network.models import Institution, Practitioner
from lianxin.standards import clock
from lianxin.standards.codes import ICD10

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"


def _subject(number: str) -> dict[str, str]:
    return {"reference": f"Patient/{number}"}


def encounter(rid: str, number: str, here: Institution, scope: Scope, words: str) -> dict[str, Any]:
    """A finished ambulatory visit at ``here`` with the doctor's words as its reason."""
    now = clock.now().isoformat(timespec="seconds")
    doctor = Practitioner.objects.filter(pk=scope.practitioner_id or 0).first()
    resource: dict[str, Any] = {
        "resourceType": "Encounter",
        "id": rid,
        "status": "finished",
        "class": {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "code": "AMB",
            "display": "ambulatory",
        },
        "type": [{"text": "门诊"}],
        "subject": _subject(number),
        "period": {"start": now, "end": now},
        "serviceProvider": {"reference": f"Organization/{here.code}", "display": here.name},
    }
    if doctor:
        resource["participant"] = [
            {"individual": {"reference": f"Practitioner/{doctor.code}", "display": doctor.name}}
        ]
    if words:
        resource["reasonCode"] = [{"text": words}]
    return resource


def condition(number: str, visit: str, code: str, name: str) -> dict[str, Any]:
    """The diagnosis of a visit."""
    return {
        "resourceType": "Condition",
        "clinicalStatus": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}
            ]
        },
        "verificationStatus": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "confirmed"}
            ]
        },
        "code": {"coding": [{"system": ICD10, "code": code, "display": name}], "text": name},
        "subject": _subject(number),
        "encounter": {"reference": f"Encounter/{visit}"},
        "recordedDate": clock.now().isoformat(timespec="seconds"),
    }


def _quantity(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, "unit": unit, "system": UCUM, "code": unit if unit != "次/分" else "/min"}


def _observation(number: str, visit: str | None, code: str, name: str, category: str) -> dict[str, Any]:
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": category}]}],
        "code": {"coding": [{"system": LOINC, "code": code, "display": name}], "text": name},
        "subject": _subject(number),
        "effectiveDateTime": clock.now().isoformat(timespec="seconds"),
    }
    if visit:
        resource["encounter"] = {"reference": f"Encounter/{visit}"}
    return resource


def measurements(number: str, visit: str | None, data: dict[str, Any]) -> list[dict[str, Any]]:
    """Observations for the numbers that were given: blood pressure, glucose, heart rate."""
    out = []
    high, low = data.get("bp_systolic"), data.get("bp_diastolic")
    if high is not None and low is not None:
        pressure = _observation(number, visit, "85354-9", "血压", "vital-signs")
        pressure["component"] = [
            {"code": {"coding": [{"system": LOINC, "code": code, "display": name}], "text": name},
             "valueQuantity": _quantity(value, "mm[Hg]")}
            for code, name, value in (("8480-6", "收缩压", high), ("8462-4", "舒张压", low))
        ]  # fmt: skip
        out.append(pressure)
    if data.get("glucose") is not None:
        glucose = _observation(number, visit, "15074-8", "血糖", "laboratory")
        glucose["valueQuantity"] = _quantity(data["glucose"], "mmol/L")
        glucose["referenceRange"] = [
            {"low": _quantity(3.9, "mmol/L"), "high": _quantity(6.1, "mmol/L"), "text": "3.9–6.1 空腹"}
        ]
        out.append(glucose)
    if data.get("heart_rate") is not None:
        pulse = _observation(number, visit, "8867-4", "心率", "vital-signs")
        pulse["valueQuantity"] = _quantity(data["heart_rate"], "次/分")
        out.append(pulse)
    return out
