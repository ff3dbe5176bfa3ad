"""The review desk's mechanism: the queue, claims, answers, the second look, taking back, two reviewers at once."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pytest
from django.db import connection

from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.models import Account, AuditEvent
from lianxin.access.scope import Scope
from lianxin.index import links, reviews
from lianxin.index.models import LinkEvent, Person, ReviewItem
from lianxin.index.registry import Registration, get, register_many
from lianxin.network import roles
from lianxin.standards import clock
from tests.factories import make_institution
from tests.index.conftest import SYSTEM
from tests.index.test_links import people_of, sources, state


def reviewer(name: str, *institutions: int, role: str = roles.RECEPTION) -> Scope:
    account = Account.objects.create_user(name, "x", name=name)
    ids = frozenset(institutions) or frozenset(sources().values_list("institution_id", flat=True))
    return Scope(account_id=account.pk, institution_ids=ids, roles=frozenset({role}), name=name)


def ask(
    *pairs: tuple[Person, Person], kind: str = "look_alike", probability: float = 0.8
) -> list[ReviewItem]:
    with connection.cursor() as cur:
        rows: list[reviews.Row] = [
            (kind, a.pk, b.pk, None, 2.5, probability, [["name", "exact", 9.5]], "m1") for a, b in pairs
        ]
        reviews.open_many(cur, rows)
    return list(ReviewItem.objects.order_by("pk"))


pytestmark = pytest.mark.django_db


def test_a_pair_is_asked_once_and_never_when_said_to_be_two() -> None:
    a, b, c = people_of(3)
    links.keep_apart(SYSTEM, a, b, "双胞胎")
    links.merge(SYSTEM, c, b, "同一人")
    with connection.cursor() as cur:
        assert reviews.open_many(cur, [("same_id", a.pk, c.pk, None, 1.0, 0.5, [], "m")]) == 0
        assert reviews.open_many(cur, [("same_id", c.pk, a.pk, None, 1.0, 0.5, [], "m")]) == 0
        assert reviews.open_many(cur, []) == 0
    assert ReviewItem.objects.filter(state="open").count() == 0


def test_the_most_pressing_first_and_nobody_gets_the_same() -> None:
    people = people_of(6)
    ask((people[0], people[1]), kind="household", probability=0.6)
    ask((people[2], people[3]), kind="same_id")
    ask((people[4], people[5]), kind="look_alike")
    one, two = reviewer("甲"), reviewer("乙")
    first, second = reviews.take(one), reviews.take(two)
    assert first
    assert second
    assert (first.kind, second.kind) == ("same_id", "look_alike")
    with pytest.raises(Invalid, match="甲"):
        reviews.take(two, first.pk)
    with pytest.raises(Invalid, match="甲"):
        reviews.answer(two, first.pk, "different")
    skipped = reviews.take(one, after=first.pk)
    assert skipped
    assert skipped.kind == "household"
    assert reviews.take(two, first.pk)  # let go by whoever skipped it
    with clock.at(clock.now() + dt.timedelta(hours=1)):  # a claim ends by itself
        assert reviews.take(one, second.pk)
    figures = reviews.counts(one)
    assert (figures.waiting, figures.second, figures.unsure, figures.more) == (3, 0, 0, False)
    assert figures.median is not None


def test_a_long_queue_does_not_hide_what_was_sent_back(monkeypatch: pytest.MonkeyPatch) -> None:
    people = people_of(8)
    items = ask(*zip(people[::2], people[1::2], strict=True))
    one = reviewer("甲")
    for item in items[2:]:
        assert reviews.take(one, item.pk)
        reviews.answer(one, item.pk, "unsure")
    monkeypatch.setitem(reviews.figures(), "count_up_to", 1)
    found = reviews.counts(one)
    assert (found.waiting, found.unsure, found.more) == (1, 1, True)
    monkeypatch.setitem(
        reviews.figures(), "small", {"registrations": 0, "questions": 0}
    )  # as for a large institution
    again = reviews.counts(one)
    assert (again.waiting, again.unsure, again.more) == (1, 1, True)
    assert [i.pk for i in reviews.queue(one)] == [i.pk for i in items[:2]]


def test_whom_it_does_not_concern_sees_nothing() -> None:
    a, b = people_of(2)
    item = ask((a, b))[0]
    stranger = reviewer("外", make_institution().pk)
    assert reviews.queue(stranger) == []
    assert reviews.take(stranger) is None
    for act in (reviews.take, lambda s, pk: reviews.answer(s, pk, "same")):
        with pytest.raises(NotPermitted):
            act(stranger, item.pk)  # type: ignore[operator]
    with pytest.raises(NotPermitted):
        reviews.queue(reviewer("审", role=roles.AUDIT_ADMIN))
    manager = Scope(
        account_id=stranger.account_id, roles=frozenset({roles.INDEX_MANAGER}),
        oversight_ids=frozenset(sources().values_list("institution_id", flat=True)),
    )  # fmt: skip
    assert [i.pk for i in reviews.queue(manager)] == [item.pk]


def test_answers_and_taking_them_back_exactly() -> None:
    a, b, c = people_of(3)
    item, other = ask((b, a), (b, c))
    me = reviewer("甲")
    before = state()
    merged = reviews.answer(me, item.pk, "same", "本人确认", reviews.state_of(item))
    assert (merged.state, get(b.number).pk) == ("same", a.pk)  # the older number stays
    assert [i.pk for i in reviews.queue(me)] == [other.pk]
    assert reviews.last(me) == merged
    reviews.undo_last(me, item.pk)
    assert state() == before
    assert {i.pk: i.state for i in ReviewItem.objects.all()} == {item.pk: "open", other.pk: "open"}
    reviews.answer(me, item.pk, "different")
    with connection.cursor() as cur:
        assert links.apart(cur, [a.pk])[a.pk] == {b.pk}
    reviews.undo_last(me, item.pk)
    with connection.cursor() as cur:
        assert links.apart(cur, [a.pk])[a.pk] == frozenset()
    reviews.answer(me, item.pk, "unsure", "需问本人")
    sent_back = reviews.queue(me, state="unsure")
    assert [i.pk for i in sent_back] == [item.pk]
    asked = reviews.asked(sent_back)[item.pk]
    last = sources().filter(person_id__in=[a.pk, b.pk]).latest("pk")
    assert (asked.institution.pk, asked.late) == (last.institution_id, False)
    with clock.at(clock.now() + dt.timedelta(days=8)):
        assert reviews.asked(sent_back)[item.pk].late
    with pytest.raises(Invalid):
        reviews.reopen(me, item.pk, " ")
    assert reviews.reopen(me, item.pk, "已电话核实").state == "open"
    with pytest.raises(Invalid):
        reviews.undo_last(me, other.pk)
    with pytest.raises(Invalid):
        reviews.answer(me, item.pk, "perhaps")
    assert AuditEvent.objects.filter(what=f"review {item.pk}").exists()


def test_an_answer_to_what_has_changed_is_refused() -> None:
    a, b, c = people_of(3)
    item = ask((a, b))[0]
    me, seen = reviewer("甲"), reviews.state_of(item)
    links.merge(SYSTEM, a, c, "同一人")
    with pytest.raises(Invalid, match="有变化"):
        reviews.answer(me, item.pk, "same", "", seen)
    links.merge(SYSTEM, a, b, "同一人")
    with pytest.raises(Invalid, match="已合并"):
        reviews.answer(me, item.pk, "same")
    assert reviews.queue(me) == []


def test_a_risky_merge_needs_two_people() -> None:
    a, b, c, d = people_of(4)
    item, other = ask((a, b), (c, d), kind="id_typo")
    one, two = reviewer("甲"), reviewer("乙")
    assert reviews.answer(one, item.pk, "same").state == "second"
    assert get(b.number).pk == b.pk
    with pytest.raises(Invalid, match="另一人"):
        reviews.answer(one, item.pk, "same")
    assert reviews.take(one, other.pk) is not None
    done = reviews.answer(two, item.pk, "same")
    assert (done.state, get(b.number).pk) == ("same", a.pk)
    reviews.undo_last(two, item.pk)
    assert ReviewItem.objects.get(pk=item.pk).state == "second"
    assert reviews.answer(one, other.pk, "same").state == "second"
    assert reviews.undo_last(one, other.pk).state == "open"
    reviews.answer(one, other.pk, "same")
    assert (
        reviews.answer(two, other.pk, "different").state == "unsure"
    )  # they disagree: the institution finds out
    assert get(d.number).pk == d.pk


def test_merging_by_hand_is_as_careful() -> None:
    a, b = people_of(2)
    place = sources().get(patient_id="pt-0").institution_id
    many = [Registration(place, "urn:t", f"m{k}", "甄三", patient_id=f"m{k}") for k in range(8)]
    for registered in register_many(SYSTEM, many):
        root = get(registered.number)
        if root.pk != a.pk:
            links.merge(SYSTEM, a, root, "同一人", despite=True)
    one, two = reviewer("甲"), reviewer("乙")
    assert reviews.merge_by_hand(one, a, b, "看到同一本病历") is None
    item = ReviewItem.objects.get(state="second")
    reviews.answer(two, item.pk, "same")
    assert get(b.number).pk == a.pk


def test_a_disputed_registration_stays_or_leaves(here: Any) -> None:
    a, b = people_of(2)
    links.merge(SYSTEM, a, b, "同一人")
    source = sources().get(patient_id="pt-1")
    sources().filter(pk=source.pk).update(disputed=True)
    with connection.cursor() as cur:
        reviews.open_many(cur, [("link_lost", a.pk, a.pk, source.pk, None, None, [], "")])
    item, me = ReviewItem.objects.get(kind="link_lost"), reviewer("甲")
    before = sorted(sources().values_list("id", "person_id", "disputed"))
    reviews.answer(me, item.pk, "different")
    assert sources().get(pk=source.pk).person_id not in (a.pk, b.pk)
    reviews.undo_last(me, item.pk)
    assert sorted(sources().values_list("id", "person_id", "disputed")) == before
    reviews.answer(me, item.pk, "same")
    assert not sources().get(pk=source.pk).disputed
    reviews.undo_last(me, item.pk)
    assert sorted(sources().values_list("id", "person_id", "disputed")) == before


@pytest.mark.concurrency
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("words", [("same", "same"), ("same", "different")])
def test_two_reviewers_at_once_one_wins_the_other_is_told(words: tuple[str, str]) -> None:
    a, b = people_of(2)
    item = ask((a, b))[0]
    scopes = [reviewer("甲"), reviewer("乙")]
    go, told, faults = threading.Barrier(2), [], []

    def work(k: int) -> None:
        try:
            go.wait()
            reviews.answer(scopes[k], item.pk, words[k])
        except Invalid as refusal:
            told.append(str(refusal.message))
        except BaseException as fault:
            faults.append(fault)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not faults
    assert len(told) == 1
    assert "已由" in told[0] or "已合并" in told[0]
    assert LinkEvent.objects.filter(kind__in=("merged", "apart")).count() == 1
