"""Merge, unmerge, move, split, "never the same": exact, in any order, the record included."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianxin.access import consent
from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.models import Consent, Relationship
from lianxin.access.scope import Scope
from lianxin.index import apart, hooks, links, registry, upkeep
from lianxin.index.models import LinkEvent, Origin, Person, ReviewItem, SourceRecord
from lianxin.index.registry import Registration, register_many
from lianxin.network import roles
from lianxin.network.models import Institution
from lianxin.record import persons
from lianxin.standards import checks, clock
from tests.factories import make_institution
from tests.index.conftest import SYSTEM

Reg = Callable[..., Registration]


def everybody() -> Any:
    return Person.objects.unscoped("test")


def sources() -> Any:
    return SourceRecord.objects.unscoped("test")


def at(institution: Institution, role: str = roles.RECEPTION) -> Scope:
    return Scope(
        institution_id=institution.pk, institution_ids=frozenset({institution.pk}), roles=frozenset({role})
    )


def holders_of_record() -> list[tuple[Any, ...]]:
    with connection.cursor() as cur:
        cur.execute("SELECT patient_id, person_id FROM record_patient ORDER BY 1")
        return cur.fetchall()


def forms() -> list[tuple[Any, ...]]:
    """What the matcher would compare: how many forms and which keys each person has."""
    with connection.cursor() as cur:
        cur.execute("SELECT to_regclass('index_form')")
        if cur.fetchone()[0] is None:
            return []
        cur.execute(
            "SELECT person_id, count(DISTINCT (body, keys)), array_agg(DISTINCT k ORDER BY k) FROM index_form"
            " LEFT JOIN LATERAL unnest(keys) AS k ON true GROUP BY person_id ORDER BY 1"
        )
        return [(row[0], tuple(row[2])) for row in cur.fetchall()]


def state() -> tuple[Any, ...]:
    """Everything a merge touches but audit, event log, versions and the memory of answers."""
    columns = (
        "id",
        "number",
        "card_number",
        "status",
        "merged_into_id",
        "name",
        "phone_tail",
        "home_institution_id",
    )
    return (
        sorted(sources().values_list("id", "person_id", "disputed")),
        sorted(everybody().values_list(*columns), key=lambda row: row[0]),
        sorted(Relationship.objects.values_list("id", "person_id", "institution_id", "kind", "source", "since", "until"),
               key=lambda row: row[0]),
        sorted(Consent.objects.values_list("id", "person_id")),
        holders_of_record(),
        forms(),
        list(Origin.objects.order_by("pk").values_list("table_name", "row_id", "person_id")),
    )  # fmt: skip


def people_of(count: int, homes: int = 3) -> list[Person]:
    """``count`` registered people with a FHIR Patient each, few home institutions, resources under source and person number."""
    places = [make_institution() for _ in range(2)]
    near = [make_institution().pk for _ in range(homes)]
    regs = [
        Registration(
            places[k % 2].pk, "urn:t", str(k), f"甄{chr(0x4E00 + 97 * k)}", phone=f"1391111{k:04d}",
            home_institution_id=near[k % homes], patient_id=f"pt-{k}",
        )
        for k in range(count)
    ]  # fmt: skip
    people = [r.person for r in register_many(SYSTEM, regs)]
    with connection.cursor() as cur:
        for k, person in enumerate(people):
            for patient in (f"pt-{k}", person.number):
                persons.remember(cur, [(persons.ref_key(f"Patient/{patient}"), patient, person.pk)])
    for person in people[::2]:
        consent.refuse(SYSTEM, person.pk, evidence="form")
    return people


@pytest.mark.django_db
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changes_undone_in_any_order_are_nothing(data: st.DataObject) -> None:
    """Merges, undone merges, merges again, moves between: when all is undone, everything is where it was."""
    with transaction.atomic():
        people = people_of(6)
        ids = [p.pk for p in people]
        before = state()
        open_events: list[int] = []
        for _ in range(data.draw(st.integers(2, 9))):
            alive = list(everybody().filter(pk__in=ids, status="active").order_by("pk"))
            acts = (["undo"] if open_events else []) + (["merge"] if len(alive) > 1 else [])
            if data.draw(st.sampled_from(acts)) == "merge":
                keep, gone = data.draw(st.permutations(alive))[:2]
                open_events.append(links.merge(SYSTEM, keep, gone, "试").pk)
            else:
                event = data.draw(st.sampled_from(open_events))
                open_events.remove(event)
                links.undo(SYSTEM, event)
            assert upkeep.check() == []
            living = set(everybody().filter(status="active").values_list("pk", flat=True))
            assert {person for _, person in holders_of_record()} <= living
            for person in people:  # whoever's home it is may look, merged or not
                root = registry.get(person.number).pk
                assert Relationship.objects.filter(
                    person_id=root, kind="home", institution_id=person.home_institution_id, until=None
                ).exists()
        for event in data.draw(st.permutations(open_events)):
            links.undo(SYSTEM, event)
        assert state() == before
        transaction.set_rollback(True)


@pytest.mark.django_db
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_moves_and_merges_keep_every_registration_with_its_own(data: st.DataObject) -> None:
    """Single registrations may move while people are merged; undoing everything, last first, restores the partition."""
    with transaction.atomic():
        people = people_of(5)
        ids = [p.pk for p in people]
        links.merge(SYSTEM, people[0], people[1], "先并")
        partition = sorted(sources().values_list("id", "person_id"))
        done: list[int] = []
        for _ in range(data.draw(st.integers(1, 6))):
            alive = list(everybody().filter(pk__in=ids, status="active").order_by("pk"))
            rich = [
                s for s in sources().order_by("pk") if sources().filter(person_id=s.person_id).count() > 1
            ]
            if rich and data.draw(st.booleans()):
                source = data.draw(st.sampled_from(rich))
                to = data.draw(
                    st.sampled_from([p for p in [*alive, None] if p is None or p.pk != source.person_id])
                )
                links.move(SYSTEM, source, to, "试")
                done.append(LinkEvent.objects.filter(kind="moved").latest("pk").pk)
            elif len(alive) > 1:
                keep, gone = data.draw(st.permutations(alive))[:2]
                done.append(links.merge(SYSTEM, keep, gone, "试", despite=True).pk)
            assert upkeep.check() == []
        for event in reversed(done):
            links.undo(SYSTEM, event)
        assert sorted(sources().values_list("id", "person_id")) == partition
        assert not ReviewItem.objects.filter(state="different").exists()
        transaction.set_rollback(True)


@pytest.mark.django_db
def test_what_is_written_while_merged_stays_and_the_rest_returns() -> None:
    a, b, c = people_of(3)
    first = links.merge(SYSTEM, a, b, "同一人")
    consent.refuse(SYSTEM, a.pk, evidence="while merged")
    links.merge(SYSTEM, c, a, "同一人")
    back = links.unmerge(SYSTEM, first.pk, "其实不是")
    assert (back.pk, back.status, back.number) == (b.pk, "active", b.number)
    assert dict(holders_of_record()) == {
        "pt-0": c.pk, "pt-1": b.pk, "pt-2": c.pk, a.number: c.pk, b.number: b.pk, c.number: c.pk,
    }  # fmt: skip
    assert sorted(Consent.objects.values_list("person_id", flat=True)) == [c.pk, c.pk, c.pk]
    with connection.cursor() as cur:
        assert links.apart(cur, [c.pk, b.pk]) == {c.pk: frozenset({b.pk}), b.pk: frozenset({c.pk})}
    assert registry.get(a.number).pk == c.pk
    assert [found for _, found in checks.run() if found] == []


@pytest.mark.django_db
def test_never_the_same_is_inherited_and_can_be_overruled() -> None:
    a, b, c = people_of(3)
    links.keep_apart(SYSTEM, a, b, "双胞胎")
    links.merge(SYSTEM, c, b, "同一人")
    with pytest.raises(Invalid) as refused:
        links.merge(SYSTEM, a, c, "看着像")
    assert list(refused.value.errors) == ["despite"]
    with connection.cursor() as cur:
        assert links.join(cur, a.pk, c.pk, "自动") is None
    event = links.merge(SYSTEM, a, c, "本人持证到场", despite=True)
    with connection.cursor() as cur:
        assert apart.apart(cur, [a.pk]) == {a.pk: frozenset()}
    links.undo(SYSTEM, event.pk)
    with connection.cursor() as cur:
        assert apart.apart(cur, [a.pk]) == {a.pk: frozenset({c.pk})}


@pytest.mark.django_db
def test_an_automatic_join_is_undone_like_any_other() -> None:
    a, b = people_of(2)
    before = state()
    with connection.cursor() as cur:
        event = links.join(cur, a.pk, b.pk, "两人被一条登记证明为同一人")
        assert links.join(cur, a.pk, b.pk, "再来") is None
    assert registry.get(b.number).pk == a.pk
    assert LinkEvent.objects.get(pk=event).account_id is None
    links.undo(SYSTEM, event or 0)
    assert state() == before


@pytest.mark.django_db
def test_split_gives_the_old_number_back_or_a_new_one() -> None:
    a, b = people_of(2)
    extra = register_many(
        SYSTEM,
        [Registration(sources().get(patient_id="pt-1").institution_id, "urn:t", f"x{k}", "甄二", patient_id=f"x{k}") for k in range(2)],
    )  # fmt: skip
    for registered in extra:
        if registered.person_id != b.pk:
            links.merge(SYSTEM, b, registered.person, "同一人", despite=True)
    links.merge(SYSTEM, a, b, "误并")
    mine = sources().get(patient_id="pt-1")
    others = [r.source_id for r in extra]
    with connection.cursor() as cur:
        assert links.former(cur, a.pk, [mine.pk, *others])[1] == b.pk  # type: ignore[index]
    back = links.split(SYSTEM, a, [mine.pk, *others], "其实是两个人")
    assert (back.pk, back.number) == (b.pk, b.number)
    assert set(sources().filter(person_id=b.pk).values_list("pk", flat=True)) == {mine.pk, *others}
    fresh = links.split(SYSTEM, back, [mine.pk], "又是另一人")
    assert fresh.pk not in (a.pk, b.pk) or fresh.number == b.number
    assert upkeep.check() == []
    with pytest.raises(Invalid):
        links.split(SYSTEM, a, [], "没选")
    with pytest.raises(Invalid):
        links.split(SYSTEM, a, [sources().get(patient_id="pt-0").pk], "全部")


@pytest.mark.django_db
def test_a_moved_registration_takes_its_access_along() -> None:
    a, b = people_of(2)
    links.merge(SYSTEM, a, b, "同一人")
    moved = sources().get(patient_id="pt-1")
    person = links.move(SYSTEM, moved, None, "挂错人")

    def sees_now() -> list[int]:
        rows = Relationship.objects.filter(kind="registration", institution_id=moved.institution_id)
        return [r.person_id for r in rows if r.until is not None and r.until > clock.now()]

    assert sees_now() == [person.pk]
    event = LinkEvent.objects.filter(kind="moved").latest("pk")
    links.undo(SYSTEM, event.pk)
    assert sees_now() == [a.pk]
    assert everybody().get(pk=person.pk).status == "retired"
    with pytest.raises(Invalid):
        links.undo(SYSTEM, event.pk)


@pytest.mark.django_db
def test_only_whom_it_concerns_may_change_links() -> None:
    a, b = people_of(2)
    stranger, own = make_institution(), sources().get(patient_id="pt-1").institution
    with pytest.raises(NotPermitted):
        links.merge(at(stranger), a, b, "x")
    with pytest.raises(NotPermitted):
        links.merge(at(own, roles.AUDIT_ADMIN), a, b, "x")
    event = links.merge(at(own), a, b, "本院登记")
    with pytest.raises(NotPermitted):
        links.unmerge(at(stranger), event.pk)
    with pytest.raises(NotPermitted):
        links.move(at(stranger), sources().get(patient_id="pt-0"), None, "x")
    links.unmerge(at(own), event.pk)


@pytest.mark.concurrency
@pytest.mark.django_db(transaction=True)
def test_merges_in_a_ring_at_once_leave_one_living_person() -> None:
    """Real connections: a into b, b into c, c into a at the same moment. No ring, no deadlock, everybody resolves."""
    people = people_of(3)
    failures: list[BaseException] = []
    go = threading.Barrier(3)

    def work(k: int) -> None:
        try:
            go.wait()
            links.merge(SYSTEM, people[k], people[(k + 1) % 3], "同时")
        except Invalid:
            pass  # somebody else was first: told so
        except BaseException as failure:
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
    assert everybody().filter(status="active").count() in (1, 2)
    assert upkeep.check() == []


@pytest.mark.concurrency
@pytest.mark.django_db(transaction=True)
def test_registrations_arriving_during_a_merge_stand_under_who_lives() -> None:
    place = make_institution()
    born = dt.date(1969, 5, 17)

    def reg(name: str, local: str) -> Registration:
        return Registration(
            place.pk, "urn:t", local, name, "male", born, phone="13911112222", address="南街七号"
        )

    a, b = (r.person for r in register_many(SYSTEM, [reg("单雄信", "a"), reg("程咬金", "b")]))
    assert a.pk != b.pk
    failures: list[BaseException] = []
    go = threading.Barrier(5)

    def registers(k: int) -> None:
        try:
            go.wait()
            for n in range(12):
                register_many(SYSTEM, [reg("程咬金", f"{k}-{n}"), reg("单雄信", f"{k}+{n}")])
        except BaseException as failure:
            failures.append(failure)
        finally:
            connection.close()

    def merges() -> None:
        try:
            go.wait()
            for _ in range(6):
                event = links.merge(SYSTEM, a, b, "同时", despite=True)
                links.undo(SYSTEM, event.pk)
            links.merge(SYSTEM, a, b, "同时", despite=True)
        except BaseException as failure:
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=registers, args=(k,)) for k in range(4)] + [
        threading.Thread(target=merges)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
    assert sources().count() == 2 + 4 * 24
    assert not sources().exclude(person__status="active").exists()
    assert upkeep.check() == []


def test_hooks_are_told_of_everybody_below(reg: Reg) -> None:
    a, b, c = people_of(3)
    told: list[tuple[list[str], int, int]] = []
    listener = lambda cur, ids, old, new: told.append((sorted(ids), old, new))  # noqa: E731
    hooks.on_repoint(listener)
    try:
        links.merge(SYSTEM, b, c, "一")
        event = links.merge(SYSTEM, a, b, "二")
        links.unmerge(SYSTEM, event.pk)
    finally:
        hooks._repoint.remove(listener)
    everything = sorted(["pt-1", "pt-2", b.number, c.number])
    assert told[1:] == [(everything, b.pk, a.pk), (everything, a.pk, b.pk)]
