"""Clocks: names of the policy → spans → due times, and what a pause does to them.

A span counts working time ("4wh", "1wd") or runs day and night ("10m", "4h", "7d"). A paused duty keeps its remaining
time. A pause may last in total as long as the policy says and no longer: while paused, ``due_at`` already shows the
latest possible due time, so nothing that reads due times (worklist, escalation) needs to know about pauses, and no timer
is needed to end one.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from typing import Any, Protocol

from lianxin.duty.machine import Ctx, MachineError, Owes
from lianxin.network.models import Membership
from lianxin.standards import calendar

_CACHE_SECONDS = 60.0
_overrides: tuple[float, dict[int, dict[str, Any]]] | None = None


class Paused(Protocol):
    """The clock fields of a duty."""

    spec: str
    due_at: dt.datetime
    paused_since: dt.datetime | None
    pause_until: dt.datetime | None
    paused_minutes: int


def forget_overrides() -> None:
    """Read the consortia's clock overrides anew at the next use (call it after changing ``Consortium.rules``)."""
    global _overrides
    _overrides = None


def _consortium_clocks() -> dict[int, dict[str, Any]]:
    """institution id → its consortium's ``rules["clocks"]``, cached for a minute."""
    global _overrides
    if _overrides is None or time.monotonic() - _overrides[0] > _CACHE_SECONDS:
        rows = Membership.objects.live().filter(consortium__rules__has_key="clocks").order_by("consortium_id")
        found: dict[int, dict[str, Any]] = {}
        for institution_id, clocks in rows.values_list("institution_id", "consortium__rules__clocks"):
            found.setdefault(institution_id, clocks)
        _overrides = (time.monotonic(), found)
    return _overrides[1]


def _by_priority(value: str | Mapping[str, str], priority: str, name: str) -> str:
    if isinstance(value, str):
        return value
    if priority in value:
        return value[priority]
    if "routine" in value:
        return value["routine"]
    raise MachineError(f"clock {name} says nothing for {priority}")


def spec_of(ctx: Ctx, name: str, institution_id: int | None = None) -> str:
    """The span in force for clock ``name`` in this case: the consortium's own, or the machine's policy."""
    own = _consortium_clocks()
    for candidate in (institution_id, *ctx.parties.values()):
        clocks = own.get(candidate or 0, {}).get(ctx.machine.kind, {})
        if name in clocks:
            return _by_priority(clocks[name], ctx.case.priority, name)
    if callable(ctx.machine.clocks):
        return ctx.machine.clocks(ctx, name)
    if name not in ctx.machine.clocks:
        raise MachineError(f"{ctx.machine.kind}: no clock {name}")
    return _by_priority(ctx.machine.clocks[name], ctx.case.priority, name)


def start_of(ctx: Ctx, owes: Owes) -> dt.datetime:
    """From when the clock of ``owes`` counts."""
    return ctx.case.pathway_start if owes.since == "pathway" else ctx.now


def due(start: dt.datetime, spec: str) -> dt.datetime:
    """``start`` plus the span, to the minute or finer."""
    return calendar.due(start, spec)


def works(spec: str) -> bool:
    """Does the span count working time?"""
    return spec.endswith(("wh", "wd"))


def minutes(spec: str, start: dt.datetime, end: dt.datetime) -> int:
    """Minutes from ``start`` to ``end`` as this span counts them (never negative)."""
    if end <= start:
        return 0
    return calendar.working_minutes(start, end) if works(spec) else int((end - start).total_seconds() // 60)


def add(spec: str, start: dt.datetime, count: int) -> dt.datetime:
    """``start`` plus ``count`` minutes as this span counts them."""
    return calendar.add_working_minutes(start, count) if works(spec) else start + dt.timedelta(minutes=count)


def pause(duty: Paused, now: dt.datetime, allowance_spec: str) -> None:
    """Stop the clock of ``duty``; what is left of the policy's allowance bounds the pause. No-op when already paused."""
    if duty.paused_since is not None:
        return
    duty.paused_since = now
    if duty.due_at <= now:  # late already: a pause forgives nothing
        duty.pause_until = now
        return
    allowed = minutes(duty.spec, now, calendar.due(now, allowance_spec))
    left = max(0, allowed - duty.paused_minutes)
    remaining = minutes(duty.spec, now, duty.due_at)
    duty.pause_until = add(duty.spec, now, left) if left else now
    if left:
        duty.due_at = add(duty.spec, duty.pause_until, remaining)


def resume(duty: Paused, now: dt.datetime) -> None:
    """Start the clock again with the time that was left; time beyond the allowance does not count as pause."""
    if duty.paused_since is None or duty.pause_until is None:
        return
    used_until = min(now, duty.pause_until)
    used = minutes(duty.spec, duty.paused_since, used_until)
    if duty.pause_until > duty.paused_since:
        remaining = minutes(duty.spec, duty.pause_until, duty.due_at)
        duty.due_at = add(duty.spec, used_until, remaining)
    duty.paused_minutes += used
    duty.paused_since = None
    duty.pause_until = None


def escalation_at(due_at: dt.datetime, level: int, steps: tuple[str, ...]) -> dt.datetime | None:
    """When a duty due at ``due_at`` that stands at ``level`` climbs to the next level; None at the top."""
    if level >= len(steps):
        return None
    return due_at if steps[level] == "0m" else calendar.due(due_at, steps[level])
