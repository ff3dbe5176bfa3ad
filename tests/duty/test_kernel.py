"""One case through the kernel: duties, owners, clocks, refusals, repeats, access, notices."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils.translation import override

from lianxin.access import relationships
from lianxin.access.models import AuditEvent
from lianxin.access.scope import Scope
from lianxin.duty import chain, kernel, notices, proof
from lianxin.duty.journey import journey
from lianxin.duty.kernel import KeyReused, NotAllowed, Refused, Stale
from lianxin.duty.models import Act, Case, Duty, Outbox
from lianxin.standards import calendar, clock

from .toy import PUBLISHED, World, monday

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return World()


def duties(case: Case) -> dict[str, Duty]:
    return {d.kind: d for d in Duty.objects.unscoped("test").filter(case=case, ended="")}


def fresh(case: Case) -> Case:
    return Case.objects.unscoped("test").get(pk=case.pk)


def test_a_case_goes_its_way(world: World) -> None:
    with clock.at(monday()):
        case = world.open().case
        assert (case.state, case.version, case.owner_institution_id) == ("asked", 1, world.hospital.pk)
        assert case.due_at == calendar.due(monday(), "1wd")
        assert case.number == f"YP20261102-{case.pk:05d}"
    with clock.at(monday(10)):
        world.do("take", case, world.desk)
        assert set(duties(case)) == {"read"}
        world.do("report", case, world.reader)
        now = fresh(case)
        assert (now.owner_institution_id, now.owner_role) == (world.township.pk, "gp")
        done = world.do("confirm", case, world.gp)
    closed = fresh(case)
    assert closed.terminal
    assert closed.closed_at == monday(10)
    assert closed.due_at is None
    assert not duties(case)
    ended = dict(Duty.objects.unscoped("test").filter(case=case).values_list("kind", "ended"))
    assert ended == {"ack": "done", "read": "done", "confirm": "done"}
    assert done.act.seq == 4
    assert PUBLISHED[-1] == (case.number, 4)
    assert proof.check() == []


def test_the_same_request_again_gives_the_first_result(world: World) -> None:
    first = world.open(key="same")
    again = world.open(key="same")
    assert again.replayed
    assert again.act.pk == first.act.pk
    taken = kernel.execute("take", first.case.number, world.desk, {}, 1, "take-1")
    kernel.execute("report", first.case.number, world.reader, {}, 2, "report-1")
    repeated = kernel.execute("take", first.case.number, world.desk, {}, 1, "take-1")
    assert repeated.replayed
    assert repeated.act.pk == taken.act.pk
    with pytest.raises(KeyReused):
        kernel.execute("take", first.case.number, world.reader, {}, 1, "take-1")
    with pytest.raises(KeyReused):
        world.open(key="same", note="另一个")
    with pytest.raises(KeyReused):
        kernel.execute("take", world.open().case.number, world.desk, {}, 1, "take-1")
    assert proof.check() == []


def test_who_comes_late_is_told_who_was_first(world: World) -> None:
    case = world.open().case
    kernel.execute("take", case.number, world.desk, {}, 1, world.key())
    with pytest.raises(Stale) as late:
        kernel.execute("take", case.number, world.reader, {}, 1, world.key())
    assert late.value.current_version == 2
    assert "referral_desk@HOSP" in late.value.text.zh
    assert "接收" in late.value.text.zh


@pytest.mark.parametrize(
    ("move", "who", "says"),
    [
        ("take", "gp", "阅片方"),
        ("take", "stranger", "参与方"),
        ("fly", "stranger", "参与方"),
        ("report", "reader", "待接收"),
        ("remind", "gp", "系统"),
        ("fly", "gp", "fly"),
    ],
)
def test_what_may_not_be_done_says_why(world: World, move: str, who: str, says: str) -> None:
    case = world.open().case
    with pytest.raises(NotAllowed) as no:
        world.do(move, case, getattr(world, who))
    assert says in no.value.text.zh
    assert Act.objects.filter(case=case).count() == 1


def test_the_wrong_role_and_the_guard_speak(world: World) -> None:
    case = world.open().case
    world.do("take", case, world.desk)
    with pytest.raises(NotAllowed, match="专科医生"):
        world.do("report", case, world.desk)
    world.do("report", case, world.reader)
    world.do("dispute", case, world.gp)
    world.do("report", case, world.reader)
    offers = {a.name: a.why for a in kernel.allowed(fresh(case), world.gp)}
    assert offers["confirm"] is None
    assert offers["dispute"].en == "A dispute has been raised; wait."
    with pytest.raises(NotAllowed, match="异议"):
        world.do("dispute", case, world.gp)


def test_a_refused_form_names_fields_in_both_languages_and_writes_nothing(world: World) -> None:
    before = Case.objects.unscoped("test").count()
    with override("en"), pytest.raises(Refused) as no:
        kernel.open_case(
            "toy", world.person.pk, world.gp, {"note": "长" * 50}, world.key(), parties=world.parties()
        )
    words = no.value.errors["note"]
    assert words.zh.startswith("说明：")
    assert "40" in words.zh
    assert words.en.startswith("Note: Ensure this value has at most 40")
    assert Case.objects.unscoped("test").count() == before
    case = world.open().case
    with pytest.raises(Refused) as no:
        world.do("refuse", case, world.desk, reason="weather")
    assert set(no.value.errors) == {"reason"}


def test_a_question_pauses_the_clock_and_hands_the_ball_over(world: World) -> None:
    with clock.at(monday()):
        case = world.open().case
        world.do("take", case, world.desk)
    due = duties(case)["read"].due_at
    with clock.at(monday(10)):
        world.do("question", case, world.reader)
    asked = fresh(case)
    assert (asked.owner_institution_id, asked.owner_role) == (world.township.pk, "gp")
    assert asked.due_at == calendar.due(monday(10), "2wd")
    assert asked.facts["info"] == "asked"
    paused = duties(case)["read"]
    assert paused.due_at > due
    with clock.at(monday(15)):
        assert "answer" in [m.name for m in kernel.buttons(fresh(case), world.gp)]
        world.do("answer", case, world.gp)
    resumed = duties(case)["read"]
    asked_for = calendar.working_minutes(monday(10), monday(15))
    assert resumed.paused_minutes == asked_for
    assert calendar.working_minutes(due, resumed.due_at) == asked_for
    assert fresh(case).owner_institution_id == world.hospital.pk
    assert set(duties(case)) == {"read"}
    assert proof.check() == []


def test_a_pause_lasts_no_longer_than_the_policy(world: World) -> None:
    with clock.at(monday()):
        case = world.open().case
        world.do("take", case, world.desk)
        due = duties(case)["read"].due_at
        world.do("question", case, world.reader)
    latest = duties(case)["read"].due_at
    most = calendar.working_minutes(monday(), calendar.due(monday(), "2wd"))
    assert calendar.working_minutes(due, latest) == most
    with clock.at(monday() + dt.timedelta(days=14)):
        world.do("answer", case, world.gp)
        assert duties(case)["read"].due_at == latest
        assert duties(case)["read"].paused_minutes == most
        world.do("question", case, world.reader)
        assert duties(case)["read"].due_at == latest
    assert proof.check() == []


def test_a_new_priority_counts_from_the_start_of_the_pathway(world: World) -> None:
    with clock.at(monday()):
        case = world.open().case
    with clock.at(monday(11)):
        world.do("hasten", case, world.desk)
    assert fresh(case).due_at == monday(13)
    with clock.at(monday(12)):
        world.do("take", case, world.desk)
    assert fresh(case).due_at == calendar.due(monday(), "1wd")


def test_access_follows_the_duty(world: World) -> None:
    sees = relationships.sees
    assert not sees(world.reader, world.person.pk)
    with clock.at(monday()):
        case = world.open().case
        assert sees(world.reader, world.person.pk)
        assert not sees(world.second_reader, world.person.pk)
        world.do("pass_on", case, world.desk, to=world.second.pk)
        assert not sees(world.reader, world.person.pk)
        assert sees(world.second_reader, world.person.pk)
        assert fresh(case).owner_institution_id == world.second.pk
        assert list(duties(case)) == ["ack"]
        world.do("refuse", case, world.second_reader, reason="scope")
        world.do("give_up", case, world.gp)
        assert not sees(world.second_reader, world.person.pk), "a case that came to nothing leaves no access"
    assert [c.pk for c in Case.objects.within(world.reader)] == [case.pk]
    assert proof.check() == []


def test_owners_are_told_and_events_and_audit_are_written(world: World) -> None:
    case = world.open().case
    assert [n.text_zh for n in notices.unread(world.desk)] == [f"远程阅片 {case.number}：接收申请"]
    assert notices.unread_count(world.gp) == 0
    assert notices.mark_read(world.desk) == 1
    assert notices.unread_count(world.desk) == 0
    event = Outbox.objects.get(key=case.number)
    assert event.payload == {"case": case.number, "kind": "toy", "move": "ask", "seq": 1, "state": "asked"}
    seen = AuditEvent.objects.order_by("-id").first()
    assert (seen.action, seen.person_id, seen.what) == ("create", world.person.pk, f"toy {case.number}")


def test_the_system_acts_only_where_the_table_says(world: World) -> None:
    case = world.open().case
    system = Scope.system("reminder")
    assert world.do("remind", case, system).act.outcome["more"] == {"reminded": 1}
    with pytest.raises(NotAllowed):
        world.do("take", case, system)


def test_the_strip_shows_past_now_and_next(world: World) -> None:
    case = world.open().case
    world.do("take", case, world.desk)
    strip = journey(fresh(case))
    assert [(s.state, s.status) for s in strip] == [
        ("asked", "past"), ("reading", "now"), ("reported", "next"), ("done", "next"),
    ]  # fmt: skip
    assert strip[0].actor == "gp@TOWN"
    world.do("refuse", case, world.reader, reason="quality")
    assert [s.state for s in journey(fresh(case))] == ["asked", "reading", "returned", "reported", "done"]


def test_few_statements_per_move(world: World, django_assert_max_num_queries: object) -> None:
    case = world.open().case
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        world.do("take", case, world.desk)


def test_acts_cannot_be_changed_and_tampering_is_found(world: World) -> None:
    case = world.open().case
    act = Act.objects.get(case=case)
    for forbidden in (lambda: Act.objects.filter(pk=act.pk).update(actor="x"), act.delete):
        with pytest.raises(Exception, match="pgtrigger"), transaction.atomic():
            forbidden()
    with pytest.raises(IntegrityError), transaction.atomic():
        Act.objects.create(
            case=case, seq=1, move="x", to_state="asked", at=clock.now(), form={}, outcome={}, key="fork",
            request_hash=b"", prev_hash=b"", hash=b"",
        )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE duty_act DISABLE TRIGGER USER")
        cursor.execute("UPDATE duty_act SET actor = 'somebody else'")
        cursor.execute("ALTER TABLE duty_act ENABLE TRIGGER USER")
    assert proof.check() == [f"{case.number}: act 1 was altered, its hash does not fit"]


def test_the_database_keeps_every_open_case_owned(world: World) -> None:
    case = world.open().case
    for broken in ({"owner_institution": None}, {"due_at": None}, {"owner_role": ""}, {"terminal": True}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Case.objects.unscoped("test").filter(pk=case.pk).update(**broken)
    Case.objects.unscoped("test").filter(pk=case.pk).update(state="reading", due_at=clock.now())
    found = proof.check()
    assert any("state is 'reading'" in line for line in found)
    assert any("due is" in line for line in found)


def test_hashes_survive_the_database(world: World) -> None:
    value = {
        "a": 0.1,
        "b": 1e22,
        "c": 1.0,
        "d": dt.date(2026, 1, 2),
        "e": "甲\u2028",
        "f": [None, True],
        "g": 1e-7,
    }
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb::text", [chain.canonical(value).decode()])
        import json

        assert chain.canonical(json.loads(cursor.fetchone()[0])) == chain.canonical(value)
