"""A township asks for sets: packed, sent, accepted by scan, counts compared; recalls and shortages on the way."""

from __future__ import annotations

import pytest

from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Case
from lianxin.regional.sterile import recall, requests
from lianxin.regional.sterile.models import Request, Set, Steriliser
from lianxin.standards import clock
from tests.sterile import kit

pytestmark = pytest.mark.django_db


def stands(case: Case) -> str:
    """Where it stands."""
    return str(Case.objects.unscoped("test").get(pk=case.pk).state)


def test_asked_packed_sent_and_received_with_one_missing() -> None:
    county, steriliser = kit.centre()
    sets, other = kit.make(county, 3), kit.make(county, kind="QC")[0]
    kit.released(county, steriliser, [*sets, other])
    gp = kit.scope(county, "gp0")
    day = {"needed_on": f"{clock.today()}"}
    for wanted in ({}, {"HC": 0}, {"ZZ": 3}, {"HC": 9999}):
        with pytest.raises(Refused):
            requests.ask(gp, wanted, day, f"bad{wanted}")
    with pytest.raises(Refused):
        requests.ask(gp, {"HC": 2}, {"needed_on": "2020-01-01"}, "bad")
    case = requests.ask(gp, {"HC": 2}, day, "ask")
    assert requests.ask(gp, {"HC": 2}, day, "ask").pk == case.pk
    second = requests.ask(gp, {"HC": 3}, day, "ask2")
    for codes in ("", "GHOST", other.code, "\n".join(kit.codes(sets))):
        with pytest.raises(Refused):
            kit.move(county, case.number, "pack", {"codes": codes})
    assert Set.objects.exclude(asked_id=None).count() == 0
    kit.move(county, case.number, "pack", {"codes": "\n".join(kit.codes(sets[:2]))})
    with pytest.raises(Refused, match="其他申请"):
        kit.move(county, second.number, "pack", {"codes": sets[0].code})
    with pytest.raises(NotAllowed):
        kit.move(county, case.number, "send", {"courier": "x"}, "gp0")
    kit.move(county, case.number, "send", {"courier": "运送员甲"})
    with pytest.raises(NotAllowed):
        kit.move(county, case.number, "receive", {"codes": sets[0].code}, "gp1")
    with pytest.raises(Refused, match="少收"):
        kit.move(county, case.number, "receive", {"codes": sets[0].code}, "gp0")
    with pytest.raises(Refused, match="不在本次"):
        kit.move(county, case.number, "receive", {"codes": sets[2].code}, "gp0")
    kit.move(county, case.number, "receive", {"codes": sets[0].code, "note": "箱内只有一包"}, "gp0")
    row = Request.objects.get(pk=case.pk)
    assert [(x.asked, x.sent, x.received) for x in row.lines.all()] == [(2, 2, 1)]
    assert sets[1].code in row.difference
    with pytest.raises(Refused):
        kit.move(county, case.number, "close", {})
    kit.move(county, case.number, "close", {"note": "运送员车上找到，已补签"})
    assert (stands(case), kit.state(sets[0]), kit.state(sets[1])) == ("closed", "stored", "sent")


def test_a_box_with_a_recalled_set_is_packed_again() -> None:
    county, steriliser = kit.centre()
    sets = kit.make(county, 2)
    kit.released(county, steriliser, sets)
    gp = kit.scope(county, "gp0")
    case = requests.ask(gp, {"HC": 2}, {"needed_on": f"{clock.today()}"}, "ask")
    kit.move(county, case.number, "pack", {"codes": "\n".join(kit.codes(sets))})
    recall.open_recall(kit.scope(county), "set", "湿包", "r", set_=Set.objects.get(pk=sets[0].pk))
    with pytest.raises(Refused, match="重新装箱"):
        kit.move(county, case.number, "send", {"courier": "甲"})
    kit.move(county, case.number, "repack", {})
    kit.move(county, case.number, "pack", {"codes": sets[1].code})
    kit.move(county, case.number, "send", {"courier": "甲"})
    assert (kit.state(sets[0]), kit.state(sets[1])) == ("recalled", "sent")


def test_cancelled_and_refused_requests_free_what_was_packed() -> None:
    county, steriliser = kit.centre()
    one = kit.make(county)[0]
    kit.released(county, steriliser, [one])
    gp = kit.scope(county, "gp0")
    day = {"needed_on": f"{clock.today()}"}
    case = requests.ask(gp, {"HC": 1}, day, "a1")
    kit.move(county, case.number, "pack", {"codes": one.code})
    kit.move(county, case.number, "cancel", {"reason": "手术取消"}, "gp0")
    assert Set.objects.get(pk=one.pk).asked_id is None
    case = requests.ask(gp, {"HC": 1}, day, "a2")
    with pytest.raises(Refused):
        kit.move(county, case.number, "refuse", {"reason": ""})
    kit.move(county, case.number, "refuse", {"reason": "库存不足"})
    Steriliser.objects.all().update(active=False)
    with pytest.raises(NotAllowed):
        requests.ask(gp, {"HC": 1}, day, "a3")
