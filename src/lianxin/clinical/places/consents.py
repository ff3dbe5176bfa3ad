"""Consent to contrast: read to the patient where they are, kept with who took it and how, asked for before the booking."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lianxin.access import audit, relationships, seal
from lianxin.access.scope import Scope
from lianxin.clinical.places.models import HOW, ContrastConsent
from lianxin.duty.errors import Refused
from lianxin.pool import exams
from lianxin.pool.models import ExamItem
from lianxin.standards import clock
from lianxin.standards.text import T, Text

MOST_BYTES = 2 * 1024 * 1024
KINDS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"%PDF": "application/pdf"}
WHY = "the booking asks whether the patient has agreed to contrast"


@dataclass(frozen=True)
class Given:
    """How the consent was given. ``scan``: the bytes of the signed sheet (PNG, JPEG or PDF)."""

    how: str
    witness: str = ""
    scan: bytes = b""


def words() -> Text:
    """The text that the patient agrees to."""
    told = exams.shipped()["consent"]
    return Text(told["text"].replace(" ", ""), told["text_en"])


def _since() -> dt.datetime:
    return clock.now() - dt.timedelta(days=int(exams.shipped()["consent"]["valid_days"]))


def standing(person_id: int, codes: Iterable[str]) -> dict[str, ContrastConsent]:
    """item → the patient's newest consent that still holds."""
    rows = ContrastConsent.objects.unscoped(WHY).filter(
        person_id=person_id, item__in=list(codes), withdrawn_at=None, at__gt=_since()
    )
    found = rows.defer("scan").select_related("institution").order_by("at")
    return {row.item: row for row in found}


def lacking(person_id: int, items: Sequence[ExamItem]) -> list[ExamItem]:
    """Contrast items to which the patient has not agreed."""
    contrast = [i for i in items if i.contrast]
    held = standing(person_id, [i.code for i in contrast]) if contrast else {}
    return [i for i in contrast if i.code not in held]


def demanded(person_id: int, items: Sequence[ExamItem], case_id: int | None) -> Text | None:
    """What the pool asks before it books (``exams.demand``)."""
    missing = lacking(person_id, items)
    if not missing:
        return None
    return T(
        "{item} 需要造影剂知情同意：请先由经治医生（乡镇亦可）向患者说明并记录同意。",
        "{item} needs consent to contrast: a doctor (of the township too) explains it and records the patient's consent first.",
    ).format(item=missing[0].label)


def take(
    scope: Scope, person_id: int, codes: Iterable[str], given: Given, case_id: int | None = None
) -> list[ContrastConsent]:
    """Record that the patient agrees; Refused (fields ``how``, ``witness``, ``scan``) when the proof is lacking.

    Needs the permission ``refer`` and a relationship with the patient. Audited.
    """
    scope.demand("refer")
    relationships.require(scope, person_id)
    errors: dict[str, Text] = {}
    if given.how not in HOW:
        errors["how"] = T("请选择同意方式。", "Choose how consent was given.")
    if given.how == "spoken" and not given.witness.strip():
        errors["witness"] = T("口头同意须填写见证人姓名。", "Name the witness of a consent by word of mouth.")
    kind = next((k for head, k in KINDS.items() if given.scan.startswith(head)), "")
    if given.how == "signed" and (not kind or len(given.scan) > MOST_BYTES):
        errors["scan"] = T(
            "请上传签字页（PNG、JPEG 或 PDF，不超过 2 MB）。",
            "Attach the signed sheet (PNG, JPEG or PDF, at most 2 MB).",
        )
    if errors:
        raise Refused(errors)
    made = []
    for code in codes:
        made.append(
            ContrastConsent.objects.create(
                person_id=person_id, item=code, case_id=case_id, version=exams.shipped()["consent"]["version"],
                how=given.how, witness=given.witness.strip()[:80], scan=seal.seal_bytes(given.scan) if kind else None,
                scan_type=kind, institution_id=scope.institution_id, account_id=scope.account_id,
                taken_by=scope.name[:80], at=clock.now(),
            )
        )  # fmt: skip
        audit.write(scope, "create", person_id=person_id, what=f"contrast consent {code}")
    return made
