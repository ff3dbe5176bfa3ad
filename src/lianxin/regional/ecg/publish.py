"""The FHIR projection of an ECG: an Observation of what was measured (a device's, never more than preliminary) and a DocumentReference that
names the file as it came by its hash. Samples are given on demand (``Observation/{id}/$ecg-waveform``), not copied into the record."""

from __future__ import annotations

import base64
from typing import Any

from lianxin.record.building import instant, org, trim
from lianxin.regional.ecg import service
from lianxin.regional.ecg.models import Tracing
from lianxin.regional.reading.models import Reading
from lianxin.regional.reading.publish import CS, ID, LOINC, patient

UCUM = "http://unitsofmeasure.org"
_COMPONENTS = (
    ("rate", "8867-4", "Heart rate", "/min"),
    ("pr", "8625-6", "P-R interval", "ms"),
    ("qrs", "8633-0", "QRS duration", "ms"),
    ("qt", "8634-8", "Q-T interval", "ms"),
    ("qtc_bazett", "8636-3", "Q-T interval corrected", "ms"),
    ("axis", "8632-2", "QRS axis", "deg"),
)


def resources(reading: Reading) -> list[dict[str, Any]]:
    """What stands in the record beside the order and the report."""
    tracing = service.latest(reading)
    if tracing is None:
        return []
    return [measurements(reading, tracing), _document(reading, tracing)]


def measurements(reading: Reading, tracing: Tracing) -> dict[str, Any]:
    number, proposal = reading.case.number, getattr(tracing, "proposal", None)
    measured = proposal.measured if proposal else {}
    return trim(
        {
            "resourceType": "Observation", "id": f"{number}-ecg",
            "identifier": [{"system": f"{ID}/ecg-recording", "value": tracing.sha256}],
            "basedOn": [{"reference": f"ServiceRequest/{number}"}], "status": "preliminary",
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "procedure"}]}],
            "code": {"coding": [{"system": LOINC, "code": "11524-6", "display": "EKG study"}]},
            "subject": patient(reading), "effectiveDateTime": instant(tracing.taken_at), "issued": instant(tracing.received_at),
            "performer": [org(reading.performer)],
            "device": {"display": tracing.device_words[:100]} if tracing.device_words else None,
            "method": {"text": proposal.version} if proposal else None,
            "derivedFrom": [{"reference": f"DocumentReference/{number}-ecg"}],
            "component": [
                {
                    "code": {"coding": [{"system": LOINC, "code": code, "display": display}]},
                    "valueQuantity": {"value": round(measured[name]), "unit": unit, "system": UCUM, "code": unit},
                }
                for name, code, display, unit in _COMPONENTS
                if measured.get(name) is not None
            ],
        }
    )  # fmt: skip


def _document(reading: Reading, tracing: Tracing) -> dict[str, Any]:
    number = reading.case.number
    return trim(
        {
            "resourceType": "DocumentReference", "id": f"{number}-ecg", "status": "current",
            "identifier": [{"system": f"{ID}/ecg-file", "value": tracing.sha256}],
            "type": {"coding": [{"system": LOINC, "code": "11524-6", "display": "EKG study"}]},
            "subject": patient(reading), "date": instant(tracing.received_at), "custodian": org(reading.performer),
            "content": [
                {
                    "attachment": {
                        "url": f"/ecg/{number}/original/{tracing.pk}", "size": tracing.size, "title": tracing.format,
                        "creation": instant(tracing.taken_at),
                    },
                    "format": {"system": f"{CS}/ecg-format", "code": tracing.format},
                }
            ],
            "context": {"related": [{"reference": f"ServiceRequest/{number}"}]},
        }
    )  # fmt: skip


def sampled(reading: Reading, tracing: Tracing) -> dict[str, Any]:
    """The Observation with every lead as SampledData (µV at the recorded rate; a missing sample is "E")."""
    made = measurements(reading, tracing)
    wave = tracing.wave
    leads = []
    for name, gain, row in zip(wave.leads, wave.gains, wave.counts, strict=True):
        data = " ".join("E" if v == -32768 else str(v) for v in row.tolist())
        leads.append(
            {
                "code": {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.24", "code": LEAD_CODES[name], "display": f"MDC_ECG_LEAD_{name}"}]},
                "valueSampledData": {
                    "origin": {"value": 0, "unit": "uV", "system": UCUM, "code": "uV"}, "period": 1000 / wave.hz,
                    "factor": gain, "dimensions": 1, "data": data,
                },
            }
        )  # fmt: skip
    made["component"] = [*made.get("component", []), *leads]
    return made


LEAD_CODES = {
    "I": "131329", "II": "131330", "III": "131389", "aVR": "131390", "aVL": "131391", "aVF": "131392", "V1": "131331",
    "V2": "131332", "V3": "131333", "V4": "131334", "V5": "131335", "V6": "131336",
}  # fmt: skip
"""ISO/IEEE 11073-10102 lead codes."""


def binary(tracing: Tracing) -> dict[str, Any]:
    """The file as it came, as a Binary."""
    return {
        "resourceType": "Binary", "contentType": "application/octet-stream",
        "data": base64.b64encode(tracing.bytes_as_sent()).decode(),
    }  # fmt: skip
