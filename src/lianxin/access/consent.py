"""A person's word on a purpose (个人信息保护法 arts. 28-30: separate, informed, withdrawable at any time).

An agreement holds until it is withdrawn. On sharing the last word counts: withdrawing an agreement to share, or refusing outright,
closes what :mod:`lianxin.access.sharing` says, at once; agreeing again lifts a refusal of the same breadth.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import Q

from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.models import Consent
from lianxin.access.scope import Scope
from lianxin.standards import clock
from lianxin.standards.text import T

KINDS = {
    "share": T("在医联体内共享健康记录", "Share the health record within the consortium"),
    "referral": T("转诊并向接收机构提供资料", "Be referred and have papers sent to the receiver"),
    "family_doctor": T("家庭医生签约服务", "Family-doctor contract"),
    "online": T("互联网诊疗", "Online care"),
    "research": T("去标识化后用于科研", "Research use after de-identification"),
}


@transaction.atomic
def record(
    scope: Scope,
    person_id: int,
    kind: str,
    institution_id: int | None,
    text_version: str,
    evidence: str,
    purpose: str = "",
) -> Consent:
    """Record that a person agreed: to which text, shown by what (signature, recording, form number).

    ``institution_id`` None means the whole consortium. Raises :class:`Invalid` naming what is missing.
    """
    errors = {}
    if kind not in KINDS:
        errors["kind"] = T("请选择知情同意的事项。", "Choose what is consented to.")
    if not text_version.strip():
        errors["text_version"] = T("请填写同意书版本。", "Give the version of the consent text.")
    if not evidence.strip():
        errors["evidence"] = T(
            "请填写同意的凭据(签字单编号、录音编号等)。",
            "Give the evidence (number of the signed form or recording).",
        )
    if errors:
        raise Invalid(errors)
    now = clock.now()
    row = Consent.objects.create(
        person_id=person_id,
        kind=kind,
        purpose=purpose,
        institution_id=institution_id,
        text_version=text_version.strip(),
        evidence=evidence.strip(),
        given_at=now,
        recorded_by_id=scope.account_id,
    )
    if kind == "share":
        Consent.objects.filter(
            Q(institution_id=institution_id) if institution_id else Q(institution__isnull=True),
            person_id=person_id,
            decision="deny",
            source__isnull=True,
            sensitive=False,
            withdrawn_at__isnull=True,
        ).update(withdrawn_at=now, withdrawn_reason=f"consent {row.pk}")
    audit.write(scope, "create", person_id=person_id, what=f"consent {row.pk} {kind}")
    return row


@transaction.atomic
def refuse(
    scope: Scope,
    person_id: int,
    *,
    source_id: int | None = None,
    institution_id: int | None = None,
    sensitive: bool = False,
    evidence: str,
    text_version: str = "1",
) -> Consent:
    """Record that a person refuses sharing: what ``source_id`` sent (None: any other institution) with ``institution_id`` (None: all
    others), whole or only what is marked confidential. Holds at once, until withdrawn. Raises :class:`Invalid`."""
    if not evidence.strip():
        raise Invalid(
            {
                "evidence": T(
                    "请填写凭据(签字单编号、录音编号等)。",
                    "Give the evidence (number of the signed form or recording).",
                )
            }
        )
    if source_id is not None and source_id == institution_id:
        raise Invalid(
            {
                "institution": T(
                    "来源机构始终可见自己的数据，请选择另一机构。",
                    "A source always sees what it sent; choose another institution.",
                )
            }
        )
    row = Consent.objects.create(
        person_id=person_id,
        kind="share",
        decision="deny",
        source_id=source_id,
        institution_id=institution_id,
        sensitive=sensitive,
        text_version=text_version.strip(),
        evidence=evidence.strip(),
        given_at=clock.now(),
        recorded_by_id=scope.account_id,
    )
    audit.write(scope, "create", person_id=person_id, what=f"consent {row.pk} refused")
    return row


@transaction.atomic
def withdraw(scope: Scope, consent_id: int, reason: str = "") -> Consent:
    """Withdraw a consent; it stops holding at once. Withdrawing twice changes nothing.

    Of an agreement to share a refusal of the same breadth remains: its withdrawal must end the sharing.
    """
    row = Consent.objects.select_for_update().get(pk=consent_id)
    if row.withdrawn_at is None:
        row.withdrawn_at = clock.now()
        row.withdrawn_reason = reason[:200]
        row.save()
        audit.write(scope, "update", person_id=row.person_id, what=f"consent {row.pk} withdrawn")
        if row.kind == "share" and row.decision == "permit":
            refuse(
                scope,
                row.person_id,
                institution_id=row.institution_id,
                evidence=f"withdrawal of consent {row.pk}",
            )
    return row


def holds(person_id: int, kind: str, institution_id: int | None = None) -> bool:
    """Whether a live consent of ``kind`` covers the institution (or the whole consortium)."""
    return Consent.objects.filter(
        Q(institution_id=institution_id) | Q(institution_id__isnull=True),
        person_id=person_id,
        kind=kind,
        decision="permit",
        withdrawn_at__isnull=True,
        given_at__lte=clock.now(),
    ).exists()


def of_person(person_id: int) -> list[Consent]:
    """All consents and refusals of a person, newest first."""
    return list(
        Consent.objects.filter(person_id=person_id)
        .select_related("institution", "source")
        .order_by("-given_at")
    )
