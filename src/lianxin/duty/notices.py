"""Notices: lines for an institution's role, or for one account. They carry a case's number, never a patient's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Q, QuerySet

from lianxin.duty.models import Case, Notice
from lianxin.standards import clock
from lianxin.standards.text import Text

if TYPE_CHECKING:
    from lianxin.access.scope import Scope


def tell(
    case: Case, institution_id: int, role: str, text: Text, *, account_id: int | None = None, level: int = 0
) -> Notice:
    """Write one notice outside a move (moves tell through ``Effect.notices``)."""
    return Notice.objects.create(
        case=case, institution_id=institution_id, role=role, account_id=account_id, text_zh=text.zh[:240],
        text_en=text.en[:320], level=level, created_at=clock.now(),
    )  # fmt: skip


def of(scope: Scope) -> QuerySet[Notice]:
    """Notices for the scope's institutions and roles, and for its account, newest first."""
    mine = Q(account=None, role__in=[*scope.roles, ""]) | Q(account_id=scope.account_id or 0)
    return (
        Notice.objects.filter(mine, institution_id__in=scope.institution_ids)
        .select_related("case")
        .order_by("-created_at", "-id")
    )


def unread(scope: Scope) -> QuerySet[Notice]:
    """Those not read yet."""
    return of(scope).filter(read_at=None)


def unread_count(scope: Scope) -> int:
    """How many are unread (counts to 100 at most: nobody reads the difference)."""
    return unread(scope).order_by()[:100].count()


def mark_read(scope: Scope, ids: list[int] | None = None, *, case: Case | None = None) -> int:
    """Mark these (or a case's, or all) as read; only one's own are touched."""
    rows = unread(scope).order_by()
    if ids is not None:
        rows = rows.filter(pk__in=ids)
    if case is not None:
        rows = rows.filter(case=case)
    return rows.update(read_at=clock.now())
