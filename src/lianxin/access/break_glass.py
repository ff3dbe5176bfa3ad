"""Opening a record in an emergency without a relationship: a reason, a time limit, the opener alone, and a review by another."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from django.db import transaction
from django.db.models import QuerySet

from lianxin.access import audit, relationships
from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.models import BreakGlass
from lianxin.access.scope import Scope
from lianxin.network import roles
from lianxin.standards import clock
from lianxin.standards.text import T

MIN_REASON = 10
MAX_HOURS = 24.0
VERDICTS = {
    "justified": T("情况属实", "Justified"),
    "unjustified": T("理由不成立", "Not justified"),
}

_listeners: list[Callable[[BreakGlass], None]] = []


def on_open(listener: Callable[[BreakGlass], None]) -> None:
    """Register what else happens, in the same transaction, when a record is opened so (notices to reviewers)."""
    _listeners.append(listener)


@transaction.atomic
def open(scope: Scope, person_id: int, reason: str, hours: float = 4.0) -> BreakGlass:
    """Open a person's record to this account alone for ``hours`` (at most 24).

    Raises :class:`NotPermitted` for a role that treats nobody, :class:`Invalid` for a reason under 10 characters.
    """
    scope.demand("break_glass")
    if scope.account_id is None or scope.institution_id is None:
        raise NotPermitted(
            T(
                "紧急调阅须由本人登录后进行。",
                "Only a person who is signed in can open a record in an emergency.",
            )
        )
    reason = " ".join(reason.split())
    errors = {}
    if len(reason) < MIN_REASON:
        errors["reason"] = T(
            "请写明紧急调阅理由，至少{n}个字(例：昏迷患者急诊抢救，需了解用药史)。",
            "Say why in at least {n} characters (e.g. unconscious patient, medicines must be known).",
        ).format(n=MIN_REASON)
    if not 0 < hours <= MAX_HOURS:
        errors["hours"] = T("时限须在{n}小时以内。", "The time limit is at most {n} hours.").format(
            n=int(MAX_HOURS)
        )
    if errors:
        raise Invalid(errors)
    now = clock.now()
    row = BreakGlass.objects.create(
        account_id=scope.account_id,
        person_id=person_id,
        institution_id=scope.institution_id,
        reason=reason[:1000],
        opened_at=now,
        until=now + dt.timedelta(hours=hours),
    )
    relationships.grant(
        person_id,
        scope.institution_id,
        "break_glass",
        f"break_glass:{row.pk}",
        row.until,
        account_id=scope.account_id,
    )
    audit.write(
        scope,
        "break_glass",
        person_id=person_id,
        what=f"break-glass {row.pk}",
        detail={"reason": row.reason, "until": row.until.isoformat()},
    )
    for listener in _listeners:
        listener(row)
    return row


def within(scope: Scope) -> QuerySet[BreakGlass]:
    """The openings a reviewer answers for: the security administrator all, a consortium office those of its members."""
    if scope.everything or scope.has(roles.SECURITY_ADMIN):
        return BreakGlass.objects.all()
    return BreakGlass.objects.filter(institution_id__in=scope.oversight_ids | scope.institution_ids)


def pending_reviews(scope: Scope) -> list[BreakGlass]:
    """Openings nobody has reviewed yet, oldest first (permission ``review_break_glass``); one's own are left out."""
    scope.demand("review_break_glass")
    rows = within(scope).filter(reviewed_at__isnull=True).select_related("account", "institution")
    return list(rows.exclude(account_id=scope.account_id or 0).order_by("opened_at"))


@transaction.atomic
def review(scope: Scope, row_id: int, verdict: str, note: str = "") -> BreakGlass:
    """Record a verdict ("justified" or "unjustified", the latter with a note) on somebody else's opening, once."""
    scope.demand("review_break_glass")
    row = within(scope).select_for_update().filter(pk=row_id).first()
    errors = {}
    if row is None:
        raise Invalid({"id": T("没有这条紧急调阅记录。", "There is no such emergency opening.")})
    if row.reviewed_at is not None:
        errors["id"] = T(
            "该记录已复核，请刷新列表。", "This opening has been reviewed already; refresh the list."
        )
    elif row.account_id == scope.account_id:
        errors["id"] = T("不能复核本人的紧急调阅。", "You cannot review your own opening.")
    if verdict not in VERDICTS:
        errors["verdict"] = T("请选择复核结论。", "Choose a verdict.")
    elif verdict == "unjustified" and len(note.strip()) < 4:
        errors["note"] = T("理由不成立时请写明依据。", "Say on what ground it is not justified.")
    if errors:
        raise Invalid(errors)
    row.reviewer_id = scope.account_id
    row.reviewed_at = clock.now()
    row.verdict, row.note = verdict, note.strip()
    row.save()
    if verdict == "unjustified":
        relationships.end(f"break_glass:{row.pk}")
    audit.write(
        scope,
        "admin",
        person_id=row.person_id,
        what=f"break-glass {row.pk}",
        detail={"did": "reviewed", "verdict": verdict},
    )
    return row


def of_person(person_id: int) -> list[BreakGlass]:
    """Every emergency opening of a person's record, newest first: it is visible, to the person too."""
    return list(
        BreakGlass.objects.filter(person_id=person_id)
        .select_related("account", "institution", "reviewer")
        .order_by("-opened_at")
    )
