"""Letters and messages of a referral, numbered in order (the case's row is locked while they are written)."""

from __future__ import annotations

from typing import Any

from lianxin.clinical.referral.models import Leg, Letter, Message
from lianxin.duty.machine import Ctx


def _author(ctx: Ctx) -> dict[str, Any]:
    """Who writes, for which institution: the part that the actor plays in this referral."""
    mine = [i for i in ctx.parties.values() if i in ctx.by.institution_ids]
    institution = ctx.by.institution_id if ctx.by.institution_id in mine or not mine else mine[0]
    return {"institution_id": institution, "practitioner_id": ctx.by.practitioner_id, "author": ctx.by.name}


def add_letter(ctx: Ctx, kind: str, content: dict[str, Any]) -> Letter:
    """Write the next letter of the referral; it is published with the move."""
    own = Letter.objects.unscoped("the referral's own letters").filter(referral=ctx.subject)
    leg = Leg.objects.unscoped("the referral's own leg").filter(referral=ctx.subject, status="open").first()
    letter = Letter.objects.create(
        referral=ctx.subject, person_id=ctx.subject.person_id, leg=leg, number=own.count() + 1, kind=kind,
        content=content, sent_at=ctx.now, **_author(ctx),
    )  # fmt: skip
    ctx.extra.setdefault("letters", []).append(letter)
    return letter


def add_message(ctx: Ctx, kind: str, text: str, code: str = "") -> Message:
    """Write the next line of the conversation."""
    own = Message.objects.unscoped("the referral's own conversation").filter(referral=ctx.subject)
    message = Message.objects.create(
        referral=ctx.subject, person_id=ctx.subject.person_id, number=own.count() + 1, kind=kind, code=code, text=text,
        at=ctx.now, **_author(ctx),
    )  # fmt: skip
    ctx.extra.setdefault("messages", []).append(message)
    return message
