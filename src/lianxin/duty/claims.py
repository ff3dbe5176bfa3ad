"""Who of the team takes a duty: claim, give back, hand over. A claim says "I am on it"; it locks nobody out of acting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from lianxin.access import audit
from lianxin.duty.errors import NotAllowed
from lianxin.duty.models import Duty
from lianxin.network.models import Post
from lianxin.standards.text import T

if TYPE_CHECKING:
    from lianxin.access.models import Account
    from lianxin.access.scope import Scope


def _locked(duty_id: int, by: Scope) -> Duty:
    """The open duty, locked, if it is the scope's team's."""
    rows = Duty.objects.unscoped("claims check institution and role themselves").select_for_update(
        of=("self",)
    )
    duty = rows.select_related("case").filter(pk=duty_id, ended="").first()
    if duty is None:
        raise NotAllowed(T("该事项已办结，请刷新列表。", "This duty has been done; reload the list."))
    if duty.owner_institution_id not in by.institution_ids or duty.owner_role not in by.roles:
        raise NotAllowed(T("该事项不属于您的机构和岗位。", "This duty is not your institution's and role's."))
    return duty


def _set(duty: Duty, account_id: int | None, by: Scope, what: str) -> None:
    duty.owner_account_id = account_id
    duty.save(update_fields=["owner_account"])
    audit.write(
        by, "update", person_id=duty.person_id, what=f"duty {duty.pk} {duty.case.number}",
        detail={"claim": what, "account": account_id},
    )  # fmt: skip


@transaction.atomic
def claim(duty_id: int, by: Scope) -> Duty:
    """Take the duty; taking one's own again changes nothing. NotAllowed when a colleague has it or it is over."""
    duty = _locked(duty_id, by)
    if by.account_id is None:
        raise NotAllowed(T("只有人员账号可以认领。", "Only a person's account can claim."))
    if duty.owner_account_id not in (None, by.account_id):
        raise NotAllowed(
            T("同事已认领该事项，可请其转交。", "A colleague has claimed it; ask for it to be handed over.")
        )
    if duty.owner_account_id is None:
        _set(duty, by.account_id, by, "claim")
    return duty


@transaction.atomic
def release(duty_id: int, by: Scope) -> Duty:
    """Give the duty back to the team (by whoever of the team: people fall ill)."""
    duty = _locked(duty_id, by)
    if duty.owner_account_id is not None:
        _set(duty, None, by, "release")
    return duty


@transaction.atomic
def transfer(duty_id: int, to: Account, by: Scope) -> Duty:
    """Hand the duty to a colleague who holds the same role at the same institution now."""
    duty = _locked(duty_id, by)
    fits = Post.objects.live().filter(
        practitioner_id=to.practitioner_id or 0,
        institution_id=duty.owner_institution_id,
        role=duty.owner_role,
    )
    if not to.is_active or not fits.exists():
        raise NotAllowed(
            T(
                "受交人不在该机构该岗位，请另选同岗位人员。",
                "That person does not hold this role here; choose a colleague who does.",
            )
        )
    _set(duty, to.pk, by, "transfer")
    return duty
