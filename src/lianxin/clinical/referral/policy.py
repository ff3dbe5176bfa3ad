"""Policy of referrals as data: clocks, counts and graces, by consortium and day.

A value is looked up, most particular first: ``consortium.rules["referral"][name]`` → a :class:`Policy` row of the consortium →
a :class:`Policy` row of nobody in particular → the shipped default (``data/policy.json``, referral_machine.md "Clocks").
Clock names are tried from particular to general: ``clock.down.ack.urgent`` → ``clock.down.ack`` → ``clock.ack.urgent`` → ``clock.ack``.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import time
from pathlib import Path
from typing import Any

from django.db.models import Q

from lianxin.standards import clock

DATA = Path(__file__).parent / "data"


@functools.cache
def defaults() -> dict[str, Any]:
    """The shipped values by name."""
    return json.loads((DATA / "policy.json").read_text("utf-8"))["values"]


_CACHE_SECONDS = 60.0
_cache: dict[tuple[int | None, dt.date], tuple[float, dict[str, Any]]] = {}


def forget(**_: Any) -> None:
    """Read the policy anew at the next question (connected to saves of policy rows and consortia)."""
    _cache.clear()


def values(consortium: Any = None, on: dt.date | None = None) -> dict[str, Any]:
    """Every setting in force for ``consortium`` (or the default) on day ``on`` (today); other processes follow in a minute."""
    day = on or clock.today()
    key = (consortium.pk if consortium is not None else None, day)
    kept = _cache.get(key)
    if kept is None or time.monotonic() - kept[0] > _CACHE_SECONDS:
        kept = _cache[key] = (time.monotonic(), _read(consortium, day))
    return kept[1]


def _read(consortium: Any, day: dt.date) -> dict[str, Any]:
    from lianxin.clinical.referral.models import Policy

    found = dict(defaults())
    rows = Policy.on(day).filter(Q(consortium=None) | Q(consortium=consortium))
    for row in sorted(rows, key=lambda r: (r.consortium_id is not None, r.effective_from)):
        found[row.name] = row.value
    if consortium is not None:
        found.update((consortium.rules or {}).get("referral", {}))
    return found


def value(name: str, consortium: Any = None, on: dt.date | None = None) -> Any:
    """One setting by its exact name; an unknown name is a programming error."""
    return values(consortium, on)[name]


def clock_spec(name: str, direction: str, priority: str, found: dict[str, Any]) -> str:
    """The span of a clock as the calendar reads it ("10m", "4h", "1wd", "7d")."""
    for candidate in (
        f"clock.{direction}.{name}.{priority}",
        f"clock.{direction}.{name}",
        f"clock.{name}.{priority}",
        f"clock.{name}",
    ):
        if candidate in found:
            return str(found[candidate])
    raise KeyError(f"no clock named {name} for {direction}/{priority}")


def minutes(spec: str) -> int:
    """A wall-clock span ("30m", "4h", "7d") in minutes; used for graces, which run day and night."""
    return int(spec[:-1]) * {"m": 1, "h": 60, "d": 1440}[spec[-1]]
