"""Beds, devices, examination sessions and theatres of a scenario's hospitals, and who lies in some of the beds."""

from __future__ import annotations

import datetime as dt
from random import Random

from lianxin.index.models import Person
from lianxin.network import sheets
from lianxin.network.models import Department, Institution
from lianxin.pool import exams, exclusive, schedule
from lianxin.pool.models import Resource, Template
from lianxin.scenarios.blueprint import Blueprint
from lianxin.standards import clock

SINCE = dt.date(2020, 1, 1)
IMAGING = {"code": "YXK", "name": "医学影像科", "name_en": "Medical imaging", "specialty": "32"}
DEVICES = [
    ("CT1", "64 排 CT", "64-slice CT", "CT", ["CT-HEAD", "CT-CHEST", "CT-ABDO-C", "CT-CORONARY"]),
    ("US1", "彩色超声一室", "Ultrasound room 1", "US", ["US-ABDO", "US-THYROID", "US-URINARY", "US-HEART"]),
    ("ECG1", "心电图室", "ECG room", "ECG", ["ECG-12", "ECG-HOLTER"]),
    ("DR1", "数字 X 线", "Digital X-ray", "DX", ["XR-CHEST"]),
]
LEAD_DEVICES = [
    ("MR1", "1.5T 磁共振", "1.5 T MRI", "MR", ["MR-HEAD", "MR-LUMBAR", "MR-LIVER-C"]),
    ("ES1", "消化内镜室", "Endoscopy room", "ES", ["ES-GASTRO", "ES-COLON"]),
    ("RF1", "胃肠造影", "Fluoroscopy", "RF", ["XR-BARIUM"]),
]
HALVES = ((dt.time(8), dt.time(12), 24), (dt.time(13, 30), dt.time(17), 21))
"""Mornings and afternoons of the devices in steps of ten minutes."""
NO_WARD = {"20", "32", "03.10"}
OCCUPIED = 0.6
"""How much of a ward is occupied at the beginning."""


def open_places(plan: Blueprint, since: dt.date, days: int, seed: int) -> int:
    """Everything of this module in one call: :func:`furnish`, then :func:`occupy`; returns how many beds are occupied."""
    furnish(plan, since, days)
    return occupy(plan, seed)


def furnish(plan: Blueprint, since: dt.date, days: int) -> int:
    """Give the scenario's hospitals beds, devices with their weekly sessions and theatres; returns how many resources are new.

    Doing it again changes nothing but to add the sessions of further days.
    """
    exams.load_shipped()
    kinds = {row["code"]: row for row in plan.institutions}
    hospitals = list(
        Institution.objects.filter(code__in=kinds, tier="county", kind__in=("hospital", "tcm_hospital"))
    )
    rows = [IMAGING | {"institution": hospital.code} for hospital in hospitals]
    report = sheets.import_rows("departments", rows)
    if not report.ok:
        raise ValueError("; ".join(f"departments row {p[0]} {p[1]}: {p[2]}" for p in report.errors[:5]))
    made: list[Resource] = []
    for hospital in hospitals:
        if not Resource.objects.filter(institution=hospital).exists():
            made += _resources(hospital, hospital.code == plan.lead)
    Resource.objects.bulk_create(made)
    _templates(hospitals)
    schedule.make_sessions(since, days, [h.pk for h in hospitals])
    return len(made)


def _resources(hospital: Institution, lead: bool) -> list[Resource]:
    found: list[Resource] = []
    wards = list(Department.objects.filter(institution=hospital, active=True).order_by("code"))
    for ward in wards:
        if ward.specialty in NO_WARD or not ward.specialty:
            continue
        for n in range(1, 9 if lead else 7):
            sex = "female" if ward.specialty == "05.02" else ("male", "female", "any")[n % 3]
            found.append(
                Resource(
                    institution=hospital, department=ward, kind="bed", code=f"{ward.code}-{n:02d}", name=f"{ward.name} {n} 床",
                    name_en=f"{ward.name_en} bed {n}", sex="any" if ward.specialty == "07" else sex,
                    age="child" if ward.specialty == "07" else "any", grade="single" if n == 8 else "general",
                    isolation="airborne" if ward.specialty == "03.01" and n == 7 else "",
                )
            )  # fmt: skip
    imaging = next(d for d in wards if d.code == IMAGING["code"])
    for code, name, name_en, modality, items in DEVICES + (LEAD_DEVICES if lead else []):
        found.append(
            Resource(
                institution=hospital, department=imaging, kind="device", code=code, name=name, name_en=name_en, modality=modality,
                items=items,
            )
        )  # fmt: skip
    for n in range(1, 5 if lead else 2):
        found.append(
            Resource(
                institution=hospital, kind="theatre", code=f"OR{n}", name=f"{n} 号手术间", name_en=f"Theatre {n}", clean_minutes=30
            )
        )  # fmt: skip
    if lead:
        for n in range(1, 5):
            found.append(
                Resource(
                    institution=hospital, department=_critical(wards), kind="bed", code=f"ICU-{n:02d}", name=f"重症 {n} 床",
                    name_en=f"ICU bed {n}", grade="icu", clean_minutes=60,
                )
            )  # fmt: skip
    return found


def _critical(wards: list[Department]) -> Department:
    return next((d for d in wards if d.specialty == "20"), wards[0])


def _templates(hospitals: list[Institution]) -> None:
    """Every device works on working days, half of its steps kept for the grassroots until the working day before."""
    devices = Resource.objects.filter(kind="device", institution__in=hospitals, department__isnull=False)
    have = set(Template.objects.filter(resource__in=devices).values_list("resource_id", flat=True))
    Template.objects.bulk_create(
        Template(
            institution_id=device.institution_id, department_id=device.department_id or 0, resource=device, kind="exam",
            clinic_type="检查", weekday=weekday, start=start, end=end, capacity=steps, reserved_county=steps // 2,
            reserved_township=steps // 2, since=SINCE,
        )
        for device in devices
        if device.pk not in have
        for weekday in range(5)
        for start, end, steps in HALVES
    )  # fmt: skip


def occupy(plan: Blueprint, seed: int) -> int:
    """Let residents lie in part of the beds, some for days already, some past their time, one bed out of use; how many.

    Doing it again changes nothing: a ward where anybody ever lay is left alone.
    """
    rng = Random(f"beds:{seed}")
    beds = list(
        Resource.objects.filter(kind="bed", institution__code__in=[r["code"] for r in plan.institutions], claims__isnull=True).order_by("pk")
    )  # fmt: skip
    wanted = [bed for bed in beds if rng.random() < OCCUPIED]
    people = Person.objects.unscoped("the demonstration's patients in beds").filter(
        status="active", deceased_on=None
    )
    by_sex = {
        sex: list(people.filter(sex=sex).order_by("pk")[: 4 * len(wanted)]) for sex in ("male", "female")
    }
    now, count = clock.now(), 0
    for bed in wanted:
        sex = bed.sex if bed.sex in by_sex else rng.choice(["male", "female"])
        fitting = [p for p in by_sex[sex] if bed.age == "any" or exclusive.age_class(p.birth_date) == bed.age]
        if not fitting:
            continue
        person = fitting[rng.randrange(len(fitting))]
        by_sex[sex].remove(person)
        began = now - dt.timedelta(hours=rng.randrange(6, 150))
        until = began + dt.timedelta(days=rng.randrange(4, 10))
        with clock.at(began):
            claim = exclusive.book(bed.pk, person.pk, began, until, f"scenario:{plan.code}:{bed.pk}")
            exclusive.occupy(claim)
        count += 1
    empty = [bed for bed in beds if bed not in wanted]
    if empty:
        exclusive.block(
            empty[0].pk, now, now + dt.timedelta(days=2), f"scenario:{plan.code}:block", "设备带检修"
        )
    return count
