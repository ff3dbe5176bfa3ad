"""The queue as a page shows it: what waits for one reader, what they hold, what others hold; counters. Queries only."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, Q, QuerySet

from lianxin.access.models import Account
from lianxin.access.scope import Scope
from lianxin.network.models import Institution
from lianxin.regional.reading.models import CENTRES, SEATS, Entry, Ordered, Reader, Report
from lianxin.regional.reading.queue import seats_of
from lianxin.standards import clock
from lianxin.standards.text import T, Text

TABS: dict[str, Text] = {
    "waiting": T("待诊断", "Waiting"),
    "mine": T("我认领的", "Claimed by me"),
    "handed": T("转给我的", "Handed to me"),
    "others": T("他人办理中", "With others"),
}
PRIORITY = {0: T("急诊", "Emergency"), 1: T("紧急", "Urgent"), 2: T("常规", "Routine")}
DUE: dict[str, Text] = {"late": T("已超时", "Overdue"), "hour": T("1 小时内到期", "Due within an hour")}


@dataclass(frozen=True)
class Wanted:
    """Filters of the queue; empty: anything."""

    tab: str = "waiting"
    modality: str = ""
    origin: int | None = None
    rank: int | None = None
    due: str = ""

    @classmethod
    def of(cls, get: Any) -> Wanted:
        """From the address; what makes no sense is left out."""
        tab, due = get.get("tab", ""), get.get("due", "")
        origin, rank = get.get("origin", ""), get.get("priority", "")
        return cls(
            tab if tab in TABS else "waiting",
            get.get("modality", "")[:16],
            int(origin) if origin.isascii() and origin.isdigit() and len(origin) < 10 else None,
            int(rank) if rank in ("0", "1", "2") else None,
            due if due in DUE else "",
        )


@dataclass
class Line:
    """One seat of the queue."""

    entry: Entry
    items: Text
    seat: Text
    priority: Text
    late: bool
    holder: str = ""
    lease_minutes: int | None = None
    own: bool = field(default=False)


def readers_of(scope: Scope) -> list[Reader]:
    """Where somebody reads, in the order of the centres."""
    rows = Reader.objects.filter(
        account_id=scope.account_id or 0, institution_id=scope.institution_id or 0, active=True
    )
    order = list(CENTRES)
    return sorted(rows.select_related("institution"), key=lambda r: order.index(r.centre))


def _open(reader: Reader) -> QuerySet[Entry]:
    return Entry.objects.unscoped("the reader's own centre").filter(
        institution_id=reader.institution_id, centre=reader.centre
    )


def _mine_to_take(reader: Reader) -> QuerySet[Entry]:
    rows = _open(reader).filter(state="waiting", modality__in=reader.modalities, seat__in=seats_of(reader))
    return rows.exclude(excluded__contains=[reader.account_id])


def rows(reader: Reader, wanted: Wanted) -> QuerySet[Entry]:
    """Seats of a tab in the order of the queue."""
    me = reader.account_id
    if wanted.tab == "mine":
        found = _open(reader).filter(state="claimed", account_id=me)
    elif wanted.tab == "handed":
        found = _mine_to_take(reader).filter(only=me)
    elif wanted.tab == "others":
        held = Q(state="claimed") & ~Q(account_id=me)
        kept = Q(state="waiting", only__isnull=False) & ~Q(only=me)
        found = _open(reader).filter(held | kept)
    else:
        found = _mine_to_take(reader).filter(Q(only=None) | Q(only=me))
    if wanted.modality:
        found = found.filter(modality=wanted.modality)
    if wanted.origin is not None:
        found = found.filter(origin_id=wanted.origin)
    if wanted.rank is not None:
        found = found.filter(rank=wanted.rank)
    now = clock.now()
    if wanted.due == "late":
        found = found.filter(due_at__lte=now)
    elif wanted.due == "hour":
        found = found.filter(due_at__lte=now + dt.timedelta(hours=1))
    found = found.select_related("reading__case", "reading__person", "reading__performer", "origin")
    return found.order_by("rank", "round", "due_at", "pk")


def lines(entries: list[Entry], me: int) -> list[Line]:
    """Entries with their words."""
    items: dict[int, list[Text]] = {}
    for ordered in (
        Ordered.objects.filter(reading_id__in=[e.reading_id for e in entries], active=True).select_related("item").order_by("pk")
    ):  # fmt: skip
        items.setdefault(ordered.reading_id, []).append(ordered.item.label)
    who = {found for e in entries if (found := e.account_id or e.only)}
    names = dict(Account.objects.filter(pk__in=who).values_list("pk", "name")) if who else {}
    now = clock.now()
    out = []
    for e in entries:
        words = items.get(e.reading_id, [])
        left = int((e.lease_until - now).total_seconds() // 60) if e.lease_until else None
        out.append(
            Line(
                e, T("、".join(w.zh for w in words), ", ".join(w.en for w in words)), SEATS[e.seat], PRIORITY[e.rank],
                e.due_at <= now, names.get(e.account_id or e.only or 0, ""), max(left, 0) if left is not None else None, e.account_id == me,
            )
        )  # fmt: skip
    return out


def counts(reader: Reader) -> dict[str, int]:
    """How many wait, are late, are due within the hour, are mine, were handed to me, are with others; what I signed today."""
    now, me = clock.now(), reader.account_id
    take = _mine_to_take(reader).filter(Q(only=None) | Q(only=me))
    found = take.aggregate(
        waiting=Count("pk"),
        late=Count("pk", filter=Q(due_at__lte=now)),
        hour=Count("pk", filter=Q(due_at__lte=now + dt.timedelta(hours=1), due_at__gt=now)),
        emergency=Count("pk", filter=Q(rank=0)),
        handed=Count("pk", filter=Q(only=me)),
    )
    others = _open(reader).aggregate(
        mine=Count("pk", filter=Q(state="claimed", account_id=me)),
        others=Count(
            "pk",
            filter=(Q(state="claimed") & ~Q(account_id=me))
            | (Q(state="waiting", only__isnull=False) & ~Q(only=me)),
        ),
    )
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    done = Report.objects.unscoped("one's own work").filter(
        institution_id=reader.institution_id,
        account_id=me,
        reading__centre=reader.centre,
        signed_at__gte=midnight,
    )
    return {**found, **others, "today": done.count()}


def choices(reader: Reader) -> dict[str, list[tuple[str, Any]]]:
    """What the filters offer: modalities of the reader, origins that have something open."""
    origins = _open(reader).filter(state__in=("waiting", "claimed")).values("origin_id")
    places = Institution.objects.filter(pk__in=origins).order_by("code")
    return {
        "modalities": [(m, m) for m in reader.modalities],
        "origins": [(str(i.pk), i) for i in places],
        "priorities": [(str(k), v) for k, v in PRIORITY.items()],
        "dues": list(DUE.items()),
    }
