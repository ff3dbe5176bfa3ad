"""A set's round: used, through the centre, released, sent, opened on a patient; loads with their indicators; recalls."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import Error, connection, transaction

from lianxin.access.errors import NoRelationship, NotPermitted
from lianxin.duty import machine
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Case, Duty
from lianxin.regional.sterile import loads, opening, recall, scan
from lianxin.regional.sterile.models import Duty as RecallDuty
from lianxin.regional.sterile.models import Event, Load, Opened, Set
from lianxin.standards import clock
from tests.reading import world
from tests.sterile import kit

pytestmark = pytest.mark.django_db


def test_the_tables_are_sound() -> None:
    for kind in ("sterile_request", "sterile_recall", "sterile_contact"):
        machine.get(kind).validate()


def known(county: object, key: str = "gp0") -> int:
    """Somebody whom that institution treats."""
    return world.order(county, key).person_id  # type: ignore[arg-type]


def test_a_round_from_use_to_use() -> None:
    county, steriliser = kit.centre()
    one, two = kit.make(county, 2)
    load = kit.delivered(county, steriliser, [one, two])
    assert load.state == "released"
    row = Set.objects.get(pk=one.pk)
    assert (row.state, row.holder_id, row.turn) == ("stored", county.townships[0].pk, 2)
    assert row.expires_on == clock.today() + dt.timedelta(days=180)
    gp, person = kit.scope(county, "gp0"), known(county)
    made = opening.open_on(gp, one.code.lower(), person, "清创", "o1")
    assert opening.open_on(gp, one.code, person, "清创", "o1") == made  # a double click
    with pytest.raises(NotAllowed, match="不能重复使用"):
        opening.open_on(gp, one.code, person, "清创", "o2")
    procedure = world.published("Procedure", made.resource)
    assert procedure["usedReference"][0]["reference"] == f"Device/{one.code}-2"
    assert world.published("Device", f"{one.code}-2")["lotNumber"] == load.number
    assert [a.ok for a in scan.move(gp, "collect", [one.code], "c1")] == [True]
    assert [a.ok for a in scan.move(gp, "collect", [one.code], "c1")] == [True]  # replayed
    assert Event.objects.filter(set=one, move="collect").count() == 1
    assert [a.ok for a in scan.move(kit.scope(county), "receive", [one.code], "r9", note="少 1 把镊子")] == [
        True
    ]
    row = Set.objects.get(pk=one.pk)
    assert (row.state, row.turn, row.load_id, row.incomplete) == ("received", 3, None, "少 1 把镊子")


def test_nothing_unfit_is_opened() -> None:
    county, steriliser = kit.centre()
    gp, person = kit.scope(county, "gp0"), known(county)
    dirty, fresh, old, gone = kit.make(county, 4)
    kit.delivered(county, steriliser, [fresh, old, gone])
    Set.objects.filter(pk=old.pk).update(expires_on=clock.today() - dt.timedelta(days=1))
    recall.open_recall(kit.scope(county), "set", "包装破损", "rs", set_=Set.objects.get(pk=gone.pk))
    for code, words in (
        (dirty.code, "未灭菌"),
        (old.code, "有效期"),
        (gone.code, "召回"),
        ("NO-1", "没有这个"),
        ("", "扫描一个"),
        ("A B", "扫描一个"),
    ):
        with pytest.raises((NotAllowed, Refused), match=words):
            opening.open_on(gp, code, person, "换药", f"x{code}")
    with pytest.raises(NoRelationship):
        opening.open_on(gp, fresh.code, world.make_person(), "换药", "x1")
    with pytest.raises(NotAllowed, match="登记在"):
        opening.open_on(kit.scope(county, "gp1"), fresh.code, known(county, "gp1"), "换药", "x2")
    with pytest.raises(Refused):
        opening.open_on(gp, fresh.code, person, " ", "x3")
    released = kit.make(county)[0]
    kit.loaded(county, steriliser, [released])
    clinician = kit.scope(county, "clinician")
    with pytest.raises(NotAllowed, match="尚未放行"):
        opening.open_on(clinician, released.code, known(county, "clinician"), "手术", "x4")
    assert Opened.objects.unscoped("test").count() == 0
    assert kit.state(fresh) == "stored"


def test_scans_say_why_not_and_only_the_right_people_scan() -> None:
    county, _ = kit.centre()
    one = kit.make(county)[0]
    sterile = kit.scope(county)
    said = scan.move(sterile, "wash", [one.code, "GHOST-1"], "k1")
    assert [a.ok for a in said] == [False, False]
    assert "使用后待回收" in said[0].text.zh
    with pytest.raises(NotPermitted):
        scan.move(kit.scope(county, "gp0"), "wash", [one.code], "k2")
    with pytest.raises(NotAllowed, match="材料"):
        scan.move(sterile, "pack", [one.code], "k3", material="paper bag")
    with pytest.raises(NotAllowed, match="遗失"):
        scan.move(sterile, "lose", [one.code], "k4")
    with pytest.raises(NotAllowed):
        scan.move(sterile, "recall", [one.code], "k5")
    assert [a.ok for a in scan.move(sterile, "lose", [one.code], "k6", note="盘点未见")] == [True]
    assert [a.ok for a in scan.move(sterile, "find", [one.code], "k7")] == [True]
    assert kit.state(one) == "used"


def test_codes_are_read_as_scanners_type_them() -> None:
    assert scan.codes_of("hc-00001\nHC-00001， hc-00002;\t") == ["HC-00001", "HC-00002"]
    assert scan.codes_of("(01)06901234567892(21)HC-00003") == ["HC-00003"]
    assert scan.codes_of("010690123456789221HC-00004") == ["HC-00004"]
    assert scan.codes_of("ＨＣ－０１") == ["HC-01"]
    assert scan.codes_of(" \n ") == []
    assert len(scan.codes_of(" ".join(str(n) for n in range(900)))) == 500


def test_no_release_before_the_indicators_and_implants_wait() -> None:
    county, steriliser = kit.centre()
    sterile = kit.scope(county)
    plain, implant = kit.make(county)[0], kit.make(county, kind="GK")[0]
    load = kit.loaded(county, steriliser, [plain])
    waiting = loads.judge(sterile, load.number, {"physical": "pass"}, "j1")
    assert (waiting.state, kit.state(plain)) == ("waiting", "sterilised")
    with pytest.raises(Refused):
        loads.judge(sterile, load.number, {"temperature": "900"}, "j2")
    assert loads.judge(sterile, load.number, {"chemical": "pass"}, "j3").state == "released"
    assert kit.state(plain) == "released"
    with pytest.raises(Refused):
        loads.judge(sterile, load.number, {"chemical": "fail"}, "j4")  # what was read stands
    load = kit.loaded(county, steriliser, [implant])
    assert loads.judge(sterile, load.number, kit.PASS, "j5").state == "waiting"
    emergency = loads.judge(sterile, load.number, kit.PASS | {"emergency": "急诊骨折手术，主任批准"}, "j6")
    assert (emergency.state, kit.state(implant)) == ("emergency", "released")
    assert loads.judge(sterile, load.number, {"biological": "pass"}, "j7").state == "released"
    with pytest.raises(Error), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "UPDATE sterile_load SET state = 'released', chemical = false WHERE id = %s", [load.pk]
        )


def test_the_days_first_cycle_is_the_bowie_dick_test() -> None:
    county, steriliser = kit.centre()
    one = kit.make(county)[0]
    kit.packed(county, [one])
    sterile = kit.scope(county)
    failed = loads.bowie_dick(sterile, steriliser, False, "变色不均", "bd-f")
    assert failed.state == "failed"
    with pytest.raises(NotAllowed, match="B-D"):
        loads.start(sterile, steriliser, "134-4", [one.code], "s1")
    loads.bowie_dick(sterile, steriliser, True, "", "bd-ok")
    with pytest.raises(Refused):
        loads.start(sterile, steriliser, "no such", [one.code], "s2")
    with pytest.raises(Refused):
        loads.start(sterile, steriliser, "134-4", ["GHOST"], "s3")
    assert Load.objects.filter(kind="load").count() == 0
    load, _ = loads.start(sterile, steriliser, "134-4", [one.code], "s4")
    assert loads.start(sterile, steriliser, "134-4", [one.code], "s4")[0] == load
    with clock.at(clock.now() + dt.timedelta(days=1)), pytest.raises(NotAllowed):
        loads.start(sterile, steriliser, "134-4", [one.code], "s5")


def test_a_late_failure_recalls_every_set_and_every_patient() -> None:
    county, steriliser = kit.centre()
    sterile, gp = kit.scope(county), kit.scope(county, "gp0")
    sets = kit.make(county, 4)
    load = kit.delivered(county, steriliser, sets[:3])
    at_centre = Set.objects.get(pk=sets[3].pk)
    person = known(county)
    opening.open_on(gp, sets[0].code, person, "换药", "o1")
    loads.judge(sterile, load.number, {"biological": "fail", "failure": "嗜热脂肪杆菌芽孢生长"}, "f1")
    loads.judge(sterile, load.number, {"biological": "fail"}, "f1")
    assert Load.objects.get(pk=load.pk).state == "failed"
    found = recall.hits("load", load=load.pk)
    assert {h.code for h in found} == set(kit.codes(sets[:3]))
    assert [h.person_id for h in found if h.person_id] == [person]
    assert [kit.state(s) for s in sets] == ["opened", "recalled", "recalled", at_centre.state]
    row = load.recalls.get()
    assert (row.sets, row.patients) == (3, 1)
    duties = {d.person_id: d for d in RecallDuty.objects.unscoped("test").filter(recall=row)}
    assert set(duties) == {None, person}
    contact, holder = duties[person].case, duties[None].case
    owed = Duty.objects.unscoped("test").filter(ended="", case__in=[contact, holder])
    assert set(owed.values_list("kind", "owner_institution_id")) == {
        ("contact", county.townships[0].pk),
        ("quarantine", county.townships[0].pk),
    }
    assert world.published("Flag", f"{contact.number}-flag")["status"] == "active"
    with pytest.raises(Refused):
        kit.move(county, holder.number, "quarantine", {"codes": sets[1].code}, "gp0")  # where is the other?
    with pytest.raises(Refused):
        kit.move(county, holder.number, "quarantine", {"codes": "GHOST-9", "note": "x"}, "gp0")
    kit.move(county, holder.number, "quarantine", {"codes": "\n".join(kit.codes(sets[1:3]))}, "gp0")
    assert [a.ok for a in scan.move(sterile, "receive", kit.codes(sets[1:3]), "back")] == [True, True]
    kit.move(county, holder.number, "confirm", {})
    kit.move(county, contact.number, "contact", {"outcome": "unreachable", "note": "电话无人接听"}, "gp0")
    assert Case.objects.unscoped("test").get(pk=contact.pk).state == "open"
    kit.move(
        county, contact.number, "contact", {"outcome": "symptoms", "note": "伤口红肿，已预约换药"}, "gp0"
    )
    kit.move(county, contact.number, "finish", {"note": "愈合"}, "gp0")
    assert world.published("Flag", f"{contact.number}-flag")["status"] == "inactive"
    # the sets went on to another round; the load still names them
    assert {h.code for h in recall.hits("load", load=load.pk)} == set(kit.codes(sets[:3]))


def test_recalls_by_set_and_by_period() -> None:
    county, steriliser = kit.centre()
    sterile = kit.scope(county)
    sets = kit.make(county, 3)
    kit.released(county, steriliser, sets[:2])
    kit.released(county, steriliser, sets[2:])
    now = clock.now()
    with pytest.raises(Refused):
        recall.open_recall(sterile, "period", "真空泵故障", "p0", steriliser=steriliser, since=now, until=now)
    with pytest.raises(Refused):
        recall.open_recall(
            sterile, "period", " ", "p1", steriliser=steriliser, since=now, until=now + dt.timedelta(hours=1)
        )
    with pytest.raises(NotPermitted):
        recall.open_recall(kit.scope(county, "gp0"), "set", "x", "p2", set_=Set.objects.get(pk=sets[0].pk))
    one = recall.open_recall(sterile, "set", "湿包", "p3", set_=Set.objects.get(pk=sets[0].pk))
    assert (one.sets, kit.state(sets[0]), kit.state(sets[1])) == (1, "recalled", "released")
    period = recall.open_recall(
        sterile,
        "period",
        "真空泵故障",
        "p4",
        steriliser=steriliser,
        since=now - dt.timedelta(hours=1),
        until=now + dt.timedelta(hours=1),
    )
    assert period.sets == 3
    assert (
        recall.open_recall(
            sterile,
            "period",
            "真空泵故障",
            "p4",
            steriliser=steriliser,
            since=now - dt.timedelta(hours=1),
            until=now + dt.timedelta(hours=1),
        )
        == period
    )
    assert {kit.state(s) for s in sets} == {"recalled"}
