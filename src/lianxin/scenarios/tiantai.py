"""Scenario 2 of the documents: 天台县医共体, a county medical community (Zhejiang).

One lead hospital, the county TCM hospital, fifteen township institutions with their village clinics. Institution names and
the number of townships follow the county; villages, staff and positions are synthetic.
"""

from __future__ import annotations

from random import Random

from lianxin.scenarios.blueprint import Blueprint, english
from lianxin.scenarios.population import Village

DIVISION = "331023"
LEAD, TCM = "TT-RMYY", "TT-ZYY"

# code, town, health centre, lon, lat, share of residents
TOWNS = (
    ("TT-CC", "赤城街道", "赤城街道社区卫生服务中心", 121.034, 29.141, 14),
    ("TT-SF", "始丰街道", "始丰街道社区卫生服务中心", 121.008, 29.118, 12),
    ("TT-FX", "福溪街道", "福溪街道社区卫生服务中心", 121.064, 29.126, 9),
    ("TT-BH", "白鹤镇", "白鹤镇中心卫生院", 120.968, 29.221, 10),
    ("TT-SL", "石梁镇", "石梁镇卫生院", 121.071, 29.252, 4),
    ("TT-JT", "街头镇", "街头镇中心卫生院", 120.722, 29.118, 6),
    ("TT-PQ", "平桥镇", "平桥镇中心卫生院", 120.902, 29.172, 14),
    ("TT-TT", "坦头镇", "坦头镇中心卫生院", 121.103, 29.131, 8),
    ("TT-SH", "三合镇", "三合镇卫生院", 121.131, 29.098, 6),
    ("TT-HC", "洪畴镇", "洪畴镇卫生院", 121.203, 29.101, 4),
    ("TT-SZ", "三州乡", "三州乡卫生院", 120.802, 29.231, 3),
    ("TT-LX", "龙溪乡", "龙溪乡卫生院", 120.721, 29.052, 2),
    ("TT-LF", "雷峰乡", "雷峰乡卫生院", 120.831, 29.048, 3),
    ("TT-NP", "南屏乡", "南屏乡卫生院", 120.969, 29.031, 2),
    ("TT-YX", "泳溪乡", "泳溪乡卫生院", 121.198, 29.021, 3),
)
_VILLAGES = (
    "上宅", "下王", "前山", "后岸", "塘头", "岭脚", "新屋", "里坪", "外湖", "东林",
    "西陈", "南山", "北溪", "溪口", "桥头", "石门", "水口", "山头", "大路", "花园",
)  # fmt: skip

# code, Chinese, English, 诊疗科目, specialists
LEAD_DEPARTMENTS = (
    ("XNK", "心血管内科", "Cardiology", "03.04", 3),
    ("SJNK", "神经内科", "Neurology", "03.03", 3),
    ("HXNK", "呼吸内科", "Respiratory Medicine", "03.01", 2),
    ("XHNK", "消化内科", "Gastroenterology", "03.02", 2),
    ("NFM", "内分泌科", "Endocrinology", "03.07", 2),
    ("SBK", "肾病科", "Nephrology", "03.06", 1),
    ("PWK", "普通外科", "General Surgery", "04.01", 2),
    ("GK", "骨科", "Orthopaedics", "04.03", 2),
    ("CK", "产科", "Obstetrics", "05.02", 2),
    ("EK", "儿科", "Paediatrics", "07", 2),
    ("ZLK", "肿瘤科", "Oncology", "19", 1),
    ("JZ", "急诊医学科", "Emergency Medicine", "20", 2),
)
TCM_DEPARTMENTS = (
    ("ZYNK", "中医内科", "TCM Internal Medicine", "50", 2),
    ("KFK", "康复医学科", "Rehabilitation Medicine", "21", 2),
    ("GK", "骨伤科", "Orthopaedics and Traumatology", "04.03", 2),
    ("LNK", "老年病科", "Geriatrics", "03.10", 1),
)
TITLES = ("主任医师", "副主任医师", "主治医师")


def blueprint(seed: int) -> Blueprint:
    """The county medical community as import rows; ``seed`` draws the staff."""
    rng = Random(f"tiantai:{seed}")
    plan = Blueprint(
        code="TT-YGT",
        name="天台县医共体",
        name_en="Tiantai County Medical Community",
        form="county_community",
        founded="2019-03-28",
        division=DIVISION,
        lead=LEAD,
        roles={LEAD: "lead", TCM: "branch"},
    )
    common = {"ownership": "public", "division": DIVISION}
    plan.institution(
        LEAD, "天台县人民医院", short_name="县人民医院", name_en="Tiantai County People's Hospital", kind="hospital", tier="county",
        level="三级乙等", lon=121.0225, lat=29.1394, address="天台县赤城街道康宁中路", **common,
    )  # fmt: skip
    plan.institution(
        TCM, "天台县中医院", short_name="县中医院", name_en="Tiantai County TCM Hospital", kind="tcm_hospital", tier="county",
        level="二级甲等", lon=121.0391, lat=29.1452, address="天台县赤城街道飞霞路", **common,
    )  # fmt: skip
    for institution, departments in ((LEAD, LEAD_DEPARTMENTS), (TCM, TCM_DEPARTMENTS)):
        for code, name, name_en, specialty, specialists in departments:
            plan.department(institution, code, name, name_en, specialty)
            for rank in range(specialists):
                plan.staff(
                    rng, institution, "clinician", TITLES[min(rank, 2)], code, born=1966 + 9 * min(rank, 2)
                )
        for role, count in (("referral_desk", 2), ("reception", 1)):
            for _ in range(count):
                plan.staff(rng, institution, role, "主管护师")
    for role, title in (("manager", "医共体办主任"), ("manager", "医共体办干事"), ("system_admin", "信息科长"),
                        ("security_admin", "安全管理员"), ("audit_admin", "审计管理员")):  # fmt: skip
        plan.staff(rng, LEAD, role, title)
    for code, town, centre, lon, lat, _ in TOWNS:
        kind = "community" if "社区" in centre else "township"
        plan.institution(
            code, f"天台县{centre}", short_name=centre.replace("社区卫生服务中心", "社区").replace("中心卫生院", "卫生院"),
            name_en=f"{english(town)} {'Township Health Centre' if kind == 'township' else 'Community Health Centre'}", kind=kind, tier="township", level="乙级" if kind == "township" else "一级甲等", lon=lon, lat=lat,
            address=f"天台县{town}", **common,
        )  # fmt: skip
        plan.department(code, "QK", "全科", "General Practice", "02")
        for _ in range(2):
            plan.staff(rng, code, "gp", "主治医师", "QK")
        plan.staff(rng, code, "family_doctor", "主治医师", "QK")
        plan.staff(rng, code, "reception", "护师")
        for clinic in clinics(code):
            plan.institution(
                clinic.clinic, f"{town}{clinic.name}卫生室", short_name=f"{clinic.name}卫生室",
                name_en=f"{english(clinic.name)} Village Clinic", kind="village", tier="village",
                level="", parent=code, lon=round(lon + rng.uniform(-0.03, 0.03), 4), lat=round(lat + rng.uniform(-0.03, 0.03), 4),
                address=f"天台县{town}{clinic.name}", **common,
            )  # fmt: skip
            plan.staff(rng, clinic.clinic, "village_doctor", "乡村医生")
    for device, name in (("CT", "CT"), ("MR", "磁共振"), ("DSA", "血管造影")):
        plan.capabilities.append((LEAD, "device", device, name))
    for code, *_ in TOWNS:
        plan.agreements.append((LEAD, code, "referral", f"天医共体〔2019〕{len(plan.agreements) + 1}号"))
    plan.agreements.append((LEAD, TCM, "referral", f"天医共体〔2019〕{len(plan.agreements) + 1}号"))
    plan.staff(rng, LEAD, "index_manager", "信息科主管")
    _centres(plan, rng)
    return plan


def _centres(plan: Blueprint, rng: Random) -> None:
    """The shared centres at the lead hospital, and who takes images, recordings and specimens elsewhere."""
    for code, name, name_en, specialty in (
        ("YXK", "医学影像中心", "Imaging centre", "32"), ("XDZX", "心电诊断中心", "ECG centre", "32.06"),
        ("JYZX", "医学检验中心", "Laboratory centre", "30"), ("BLZX", "病理诊断中心", "Pathology centre", "31"),
        ("GYS", "消毒供应中心", "Sterile supply centre", ""),
    ):  # fmt: skip
        plan.departments.append(
            {"institution": LEAD, "code": code, "name": name, "name_en": name_en, "specialty": specialty}
        )
    for department, titles in (
        ("YXK", ("主任医师", "副主任医师", "主治医师", "住院医师")), ("XDZX", ("副主任医师", "主治医师")),
        ("BLZX", ("主任医师", "主治医师")),
    ):  # fmt: skip
        for title in titles:
            plan.staff(rng, LEAD, "reader", title, department)
    for title in ("主任技师", "主管技师", "技师"):
        plan.staff(rng, LEAD, "laboratory", title, "JYZX")
    for title in ("主管技师", "技师"):
        plan.staff(rng, LEAD, "technician", title, "YXK")
    for title in ("主管护师", "护师"):
        plan.staff(rng, LEAD, "sterile", title, "GYS")
    plan.staff(rng, TCM, "technician", "主管技师")
    for code, *_ in TOWNS:
        plan.staff(rng, code, "technician", "技师", "QK")


def clinics(centre: str) -> list[Village]:
    """The villages (with their clinics) of a township centre: more where more people live."""
    position, row = next((i, row) for i, row in enumerate(TOWNS) if row[0] == centre)
    count = 3 + row[5] // 4
    chosen = [_VILLAGES[(position * 7 + n * 3) % len(_VILLAGES)] for n in range(count)]
    return [
        Village(
            name=f"{name}村", town=row[1], clinic=f"{centre}-C{n + 1:02d}", centre=centre, division=DIVISION
        )
        for n, name in enumerate(dict.fromkeys(chosen))
    ]


def villages() -> list[Village]:
    """All villages, each repeated in proportion to its township's share of residents."""
    return [
        village for code, *_, share in TOWNS for village in clinics(code) for _ in range(max(1, share // 3))
    ]
