"""How far a partner is: preparing, testing, ready (all required tests green, going live was asked for), live, suspended.

Who keeps the connection moves it up to ready; going live, suspending and taking up again are the consortium's (role manager).
Every move is audited and holds at every door within seconds (``limits``).
"""

from __future__ import annotations

from django.db import transaction

from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.scope import Scope
from lianxin.exchange.partners import limits, selftest
from lianxin.exchange.partners.models import LIVE, PREPARING, READY, SUSPENDED, TESTING, Partner
from lianxin.standards import clock
from lianxin.standards.text import T

LABELS = {
    PREPARING: T("准备中", "Preparing"),
    TESTING: T("自测中", "Testing"),
    READY: T("待批准上线", "Ready, awaits approval"),
    LIVE: T("已上线", "Live"),
    SUSPENDED: T("已暂停", "Suspended"),
}
MOVES: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "ask": ((PREPARING, TESTING), READY, False),
    "withdraw": ((READY,), TESTING, False),
    "approve": ((READY,), LIVE, True),
    "reject": ((READY,), TESTING, True),
    "suspend": ((LIVE, READY, TESTING, PREPARING), SUSPENDED, True),
    "resume": ((SUSPENDED,), LIVE, True),
    "adopt": ((PREPARING, TESTING), LIVE, True),
}
"""Move: from which states, to which, and whether it is the consortium's decision."""
MOVE_LABELS = {
    "ask": T("申请上线", "Ask to go live"), "withdraw": T("撤回申请", "Withdraw"), "approve": T("批准上线", "Approve"),
    "reject": T("退回自测", "Send back"), "suspend": T("暂停", "Suspend"), "resume": T("恢复", "Resume"),
    "adopt": T("按现有连接直接上线", "Take over as it runs"),
}  # fmt: skip


def possible(partner: Partner, decides: bool) -> list[str]:
    """Moves that can be made now; ``decides``: by the consortium."""
    return [
        m
        for m, (before, _, consortium) in MOVES.items()
        if partner.state in before and (decides or not consortium)
    ]


def move(scope: Scope, pk: int, what: str, note: str = "") -> Partner:
    """Make a move; :class:`Invalid` when it cannot be made from where the partner stands, or tests are lacking."""
    with transaction.atomic():
        partner = Partner.objects.select_for_update().get(pk=pk)
        before, after, _ = MOVES[what]
        if partner.state not in before:
            raise Invalid(
                {
                    "state": T("当前状态“{s}”不能这样办理。", "This cannot be done while it is {s}.").format(
                        s=LABELS[partner.state]
                    )
                }
            )
        if what == "ask":
            lacking = selftest.lacking(partner)
            if lacking and not partner.waived:
                names = T("、".join(s.zh for s in lacking), ", ".join(s.en for s in lacking))
                raise Invalid(
                    {
                        "state": T("以下自测尚未通过：{n}。", "These tests are not green yet: {n}.").format(
                            n=names
                        )
                    }
                )
            partner.tested_at = partner.tested_at or clock.now()
        if what == "adopt":
            if not note.strip():
                raise Invalid({"note": T("请写明免测的理由。", "Say why it goes live without tests.")})
            partner.waived = note.strip()[:500]
        if what == "resume" and partner.tested_at is None and not partner.waived:
            after = TESTING
        partner.state, partner.state_at = after, clock.now()
        partner.save(update_fields=["state", "state_at", "tested_at", "waived"])
        detail = {"did": what, "state": after} | ({"note": note[:500]} if note else {})
        audit.write(scope, "admin", what=f"partner {partner.name}", detail=detail)
    limits.forget()
    return partner
