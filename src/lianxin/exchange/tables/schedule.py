"""Views that are read again every so often: which are due, and how far behind they are."""

from __future__ import annotations

import datetime as dt

from django.db import IntegrityError, transaction
from django.db.models import F, Q

from lianxin.exchange.tables import running
from lianxin.exchange.tables.models import ACTIVE, RUNNING, SQL, WAITING, TableMapping, TableRun, TableSource
from lianxin.standards import clock


def due() -> list[TableRun]:
    """Begin a run of every view whose time has come and that has none on its way."""
    now = clock.now()
    waiting = TableSource.objects.filter(kind=SQL, active=True, every__gt=0).filter(
        Q(not_before__isnull=True) | Q(not_before__lte=now)
    )
    begun = []
    for source in waiting:
        if (
            source.last_run_at is not None
            and source.last_run_at + dt.timedelta(seconds=source.every) > now
            and not source.failures
        ):
            continue
        run = start(source)
        if run is not None:
            begun.append(run)
    return begun


def start(source: TableSource, account_id: int | None = None) -> TableRun | None:
    """A run of a view with its active mapping; None when there is no mapping in use, or a run is on its way."""
    mapping = TableMapping.objects.filter(source=source, state=ACTIVE).first()
    if (
        mapping is None
        or TableRun.objects.filter(source=source, dry=False, state__in=(WAITING, RUNNING)).exists()
    ):
        return None
    try:
        with transaction.atomic():
            return running.begin(
                TableRun(source=source, mapping=mapping, account_id=account_id, from_mark=source.mark)
            )
    except IntegrityError:  # another process was first
        return None


def lag(source: TableSource) -> dt.timedelta | None:
    """How old the newest stored row is (None: not known, or the watermark is no time)."""
    if source.mark_kind != "time" or not source.mark:
        return None
    newest = dt.datetime.fromisoformat(source.mark)
    return clock.now() - newest.replace(tzinfo=newest.tzinfo or clock.ZONE)


def late() -> list[TableSource]:
    """Views whose last good run is more than three periods ago."""
    now = clock.now()
    rows = TableSource.objects.filter(kind=SQL, active=True, every__gt=0)
    return [
        s
        for s in rows.order_by(F("last_run_at").asc(nulls_first=True))
        if s.last_run_at is None or now - s.last_run_at > dt.timedelta(seconds=3 * s.every)
    ]
