"""Whatever is scanned in whatever order: a set is opened only when its load was released, in date and not recalled, and once a turn."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianxin.duty.errors import NotAllowed, Refused
from lianxin.regional.sterile import loads, opening, recall, scan
from lianxin.regional.sterile.models import Event, Load, Opened, Set
from tests.reading import world
from tests.sterile import kit

pytestmark = pytest.mark.django_db
_serial = itertools.count(1)
SCANS = ("receive", "wash", "inspect", "pack", "store", "collect", "give_back", "rewash")
STEPS = (*SCANS, "start", "pass", "fail", "open", "recall", "round")


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=4, max_size=14))
def test_any_order_of_scans_keeps_the_rules(steps: list[str]) -> None:
    n = next(_serial)
    county, steriliser = kit.centre(f"Q{n}")
    sterile, doctor = kit.scope(county), kit.scope(county, "clinician")
    one = kit.make(county)[0]
    person = world.order(county, "clinician").person_id
    for place, step in enumerate(steps):
        key = f"q{n}:{place}"
        row = Set.objects.get(pk=one.pk)
        names = ("receive", "wash", "inspect", "pack") if step == "round" else (step,)
        try:
            for name in names:
                if name in SCANS:
                    scan.move(sterile, name, [one.code], f"{key}:{name}", material="pouch", note="")
            if step == "start":
                loads.start(sterile, steriliser, "134-4", [one.code], key)
            elif step in ("pass", "fail") and row.load_id:
                loads.judge(
                    sterile, row.load.number, kit.PASS if step == "pass" else {"biological": "fail"}, key
                )
            elif step == "open":
                opening.open_on(doctor, one.code, person, "换药", key)
            elif step == "recall":
                recall.open_recall(sterile, "set", "湿包", key, set_=row)
        except (NotAllowed, Refused):
            pass  # refused at the scan: what must hold is asked below
        after = Set.objects.get(pk=one.pk)
        if after.state in ("released", "stored"):
            assert after.load is not None
            assert after.load.state == "released"
        if after.state == "opened" and row.state != "opened":
            assert row.state == "stored"
            assert Load.objects.get(pk=row.load_id).state == "released"
    turns = list(Opened.objects.unscoped("test").filter(set=one).values_list("turn", flat=True))
    assert len(turns) == len(set(turns))
    states = list(Event.objects.filter(set=one).order_by("pk").values_list("from_state", "to_state"))
    assert all(a[1] == b[0] for a, b in itertools.pairwise(states)), "a step nobody scanned"
