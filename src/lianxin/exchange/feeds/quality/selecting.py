"""Which arrivals somebody sees and asks for: filters, pages that stay where they are, and who is meant by a search."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet

from lianxin.access.scope import Scope
from lianxin.exchange.feeds.models import DOORS, QUARANTINED, REFUSED, STATES, Arrival, Finding
from lianxin.exchange.feeds.quality import rules
from lianxin.network.roles import SYSTEM_ADMIN
from lianxin.standards import clock

FIELDS = ("q", "sender", "door", "kind", "state", "reason", "institution", "since", "until")
WAITING = "waiting"  # asked for: whatever is not in the record and not set aside
LONGEST = 199


def institutions(scope: Scope) -> frozenset[int] | None:
    """Institutions whose arrivals a scope sees; None: everybody's (the platform itself, and whoever keeps its connections running)."""
    if scope.everything or scope.has(SYSTEM_ADMIN):
        return None
    return scope.institution_ids | scope.oversight_ids


def asked(values: Mapping[str, str]) -> dict[str, str]:
    """The filter of a request, cleaned: known fields, no control characters, no longer than a control id."""
    found = {}
    for name in FIELDS:
        text = "".join(c for c in values.get(name, "") if c.isprintable()).strip()[:LONGEST]
        if text:
            found[name] = text
    return found


def _day(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.combine(dt.date.fromisoformat(text), dt.time(), tzinfo=clock.ZONE)
    except ValueError:
        return None


_SENDERS = (
    "WITH RECURSIVE s(sender) AS ((SELECT sender FROM exchange_arrival ORDER BY sender LIMIT 1) UNION ALL"
    " SELECT (SELECT a.sender FROM exchange_arrival a WHERE a.sender > s.sender ORDER BY a.sender LIMIT 1) FROM s"
    " WHERE s.sender IS NOT NULL) SELECT sender FROM s WHERE sender IS NOT NULL LIMIT 2000"
)


def senders() -> list[str]:
    """Every sender that anything came from, by jumping along the index (no reading of all arrivals)."""
    with connection.cursor() as cursor:
        cursor.execute(_SENDERS)
        return [row[0] for row in cursor.fetchall()]


def rows(seen: frozenset[int] | None, wanted: Mapping[str, str]) -> QuerySet[Arrival]:
    """Arrivals of the institutions ``seen`` that a filter asks for (unordered)."""
    found = Arrival.objects.all()
    if seen is not None:
        found = found.filter(institution_id__in=seen)
    if "q" in wanted:  # (sender, control id) is the index
        names = [wanted["sender"]] if "sender" in wanted else senders()
        found = found.filter(sender__in=names, control_id=wanted["q"])
    elif "sender" in wanted:
        peer = wanted["sender"].removeprefix("peer:")
        found = found.filter(sender=wanted["sender"])
        if wanted["sender"].startswith("peer:") and peer.isdigit() and len(peer) < 19:
            found = found.filter(peer_id=int(peer))
    if wanted.get("door") in DOORS:
        found = found.filter(door=wanted["door"])
    if "kind" in wanted:
        found = found.filter(kind__startswith=wanted["kind"])
    state = wanted.get("state")
    if state == WAITING:
        found = found.filter(state__in=(REFUSED, QUARANTINED))
    elif state in STATES:
        found = found.filter(state=state)
    if "institution" in wanted:
        found = found.filter(institution__code=wanted["institution"])
    since, until = _day(wanted.get("since", "")), _day(wanted.get("until", ""))
    if since is not None:
        found = found.filter(at__gte=since)
    if until is not None:
        found = found.filter(at__lt=until + dt.timedelta(days=1))
    if "reason" in wanted:
        found = _because(found, seen, wanted["reason"], since, until)
    return found


def _because(
    found: QuerySet[Arrival], seen: frozenset[int] | None, reason: str, since: dt.datetime | None, until: dt.datetime | None
) -> QuerySet[Arrival]:  # fmt: skip
    """Those with a finding of this rule, or refused for this reason of the door's own."""
    own = Q(error__startswith=f"{reason} ") | Q(error__startswith=f"{reason}\n")
    if reason not in rules.shipped():
        return found.exclude(state="taken").filter(own)
    told = Finding.objects.filter(rule=reason)
    if seen is not None:
        told = told.filter(institution_id__in=seen)
    if since is not None:
        told = told.filter(day__gte=since.date())
    if until is not None:
        told = told.filter(day__lte=until.date() + dt.timedelta(days=1))
    return found.filter(pk__in=told.values("arrival_id"))


@dataclass
class Slice:
    """A page of arrivals, newest first; ``after`` is the place where the next begins ("" when there is none)."""

    lines: list[Arrival]
    after: str = ""


def page(found: QuerySet[Arrival], after: str, size: int) -> Slice:
    """The arrivals after a place: what comes in meanwhile moves nothing."""
    at, _, pk = after.partition("_")
    try:
        place = (dt.datetime.fromisoformat(at.replace(" ", "+")), int(pk)) if pk else None
    except ValueError:
        place = None
    if place is not None and place[0].tzinfo is not None and abs(place[1]) < 1 << 62:
        found = found.filter(Q(at__lt=place[0]) | Q(at=place[0], pk__lt=place[1]), at__lte=place[0])
    lines = list(
        found.defer("body", "answer")
        .select_related("institution", "client", "peer")
        .order_by("-at", "-pk")[: size + 1]
    )
    if len(lines) <= size:
        return Slice(lines)
    last = lines[size - 1]
    return Slice(lines[:size], f"{last.at.isoformat()}_{last.pk}")


def as_params(wanted: Mapping[str, Any]) -> dict[str, str]:
    """A kept filter back as a filter."""
    return asked({k: str(v) for k, v in wanted.items()})
