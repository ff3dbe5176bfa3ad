"""Made-up resources as the platform and foreign systems have them (no data elements, only LOINC, ICD-10, text): what documents are
written from, and how to compare what came back."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

Json = dict[str, Any]
LOINC, ICD10, UCUM = "http://loinc.org", "http://hl7.org/fhir/sid/icd-10", "http://unitsofmeasure.org"
PATIENT: Json = {
    "resourceType": "Patient", "id": "p1", "name": [{"text": "样例乙"}], "gender": "male", "birthDate": "1958-03-02",
    "identifier": [
        {"system": "http://lianxin.example/id/resident-id-card", "value": "11010519491231002X"},
        {"system": "urn:oid:2.16.156.10011.1.2", "value": "33102310300100001"},
        {"system": "http://lianxin.example/id/local/7", "value": "B-77"},
    ],
    "telecom": [{"system": "phone", "value": "13800000000"}], "address": [{"text": "浙江省台州市天台县城关镇1号"}],
}  # fmt: skip
HOSPITAL: Json = {
    "resourceType": "Organization",
    "id": "o1",
    "name": "样例县人民医院",
    "identifier": [{"value": "33100001"}],
}
DOCTOR: Json = {"display": "样例医师", "identifier": {"system": "urn:oid:2.16.156.10011.1.4", "value": "D1"}}
VITALS = (("8310-5", "℃", "Cel", 36, 39), ("8867-4", "次/min", "/min", 60, 120), ("9279-1", "次/min", "/min", 12, 30),
          ("29463-7", "kg", "kg", 45, 95), ("8302-2", "cm", "cm", 150, 185), ("39156-5", "kg/m2", "kg/m2", 18, 32))  # fmt: skip
LABS = (("718-7", "血红蛋白", "g/L", 90, 170), ("14771-0", "空腹血糖", "mmol/L", 4, 14), ("4548-4", "糖化血红蛋白", "%", 4, 11),
        ("2823-3", "血钾", "mmol/L", 3, 6), ("14682-9", "血肌酐", "umol/L", 50, 140))  # fmt: skip
SICKNESSES = (
    ("I10.x00", "高血压病"),
    ("E11.900", "2型糖尿病"),
    ("J18.900", "肺炎"),
    ("K29.500", "慢性胃炎"),
    ("I63.900", "脑梗死"),
)
DRUGS = (
    ("苯磺酸氨氯地平片", 5, "mg", 1),
    ("二甲双胍片", 0.5, "g", 3),
    ("阿莫西林胶囊", 0.5, "g", 3),
    ("阿司匹林肠溶片", 100, "mg", 1),
)
DAY = "2026-01-{:02}T09:30:00+08:00"


def made(rtype: str, n: int, **members: Any) -> Json:
    """A resource of the sample patient."""
    whose = "patient" if rtype in ("AllergyIntolerance", "Immunization") else "subject"
    return {
        "resourceType": rtype,
        "id": f"{rtype.lower()}-{n}",
        whose: {"reference": "Patient/p1"},
        **members,
    }


def quantity(value: float, unit: str, code: str = "") -> Json:
    """A measured amount."""
    return {"value": value, "unit": unit, "system": UCUM, "code": code or unit}


def concept(system: str, code: str, text: str = "") -> Json:
    """A coded concept."""
    out: Json = {"coding": [{"system": system, "code": code}]}
    return {**out, "text": text} if text else out


def category(code: str) -> list[Json]:
    """The category of an Observation."""
    return [concept("http://terminology.hl7.org/CodeSystem/observation-category", code)]


def pressure(n: int, high: int, low: int, day: int) -> Json:
    """A blood pressure."""
    parts = [
        {"code": concept(LOINC, c), "valueQuantity": quantity(v, "mmHg", "mm[Hg]")}
        for c, v in (("8480-6", high), ("8462-4", low))
    ]
    return made("Observation", n, status="final", category=category("vital-signs"), code=concept(LOINC, "85354-9"),
                effectiveDateTime=DAY.format(day), component=parts)  # fmt: skip


def resources(seed: int, *, laboratory: bool = True) -> list[Json]:
    """What a visit left behind: vitals, laboratory items, diagnoses, drugs, an operation, an allergy, orders, a plan."""
    rng = random.Random(seed)
    day = 1 + seed % 27
    out = [pressure(1, rng.randint(100, 190), rng.randint(55, 99), day)]
    for n, (code, unit, ucum, low, high) in enumerate(rng.sample(VITALS, 4), 2):
        amount = quantity(rng.randint(low * 10, high * 10) / 10, unit, ucum)
        out.append(made("Observation", n, status="final", category=category("vital-signs"), code=concept(LOINC, code),
                        effectiveDateTime=DAY.format(day), valueQuantity=amount))  # fmt: skip
    if laboratory:
        for n, (code, name, unit, low, high) in enumerate(rng.sample(LABS, 3), 10):
            amount = quantity(rng.randint(low * 10, high * 10) / 10, unit)
            out.append(made("Observation", n, status="final", category=category("laboratory"), code=concept(LOINC, code, name),
                            effectiveDateTime=DAY.format(day), valueQuantity=amount))  # fmt: skip
        out.append(made("DiagnosticReport", 1, status="final", code={"text": "检验报告"}, conclusion=f"结论{seed}",
                        result=[{"reference": "Observation/observation-10"}]))  # fmt: skip
    for n, (code, name) in enumerate(rng.sample(SICKNESSES, rng.randint(1, 3)), 1):
        out.append(made("Condition", n, code=concept(ICD10, code, name),
                        clinicalStatus=concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active")))  # fmt: skip
    for n, (name, dose, unit, times) in enumerate(rng.sample(DRUGS, rng.randint(1, 3)), 1):
        dosage = {"text": f"口服 每日{times}次", "route": {"text": "口服"}, "doseAndRate": [{"doseQuantity": quantity(dose, unit)}],
                  "timing": {"repeat": {"frequency": times, "period": 1, "periodUnit": "d"}}}  # fmt: skip
        out.append(made("MedicationRequest", n, status="active", intent="order", medicationCodeableConcept={"text": name},
                        dosageInstruction=[dosage]))  # fmt: skip
    if rng.random() < 0.7:
        out.append(made("Procedure", 1, status="completed", performedDateTime=DAY.format(day),
                        code=concept("http://hl7.org/fhir/sid/icd-9-cm", "45.1600", "胃镜检查")))  # fmt: skip
    out.append(made("AllergyIntolerance", 1, code={"text": rng.choice(["青霉素", "头孢曲松", "海鲜"])},
                    clinicalStatus=concept("http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active")))  # fmt: skip
    out.append(made("CarePlan", 1, status="active", intent="plan", description=f"控制饮食，{seed}周后复查"))
    out.append(made("ServiceRequest", 1, status="active", intent="order", code={"text": "胸部CT平扫"}))
    return out


def facts(found: list[Json]) -> Counter[tuple[str, ...]]:
    """What resources say, apart from how they say it: measurements, diagnoses, drugs with dose and times, everything in words."""
    out: Counter[tuple[str, ...]] = Counter()
    for one in found:
        rtype = one["resourceType"]
        if rtype == "Observation":
            for part in one.get("component") or [one]:
                codes = {
                    c.get("code", "")
                    for c in part.get("code", {}).get("coding", ())
                    if c.get("system") == LOINC
                }
                amount = part.get("valueQuantity")
                if codes and amount:
                    out[("measured", min(codes), f"{amount['value']:g}", amount.get("unit", ""))] += 1
        elif rtype == "Condition":
            code = next((c["code"] for c in one["code"].get("coding", ()) if c.get("system") == ICD10), "")
            text = one["code"].get("text") or next(
                (c.get("display", "") for c in one["code"].get("coding", ())), ""
            )
            out[("diagnosis", code, text)] += 1
        elif rtype in ("MedicationRequest", "MedicationStatement"):
            dosage = (one.get("dosageInstruction") or one.get("dosage") or [{}])[0]
            dose = (dosage.get("doseAndRate") or [{}])[0].get("doseQuantity", {})
            times = dosage.get("timing", {}).get("repeat", {}).get("frequency", "")
            route = dosage.get("route", {}).get("text", "")
            out[
                (
                    "drug",
                    one["medicationCodeableConcept"]["text"],
                    f"{dose.get('value')}{dose.get('unit')}",
                    str(times),
                    route,
                    dosage.get("text", ""),
                )
            ] += 1
        elif rtype == "Procedure":
            listed = sorted(c["code"] for c in one["code"].get("coding", ()))
            out[
                (
                    "procedure",
                    listed[0] if listed else "",
                    one["code"].get("text", ""),
                    one.get("performedDateTime", ""),
                )
            ] += 1
        elif rtype == "AllergyIntolerance":
            out[("allergy", one["code"]["text"])] += 1
        elif rtype == "CarePlan":
            out[("plan", one.get("description", ""))] += 1
        elif rtype == "ServiceRequest":
            out[("order", one.get("code", {}).get("text", ""))] += 1
    return out
