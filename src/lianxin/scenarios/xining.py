"""Scenario 1 of the documents: 西宁市第一医疗集团, one legal person from city hospital to village clinic (Qinghai).

The part of it that the golden story needs: the head hospital, Datong county's three branch hospitals (the county TCM hospital is the
third), township centres of Datong with their village clinics. Staff and positions are synthetic.
"""

from __future__ import annotations

from random import Random

from lianxin.scenarios.blueprint import Blueprint, english
from lianxin.scenarios.population import Village

DIVISION = "630121"  # 大通回族土族自治县
HEAD, FIRST, SECOND, TCM = "XN-SYY", "XN-DT1", "XN-DT2", "XN-DTZY"
TOWNSHIP, CLINIC = "XN-CG", "XN-CG-C01"

HEAD_DEPARTMENTS = (
    ("NFM", "内分泌科", "Endocrinology", "03.07"),
    ("PWK", "普通外科", "General Surgery", "04.01"),
    ("XNK", "心血管内科", "Cardiology", "03.04"),
    ("KFK", "康复医学科", "Rehabilitation Medicine", "21"),
)
TOWNSHIPS = (
    (TOWNSHIP, "长宁镇", 101.736, 36.838),
    ("XN-QT", "桥头镇", 101.691, 36.927),
    ("XN-CP", "城关镇", 101.611, 37.020),
    ("XN-TE", "塔尔镇", 101.640, 36.953),
)


def blueprint(seed: int) -> Blueprint:
    """The medical group as import rows; ``seed`` draws the staff."""
    rng = Random(f"xining:{seed}")
    plan = Blueprint(
        code="XN-JT",
        name="西宁市第一医疗集团",
        name_en="Xining First Medical Group",
        form="city_group",
        founded="2016-05-01",
        division="630100",
        lead=HEAD,
        roles={HEAD: "lead", FIRST: "branch", SECOND: "branch", TCM: "branch"},
    )
    public = {"ownership": "public"}
    plan.institution(
        HEAD, "西宁市第一人民医院", short_name="市第一人民医院", name_en="Xining First People's Hospital", kind="hospital", tier="city",
        level="三级甲等", lon=101.7782, lat=36.6171, address="西宁市城中区", division="630103", **public,
    )  # fmt: skip
    for code, name, name_en, kind, lon, lat in (
        (FIRST, "大通县人民医院", "Datong County People's Hospital", "hospital", 101.689, 36.931),
        (SECOND, "大通县第二人民医院", "Datong County Second People's Hospital", "hospital", 101.645, 36.952),
        (TCM, "大通县中医院", "Datong County TCM Hospital", "tcm_hospital", 101.684, 36.925),
    ):
        plan.institution(
            code, name, short_name=name.removeprefix("大通"), name_en=name_en, kind=kind, tier="county", level="二级甲等", lon=lon, lat=lat,
            address="西宁市大通县", division=DIVISION, **public,
        )  # fmt: skip
    for code, name, name_en, specialty in HEAD_DEPARTMENTS:
        plan.department(HEAD, code, name, name_en, specialty)
        plan.staff(rng, HEAD, "clinician", "主任医师", code)
        plan.staff(rng, HEAD, "clinician", "主治医师", code)
    for county in (FIRST, SECOND, TCM):
        plan.department(county, "KFK", "康复医学科", "Rehabilitation Medicine", "21")
        plan.department(county, "NK", "内科", "Internal Medicine", "03")
        plan.staff(rng, county, "clinician", "副主任医师", "KFK")
        plan.staff(rng, county, "clinician", "主治医师", "NK")
    for hospital in (HEAD, FIRST, SECOND, TCM):
        plan.staff(rng, hospital, "referral_desk", "主管护师")
        plan.staff(rng, hospital, "reception", "护师")
    for role in ("manager", "system_admin", "security_admin", "audit_admin"):
        plan.staff(rng, HEAD, role, "集团管理部")
    for code, town, lon, lat in TOWNSHIPS:
        plan.institution(
            code, f"大通县{town}卫生院", short_name=f"{town}卫生院",
            name_en=f"{english(town)} Township Health Centre", kind="township", tier="township", level="乙级", lon=lon, lat=lat,
            address=f"大通县{town}", division=DIVISION, **public,
        )  # fmt: skip
        plan.department(code, "QK", "全科", "General Practice", "02")
        for role in ("gp", "family_doctor", "reception"):
            plan.staff(
                rng,
                code,
                role,
                "主治医师" if role != "reception" else "护师",
                "QK" if role != "reception" else "",
            )
        clinic = f"{code}-C01"
        plan.institution(
            clinic, f"{town}上庄村卫生室", short_name="上庄卫生室",
            name_en=f"Shangzhuang Village Clinic, {english(town)}", kind="village", tier="village", level="", parent=code,
            lon=lon + 0.01, lat=lat + 0.01, address=f"大通县{town}上庄村", division=DIVISION, **public,
        )  # fmt: skip
        plan.staff(rng, clinic, "village_doctor", "乡村医生")
        plan.agreements.append((HEAD, code, "referral", f"西一医集〔2016〕{len(plan.agreements) + 1}号"))
    plan.staff(rng, HEAD, "index_manager", "集团管理部")
    return plan


def villages() -> list[Village]:
    """One village for each township centre of Datong."""
    return [Village("上庄村", town, f"{code}-C01", code, DIVISION) for code, town, *_ in TOWNSHIPS]
