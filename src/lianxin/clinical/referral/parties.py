"""Who plays a part in a referral and in which role the part's duties fall due at that institution.

A duty of "the referrer's doctor" is a village doctor's at a clinic, a general practitioner's at a township, a specialist's at
a hospital; a desk's duty falls to the referral office where there is one and to the general practitioner elsewhere.
"""

from __future__ import annotations

from typing import Any

from lianxin.network import roles
from lianxin.network.models import Institution

GRASSROOTS_KINDS = frozenset({"township", "community", "village"})
DOCTORS = (roles.VILLAGE_DOCTOR, roles.GP, roles.FAMILY_DOCTOR, roles.CLINICIAN, roles.WARD)
REFERRERS = (*DOCTORS, roles.REFERRAL_DESK)
TRIAGE = (
    roles.REFERRAL_DESK,
    roles.CLINICIAN,
    roles.GP,
    roles.FAMILY_DOCTOR,
    roles.VILLAGE_DOCTOR,
    roles.MANAGER,
)
BOOKERS = (*REFERRERS, roles.RECEPTION)
ARRIVAL = (roles.RECEPTION, *REFERRERS)
CARE = DOCTORS
FOLLOWERS = (roles.FAMILY_DOCTOR, roles.GP, roles.VILLAGE_DOCTOR, roles.CLINICIAN)


def covering(specialty: str) -> set[str]:
    """Specialty codes that cover ``specialty``: itself and the branches above it (04 covers 04.01)."""
    parts = specialty.split(".")
    return {".".join(parts[: n + 1]) for n in range(len(parts))} if specialty else set()


def role_at(institution: Institution | None, part_role: str) -> str:
    """The role that owes at ``institution`` what the table asks of "doctor", "desk", "reception" or "family"."""
    kind = institution.kind if institution is not None else ""
    if kind == "village":
        return roles.VILLAGE_DOCTOR
    if kind in GRASSROOTS_KINDS:
        return {"family": roles.FAMILY_DOCTOR}.get(part_role, roles.GP)
    return {
        "desk": roles.REFERRAL_DESK,
        "reception": roles.RECEPTION,
        "family": roles.CLINICIAN,
    }.get(part_role, roles.CLINICIAN)


def player(subject: Any, part: str) -> Institution | None:
    """The institution that plays ``part`` in the referral, without another query when the row was loaded whole."""
    if subject is None:
        return None
    if part == "referrer":
        return subject.from_institution
    if part == "receiver":
        return subject.to_institution
    return subject.consortium.lead if subject.consortium_id else None
