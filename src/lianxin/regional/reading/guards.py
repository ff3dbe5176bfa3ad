"""Why a move of reading work may not be made now. Guards look at the case and never at the form."""

from __future__ import annotations

from lianxin.duty.machine import Ctx
from lianxin.regional.reading import errors, hooks
from lianxin.regional.reading.models import Entry, Reader
from lianxin.standards.text import T, Text


def _reader(ctx: Ctx) -> Reader | None:
    return Reader.objects.filter(
        account_id=ctx.by.account_id or 0,
        institution_id=ctx.subject.centre_of_id,
        centre=ctx.subject.centre,
        active=True,
    ).first()


def _holds(ctx: Ctx, seat: str) -> bool:
    rows = Entry.objects.unscoped("guards see the case's seats")
    return rows.filter(
        reading_id=ctx.case.pk, seat=seat, state="claimed", account_id=ctx.by.account_id or 0
    ).exists()


def holds_first(ctx: Ctx) -> Text | None:
    """Only who claimed the study writes its report."""
    return None if _holds(ctx, "first") else _claim_first()


def holds_approval(ctx: Ctx) -> Text | None:
    """Only who claimed the approval approves."""
    return None if _holds(ctx, "approve") else _claim_first()


def holds_second(ctx: Ctx) -> Text | None:
    """Only who claimed the second reading gives it."""
    return None if _holds(ctx, "second") else _claim_first()


def holds_arbitration(ctx: Ctx) -> Text | None:
    """Only who claimed the arbitration decides."""
    return None if _holds(ctx, "arbitrate") else _claim_first()


def _claim_first() -> Text:
    return T("请先认领该检查。", "Claim this study first.")


def may_sign(ctx: Ctx) -> Text | None:
    """A reader whose reports need approval proposes; they do not sign."""
    reader = _reader(ctx)
    if reader is None:
        return errors.no_reader().text
    if not reader.signs:
        return T("您的报告须经审核，请提交审核。", "Your reports need approval; send it for approval.")
    return None


def is_reader(ctx: Ctx) -> Text | None:
    """Registered as a reader of the centre."""
    return errors.no_reader().text if _reader(ctx) is None else None


def may_amend(ctx: Ctx) -> Text | None:
    """Readers who sign may amend what the centre issued."""
    return may_sign(ctx)


def something_to_read(ctx: Ctx) -> Text | None:
    """Images, a recording or a result have arrived."""
    why: Text | None = hooks.centre(ctx.subject.centre).acquired(ctx.subject)
    return why
