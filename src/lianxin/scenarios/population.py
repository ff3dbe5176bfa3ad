"""A synthetic population: families in villages, with identifiers, contacts and chronic diseases; deterministic by seed.

Pure: it draws residents and returns them as FHIR resources for the loading door; it writes nothing itself. Prevalences are
rounded from published national surveys (中国居民营养与慢性病状况报告 2020) and serve demonstration only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from lianxin.scenarios import names
from lianxin.standards.identifiers import resident_id_make

ID_SYSTEM = "http://lianxin.example/id/resident-id-card"
ICD10 = "http://hl7.org/fhir/sid/icd-10"

# code, Chinese, chance below 45, below 60, above
CHRONIC = (
    ("I10", "原发性高血压", 0.04, 0.24, 0.48),
    ("E11.9", "2型糖尿病", 0.02, 0.10, 0.17),
    ("I25.1", "冠状动脉粥样硬化性心脏病", 0.0, 0.02, 0.09),
    ("J44.9", "慢性阻塞性肺疾病", 0.0, 0.02, 0.08),
    ("I69.3", "脑梗死后遗症", 0.0, 0.01, 0.04),
    ("M17.9", "膝关节病", 0.0, 0.05, 0.12),
)
ALLERGENS = (
    ("青霉素类", "Penicillins"),
    ("头孢菌素类", "Cephalosporins"),
    ("磺胺类", "Sulfonamides"),
    ("海鲜", "Seafood"),
)


@dataclass(frozen=True)
class Village:
    """A village with the clinic that serves it (``clinic``: institution code) and the township centre above it."""

    name: str
    town: str
    clinic: str
    centre: str
    division: str


@dataclass
class Resident:
    """One synthetic person. ``local_id`` is the registration number at the township centre."""

    local_id: str
    name: str
    sex: str
    birth_date: dt.date
    id_no: str
    phone: str
    village: Village
    address: str
    household: int
    conditions: list[tuple[str, str, dt.date]] = field(default_factory=list)
    allergy: tuple[str, str] | None = None

    @property
    def patient_id(self) -> str:
        """Id of the resident's FHIR Patient as registered by the township centre."""
        return f"{self.village.centre}-{self.local_id}"


def generate(villages: list[Village], count: int, seed: int, as_of: dt.date) -> Iterator[Resident]:
    """Draw ``count`` residents living in ``villages`` on ``as_of``: same arguments, same people."""
    rng = Random(f"{seed}:{as_of.isoformat()}:{count}")
    sequence: dict[tuple[str, dt.date, int], int] = {}
    made = household = 0
    while made < count:
        village = rng.choice(villages)
        household += 1
        family, spouse_family = names.surname(rng), names.surname(rng)
        head_age = min(92, max(22, int(rng.gauss(54, 15))))
        group, house, phone = rng.randint(1, 9), rng.randint(1, 120), _phone(rng)
        members = [("male" if rng.random() < 0.85 else "female", head_age, family)]
        if rng.random() < 0.78:
            members.append(
                (
                    "female" if members[0][0] == "male" else "male",
                    max(20, head_age + rng.randint(-5, 3)),
                    spouse_family,
                )
            )
        for _ in range(rng.choices((0, 1, 2, 3), (30, 38, 26, 6))[0] if head_age < 75 else 0):
            age = head_age - rng.randint(22, 34)
            if age >= 0:
                members.append((rng.choice(("male", "female")), age, family))
        if head_age < 60 and rng.random() < 0.3:
            members.append((rng.choice(("male", "female")), min(98, head_age + rng.randint(22, 30)), family))
        for sex, age, surname in members[: count - made]:
            born = as_of - dt.timedelta(days=age * 365 + age // 4 + rng.randint(0, 364))
            made += 1
            parity = 1 if sex == "male" else 0
            key = (village.division, born, parity)
            sequence[key] = sequence.get(key, 0) + 1
            resident = Resident(
                local_id=f"{made:07d}",
                name=names.full(rng, sex, born.year, surname),
                sex=sex,
                birth_date=born,
                id_no=resident_id_make(village.division, born, sequence[key] * 2 + parity),
                phone=phone if age < 16 or rng.random() < 0.15 else _phone(rng),
                village=village,
                address=f"{village.town}{village.name}{group}组{house}号",
                household=household,
            )
            for code, name, young, middle, old in CHRONIC:
                if rng.random() < (0 if age < 18 else young if age < 45 else middle if age < 60 else old):
                    resident.conditions.append((code, name, as_of - dt.timedelta(days=rng.randint(60, 3600))))
            if rng.random() < 0.03:
                resident.allergy = rng.choice(ALLERGENS)
            yield resident


def _phone(rng: Random) -> str:
    """A mobile number drawn at random."""
    return f"1{rng.choice('3578')}{rng.randint(0, 10**9 - 1):09d}"


def patient(resident: Resident) -> dict[str, Any]:
    """The township centre's FHIR Patient for a resident."""
    return {
        "resourceType": "Patient",
        "id": resident.patient_id,
        "identifier": [
            {"use": "official", "system": ID_SYSTEM, "value": resident.id_no},
            {
                "use": "usual",
                "system": f"http://lianxin.example/id/local/{resident.village.centre}",
                "value": resident.local_id,
            },
        ],
        "active": True,
        "name": [{"use": "official", "text": resident.name}],
        "telecom": [{"system": "phone", "value": resident.phone, "use": "mobile"}],
        "gender": resident.sex,
        "birthDate": resident.birth_date.isoformat(),
        "address": [
            {
                "use": "home",
                "text": resident.address,
                "district": resident.village.division,
                "line": [resident.village.name],
            }
        ],
        "generalPractitioner": [{"reference": f"Organization/{resident.village.clinic}"}],
        "managingOrganization": {"reference": f"Organization/{resident.village.centre}"},
    }


def clinical(resident: Resident, rng: Random, as_of: dt.date) -> Iterator[dict[str, Any]]:
    """The record a township centre already holds of a resident: conditions, allergies, follow-up measurements."""
    subject = {"reference": f"Patient/{resident.patient_id}"}
    for number, (code, name, since) in enumerate(resident.conditions):
        yield {
            "resourceType": "Condition",
            "id": f"{resident.patient_id}-c{number}",
            "clinicalStatus": _concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active"),
            "category": [
                _concept("http://terminology.hl7.org/CodeSystem/condition-category", "problem-list-item")
            ],
            "code": {"coding": [{"system": ICD10, "code": code, "display": name}], "text": name},
            "subject": subject,
            "onsetDateTime": since.isoformat(),
        }
        if code == "I10":
            for quarter in range(3):
                day = as_of - dt.timedelta(days=20 + 91 * quarter + rng.randint(0, 12))
                yield blood_pressure(
                    f"{resident.patient_id}-bp{quarter}",
                    subject,
                    day,
                    int(rng.gauss(139, 13)),
                    int(rng.gauss(84, 8)),
                )
        elif code == "E11.9":
            for quarter in range(2):
                day = as_of - dt.timedelta(days=25 + 91 * quarter + rng.randint(0, 12))
                yield quantity(
                    f"{resident.patient_id}-fpg{quarter}",
                    subject,
                    day,
                    "1558-6",
                    "空腹血糖",
                    round(rng.gauss(7.4, 1.4), 1),
                    "mmol/L",
                )
    if resident.allergy:
        yield {
            "resourceType": "AllergyIntolerance",
            "id": f"{resident.patient_id}-a0",
            "clinicalStatus": _concept(
                "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "active"
            ),
            "code": {"text": resident.allergy[0]},
            "patient": subject,
        }


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def quantity(
    rid: str, subject: dict[str, str], day: dt.date, loinc: str, name: str, value: float, unit: str
) -> dict[str, Any]:
    """A final FHIR Observation with one quantity (``unit`` is UCUM)."""
    return {
        "resourceType": "Observation",
        "id": rid,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": loinc}], "text": name},
        "subject": subject,
        "effectiveDateTime": day.isoformat(),
        "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
    }


def blood_pressure(
    rid: str, subject: dict[str, str], day: dt.date, systolic: int, diastolic: int
) -> dict[str, Any]:
    """A final blood-pressure Observation (LOINC 85354-9 with systolic and diastolic components, mmHg)."""

    def part(loinc: str, name: str, value: int) -> dict[str, Any]:
        return {
            "code": {"coding": [{"system": "http://loinc.org", "code": loinc}], "text": name},
            "valueQuantity": {
                "value": value,
                "unit": "mmHg",
                "system": "http://unitsofmeasure.org",
                "code": "mm[Hg]",
            },
        }

    return {
        "resourceType": "Observation",
        "id": rid,
        "status": "final",
        "category": [_concept("http://terminology.hl7.org/CodeSystem/observation-category", "vital-signs")],
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}], "text": "血压"},
        "subject": subject,
        "effectiveDateTime": day.isoformat(),
        "component": [part("8480-6", "收缩压", systolic), part("8462-4", "舒张压", diastolic)],
    }
