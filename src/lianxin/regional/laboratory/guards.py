"""Why a move of laboratory work may not be made now. Guards look at the case and never at the form."""

from __future__ import annotations

from lianxin.duty.machine import Ctx
from lianxin.regional.laboratory import results, transport, verification
from lianxin.standards.text import T, Text


def fit(ctx: Ctx) -> Text | None:
    """A tube that travelled too long or too warm is refused, not received."""
    code, words = transport.unfit(ctx.subject.laboratory.specimen, ctx.now)
    return words if code else None


def own_tube(ctx: Ctx) -> Text | None:
    """Tests that were added to a tube that was kept do not send its collector back."""
    if ctx.subject.laboratory.added:
        return T(
            "加做项目使用留存标本，无法检测请选“无法检测”。",
            "These tests were added to a kept tube; use “cannot be done”.",
        )
    return T("报告已发布过，不能拒收标本。", "A report went out already; the tube cannot be refused.") if ctx.subject.laboratory.version else None  # fmt: skip


def never_issued(ctx: Ctx) -> Text | None:
    """What went out is corrected, not cancelled."""
    return T("报告已发布过，请更正结果。", "A report went out already; correct the result.") if ctx.subject.laboratory.version else None  # fmt: skip


def may_verify(ctx: Ctx) -> Text | None:
    """At least one result that this person may vouch for."""
    if ctx.by.account_id is None:
        return T("须由检验人员本人审核。", "A person verifies.")
    if results.lacking(ctx.subject):
        return T("结果不完整。", "Results are missing.")
    done, why = verification.offered(ctx.subject, ctx.by.account_id)
    if done:
        return None
    return next(iter(why.values()), T("没有待审核的结果。", "Nothing is left to verify."))


def rules_agree(ctx: Ctx) -> Text | None:
    """Every result passes the rules of automatic verification."""
    if results.lacking(ctx.subject) or verification.why_not(ctx.subject):
        return T("不符合自动审核规则。", "The rules of automatic verification do not agree.")
    return None
