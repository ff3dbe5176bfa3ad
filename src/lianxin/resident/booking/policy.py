"""Settings of booking as data: shipped values, and rows that take their place for a consortium or for everybody from a day on."""

from __future__ import annotations

import datetime as dt
import functools
import time
from pathlib import Path
from typing import Any

import yaml
from django.db.models import Q

from lianxin.network.models import Membership
from lianxin.standards import clock

_FILE = Path(__file__).parent / "data" / "policy.yaml"
_CACHE_SECONDS = 60.0
_cache: dict[tuple[int, dt.date], tuple[float, dict[str, Any]]] = {}


@functools.cache
def shipped() -> dict[str, Any]:
    """The shipped values by name."""
    return dict(_document()["values"])


@functools.cache
def _document() -> dict[str, Any]:
    return yaml.load(_FILE.read_text("utf-8"), Loader=yaml.CSafeLoader)


def source() -> str:
    """The document that the shipped values follow."""
    return str(_document()["source"])


def forget(**_: Any) -> None:
    """Read the settings anew at the next question (connected to saves of policy rows)."""
    _cache.clear()


def values(institution_id: int, on: dt.date | None = None) -> dict[str, Any]:
    """Every setting in force for an institution on a day (today); other processes follow a change within a minute."""
    day = on or clock.today()
    key = (institution_id, day)
    kept = _cache.get(key)
    if kept is None or time.monotonic() - kept[0] > _CACHE_SECONDS:
        if len(_cache) > 5000:
            _cache.clear()
        kept = _cache[key] = (time.monotonic(), _read(institution_id, day))
    return kept[1]


def _read(institution_id: int, day: dt.date) -> dict[str, Any]:
    from lianxin.resident.booking.models import Policy

    found = dict(shipped())
    mine = Membership.objects.live(day).filter(institution_id=institution_id).values("consortium_id")
    rows = Policy.objects.filter(Q(consortium=None) | Q(consortium_id__in=mine), effective_from__lte=day)
    for row in sorted(rows, key=lambda r: (r.consortium_id is not None, r.effective_from)):
        found[row.name] = row.value
    return found


def value(name: str, institution_id: int, on: dt.date | None = None) -> Any:
    """One setting by its exact name; KeyError for a name there is not."""
    return values(institution_id, on)[name]


def time_of(spec: str) -> dt.time:
    """An hour of the day as written in the settings ("07:00")."""
    return dt.time.fromisoformat(spec)
