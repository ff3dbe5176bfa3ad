"""The queue under any order of events: one holder, counters true, the excluded never sit, fairness bounded, nothing lost."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from lianxin.duty.errors import NotAllowed
from lianxin.duty.models import Case
from lianxin.regional.reading import amendment, checks, diagram, moves, policy, queue
from lianxin.regional.reading.models import ClaimEvent, Deficit, Entry, Reader, Reading, Turn
from lianxin.standards import clock
from tests.factories import SmallCounty
from tests.reading import world

_serial = itertools.count(1)
MODALITIES = ("DX", "US", "CT", "MR")


def bare(county: SmallCounty, origin: int, modality: str, person: int) -> Reading:
    """A piece of work without its story: what the queue looks at."""
    n, now = next(_serial), clock.now()
    case = Case.objects.create(
        number=f"JC20260101-T{n}", kind="reading", person_id=person, state="queued", priority="routine", pathway_start=now, opened_at=now,
        changed_at=now, owner_institution=county.lead, owner_role="reader", due_at=now,
    )  # fmt: skip
    return Reading.objects.create(
        case=case, requisition=f"R{n}", accession=f"T{n:011d}", person_id=person, centre="imaging", modality=modality,
        orderer=county.townships[origin], performer=county.townships[origin], centre_of=county.lead, origin=county.townships[origin],
        ordered_at=now, report_due_at=now + dt.timedelta(hours=2),
    )  # fmt: skip


STEP = st.tuples(
    st.sampled_from(
        ["enter", "enter", "claim", "claim", "renew", "lapse", "back", "hand", "finish", "withdraw"]
    ),
    st.integers(0, 2),
    st.integers(0, 3),
)


@pytest.mark.django_db
@settings(max_examples=15)
@given(steps=st.lists(STEP, max_size=30))
def test_any_interleaving_keeps_the_queue_true(steps: list[tuple[str, int, int]]) -> None:
    with transaction.atomic():
        county = world.make_world(f"Q{next(_serial)}")
        person = world.make_person()
        readers = [world.reader_of(county, f"reader{i}", most_open=2, approves=True)[1] for i in range(3)]
        entered: dict[int, tuple[int, ...]] = {}
        ended: set[int] = set()
        held: dict[int, queue.Claim] = {}
        now = clock.now()
        for what, who, pick in steps:
            reader = readers[who]
            mine = [c for e, c in held.items() if _holder(e) == reader.account_id]
            claim = mine[pick % len(mine)] if mine else None
            with clock.at(now):
                if what == "enter":
                    barred = (readers[pick % 3].account_id,) if pick < 3 else ()
                    entry = queue.enter(bare(county, who, MODALITIES[pick], person), "first", priority="routine", excluded=barred)  # fmt: skip
                    entered[entry.pk] = barred
                elif what == "claim":
                    _claim(reader, held)
                elif what == "lapse":
                    now += dt.timedelta(minutes=9)
                    with clock.at(now):
                        queue.sweep()
                    held = {e: c for e, c in held.items() if _holder(e) is not None}
                elif claim is not None:
                    _with_claim(what, claim, reader, readers[(who + 1) % 3], held, ended)
            _true(readers, entered, ended)
        transaction.set_rollback(True)


def _holder(entry_id: int) -> int | None:
    found: int | None = Entry.objects.unscoped("test").get(pk=entry_id).account_id
    return found


def _claim(reader: Reader, held: dict[int, queue.Claim]) -> None:
    try:
        got = queue.claim(reader)
    except NotAllowed:
        reader.refresh_from_db()
        assert reader.open_now == reader.most_open
        return
    if got is not None:
        assert got.entry_id not in held
        held[got.entry_id] = got


def _with_claim(
    what: str,
    claim: queue.Claim,
    reader: Reader,
    other: Reader,
    held: dict[int, queue.Claim],
    ended: set[int],
) -> None:
    entry = Entry.objects.unscoped("test").get(pk=claim.entry_id)
    if what == "renew":
        queue.renew(claim.entry_id, claim.token, reader.account_id)
        with pytest.raises(NotAllowed):
            queue.renew(claim.entry_id, claim.token, other.account_id)
        return
    if what == "hand" and other.account_id in entry.excluded:
        with pytest.raises(NotAllowed):
            queue.hand_over(claim.entry_id, reader.account_id, other, "疑难")
        return
    if what == "back":
        queue.give_back(claim.entry_id, reader.account_id)
    elif what == "hand":
        queue.hand_over(claim.entry_id, reader.account_id, other, "疑难")
    elif what == "finish":
        queue.finish(entry, reader.account_id)
        ended.add(entry.pk)
    else:
        queue.withdraw(entry.reading, reader.account_id)
        ended.add(entry.pk)
    del held[claim.entry_id]


def _true(readers: list[Reader], entered: dict[int, tuple[int, ...]], ended: set[int]) -> None:
    rows = {e.pk: e for e in Entry.objects.unscoped("test").filter(pk__in=list(entered))}
    assert rows.keys() == entered.keys()  # nothing lost
    for pk, entry in rows.items():
        assert (entry.state in ("done", "withdrawn")) == (pk in ended)
        if entry.state == "claimed":
            assert entry.account_id not in entered[pk]
            assert entry.only in (None, entry.account_id)
    for reader in readers:
        reader.refresh_from_db()
        holds = sum(e.state == "claimed" and e.account_id == reader.account_id for e in rows.values())
        assert reader.open_now == holds <= reader.most_open
    told = ClaimEvent.objects.filter(entry_id__in=list(entered)).values_list("what", flat=True)
    left = [w for w in told if w in ("returned", "lapsed", "handed", "done", "withdrawn")]
    assert sum(w == "claimed" for w in told) - len(left) == sum(e.state == "claimed" for e in rows.values())


@pytest.mark.django_db
@settings(max_examples=15)
@given(work=st.lists(st.tuples(st.integers(0, 1), st.sampled_from(MODALITIES)), min_size=6, max_size=26))
def test_between_two_backlogged_origins_the_work_stays_within_the_bound(work: list[tuple[int, str]]) -> None:
    with transaction.atomic():
        county = world.make_world(f"F{next(_serial)}")
        person = world.make_person()
        _, reader = world.reader_of(county, "reader0", most_open=99)
        for origin, modality in work:
            queue.enter(bare(county, origin, modality, person), "first", priority="routine")
        lead = county.lead.pk
        bound = int(policy.value("fair.quantum", lead)) + max(policy.cost(m, lead) for m in MODALITIES)
        left = [sum(o == n for o, _ in work) for n in (0, 1)]
        served = [0, 0]
        while all(left):
            got = queue.claim(reader)
            assert got is not None
            entry = Entry.objects.unscoped("test").get(pk=got.entry_id)
            n = 0 if entry.origin_id == county.townships[0].pk else 1
            left[n] -= 1
            served[n] += policy.cost(entry.modality, lead)
            if all(left):
                assert abs(served[0] - served[1]) <= bound
        transaction.set_rollback(True)


@pytest.mark.django_db
def test_the_tables_are_sound_and_the_database_refuses_two_open_seats() -> None:
    moves.MACHINE.validate()
    amendment.MACHINE.validate()
    county = world.make_world()
    reading = bare(county, 0, "CT", world.make_person())
    queue.enter(reading, "first", priority="routine")
    with pytest.raises(IntegrityError), transaction.atomic():
        queue.enter(reading, "first", priority="routine")
    turns = Turn.objects.filter(institution=county.lead)
    assert (turns.count(), Deficit.objects.filter(turn__in=turns).count()) == (1, 1)
    assert [f for f in checks.seats() if reading.case.number in f] == []
    _, reader = world.reader_of(county, "reader0")
    assert queue.claim(reader) is not None
    Reader.objects.filter(pk=reader.pk).update(open_now=2)
    Case.objects.unscoped("test").filter(pk=reading.pk).update(state="issued")
    found = checks.seats()
    assert f"reader {reader.pk} counted 2 open, holds 1" in found
    assert f"{reading.case.number} stands at issued with an open seat: first" in found
    assert f"{reading.case.number} was issued without a signed report" in checks.reports()


def test_the_page_of_the_tables_is_up_to_date() -> None:
    assert diagram.PAGE.read_text("utf-8") == diagram.page()
