"""Xining First Medical Group stood up through its doors, and the words of the golden story (consortia.md, scenario 1).

She is 57, from a village of Datong county: seen at her township centre, operated for the thyroid at the head hospital, sent down to
the county TCM hospital for rehabilitation, visited there by the head hospital's surgeon, and followed up by her family doctor.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lianxin.clinical.referral import catalogue, reasons
from lianxin.network import roles
from lianxin.scenarios import build, xining
from lianxin.scenarios.blueprint import Blueprint
from lianxin.standards import clock, codes, identifiers

START = dt.datetime(2026, 3, 2, 9, 0, tzinfo=clock.ZONE)  # a Monday
HEAD, TCM, BRANCH, TOWNSHIP, ELSEWHERE = xining.HEAD, xining.TCM, xining.SECOND, xining.TOWNSHIP, "XN-TE"

NAME, BORN = "祁玉莲", dt.date(1968, 9, 12)
ID_NO = identifiers.resident_id_make(xining.DIVISION, BORN, 246)
PHONE = "13900001357"

UP_PACK = {
    "impression": "右叶甲状腺结节，TI-RADS 4b",
    "present": "发现颈前肿物 3 个月，近一月增大，吞咽时有异物感，无声音嘶哑。",
    "past": "高血压 5 年，无手术史，无药物过敏。",
    "treatment": "查甲状腺超声与甲功，未用药。",
    "imaging": "甲状腺超声：右叶低回声结节 24×18 mm，边界欠清，TI-RADS 4b",
}
QUESTION = "请补充近一周甲功五项与是否服用抗凝药。"
ANSWER = "甲功五项正常（2 月 27 日），未服抗凝药。"
INTERIM = "入院第二天行甲状腺右叶及峡部切除，术中冰冻为良性，术后声音正常。"
DOWN_PACK = {
    "diagnosis": "甲状腺右叶腺瘤术后",
    "summary": "甲状腺右叶及峡部切除，病理：滤泡性腺瘤；术后第 5 天切口 I/甲愈合，血钙 2.21 mmol/L。",
    "drugs": "左甲状腺素钠片 50 μg 每日一次，晨起空腹；碳酸钙 D3 1 片 每日一次，两周。",
    "rehabilitation": "颈肩功能锻炼每日三次，针灸与中药调理两周；术后 4 周复查甲功。",
    "danger_signs": "颈部肿胀、呼吸困难、声音嘶哑加重、手足麻木抽搐，立即上转。",
}
LETTER = {
    "diagnosis": "甲状腺右叶滤泡性腺瘤",
    "done": "甲状腺右叶及峡部切除术，术后恢复顺利。",
    "drugs_changed": "加用左甲状腺素钠片 50 μg 每日一次；碳酸钙 D3 两周。",
    "watch_for": "颈部肿胀、呼吸困难、手足麻木。",
    "who_follows": "长宁镇卫生院家庭医生团队",
}
ROUND = {
    "findings": "切口愈合良好，声音正常，颈部活动度基本恢复。",
    "advice": "继续颈肩锻炼，左甲状腺素不变，下周可出院回镇。",
}
REHABILITATED = LETTER | {"done": "针灸、颈肩功能锻炼两周，颈部活动度恢复正常。", "drugs_changed": "无"}
HOME_PACK = DOWN_PACK | {
    "summary": "康复两周，颈部活动度恢复正常，无声嘶。",
    "rehabilitation": "居家颈肩锻炼，术后 4 周复查甲功。",
}
FACTS_UP = {"nodule_mm": 24, "tirads": 4}
FACTS_DOWN = {"stable": True, "wound_healing": True, "rehabilitation_stage": True}


@dataclass
class Group:
    """The medical group as drawn; who holds which job."""

    plan: Blueprint

    def username(self, institution: str, role: str, department: str = "") -> str:
        """User name of the first person who holds the role there (in the department)."""
        row = next(
            r
            for r in self.plan.people
            if (r["institution"], r["role"]) == (institution, role) and department in ("", r["department"])
        )
        return build.username_of(row)

    @property
    def people(self) -> dict[str, str]:
        """User names of everybody in the story, by the part they play."""
        return {
            "gp": self.username(TOWNSHIP, roles.GP),
            "family": self.username(TOWNSHIP, roles.FAMILY_DOCTOR),
            "township_reception": self.username(TOWNSHIP, roles.RECEPTION),
            "desk": self.username(HEAD, roles.REFERRAL_DESK),
            "reception": self.username(HEAD, roles.RECEPTION),
            "surgeon": self.username(HEAD, roles.CLINICIAN, "PWK"),
            "office": self.username(HEAD, roles.MANAGER),
            "auditor": self.username(HEAD, "audit_admin"),
            "tcm_desk": self.username(TCM, roles.REFERRAL_DESK),
            "tcm_reception": self.username(TCM, roles.RECEPTION),
            "tcm_doctor": self.username(TCM, roles.CLINICIAN, "KFK"),
            "stranger": self.username(BRANCH, roles.CLINICIAN, "KFK"),
            "other_gp": self.username(ELSEWHERE, roles.GP),
        }


def stand_up() -> Group:
    """The group with its institutions, clinics and published network (accounts apart: they cost a slow hash each)."""
    codes.load_shipped()
    reasons.load_shipped()
    catalogue.load_shipped()
    plan = xining.blueprint(2026)
    build.stand_up(plan)
    build.open_clinics(plan, clock.today(), 35)
    build.announce()
    return Group(plan)


def set_clock(instant: dt.datetime) -> None:
    """Let the whole process, threads of the server included, live from ``instant`` on."""
    clock.shift(dt.timedelta())
    clock.shift(instant - clock.now())


@contextmanager
def story_time() -> Iterator[None]:
    """From Monday morning of the story; the clock is put right afterwards."""
    set_clock(START)
    try:
        yield
    finally:
        clock.shift(dt.timedelta())


def later(**span: float) -> dt.datetime:
    """Move the clock on by a span; returns the new instant."""
    instant = clock.now() + dt.timedelta(**span)
    set_clock(instant)
    return instant


def hospital_papers(patient_id: str, visit: str, when: dt.datetime) -> list[dict[str, Any]]:
    """What the head hospital's own system sends of the operation: stay, operation, results, prescriptions."""
    subject, encounter = {"reference": f"Patient/{patient_id}"}, {"reference": f"Encounter/{visit}"}
    at, ucum = when.isoformat(timespec="seconds"), "http://unitsofmeasure.org"

    def result(
        rid: str, code: str, text: str, value: float, unit: str, low: float, high: float
    ) -> dict[str, Any]:
        return {
            "resourceType": "Observation", "id": f"{visit}-{rid}", "status": "final",
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": code}], "text": text},
            "subject": subject, "encounter": encounter, "effectiveDateTime": at,
            "valueQuantity": {"value": value, "unit": unit, "system": ucum, "code": unit},
            "referenceRange": [{"low": {"value": low, "unit": unit}, "high": {"value": high, "unit": unit}}],
        }  # fmt: skip

    return [
        {
            "resourceType": "Patient", "id": patient_id,
            "identifier": [{"system": "http://lianxin.example/id/resident-id-card", "value": ID_NO}],
            "name": [{"text": NAME}], "gender": "female", "birthDate": BORN.isoformat(),
        },
        {
            "resourceType": "Encounter", "id": visit, "status": "in-progress", "subject": subject, "period": {"start": at},
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP", "display": "inpatient encounter"},
            "type": [{"text": "普通外科住院"}], "serviceProvider": {"reference": f"Organization/{HEAD}"},
        },
        {
            "resourceType": "Procedure", "id": f"{visit}-op", "status": "completed", "code": {"text": "甲状腺右叶及峡部切除术"},
            "subject": subject, "encounter": encounter, "performedDateTime": at, "outcome": {"text": "顺利"},
        },
        result("ca", "17861-6", "血钙", 2.21, "mmol/L", 2.11, 2.52),
        result("tsh", "3016-3", "促甲状腺激素", 5.8, "mIU/L", 0.27, 4.2),
        *(
            {
                "resourceType": "MedicationRequest", "id": f"{visit}-rx{n}", "status": "active", "intent": "order",
                "medicationCodeableConcept": {"text": drug}, "subject": subject, "encounter": encounter, "authoredOn": at,
                "dosageInstruction": [{"text": dose}],
            }
            for n, (drug, dose) in enumerate((("左甲状腺素钠片", "50 μg 每日一次"), ("碳酸钙 D3 片", "1 片 每日一次")), 1)
        ),
    ]  # fmt: skip


def transaction(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """The resources as one transaction of updates."""
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
            for r in resources
        ],
    }
