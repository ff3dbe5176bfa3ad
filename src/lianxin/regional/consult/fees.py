"""What a consultation costs and who has which part: per expert who spoke, by the agreement between the institutions or the consortium's rule."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db.models import Q

from lianxin.network.models import Agreement
from lianxin.regional.consult import policy
from lianxin.regional.consult.models import SHARES, Consult, Seat, Share
from lianxin.standards import clock
from lianxin.standards.money import Money


def default(desk_id: int) -> int:
    """The fee (fen) of somebody who has none of their own."""
    return int(policy.value("fee.default", desk_id))


def rule(requester_id: int, expert_id: int, desk_id: int) -> tuple[dict[str, int], str]:
    """Shares in per cent and where they come from: ``consult_share`` in the terms of a live agreement of the two, else the setting."""
    rows = Agreement.objects.live().filter(
        Q(party_a=requester_id, party_b=expert_id) | Q(party_a=expert_id, party_b=requester_id)
    )
    for agreement in rows.order_by("-since", "pk"):
        share = valid(agreement.terms.get("consult_share"))
        if share is not None:
            return share, f"协议 {agreement.number}"
    share = valid(policy.value("share", desk_id))
    assert share is not None, "the setting consult share is not valid"
    return share, policy.source(desk_id, "share")


def valid(given: Any) -> dict[str, int] | None:
    """Per cents by kind of share when they are whole numbers that make 100, else None."""
    if not isinstance(given, dict) or not set(given) <= set(SHARES):
        return None
    if any(type(v) is not int or v < 0 for v in given.values()) or sum(given.values()) != 100:
        return None
    return {kind: given.get(kind, 0) for kind in SHARES}


def settle(consult: Consult, at: dt.datetime) -> int:
    """Write the shares of a concluded consultation, once; the whole fee in fen."""
    total = 0
    seats = Seat.objects.unscoped("the consultation's own seats").filter(
        consult=consult, state="given", fee_fen__gt=0
    )
    for seat in seats.order_by("number"):
        percents, source = rule(consult.requester_id, seat.institution_id, consult.desk_id)
        parts = Money(seat.fee_fen).split(list(percents.values()))
        owners = {
            "expert": seat.institution_id, "institution": seat.institution_id, "requester": consult.requester_id, "desk": consult.desk_id,
        }  # fmt: skip
        Share.objects.bulk_create(
            Share(
                consult=consult, seat=seat, kind=kind, institution_id=owners[kind], fen=part.fen, rule=source[:300], at=at,
                practitioner_id=seat.practitioner_id if kind == "expert" else None,
            )
            for kind, part in zip(percents, parts, strict=True) if part.fen
        )  # fmt: skip
        total += seat.fee_fen
    return total


def month(institution_ids: set[int] | frozenset[int], day: dt.date | None = None) -> Any:
    """Shares of institutions in the month of ``day``, newest first (rows for finance)."""
    day = day or clock.today()
    rows = Share.objects.unscoped("figures of one's own institutions").filter(
        institution_id__in=institution_ids, at__year=day.year, at__month=day.month
    )
    return rows.select_related("consult__case", "institution", "practitioner").order_by("-at", "pk")
