"""Registering, updating, finding, merging."""

from __future__ import annotations

import datetime as dt
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Q
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianxin.access import audit, relationships
from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.models import AuditEvent, Relationship
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index import hooks, numbers, upkeep
from lianxin.index.models import LinkEvent, Person, ReviewItem, SourceRecord
from lianxin.index.registry import (
    Registration,
    UnknownPerson,
    by_patient_id,
    check_in,
    decide,
    find,
    get,
    golden_patient,
    merge,
    move,
    person_id_for_update,
    persons_of_patients,
    register,
    register_many,
    registration_from_patient,
    reviews,
    unmerge,
)
from lianxin.network import roles
from lianxin.network.models import Institution
from lianxin.standards import clock
from tests.factories import make_institution, make_post, make_resident_id
from tests.index.conftest import BORN, SYSTEM

Reg = Callable[..., Registration]
MINE, OTHER = make_resident_id(BORN, 111), make_resident_id(BORN, 113)


def everybody() -> Any:
    return Person.objects.unscoped("test")


def desk(institution: Institution, role: str = roles.RECEPTION) -> Scope:
    """A scope at an institution without the ceremony of an account."""
    return Scope(
        institution_id=institution.pk, institution_ids=frozenset({institution.pk}), roles=frozenset({role})
    )


# ----------------------------------------------------------------------------------------------------- registering


def test_the_same_again_changes_nothing(reg: Reg) -> None:
    one = reg(id_no=MINE, phone="13911112222")
    a, b = register(SYSTEM, one), register(SYSTEM, replace(one))
    assert (a.decision, b.decision) == ("new", "same_source")
    assert (a.person_id, a.source_id) == (b.person_id, b.source_id)
    assert LinkEvent.objects.count() == 1
    assert a.person.version == 1


def test_an_update_re_keys(reg: Reg) -> None:
    one = reg(id_no=MINE, phone="13911112222")
    a = register(SYSTEM, one)
    b = register(SYSTEM, replace(one, phone="13933334444"))
    assert (b.decision, b.person_id) == ("linked", a.person_id)
    assert b.source.version == 2
    hits = find(SYSTEM, "13933334444")
    assert [h.person_id for h in hits] == [a.person_id]
    assert find(SYSTEM, "13911112222") == []


def test_an_update_that_no_longer_fits_is_reviewed_not_moved(reg: Reg, here: Institution) -> None:
    first, second = reg(id_no=MINE), reg(id_no=MINE)
    a = register(SYSTEM, first)
    register(SYSTEM, second)
    c = register(SYSTEM, replace(second, name="程咬金", id_no=OTHER))
    assert (c.decision, c.person_id) == ("review", a.person_id)
    person = a.person
    assert person.name == "单雄信"
    assert c.source.disputed
    item = reviews(desk(here))[0]
    assert item.kind in ("link_lost", "id_changed")
    decide(desk(here), item.pk, same=False)
    moved = c.source
    assert moved.person_id != a.person_id
    assert not moved.disputed
    assert moved.person.name == "程咬金"
    assert upkeep.check() == []


def test_a_local_number_given_to_somebody_else_is_reviewed(reg: Reg) -> None:
    one = reg(id_no=MINE)
    a = register(SYSTEM, one)
    b = register(SYSTEM, replace(one, name="程咬金", id_no=OTHER))
    assert (b.decision, b.person.name) == ("review", "单雄信")
    assert ReviewItem.objects.get().kind == "id_changed"
    decide(SYSTEM, ReviewItem.objects.get().pk, same=True)
    assert a.person.name == "程咬金"


def test_what_may_not_be_registered(reg: Reg, here: Institution) -> None:
    elsewhere = make_institution()
    with pytest.raises(NotPermitted):
        register(desk(elsewhere), reg())
    with pytest.raises(NotPermitted):
        register(desk(here, roles.SYSTEM_ADMIN), reg())
    for bad, field in (
        ({"name": " "}, "name"),
        ({"local_id": ""}, "local_id"),
        ({"institution_id": 0}, "institution"),
    ):
        with pytest.raises(Invalid) as refused:
            register_many(SYSTEM, [reg(), reg(**bad)])
        assert list(refused.value.errors) == [field]
    assert everybody().count() == 0  # all or nothing


def test_sealed_and_audited(reg: Reg) -> None:
    a = register(SYSTEM, reg(id_no=MINE, phone="13911112222"))
    with connection.cursor() as cur:
        cur.execute(
            "SELECT p::text || s::text FROM index_person p JOIN index_sourcerecord s ON s.person_id = p.id"
        )
        row = cur.fetchone()[0]
    assert MINE not in row
    assert "13911112222" not in row
    assert AuditEvent.objects.get(action="create").person_id == a.person_id
    assert MINE not in AuditEvent.objects.get(action="create").detail


def test_relationships_follow_home_and_registration(reg: Reg, here: Institution) -> None:
    home, new_home = make_institution(), make_institution()
    one = reg(home_institution_id=home.pk)
    a = register(SYSTEM, one)
    rows = {(r.institution_id, r.kind): r for r in Relationship.objects.filter(person_id=a.person_id)}
    assert rows[(home.pk, "home")].until is None
    assert rows[(here.pk, "registration")].until - clock.now() > dt.timedelta(days=89)
    register(SYSTEM, replace(one, home_institution_id=new_home.pk))
    assert not relationships.sees(desk(home, roles.GP), a.person_id)
    assert relationships.sees(desk(new_home, roles.GP), a.person_id)
    assert a.person.home_institution_id == new_home.pk


def test_the_best_of_several_sources(reg: Reg) -> None:
    a = register(SYSTEM, reg(phone="13911112222", address="大同县城关镇南街七号"))
    register(SYSTEM, reg(phone="13911112222", id_no=MINE, address="大同县城关镇北街九号"))
    patient = golden_patient(a.person)
    assert {i["value"] for i in patient["identifier"]} >= {MINE, a.number}
    assert patient["address"][0]["text"] == "大同县城关镇北街九号"
    person = a.person
    assert person.version == 2


def test_a_batch_sees_itself(reg: Reg) -> None:
    first = reg(id_no=MINE, phone="13911112222")
    batch = [
        first,
        reg(id_no=MINE),
        replace(first),
        replace(first, address="大同县城关镇南街七号"),
        reg(name="程咬金"),
    ]
    out = register_many(SYSTEM, batch)
    assert [r.decision for r in out] == ["new", "linked", "same_source", "linked", "new"]
    assert len({r.person_id for r in out}) == 2
    assert everybody().count() == 2
    assert upkeep.check() == []


def test_batch_and_single_agree(here: Institution) -> None:
    """Whatever the batches, the same registrations give the same partition."""
    rng = random.Random(7)
    ids = [make_resident_id(BORN, k) for k in range(1, 60, 2)]
    regs = [
        Registration(
            here.pk, "urn:t", str(k), rng.choice(["单雄信", "程咬金", "秦叔宝"]), "male", BORN,
            id_no=rng.choice([*ids, "", ""]), phone=f"1391111{rng.randrange(40):04d}",
        )
        for k in range(150)
    ]  # fmt: skip

    def partition(size: int) -> set[frozenset[int]]:
        with transaction.atomic():
            out = [r for k in range(0, len(regs), size) for r in register_many(SYSTEM, regs[k : k + size])]
            transaction.set_rollback(True)
        groups: dict[int, set[int]] = {}
        for k, r in enumerate(out):
            groups.setdefault(r.person_id, set()).add(k)
        return {frozenset(g) for g in groups.values()}

    one_by_one = partition(1)
    assert partition(150) == one_by_one
    assert partition(40) == one_by_one


@pytest.mark.django_db(transaction=True)
@pytest.mark.concurrency
@pytest.mark.parametrize("size", [1, 20])
def test_eight_connections_register_the_same_newcomers(size: int) -> None:
    places = [make_institution() for _ in range(8)]
    people = [(f"甄{chr(0x4E00 + k)}", make_resident_id(BORN, k * 2 + 1)) for k in range(200)]
    failures: list[BaseException] = []
    go = threading.Barrier(8)

    def work(place: Institution) -> None:
        try:
            mine = [
                Registration(place.pk, "urn:t", str(k), name, "male", BORN, id_no=number)
                for k, (name, number) in enumerate(people)
            ]
            go.wait()
            for k in range(0, len(mine), size):
                register_many(SYSTEM, mine[k : k + size])
        except BaseException as failure:
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(p,)) for p in places]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
    assert everybody().count() == 200
    assert SourceRecord.objects.unscoped("test").count() == 1600
    assert upkeep.check() == []
    assert audit.verify() == []


# -------------------------------------------------------------------------------------------------------- numbers


def test_numbers_never_collide() -> None:
    made = {numbers.person_number(n) for n in range(20_000)}
    cards = {numbers.card_number(n) for n in range(20_000)}
    assert len(made) == len(cards) == 20_000
    assert all(numbers.is_person_number(n) for n in made)
    assert all(numbers.is_card_number(n) for n in cards)
    first = [int(numbers.person_number(n)) for n in range(50)]
    assert sorted(first) != first


@given(st.integers(0, numbers.CAPACITY - 1))
def test_every_number_has_its_form(n: int) -> None:
    assert numbers.is_person_number(numbers.person_number(n))
    assert numbers.is_card_number(numbers.card_number(n))


# -------------------------------------------------------------------------------------------------------- finding


def test_find_by_everything_a_desk_has(reg: Reg, here: Institution) -> None:
    a = register(SYSTEM, reg(id_no=MINE, phone="13912345678", home_institution_id=here.pk))
    register(SYSTEM, reg(name="程咬金", phone="13987654321"))
    person, gp = a.person, desk(here, roles.GP)
    for q in (
        person.card_number, f"https://x/card?c={person.card_number}", person.number, MINE, MINE.lower(),
        "13912345678", "5678", "345678", "单雄", "单雄信", "shanx", "SHANXIONGXIN", "shan xiong xin", "sxx",
    ):  # fmt: skip
        assert [h.person_id for h in find(gp, q)] == [a.person_id], q
    for q in ("", "单", "99", "9999", "zzz", "%", "_", "1' OR '1'='1"):
        assert [h.person_id for h in find(gp, q)] in ([], [a.person_id]), q
    assert find(gp, "345679") == []
    events = AuditEvent.objects.filter(action="search")
    assert events.count() == 23
    assert not any("单雄信" in e.detail or MINE in e.detail for e in events)


def test_strangers_are_masked_and_come_last(reg: Reg, here: Institution) -> None:
    far = make_institution()
    for k in range(30):
        register(
            SYSTEM,
            reg(
                institution_id=far.pk, name=f"单甲{chr(0x4E00 + k)}", birth_date=dt.date(1950, 1, k % 28 + 1)
            ),
        )
    a = register(SYSTEM, reg(id_no=MINE, phone="13912345678", home_institution_id=here.pk))
    hits = find(desk(here, roles.GP), "单", limit=5)
    assert len(hits) in (0, 5)
    hits = find(desk(here, roles.GP), "sh", limit=5)
    assert len(hits) == 5
    assert (hits[0].person_id, hits[0].name, hits[0].related) == (a.person_id, "单雄信", True)
    assert all(h.name.startswith("单*") and h.birth_date is None and not h.related for h in hits[1:])
    assert hits[0].id_masked.startswith("3310")
    assert MINE not in hits[0].id_masked
    with pytest.raises(NotPermitted):
        find(desk(here, roles.AUDIT_ADMIN), "单雄信")


def test_checking_in_needs_the_number_itself(reg: Reg) -> None:
    a = register(SYSTEM, reg(id_no=MINE))
    clinic = make_institution()
    post = make_post(clinic, roles.CLINICIAN)
    from lianxin.access.models import Account

    account = Account.objects.create_user("u", "x", name="甄", practitioner=post.practitioner)
    scope = scope_for_account(account)
    with pytest.raises(Invalid) as refused:
        check_in(scope, a.person, OTHER)
    assert list(refused.value.errors) == ["evidence"]
    assert not relationships.sees(scope, a.person_id)
    until = check_in(scope, a.person, MINE.lower())
    assert relationships.sees(scope, a.person_id)
    with clock.at(until):
        assert not relationships.sees(scope, a.person_id)
    check_in(scope, a.person, a.person.card_number)


# -------------------------------------------------------------------------------------------------------- merging


def test_merge_leads_from_every_number(reg: Reg, here: Institution) -> None:
    a = register(SYSTEM, reg(id_no=MINE, patient_id="pa"))
    b = register(SYSTEM, reg(name="单信雄", patient_id="pb"))
    told: list[tuple[list[str], int, int]] = []
    listener = lambda cur, ids, old, new: told.append((sorted(ids), old, new))  # noqa: E731
    hooks.on_repoint(listener)
    try:
        event = merge(desk(here), a.person, b.person, "本人确认")
        assert get(b.number).pk == a.person_id
        assert get(b.number, follow=False).status == "merged"
        assert persons_of_patients(["pa", "pb", a.number, b.number, "x"]) == dict.fromkeys(
            ["pa", "pb", a.number, b.number], a.person_id
        )
        assert golden_patient(get(b.number, follow=False))["link"][0]["type"] == "replaced-by"
        assert [link["other"]["reference"] for link in golden_patient(a.person)["link"]] == [
            "Patient/pa",
            "Patient/pb",
        ]
        with connection.cursor() as cur:
            assert person_id_for_update(cur, b.person_id) == a.person_id
        unmerge(desk(here), event.pk)
        assert told == [
            (sorted(["pb", b.number]), b.person_id, a.person_id),
            (sorted(["pb", b.number]), a.person_id, b.person_id),
        ]
    finally:
        hooks._repoint.remove(listener)
    assert by_patient_id("pb") == b.person_id
    with pytest.raises(Invalid):
        unmerge(desk(here), event.pk)
    with pytest.raises(UnknownPerson):
        get("0000000000")


def test_two_valid_numbers_never_merge(reg: Reg, here: Institution) -> None:
    a, b = register(SYSTEM, reg(id_no=MINE)), register(SYSTEM, reg(id_no=OTHER))
    with pytest.raises(Invalid, match="身份证号"):
        merge(desk(here), a.person, b.person, "看着像")
    with pytest.raises(Invalid):
        merge(desk(here), a.person, a.person, "同一人")
    with pytest.raises(NotPermitted):
        merge(desk(here, roles.AUDIT_ADMIN), a.person, b.person, "x")


def test_move_a_registration(reg: Reg, here: Institution) -> None:
    a = register(SYSTEM, reg(id_no=MINE))
    wrong = register(SYSTEM, reg(id_no=MINE, phone="13911112222"))
    with pytest.raises(Invalid):
        move(desk(here), register(SYSTEM, reg(name="独一人")).source, a.person, "x")
    person = move(desk(here), wrong.source, None, "挂错人")
    assert person.pk != a.person_id
    assert a.person.phone_tail == ""
    assert wrong.source.person_id == person.pk
    assert upkeep.check() == []


def _state() -> tuple[Any, ...]:
    """Links, numbers and who may look now (a relationship that lived only during a merge stays in the table, ended)."""
    live = Q(until__isnull=True) | Q(until__gt=clock.now())
    return (
        sorted(SourceRecord.objects.unscoped("test").values_list("id", "person_id")),
        sorted(everybody().values_list("id", "number", "card_number", "status", "name", "phone_tail")),
        sorted(everybody().filter(merged_into__isnull=False).values_list("id", "merged_into_id")),
        sorted(
            Relationship.objects.filter(live).values_list("person_id", "institution_id", "kind", "source")
        ),
    )


@pytest.mark.django_db
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_merges_undone_in_any_order_are_nothing(data: st.DataObject) -> None:
    with transaction.atomic():
        place = make_institution()
        homes = [make_institution().pk for _ in range(3)]
        regs = [
            Registration(
                place.pk, "urn:t", str(k), f"甄{k}", phone=f"1391111000{k}", home_institution_id=homes[k // 2]
            )
            for k in range(6)
        ]
        people = [r.person for r in register_many(SYSTEM, regs)]
        before = _state()
        events = []
        for _ in range(data.draw(st.integers(1, 5))):
            alive = list(everybody().filter(pk__in=[p.pk for p in people], status="active").order_by("pk"))
            keep, gone = data.draw(st.permutations(alive))[:2]
            events.append(merge(SYSTEM, keep, gone, "试").pk)
            assert upkeep.check() == []
        for event in data.draw(st.permutations(events)):
            unmerge(SYSTEM, event)
        assert _state() == before
        assert upkeep.check() == []
        transaction.set_rollback(True)


# -------------------------------------------------------------------------------------------------------- foreign


def test_a_foreign_patient(here: Institution) -> None:
    patient = {
        "resourceType": "Patient",
        "id": "abe",
        "identifier": [
            {"type": {"coding": [{"code": "MR"}]}, "system": "http://hospital.example", "value": "mr-1"},
            {"type": {"coding": [{"code": "SS"}]}, "system": "http://ssn.example", "value": "999-12-3456"},
        ],
        "name": [
            {"use": "maiden", "family": "X"},
            {"use": "official", "family": "Frami345", "given": ["Abe604", "Q"]},
        ],
        "telecom": [{"system": "phone", "value": "555-123-4567"}],
        "gender": "male",
        "birthDate": "1961-02-03",
        "deceasedDateTime": "2014-05-06T07:08:09+02:00",
        "address": [{"line": ["1 Main St"], "city": "Boston", "state": "MA"}],
    }
    reg = registration_from_patient(patient, here.pk)
    assert (reg.name, reg.local_id, reg.id_no) == ("Abe604 Q Frami345", "mr-1", "999-12-3456")
    assert reg.deceased_on == dt.date(2014, 5, 6)
    one = register(SYSTEM, reg)
    assert by_patient_id("abe") == one.person_id
    far = make_institution()
    two = register(SYSTEM, registration_from_patient(patient | {"id": "abe2"}, far.pk))
    assert (two.decision, two.person_id) == ("linked", one.person_id)
    assert [h.person_id for h in find(SYSTEM, "abe604q")] == [one.person_id]


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {
            "id": "x",
            "name": "no list",
            "identifier": 7,
            "telecom": [None],
            "address": ["a"],
            "birthDate": "1961",
        },
        {"id": "x", "name": [{"given": [None, 3], "family": ""}], "gender": [], "birthDate": {}},
    ],
)
def test_odd_patients_do_not_break_it(odd: dict, here: Institution) -> None:
    reg = registration_from_patient({"resourceType": "Patient", **odd}, here.pk, patient_id="p")
    assert reg.name == "无名氏"
    assert reg.birth_date is None
    assert register(SYSTEM, reg).decision == "new"


def test_a_chinese_patient(here: Institution) -> None:
    golden = golden_patient(
        register(
            SYSTEM, Registration(here.pk, "u", "1", "欧阳娜", "female", BORN, id_no=make_resident_id(BORN, 4))
        ).person
    )
    reg = registration_from_patient(golden, here.pk)
    assert (reg.name, reg.id_type, reg.id_no) == ("欧阳娜", "01", make_resident_id(BORN, 4))
    assert reg.card == golden["identifier"][1]["value"]
    parts = {"id": "y", "name": [{"family": "欧阳", "given": ["娜"]}]}
    assert registration_from_patient(parts, here.pk).name == "欧阳娜"
