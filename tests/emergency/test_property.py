"""Whatever order people act and correct in: no interval is negative, one wire crossing, somebody always owes, both values of a time stay."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianxin.duty.errors import MoveError
from lianxin.duty.models import Act, Case, Duty
from lianxin.network.models import Capability
from lianxin.regional.emergency import forms, moves, policy, rules, service
from lianxin.regional.emergency.models import MILESTONES, Channel, Milestone
from lianxin.standards import clock
from tests.factories import SINCE, SmallCounty
from tests.reading import world

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 11, 23, 9, 0, tzinfo=clock.ZONE)
CODES = tuple(MILESTONES)
ABSOLUTE = next(c.code for c in policy.checklist() if c.absolute)
_serial = itertools.count(1)

MOVES: dict[str, tuple[str, dict[str, Any]]] = {
    "ecg": ("village0", {}),
    "diagnose": ("reader0", {}),
    "pci": ("clinician", {"strategy": "pci", "travel": "35", "reason": "家属要求"}),
    "lysis": ("clinician", {"strategy": "lysis", "travel": "110", "reason": "路远"}),
    "accept": ("clinician", {}),
    "depart": ("village0", {"transport": "ambulance"}),
    "lab_ready": ("clinician", {}),
    "arrive": ("clinician", {}),
    "wire": ("clinician", {}),
    "lyse": ("village0", {"drug": "阿替普酶 50 mg", "gone_through": "on"}),
    "forbidden": ("village0", {"drug": "阿替普酶 50 mg", "gone_through": "on", "present": [ABSOLUTE]}),
    "to_pci": ("clinician", {}),
    "assess": ("clinician", {"worked": "no"}),
    "close": ("clinician", {"outcome": "reperfused"}),
    "stop": ("clinician", {"code": "not_stemi", "reason": "复查排除"}),
}
"""Who makes each move with what; "pci" and "lysis" are both decisions, "forbidden" is thrombolysis against a contraindication."""
NAMES = {"pci": "decide", "lysis": "decide", "forbidden": "lyse"}
ROADS = (
    ("ecg", "diagnose", "pci", "accept", "depart", "arrive", "wire", "close"),
    ("ecg", "diagnose", "lysis", "lyse", "assess", "accept", "depart", "lab_ready", "arrive", "wire"),
    ("diagnose", "lysis", "forbidden", "to_pci", "accept", "arrive", "wire", "wire"),
)
"""Ordinary ways through, so that the late states are reached; anything is thrown in between."""
minutes = st.integers(-90, 30)
noise = st.one_of(
    st.tuples(st.just("move"), st.sampled_from(sorted(MOVES)), minutes),
    st.tuples(st.just("correct"), st.sampled_from(CODES), minutes),
)


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, str, int | None]]:
    """A road with strange moves and corrections among its own."""
    steps: list[tuple[str, str, int | None]] = []
    for name in draw(st.sampled_from(ROADS)):
        steps += draw(st.lists(noise, max_size=1))
        steps.append(("move", name, draw(st.one_of(st.none(), minutes))))
        steps.append(("move", name, None))
    return steps


def _holds(channel: Channel, seen: set[tuple[str, int, dt.datetime]]) -> set[tuple[str, int, dt.datetime]]:
    """What must be true between any two moves; the milestones that stand."""
    channel.refresh_from_db()
    case = Case.objects.unscoped("test").get(pk=channel.pk)
    state = moves.MACHINE.state(case.state)
    rows = {(m.code, m.version, m.at) for m in Milestone.objects.filter(channel=channel)}
    assert seen <= rows, "a recorded time vanished"
    for code in {code for code, _, _ in rows}:
        versions = sorted(version for c, version, _ in rows if c == code)
        assert versions == list(range(1, len(versions) + 1))
    acts = list(Act.objects.filter(case_id=channel.pk).values_list("move", flat=True))
    assert sum(v > 1 for _, v, _ in rows) == acts.count("correct"), "only a correction makes a second value"
    assert acts.count("wire") == (("wire", 1) in {(c, v) for c, v, _ in rows}) <= 1
    negative = {k: v for k, v in rules.intervals(forms.times(channel)).items() if v < 0}
    assert not negative
    owed = Duty.objects.unscoped("test").filter(case_id=channel.pk, ended="")
    if state.terminal:
        assert not owed.exists()
        assert not channel.live
    else:
        assert state.owes is not None
        assert owed.filter(kind=state.owes.kind).count() == 1, "nobody owes the next step"
        assert channel.live
        assert case.owner_institution_id is not None
    assert channel.checklist.get("present", []) == []
    return rows


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(story=stories())
def test_any_order_keeps_the_channel(story: list[tuple[str, str, int | None]]) -> None:
    n = next(_serial)
    county = _county(f"XT{n}")
    now, seen = NOW, set[tuple[str, int, dt.datetime]]()
    with clock.at(now):
        channel = service.start(world.scope_of(county, "village0"), world.make_person(), {"complaint": "胸痛"}, f"o{n}")  # fmt: skip
    for place, (kind, name, shift) in enumerate(story):
        now += dt.timedelta(minutes=4)
        who, form = MOVES[name] if kind == "move" else ("clinician", {"code": name, "reason": "核对监护仪"})
        if shift is not None:
            form = form | {"at": f"{now + dt.timedelta(minutes=shift):%Y-%m-%d %H:%M}"}
        with (
            clock.at(now),
            contextlib.suppress(MoveError),
        ):  # what must hold, whoever refused it, is asked below
            service.act(world.scope_of(county, who), channel.case.number, NAMES.get(name, name) if kind == "move" else "correct", form, None, f"p{n}:{place}")  # fmt: skip
        seen = _holds(channel, seen)


def _county(prefix: str) -> SmallCounty:
    county = world.make_world(prefix)
    Capability.objects.create(
        institution=county.lead, kind="procedure", code="PCI", name="急诊 PCI", since=SINCE
    )
    return county


@given(
    steps=st.lists(st.tuples(st.sampled_from(CODES), st.integers(-30 * 60, 60)), min_size=1, max_size=25),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_times_that_are_let_in_never_run_backwards(steps: list[tuple[str, int]]) -> None:
    times: rules.Times = {"fmc": NOW - dt.timedelta(hours=2)}
    for code, shift in steps:
        at = NOW + dt.timedelta(minutes=shift)
        others = {k: v for k, v in times.items() if k != code}
        if rules.implausible(code, at, others, NOW, 24) is None:
            times[code] = at
    assert all(v >= 0 for v in rules.intervals(times).values())
    assert all(at <= NOW + dt.timedelta(minutes=1) for at in times.values())
    assert all(times[a] <= times[b] for a, b in rules.PAIRS if a in times and b in times)
