"""Roles of a post: what a person does at an institution, and whether that opens patients' records.

The three administrators are separated (三员分立, MLPS level 3): none of them reads a record, and one person may not
hold two of them (`conflicts`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lianxin.standards.text import T, Text


@dataclass(frozen=True)
class Role:
    """A role: ``clinical`` may open patient records, ``desk`` handles cases at a counter, ``admin`` runs the platform."""

    code: str
    label: Text
    clinical: bool = False
    desk: bool = False
    admin: bool = False
    grassroots: bool = False

    def __str__(self) -> str:
        return str(self.label)


VILLAGE_DOCTOR = "village_doctor"
GP = "gp"
FAMILY_DOCTOR = "family_doctor"
CLINICIAN = "clinician"
REFERRAL_DESK = "referral_desk"
WARD = "ward"
RECEPTION = "reception"
PHARMACIST = "pharmacist"
READER = "reader"
TECHNICIAN = "technician"
LABORATORY = "laboratory"
STERILE = "sterile"
MANAGER = "manager"
INDEX_MANAGER = "index_manager"
SYSTEM_ADMIN = "system_admin"
SECURITY_ADMIN = "security_admin"
AUDIT_ADMIN = "audit_admin"
RESIDENT = "resident"

ROLES: dict[str, Role] = {
    role.code: role
    for role in (
        Role(VILLAGE_DOCTOR, T("乡村医生", "Village doctor"), clinical=True, grassroots=True),
        Role(GP, T("全科医生", "General practitioner"), clinical=True, grassroots=True),
        Role(FAMILY_DOCTOR, T("家庭医生", "Family doctor"), clinical=True, grassroots=True),
        Role(CLINICIAN, T("专科医生", "Specialist"), clinical=True),
        Role(REFERRAL_DESK, T("转诊办", "Referral desk"), clinical=True, desk=True),
        Role(WARD, T("病区", "Ward"), clinical=True),
        Role(RECEPTION, T("收费登记", "Reception"), desk=True),
        Role(PHARMACIST, T("药师", "Pharmacist"), clinical=True),
        Role(READER, T("诊断医师", "Diagnostic doctor"), clinical=True),
        Role(TECHNICIAN, T("医技技师", "Technician"), clinical=True),
        Role(LABORATORY, T("检验技师", "Laboratory technician"), clinical=True),
        Role(STERILE, T("消毒供应", "Sterile supply")),
        Role(MANAGER, T("医共体办", "Consortium office")),
        Role(INDEX_MANAGER, T("主索引管理员", "Index manager")),
        Role(SYSTEM_ADMIN, T("系统管理员", "System administrator"), admin=True),
        Role(SECURITY_ADMIN, T("安全管理员", "Security administrator"), admin=True),
        Role(AUDIT_ADMIN, T("审计管理员", "Audit administrator"), admin=True),
        Role(RESIDENT, T("居民", "Resident")),
    )
}
CLINICAL: frozenset[str] = frozenset(r.code for r in ROLES.values() if r.clinical)
ADMINS: frozenset[str] = frozenset(r.code for r in ROLES.values() if r.admin)
GRASSROOTS: frozenset[str] = frozenset(r.code for r in ROLES.values() if r.grassroots)
DESKS: frozenset[str] = frozenset(r.code for r in ROLES.values() if r.desk)


def label(code: str) -> Text:
    """A role in words; an unknown code stands as written."""
    role = ROLES.get(code)
    return role.label if role else Text(code, code)


def is_clinical(codes: Iterable[str]) -> bool:
    """True when any of the roles may open patient records."""
    return not CLINICAL.isdisjoint(codes)


def choices() -> list[tuple[str, Text]]:
    """(code, label) of every role a post may have, for forms."""
    return [(r.code, r.label) for r in ROLES.values() if r.code != RESIDENT]


def conflicts(codes: Iterable[str]) -> Text | None:
    """Why these roles may not be held by one person, or None."""
    held = set(codes)
    admins = held & ADMINS
    if len(admins) > 1:
        return T(
            "系统、安全、审计三类管理员必须由不同人员担任，请只保留其中一个。",
            "System, security and audit administrators must be different people; keep only one of them.",
        )
    if admins and held & CLINICAL:
        return T(
            "管理员不得兼任可查看病历的岗位，请另设账号人员。",
            "An administrator may not hold a post that opens patient records; appoint another person.",
        )
    return None
