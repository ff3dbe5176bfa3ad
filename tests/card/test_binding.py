"""Who an account is, and for whom it may act."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pytest
from django.db import connections

from lianxin.access.errors import Invalid, NoRelationship, NotPermitted
from lianxin.access.models import ActsFor, AuditEvent
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index import registry
from lianxin.resident.card import binding, codes, family, limits
from lianxin.resident.sms.models import Message
from lianxin.standards import clock
from tests.card.conftest import OTHER_PHONE, PHONE, World, build

pytestmark = pytest.mark.django_db
ELDER = "13700003333"


def bind(world: World, name: str = "单雄信", phone: str = PHONE, **more: Any) -> Any:
    return binding.bind(world.scope(phone), world.account(phone), name, world.ids[name], **more)


@pytest.fixture
def known(world: World) -> World:
    world.person("单雄信", "1960-05-06", 101, PHONE)
    world.person("程咬银", "1988-01-02", 105, OTHER_PHONE)
    return world


def test_name_number_and_the_phone_on_file(known: World) -> None:
    person = bind(known)
    scope = known.scope()
    assert scope.resident_ids == {person.pk}
    assert known.account().name == "单雄信"
    assert Message.objects.filter(template="bound").count() == 1
    assert AuditEvent.objects.filter(what="bind identity", person_id=person.pk, action="create").exists()
    with pytest.raises(Invalid):
        bind(known)


@pytest.mark.parametrize(
    ("name", "number", "proof", "phone"),
    [
        ("单雄", None, "", PHONE),
        ("单雄信", "330102199001011232", "", PHONE),
        ("单雄信", None, "", "13600009999"),
        ("单雄信", None, "6900000000000001", PHONE),
        ("单雄信", None, "12345678", PHONE),
        ("单雄信", "垃圾" * 300, "", PHONE),
        ("", None, "", PHONE),
        ("单\x00雄信", "", "", PHONE),
    ],
)
def test_what_does_not_fit_says_one_sentence(
    known: World, name: str, number: str | None, proof: str, phone: str
) -> None:
    wanted = known.ids["单雄信"] if number is None else number
    with pytest.raises(Invalid) as refusal:
        binding.bind(known.scope(phone), known.account(phone), name, wanted, proof=proof)
    assert refusal.value.errors == {"id_no": binding.NO_MATCH}
    assert not ActsFor.objects.exists()


def test_card_number_or_desk_code_instead_of_the_phone(known: World) -> None:
    person = known.people["单雄信"]
    code = codes.give(known.desk, "bind", person.pk, "身份证原件")
    assert bind(known, phone="13600009999", proof=f"{code[:4]} {code[4:]}").pk == person.pk
    assert codes.peek("bind", code) is None
    other = known.people["程咬银"]
    assert bind(known, "程咬银", phone="13600008888", proof=other.card_number).pk == other.pk


def test_a_code_runs_out_and_a_new_one_voids_the_old(known: World) -> None:
    person = known.people["单雄信"].pk
    first = codes.give(known.desk, "bind", person)
    second = codes.give(known.desk, "bind", person)
    assert (codes.peek("bind", first), codes.peek("bind", second)) == (None, person)
    assert codes.peek("delegate", second) is None
    with clock.at(clock.now() + codes.LIFE["bind"]):
        assert codes.peek("bind", second) is None


def test_tries_are_counted_for_account_and_document(known: World) -> None:
    for _ in range(5):
        with pytest.raises(Invalid):
            binding.bind(known.scope(), known.account(), "错名字", known.ids["单雄信"])
    with pytest.raises(limits.TooMany):
        bind(known)
    for n in range(5):
        phone = f"1360000{n:04d}"
        with pytest.raises(Invalid):
            binding.bind(known.scope(phone), known.account(phone), "错名字", known.ids["单雄信"])
    with pytest.raises(limits.TooMany):
        binding.bind(known.scope("13511112222"), known.account("13511112222"), "错", known.ids["单雄信"])


def test_a_second_phone_is_told_to_go_to_the_desk_and_the_desk_undoes(known: World) -> None:
    person = bind(known)
    with pytest.raises(Invalid) as taken:
        bind(known, phone=ELDER, proof=person.card_number)
    assert taken.value.errors == {"id_no": binding.TAKEN}
    with pytest.raises(Invalid):
        binding.unbind(known.desk, person.pk, "")
    with pytest.raises(NotPermitted):
        binding.unbind(known.scope(ELDER), person.pk, "我要")
    assert binding.unbind(known.desk, person.pk, "身份证原件")
    assert known.scope().resident_ids == frozenset()
    assert bind(known, phone=ELDER, proof=person.card_number)


def test_a_child_of_thirteen_and_the_dead_do_not_bind(known: World) -> None:
    born = clock.today().replace(day=1).replace(year=clock.today().year - 13)
    known.person("罗小成", born.isoformat(), 107, PHONE)
    with pytest.raises(Invalid) as young:
        bind(known, "罗小成")
    assert young.value.errors == {"id_no": binding.TOO_YOUNG}
    gone = known.people["单雄信"]
    type(gone).objects.unscoped("test").filter(pk=gone.pk).update(deceased_on=clock.today())
    with pytest.raises(Invalid) as dead:
        bind(known)
    assert dead.value.errors == {"id_no": binding.AT_DESK}


def test_staff_do_not_bind(known: World) -> None:
    from lianxin.access.models import Account

    with pytest.raises(NotPermitted):
        binding.bind(known.desk, Account.objects.get(pk=known.desk.account_id), "单雄信", known.ids["单雄信"])


# ---------------------------------------------------------------------------------------------------------------- family


def child(world: World, years: int = 5, **more: Any) -> Any:
    today = clock.today()
    born = dt.date(today.year - years, 1, 15)
    return world.person("单小妹", born.isoformat(), 200, **more)


def test_a_mother_adds_her_child_until_eighteen(known: World) -> None:
    mother = bind(known, "程咬银", OTHER_PHONE)
    kid = child(known, mother_name="程咬银", mother_id_no=known.ids["程咬银"])
    added = family.add_child(
        known.scope(OTHER_PHONE), known.account(OTHER_PHONE), "单小妹", known.ids["单小妹"]
    )
    assert added.pk == kid.pk
    assert known.scope(OTHER_PHONE).resident_ids == {mother.pk, kid.pk}
    grown = family.birthday(kid.birth_date, 18)
    with clock.at(grown - dt.timedelta(seconds=1)):
        assert kid.pk in known.scope(OTHER_PHONE).resident_ids
    with clock.at(grown):
        assert known.scope(OTHER_PHONE).resident_ids == {mother.pk}
    with pytest.raises(Invalid):
        family.add_child(known.scope(OTHER_PHONE), known.account(OTHER_PHONE), "单小妹", known.ids["单小妹"])


def test_a_newborn_is_found_by_name_birth_and_mother(known: World) -> None:
    from lianxin.index.registry import Registration, register

    bind(known, "程咬银", OTHER_PHONE)
    born = clock.today() - dt.timedelta(days=3)
    for at, mother in (("n1", known.ids["程咬银"]), ("n2", known.ids["单雄信"])):
        reg = Registration(
            known.home.pk,
            "urn:t",
            at,
            "程咬银之女",
            "female",
            birth_date=born,
            mother_name="程咬银",
            mother_id_no=mother,
        )
        newborn = register(Scope.system("test"), reg).person_id
        if at == "n1":
            mine = newborn
    got = family.add_child(
        known.scope(OTHER_PHONE), known.account(OTHER_PHONE), "程咬银之女", "", birth_date=born
    )
    assert got.pk == mine


@pytest.mark.parametrize("years", [5, 15])
def test_who_is_no_guardian_or_too_old_says_one_sentence(known: World, years: int) -> None:
    bind(known)
    child(known, years, mother_name="程咬银", mother_id_no=known.ids["程咬银" if years == 5 else "单雄信"])
    with pytest.raises(Invalid) as refusal:
        family.add_child(known.scope(), known.account(), "单小妹", known.ids["单小妹"])
    assert refusal.value.errors == {"name": family.NO_CHILD}


def test_a_desk_with_evidence(known: World) -> None:
    bind(known)
    kid = child(known, 16)
    for phone, relation, evidence in (
        (PHONE, "guardian", ""),
        ("13512345678", "guardian", "户口簿 12345"),
        (PHONE, "king", "户口簿 12345"),
    ):
        with pytest.raises(Invalid):
            family.at_desk(known.desk, kid, phone, relation, evidence)
    family.at_desk(known.desk, kid, PHONE, "guardian", "户口簿 12345")
    assert kid.pk in known.scope().resident_ids
    with pytest.raises(NotPermitted):
        family.at_desk(known.scope(), kid, PHONE, "delegate", "户口簿 12345")


def test_an_elders_own_code_and_taking_it_back(known: World) -> None:
    elder, younger = bind(known), bind(known, "程咬银", OTHER_PHONE)
    code = family.invite(known.scope(), known.account())
    other = known.scope(OTHER_PHONE), known.account(OTHER_PHONE)
    for name, typed in (("单雄信", "00000000"), ("错名", code), ("单雄信", "")):
        with pytest.raises(Invalid) as wrong:
            family.accept(*other, name, typed)
        assert wrong.value.errors == {"code": family.WRONG_CODE}
    family.accept(*other, "单雄信", code)
    assert known.scope(OTHER_PHONE).resident_ids == {elder.pk, younger.pk}
    right = family.who_acts_for(elder.pk)[0]
    assert (right.account_name, right.relation) == ("程咬银", "delegate")
    assert Message.objects.filter(template="family_added", phone_tail=PHONE[-4:]).exists()
    with pytest.raises(Invalid):
        family.accept(*other, "单雄信", code)  # used
    with pytest.raises(NoRelationship):
        family.end(known.scope(ELDER), known.account(ELDER), right.pk)
    family.end(known.scope(), known.account(), right.pk)
    family.end(known.scope(), known.account(), right.pk)
    assert known.scope(OTHER_PHONE).resident_ids == {younger.pk}
    assert ActsFor.objects.filter(pk=right.pk, until__isnull=False).exists()


def test_guessing_a_delegates_code_is_stopped(known: World) -> None:
    bind(known, "程咬银", OTHER_PHONE)
    scope, account = known.scope(OTHER_PHONE), known.account(OTHER_PHONE)
    for n in range(5):
        with pytest.raises(Invalid):
            family.accept(scope, account, "单雄信", f"0000000{n}")
    with pytest.raises(limits.TooMany):
        family.accept(scope, account, "单雄信", "00000009")


def test_bindings_follow_a_merge_and_come_back(known: World) -> None:
    system = Scope.system("test")
    one = bind(known)
    twin = known.person("单雄心", "1960-05-06", 109, ELDER, numbered=False)

    def merged(keep: Any, gone: Any) -> int:
        people = [registry.get(p.number, follow=False) for p in (keep, gone)]
        return registry.merge(system, *people, "同一人").pk

    event = merged(twin, one)
    assert known.scope().resident_ids == {twin.pk}
    registry.unmerge(system, event, "弄错了", two=False)
    assert known.scope().resident_ids == {one.pk}
    ActsFor.objects.create(account=known.account(ELDER), person_id=twin.pk, relation="self")
    event = merged(one, twin)
    assert (known.scope().resident_ids, known.scope(ELDER).resident_ids) == ({one.pk}, frozenset())
    registry.unmerge(system, event, "弄错了")
    assert (known.scope().resident_ids, known.scope(ELDER).resident_ids) == ({one.pk}, {twin.pk})


@pytest.mark.concurrency
@pytest.mark.django_db(transaction=True)
def test_two_phones_bind_one_person_at_once_and_one_does() -> None:
    world = build()
    person = world.person("单雄信", "1960-05-06", 101, PHONE)
    phones = [f"1390000{n:04d}" for n in range(5)]
    accounts = [(scope_for_account(world.account(p)), world.account(p)) for p in phones]
    done: list[str] = []

    def one(scope: Scope, account: Any) -> None:
        try:
            binding.bind(scope, account, "单雄信", world.ids["单雄信"], proof=person.card_number)
            done.append("bound")
        except Invalid as refusal:
            done.append("taken" if refusal.errors == {"id_no": binding.TAKEN} else repr(refusal.errors))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=pair) for pair in accounts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == ["bound"] + ["taken"] * 4
    assert ActsFor.objects.filter(person_id=person.pk, until__isnull=True).count() == 1
