"""Taking arrivals once more: one, or all of a filter in the background, slice by slice, never twice.

An arrival is taken again under a lock of its own and only while it is not in the record, so that two replays at once, or a replay
and the sender's own repetition, store it once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.db.models import F, Max

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.exchange.feeds import inbox
from lianxin.exchange.feeds.errors import Reason
from lianxin.exchange.feeds.models import DROPPED, TAKEN, WAIVED, Arrival, Finding
from lianxin.exchange.feeds.quality import selecting
from lianxin.exchange.feeds.quality.models import Replay
from lianxin.standards import clock
from lianxin.standards.text import T

MOST = 50_000
"""Arrivals of one replay; who asks for more narrows the filter."""
SLICE_SECONDS = 8.0
TAKEN_AS = "taken-as"
"""Code of the reason of an arrival that is in the record as another one."""
_SPACE = 0x6C7846  # "lxF": our advisory locks


@contextmanager
def _alone(pk: int) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", [_SPACE, pk % (1 << 31)])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_SPACE, pk % (1 << 31)])


def one(pk: int, *, release: bool = False) -> str:
    """Take an arrival once more unless it is in the record; returns the state it is in now. ``release``: past the gate."""
    with _alone(pk):
        state, error = Arrival.objects.values_list("state", "error").get(pk=pk)
        if state == TAKEN or error.startswith(TAKEN_AS):
            return TAKEN
        verdict = inbox.replay(pk, release=release)
        if verdict.state == TAKEN and verdict.arrival_id not in (None, pk):
            # It came without a control id, or its sender is known only now: it was kept as a new arrival.
            note = Reason(
                TAKEN_AS, T("已作为来件 {n} 受理。", "Taken as arrival {n}.").format(n=verdict.arrival_id)
            )
            Arrival.objects.filter(pk=pk).update(
                state=DROPPED, error=note.kept(), done_at=clock.now(), attempts=F("attempts") + 1
            )
            pk = verdict.arrival_id or pk
        if verdict.state == TAKEN and release:
            Finding.objects.filter(arrival_id=pk).update(state=WAIVED)
        return verdict.state


def by_hand(scope: Scope, pk: int) -> str:
    """A person replays one; audited."""
    state = one(pk)
    _note(scope, pk, {"did": "replay", "became": state})
    return state


def release(scope: Scope, pk: int, why: str) -> str:
    """A person lets a quarantined one into the record as it is; audited with the reason."""
    state = one(pk, release=True)
    _note(scope, pk, {"did": "release", "became": state, "why": why[:500]})
    return state


def _note(scope: Scope, pk: int, detail: dict[str, Any]) -> None:
    person = Arrival.objects.values_list("person_id", flat=True).get(pk=pk)
    audit.write(scope, "admin", person_id=person, what=f"arrival {pk}", detail=detail)


# ---------------------------------------------------------------------------------------------------------------- many


def _todo(replay: Replay) -> Any:
    seen = frozenset(replay.institutions) if replay.institutions is not None else None
    found = selecting.rows(seen, selecting.as_params(replay.asked)).exclude(state=TAKEN)
    if replay.asked.get("state") != DROPPED:
        found = found.exclude(state=DROPPED)
    return found.filter(pk__lte=replay.upto, pk__gt=replay.last)


def begin(scope: Scope, asked: dict[str, str]) -> Replay:
    """Ask for everything of a filter that is not in the record to be taken once more (at most :data:`MOST`); audited."""
    seen = selecting.institutions(scope)
    now = clock.now()
    upto = Arrival.objects.aggregate(n=Max("pk"))["n"] or 0
    replay = Replay(
        asked=asked, upto=upto, institutions=None if seen is None else sorted(seen), account_id=scope.account_id,
        by=scope.name[:80], total=0, created_at=now,
    )  # fmt: skip
    replay.total = len(_todo(replay).values_list("pk", flat=True)[:MOST])
    if not replay.total:
        replay.state, replay.ended_at = "done", now
    replay.save()
    audit.write(scope, "admin", what=f"replay {replay.pk}", detail={"asked": asked, "total": replay.total})
    return replay


def stop(scope: Scope, pk: int) -> None:
    """End a replay that is under way; what it took stays taken."""
    if Replay.objects.filter(pk=pk, state="waiting").update(state="stopped", ended_at=clock.now()):
        audit.write(scope, "admin", what=f"replay {pk}", detail={"did": "stop"})


def run(seconds: float = SLICE_SECONDS) -> int:
    """The ticker's chore: go on with replays for some seconds, oldest arrivals first; returns how many were tried."""
    until = time.monotonic() + seconds
    tried = 0
    for replay in Replay.objects.filter(state="waiting").order_by("pk"):
        while time.monotonic() < until:
            left = min(50, replay.total - replay.done)
            pks = list(_todo(replay).order_by("pk").values_list("pk", flat=True)[:left]) if left > 0 else []
            if not pks:
                Replay.objects.filter(pk=replay.pk, state="waiting").update(
                    state="done", ended_at=clock.now()
                )
                break
            for pk in pks:
                taken = one(pk) == TAKEN
                tried += 1
                going = Replay.objects.filter(pk=replay.pk, state="waiting").update(
                    done=F("done") + 1, taken=F("taken") + int(taken), last=pk
                )
                if not going or time.monotonic() >= until:
                    break
            replay.refresh_from_db()
            if replay.state != "waiting":
                break
    return tried
