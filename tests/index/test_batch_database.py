"""Loads and re-links against the database: the same people as online, whole slices, and proposals that a person decides on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.models import Relationship
from lianxin.access.scope import Scope
from lianxin.index import active, links, registry, upkeep
from lianxin.index.batch import apply, effects, load, mending, propose, reading, slices, versions
from lianxin.index.batch.models import LoadedSlice, Proposal
from lianxin.index.form import Registration
from lianxin.index.match.model import DEFAULT
from lianxin.index.models import IndexModel, LinkEvent, Person, ReviewItem, SourceRecord
from lianxin.network.models import Institution
from lianxin.standards import clock
from tests.index import batch_data as data
from tests.index.conftest import SYSTEM

PEOPLE = 80


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path) -> Iterator[None]:
    """Runs keep their files in a home of the test's own."""
    before = settings.HOME
    settings.HOME = tmp_path
    active.forget()
    yield
    settings.HOME = before
    active.forget()


def partition(regs: list[Registration]) -> list[int]:
    """The person of every registration, in their order."""
    found = {
        (s.system, s.local_id): s.person_id for s in SourceRecord.objects.unscoped("test").order_by("pk")
    }
    return [found[r.system, r.local_id] for r in regs]


def snapshot() -> tuple[Any, ...]:
    """Whose every registration is, and who lives."""
    sources = SourceRecord.objects.unscoped("test").order_by("pk").values_list("pk", "person_id")
    people = Person.objects.unscoped("test").filter(status="active").order_by("pk")
    return tuple(sources), tuple(people.values_list("number", flat=True))


def once(regs: list[Registration], **more: Any) -> load.Loaded:
    return load.load(SYSTEM, regs, processes=1, memory="1GB", **more)


def test_a_load_makes_the_people_that_registering_makes(
    here: Institution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICE", 50)
    monkeypatch.setattr(load, "PART", 100)
    regs = data.registrations(here.pk, PEOPLE)
    done = once(regs)
    assert (done.registrations, done.new, done.refused, done.same) == (len(regs), len(regs), 0, 0)
    loaded = partition(regs)
    assert done.created == len(set(loaded)) == Person.objects.unscoped("test").count()
    assert LoadedSlice.objects.count() > 2
    assert mending.missing() == []
    assert upkeep.check() == []
    first = SourceRecord.objects.unscoped("test").order_by("pk")[0]
    assert Relationship.objects.filter(
        person_id=first.person_id, institution=here, kind="registration"
    ).exists()
    assert LinkEvent.objects.filter(kind="created").count() == done.created
    assert LinkEvent.objects.count() == len(regs)

    online = replace_ids(regs)
    for start in range(0, len(online), 50):
        registry.register_many(SYSTEM, online[start : start + 50])
    # Registered once more under other local ids, everybody meets who the load made of them.
    assert data.agreement(partition(online), loaded) >= 0.99


def replace_ids(regs: list[Registration]) -> list[Registration]:
    return [replace(reg, local_id=f"again-{reg.local_id}") for reg in regs]


def test_a_load_again_changes_nothing_and_a_changed_registration_is_updated(here: Institution) -> None:
    regs = data.registrations(here.pk, 30)
    once(regs)
    before = snapshot()
    assert once(regs).same == len(regs)
    assert snapshot() == before
    changed = [replace(regs[0], address="清河县城关镇新华街 9 号"), *regs[1:]]
    done = once(changed)
    assert (done.updated, done.same) == (1, len(regs) - 1)
    assert SourceRecord.objects.unscoped("test").filter(version=2).count() == 1


def test_the_second_half_meets_the_first(here: Institution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "FEW", 10)
    regs = data.registrations(here.pk, PEOPLE)
    half = len(regs) // 2
    once(regs[:half])
    first = partition(regs[:half])
    once(regs[half:])
    assert [living(p) for p in first] == [living(p) for p in partition(regs[:half])]
    truth = data.labelled(PEOPLE).people
    assert data.agreement([living(p) for p in partition(regs)], truth) >= 0.97
    assert upkeep.check() == []


def living(person_id: int) -> int:
    person = Person.objects.unscoped("test").get(pk=person_id)
    return living(person.merged_into_id) if person.merged_into_id else person.pk


def test_a_load_that_breaks_off_leaves_whole_slices_and_goes_on(
    here: Institution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICE", 40)
    monkeypatch.setattr(load, "PART", 40)
    monkeypatch.setattr(load, "FEW", 10)
    regs = data.registrations(here.pk, PEOPLE)
    real, parts = slices.write_part, []

    def breaks(path: Path, terms: slices.Terms) -> slices.Written:
        if len(parts) == 2:
            raise RuntimeError("the machine is switched off")
        parts.append(path)
        return real(path, terms)

    monkeypatch.setattr(slices, "write_part", breaks)
    with pytest.raises(RuntimeError, match="switched off"):
        once(regs)
    written = SourceRecord.objects.unscoped("test").count()
    assert 0 < written < len(regs)
    assert sum(LoadedSlice.objects.values_list("rows", flat=True)) == written
    assert mending.missing() != []
    monkeypatch.setattr(slices, "write_part", real)
    done = once(regs)
    assert (done.same, done.new) == (written, len(regs) - written)
    assert mending.missing() == []
    assert data.agreement(partition(regs), data.labelled(PEOPLE).people) >= 0.97
    assert not any((settings.HOME / propose.FOLDER).iterdir())


def test_a_file_is_loaded_and_what_cannot_be_taken_is_told(here: Institution, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(
        "local_id,name,sex,birth_date,id_number,institution\n"
        f'1,"单雄信",男,1969-05-17,,{here.code}\n'
        f"2,,女,1970-01-02,,{here.code}\n"
        "3,秦琼,男,1970-01-02,,NOWHERE\n"
        f'4,"程咬金\n之子",男,2024-02-30,,{here.code}\n'
    )
    done = load.load(SYSTEM, path, processes=1)
    assert (done.registrations, done.refused) == (2, 2)
    assert any("NOWHERE" in why for _, why in done.bad)
    assert Person.objects.unscoped("test").filter(name="单雄信").exists()
    assert load.load(SYSTEM, path, processes=1).same == 2


@pytest.mark.parametrize("text", ["", "\n", "a,b\n1,2\n", "name,sex\n张三,男\n"])
def test_a_file_that_says_too_little_is_refused(here: Institution, tmp_path: Path, text: str) -> None:
    path = tmp_path / "people.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"\S"):
        load.load(SYSTEM, path, institution=here, processes=1)
    assert not SourceRecord.objects.unscoped("test").exists()


def test_only_one_load_at_a_time_and_only_for_ones_own_institution(here: Institution) -> None:
    clerk = Scope(institution_ids=frozenset(), roles=frozenset({"registrar"}), name="clerk")
    with pytest.raises(NotPermitted):
        load.load(clerk, [], institution=here)
    with held_elsewhere(mending.ONE_LOAD), pytest.raises(Invalid):
        once([])


@contextmanager
def held_elsewhere(lock: int) -> Iterator[None]:
    """Somebody else's connection holds an advisory lock."""
    with psycopg.connect(**reading.connecting()) as other:  # type: ignore[arg-type]
        other.execute("SELECT pg_advisory_lock(%s)", [lock])
        yield


def test_what_a_first_load_puts_aside_is_made_again_as_it_was(here: Institution) -> None:
    def made() -> list[Any]:
        with connection.cursor() as cur:
            cur.execute(
                "SELECT conname, pg_get_constraintdef(oid) || convalidated FROM pg_constraint"
                " UNION ALL SELECT indexname, indexdef FROM pg_indexes ORDER BY 1, 2"
            )
            return cur.fetchall()

    before = made()
    mending.set_aside()
    assert len(mending.missing()) > 10
    with held_elsewhere(mending.ONE_LOAD):
        assert mending.mend_alone() == []
    assert mending.mend_alone() != []
    assert (made(), mending.missing()) == (before, [])


def test_a_re_link_that_was_killed_has_failed_and_the_next_one_does_its_work(split_index: Any) -> None:
    dead = Proposal.objects.create(model_version="x", engine="duckdb", made_at=clock.now(), made_by="x")
    with held_elsewhere(mending.ONE_RELINK):
        mending.mend_alone()
        with pytest.raises(Invalid):
            propose.propose(SYSTEM, DEFAULT, processes=1)
        dead.refresh_from_db()
        assert dead.state == "building"
    take_apart()
    assert propose.propose(SYSTEM, DEFAULT, processes=1).figures["join"] >= 1
    dead.refresh_from_db()
    assert dead.state == "failed"


@pytest.fixture
def split_index(here: Institution) -> tuple[Institution, list[Registration]]:
    """An index in which a person is in two, and two people are one: what better weights would mend."""
    regs = data.registrations(here.pk, 60)
    once(regs)
    return here, regs


def take_apart() -> int:
    """One registration of a person with several goes to a new number; returns the person."""
    from django.db.models import Count

    person = (
        Person.objects.unscoped("test").annotate(n=Count("sources")).filter(n__gte=3, id_blind__isnull=False)
    ).order_by("pk")[0]
    source = SourceRecord.objects.unscoped("test").filter(person_id=person.pk).order_by("-pk")[0]
    links.move(SYSTEM, source, None, "test", apart=False)
    return person.pk


def test_a_proposal_changes_nothing_until_accepted_and_can_be_taken_back(split_index: Any) -> None:
    take_apart()
    effects.register(_counted)
    before = snapshot()
    proposal = propose.propose(SYSTEM, DEFAULT, processes=1)
    assert (proposal.state, snapshot()) == ("ready", before)
    assert proposal.figures["join"] >= 1
    assert proposal.figures["with_records"] >= 1
    join = proposal.changes.filter(kind="join").order_by("pk")[0]
    assert join.parts
    assert join.bits > DEFAULT.join
    apply.accept(SYSTEM, proposal.pk, "looked at")
    assert apply.work() >= 1
    proposal.refresh_from_db()
    assert proposal.state == "applied"
    assert Person.objects.unscoped("test").get(pk=join.person_b).merged_into_id == join.person_a
    assert upkeep.check() == []
    apply.undo(SYSTEM, proposal.pk)
    apply.work()
    proposal.refresh_from_db()
    assert (proposal.state, snapshot()) == ("undone", before)
    assert not ReviewItem.objects.filter(state="different").exists()
    effects._counters.remove(_counted)


def _counted(cur: Any, people: Any) -> dict[int, int]:
    return dict.fromkeys(people, 2)


def test_a_refused_proposal_and_one_that_is_carried_out_are_no_longer_to_be_decided(split_index: Any) -> None:
    take_apart()
    first, second = (propose.propose(SYSTEM, DEFAULT, processes=1) for _ in range(2))
    apply.refuse(SYSTEM, first.pk)
    with pytest.raises(Invalid):
        apply.accept(SYSTEM, first.pk)
    before = snapshot()
    assert apply.work() == 0
    assert snapshot() == before
    apply.accept(SYSTEM, second.pk)
    third = propose.propose(SYSTEM, DEFAULT, processes=1)
    with pytest.raises(Invalid):
        apply.accept(SYSTEM, third.pk)
    with pytest.raises(NotPermitted):
        apply.refuse(Scope(name="somebody"), third.pk)


def test_a_humans_word_wins_over_new_weights(split_index: Any) -> None:
    person = take_apart()
    other = Person.objects.unscoped("test").latest("pk")
    links.keep_apart(SYSTEM, Person.objects.unscoped("test").get(pk=person), other)
    proposal = propose.propose(SYSTEM, DEFAULT, processes=1)
    pairs = {frozenset((c.person_a, c.person_b)) for c in proposal.changes.exclude(kind="split")}
    assert frozenset((person, other.pk)) not in pairs


def test_what_changed_since_the_proposal_is_left_alone(split_index: Any) -> None:
    person = take_apart()
    proposal = propose.propose(SYSTEM, DEFAULT, processes=1)
    other = Person.objects.unscoped("test").latest("pk")
    links.merge(SYSTEM, Person.objects.unscoped("test").get(pk=person), other, "by hand")
    before = snapshot()
    apply.accept(SYSTEM, proposal.pk)
    apply.work()
    change = proposal.changes.get(kind="join", person_b=other.pk)
    assert change.state == "skipped"
    assert change.why_not
    assert snapshot()[0] == before[0]


def test_slices_survive_being_broken_off(split_index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        take_apart()
    proposal = propose.propose(SYSTEM, DEFAULT, processes=1)
    assert proposal.figures["join"] >= 2
    apply.accept(SYSTEM, proposal.pk)
    monkeypatch.setattr(apply, "SLICE", 1)
    apply._slice()
    assert proposal.changes.filter(state="applied").count() == 1
    assert Proposal.objects.get(pk=proposal.pk).state == "applying"
    apply.work()
    assert not proposal.changes.filter(state="open").exists()
    assert Proposal.objects.get(pk=proposal.pk).state == "applied"


def test_models_are_trained_kept_and_made_active(split_index: Any) -> None:
    row = versions.train_from_index(SYSTEM, "county-1", processes=1)
    assert row.training["forms"] > 100
    assert not row.active
    assert versions.find("county-1").weights == versions.models.load(bytes(row.body)).weights
    versions.activate(SYSTEM, "county-1")
    assert active.current_model().version == "county-1"
    versions.activate(SYSTEM, "shipped")
    assert not IndexModel.objects.filter(active=True).exists()
    for version in ("county-1", "shipped", "", "a b", "x" * 61):
        with pytest.raises(Invalid):
            versions.keep(SYSTEM, replace(DEFAULT, version=version))
    with pytest.raises(Invalid):
        versions.find("nobody")


def test_an_empty_index_has_nothing_to_train_on_or_to_link(db: None) -> None:
    with pytest.raises(Invalid):
        versions.train_from_index(SYSTEM, "county-1", processes=1)
    assert propose.propose(SYSTEM, DEFAULT, processes=1).figures["forms"] == 0
