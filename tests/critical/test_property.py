"""Whatever order people, the clock and the laboratory act in: a call is never lost, never ends without an action, attempts only grow."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianxin.duty.errors import MoveError
from lianxin.duty.models import Act, Duty
from lianxin.regional.critical import chores, service
from lianxin.regional.critical.models import Attempt, Critical
from lianxin.standards import clock
from tests.critical import kit
from tests.reading import world

pytestmark = pytest.mark.django_db
_serial = itertools.count(1)
STEPS = (
    "wait",
    "wrong",
    "right",
    "call_lost",
    "call_reached",
    "call_right",
    "correct",
    "act",
    "close",
    "again",
)


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=3, max_size=9))
def test_any_order_keeps_the_call(steps: list[str]) -> None:
    n = next(_serial)
    county = kit.staffed(f"P{n}")
    gp, lab, now = world.scope_of(county, "gp0"), world.scope_of(county, "lab0"), kit.DAY
    with clock.at(now):
        reading = world.order(county, "gp0")
        critical = kit.report(county, reading, key=f"first{n}")
    number, seen = critical.case.number, 0
    forms = {
        "wrong": (gp, "acknowledge", {"readback": "1"}), "right": (gp, "acknowledge", {"readback": "6.8"}),
        "call_lost": (lab, "call", {"outcome": "UNABLE_TO_REACH"}), "call_reached": (lab, "call", {"outcome": "REACHED_NO_READBACK", "recipient": "甲"}),
        "call_right": (lab, "call", {"outcome": "CONFIRMED", "recipient": "甲", "heard": "6.8"}), "correct": (lab, "correct", {"value": "4.2", "reason": "重测"}),
        "act": (gp, "act", {"action": "treated", "note": "处置"}), "close": (lab, "close", {}),
    }  # fmt: skip
    for place, step in enumerate(steps):
        now += dt.timedelta(minutes=5 if step == "wait" else 1)
        with clock.at(now):
            if step == "wait":
                chores.climb()
            elif step == "again":
                kit.report(county, reading, key=f"again{n}:{place}")
            else:
                by, move, form = forms[step]
                with contextlib.suppress(MoveError):  # what must hold, whoever refused it, is asked below
                    service.act(by, number, move, form, None, f"p{n}:{place}")
        row = Critical.objects.unscoped("test").get(pk=critical.pk)
        attempts = Attempt.objects.filter(critical=critical).count()
        assert attempts >= seen, "an attempt vanished"
        seen = attempts
        assert (row.value, str(row.number)) == ("6.8", "6.800000")
        moves = list(Act.objects.filter(case_id=critical.pk).values_list("move", flat=True))
        if row.acknowledged_at is not None:
            assert Attempt.objects.filter(critical=critical, outcome="CONFIRMED", heard="6.8").count() == 1
        if row.live:
            assert Duty.objects.unscoped("test").filter(case_id=critical.pk, ended="").exists(), (
                "nobody owes it"
            )
        else:
            assert {"act", "close"} <= set(moves)
            assert row.acted_at is not None
