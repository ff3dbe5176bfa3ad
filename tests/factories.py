"""Builders of a small synthetic network that every room's tests may use. Names are invented."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from lianxin.network import roles
from lianxin.network.models import (
    Agreement,
    Capability,
    Consortium,
    Department,
    Institution,
    Membership,
    Post,
    Practitioner,
)
from lianxin.standards.identifiers import resident_id_make

SINCE = dt.date(2020, 1, 1)
_serial = count(1)


def make_institution(code: str = "", kind: str = "township", **fields: Any) -> Institution:
    """An institution; a village clinic without ``parent`` gets a township of its own."""
    number = next(_serial)
    tiers = {"village": "village", "township": "township", "community": "township"}
    fields.setdefault("tier", tiers.get(kind, "county"))
    fields.setdefault("name", f"试验机构{number}")
    if kind == "village" and not fields.get("parent"):
        fields["parent"] = make_institution(kind="township")
    return Institution.objects.create(code=code or f"X-{number}", kind=kind, **fields)


def make_consortium(
    lead: Institution,
    members: tuple[Institution, ...] | list[Institution] = (),
    code: str = "",
    **fields: Any,
) -> Consortium:
    """A consortium with live memberships since 2020."""
    number = next(_serial)
    fields.setdefault("name", f"试验医共体{number}")
    fields.setdefault("form", "county_community")
    consortium = Consortium.objects.create(code=code or f"C-{number}", lead=lead, **fields)
    Membership.objects.create(consortium=consortium, institution=lead, role="lead", since=SINCE)
    for member in members:
        Membership.objects.create(consortium=consortium, institution=member, role="member", since=SINCE)
    return consortium


def make_department(institution: Institution, code: str = "NK", **fields: Any) -> Department:
    """A department (internal medicine unless told)."""
    fields.setdefault("name", "内科")
    fields.setdefault("name_en", "Internal medicine")
    fields.setdefault("specialty", "03")
    return Department.objects.create(institution=institution, code=code, **fields)


def make_practitioner(name: str = "", code: str = "", **fields: Any) -> Practitioner:
    """A person without a post."""
    number = next(_serial)
    return Practitioner.objects.create(name=name or f"甄试{number}", code=code or f"P-{number}", **fields)


def make_post(
    institution: Institution,
    role: str = roles.CLINICIAN,
    practitioner: Practitioner | None = None,
    department: Department | None = None,
    since: dt.date = SINCE,
    **fields: Any,
) -> Post:
    """A live post (with a new practitioner unless given)."""
    return Post.objects.create(
        practitioner=practitioner or make_practitioner(),
        institution=institution,
        department=department,
        role=role,
        since=since,
        **fields,
    )


def make_resident_id(
    birth: dt.date = dt.date(1969, 5, 17), seq: int | None = None, division: str = "331023"
) -> str:
    """A synthetic identity number with a right check digit (a new sequence number each time)."""
    return resident_id_make(division, birth, next(_serial) % 1000 if seq is None else seq)


@dataclass
class SmallCounty:
    """What `small_county` built."""

    consortium: Consortium
    lead: Institution
    tcm: Institution
    townships: list[Institution]
    villages: list[Institution]
    departments: dict[str, Department]
    posts: dict[str, Post] = field(default_factory=dict)


def small_county(prefix: str = "SC") -> SmallCounty:
    """One lead hospital, a TCM hospital, three townships, six village clinics, a post of every role that matters.

    Posts by key: ``clinician`` (lead, internal medicine), ``surgeon`` (lead, surgery), ``desk`` and ``ward`` (lead),
    ``manager`` (lead), ``tcm_clinician``, ``tcm_desk``, ``gp0``..``gp2``, ``family0``.., ``township_desk0``..,
    ``village0``..``village5``, ``reception0``.., ``system_admin``, ``security_admin``, ``audit_admin``.
    """
    lead = make_institution(
        f"{prefix}-RMYY", "hospital", name="青溪县人民医院", name_en="Qingxi County People's Hospital", short_name="县人民医院",
        level="三级乙等", division="331023", lon=121.01, lat=29.14,
    )  # fmt: skip
    tcm = make_institution(
        f"{prefix}-ZYY", "tcm_hospital", name="青溪县中医院", name_en="Qingxi County TCM Hospital", short_name="县中医院",
        level="二级甲等", division="331023", lon=121.03, lat=29.13,
    )  # fmt: skip
    townships = [
        make_institution(
            f"{prefix}-T{i + 1}", "township", name=f"{name}卫生院", name_en=f"{en} Township Health Centre",
            short_name=name, division="331023", lon=121.0 + 0.1 * (i + 1), lat=29.1 + 0.05 * i,
        )
        for i, (name, en) in enumerate([("白鹤镇", "Baihe"), ("石梁镇", "Shiliang"), ("坦头镇", "Tantou")])
    ]  # fmt: skip
    villages = [
        make_institution(
            f"{prefix}-T{i // 2 + 1}-V{i % 2 + 1}", "village", name=f"{name}村卫生室", name_en=f"{en} Village Clinic",
            parent=townships[i // 2], division="331023", lon=121.1 + 0.1 * (i // 2), lat=29.11 + 0.01 * i,
        )
        for i, (name, en) in enumerate(
            [("上塘", "Shangtang"), ("下塘", "Xiatang"), ("东坑", "Dongkeng"), ("西坑", "Xikeng"),
             ("南屏", "Nanping"), ("北屏", "Beiping")]
        )
    ]  # fmt: skip
    consortium = make_consortium(
        lead,
        [tcm, *townships],
        code=f"{prefix}",
        name="青溪县医共体",
        name_en="Qingxi Medical Community",
        division="331023",
    )
    departments = {
        "internal": make_department(lead, "NK", specialty="03", name="内科", name_en="Internal medicine"),
        "cardiology": make_department(lead, "XNK", specialty="03.04", name="心血管内科", name_en="Cardiology"),
        "surgery": make_department(lead, "WK", specialty="04", name="外科", name_en="Surgery"),
        "tcm_rehab": make_department(tcm, "KF", specialty="21", name="康复科", name_en="Rehabilitation"),
        **{f"gp{i}": make_department(t, "QK", specialty="02", name="全科", name_en="General practice")
           for i, t in enumerate(townships)},
    }  # fmt: skip
    for department in departments.values():
        Capability.objects.create(
            institution=department.institution, kind="specialty", code=department.specialty,
            name=department.name, name_en=department.name_en, since=SINCE,
        )  # fmt: skip
    Agreement.objects.create(
        consortium=consortium,
        party_a=lead,
        party_b=tcm,
        kind="referral",
        number=f"{prefix}-AG-1",
        since=SINCE,
    )
    county = SmallCounty(consortium, lead, tcm, townships, villages, departments)
    county.posts = _staff(county)
    return county


def staff_centres(county: SmallCounty) -> None:
    """Add who works in the shared centres: ``reader0``..``reader2`` and ``technician``, ``lab0``, ``lab1``, ``sterile0``, ``sterile1`` at
    the lead hospital, ``technician0``.. at the townships."""
    for i in range(3):
        county.posts[f"reader{i}"] = make_post(
            county.lead, roles.READER, make_practitioner(f"阅片{'甲乙丙'[i]}")
        )
        county.posts[f"technician{i}"] = make_post(
            county.townships[i], roles.TECHNICIAN, make_practitioner(f"技师{'甲乙丙'[i]}")
        )
    for i in range(2):
        county.posts[f"lab{i}"] = make_post(
            county.lead, roles.LABORATORY, make_practitioner(f"检验{'甲乙'[i]}")
        )
        county.posts[f"sterile{i}"] = make_post(
            county.lead, roles.STERILE, make_practitioner(f"供应{'甲乙'[i]}")
        )
    county.posts["technician"] = make_post(county.lead, roles.TECHNICIAN, make_practitioner("技师长"))


def _staff(county: SmallCounty) -> dict[str, Post]:
    lead, tcm, departments = county.lead, county.tcm, county.departments

    def post(name: str, inst: Institution, role: str, department: str | None = None, title: str = "") -> Post:
        person = make_practitioner(name, title=title, sex="female")
        return make_post(inst, role, person, departments[department] if department else None)

    posts = {
        "clinician": post("单明远", lead, roles.CLINICIAN, "cardiology", "主任医师"),
        "surgeon": post("仇立新", lead, roles.CLINICIAN, "surgery", "副主任医师"),
        "desk": post("曾静宜", lead, roles.REFERRAL_DESK),
        "ward": post("解晓岚", lead, roles.WARD, "internal", "主管护师"),
        "manager": post("朴正浩", lead, roles.MANAGER),
        "pharmacist": post("查如意", lead, roles.PHARMACIST, title="主管药师"),
        "tcm_clinician": post("盖清和", tcm, roles.CLINICIAN, "tcm_rehab", "主治医师"),
        "tcm_desk": post("区雅文", tcm, roles.REFERRAL_DESK),
        "system_admin": post("尉迟宁", lead, roles.SYSTEM_ADMIN),
        "security_admin": post("万俟安", lead, roles.SECURITY_ADMIN),
        "audit_admin": post("令狐正", lead, roles.AUDIT_ADMIN),
    }
    for i, township in enumerate(county.townships):
        posts[f"gp{i}"] = post(f"全科{'甲乙丙'[i]}", township, roles.GP, f"gp{i}", "全科医师")
        posts[f"family{i}"] = post(f"家医{'甲乙丙'[i]}", township, roles.FAMILY_DOCTOR, f"gp{i}", "全科医师")
        posts[f"township_desk{i}"] = post(f"联络{'甲乙丙'[i]}", township, roles.REFERRAL_DESK)
        posts[f"reception{i}"] = post(f"登记{'甲乙丙'[i]}", township, roles.RECEPTION)
    for i, village in enumerate(county.villages):
        posts[f"village{i}"] = post(
            f"村医{'甲乙丙丁戊己'[i]}", village, roles.VILLAGE_DOCTOR, title="乡村医生"
        )
    return posts
