"""Changing who is who: merge, unmerge, move, and a human's decision on a review. Each is one transaction, logged so that it can
be undone exactly: numbers never change, and a merge remembers which registrations and relationships it moved.
"""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from django.db.models import Q

from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.models import Relationship
from lianxin.access.scope import Scope
from lianxin.index import engine, hooks
from lianxin.index.facts import RESIDENT_ID
from lianxin.index.models import LinkEvent, Person, ReviewItem, SourceRecord
from lianxin.standards import clock
from lianxin.standards.text import T, Text

_WHY = "the index itself changes links"


def _lock_people(*ids: int) -> dict[int, Person]:
    rows = Person.objects.unscoped(_WHY).select_for_update().filter(pk__in=ids).order_by("pk")
    return {p.pk: p for p in rows}


def _refuse(field: str, message: Text) -> Invalid:
    return Invalid({field: message})


def _log(scope: Scope, person_id: int, kind: str, reason: str, **values: Any) -> LinkEvent:
    return LinkEvent.objects.create(
        person_id=person_id,
        kind=kind,
        reason=reason[:300],
        account_id=scope.account_id,
        client_id=scope.client_id,
        at=clock.now(),
        **values,
    )


def _repoint(sources: list[SourceRecord], extra: list[str], from_id: int, to_id: int) -> None:
    ids = [s.patient_id for s in sources if s.patient_id] + extra
    with connection.cursor() as cur:
        hooks.repoint(cur, ids, from_id, to_id)


def _keep_apart(scope: Scope, a: int, b: int, note: str) -> None:
    """A human said that these are two people: whatever asked is answered, and nobody is asked again."""
    now = clock.now()
    decided = {"state": "different", "decided_at": now, "decided_by_id": scope.account_id, "note": note[:300]}
    pair = Q(person_a_id=a, person_b_id=b) | Q(person_a_id=b, person_b_id=a)
    if not ReviewItem.objects.filter(pair).update(**decided):
        ReviewItem.objects.create(kind="look_alike", person_a_id=a, person_b_id=b, opened_at=now, **decided)


def _recompute(person_id: int) -> None:
    with connection.cursor() as cur:
        engine.recompute(cur, person_id)


@transaction.atomic
def merge(scope: Scope, keep: Person, gone: Person, reason: str) -> LinkEvent:
    """``gone`` turns out to be ``keep``: its registrations and relationships go there, its number leads there.

    Raises :class:`Invalid` when one is not active, both are the same, or their valid own identity numbers differ.
    Permission ``review_links``.
    """
    scope.demand("review_links")
    people = _lock_people(keep.pk, gone.pk)
    keep, gone = people[keep.pk], people[gone.pk]
    if keep.pk == gone.pk:
        raise _refuse("person", T("两条记录是同一人,无需合并。", "They are one person already."))
    if keep.status != "active" or gone.status != "active":
        raise _refuse(
            "person",
            T(
                "其中一条已被合并或停用,请刷新后重试。",
                "One of them is merged or retired; refresh and retry.",
            ),
        )
    differ = bytes(keep.id_blind or b"") != bytes(gone.id_blind or b"")
    if differ and keep.id_blind and gone.id_blind and keep.id_type == gone.id_type == RESIDENT_ID:
        raise _refuse(
            "person",
            T(
                "两人各有有效且不同的身份证号,不能合并。若其中一个号码录错,请先在来源系统更正。",
                "Both hold valid, different identity numbers and cannot be merged; if one was mistyped, correct it "
                "in its source first.",
            ),
        )
    sources = list(SourceRecord.objects.unscoped(_WHY).filter(person_id=gone.pk).order_by("pk"))
    taken = set(
        Relationship.objects.filter(person_id=keep.pk).values_list("institution_id", "kind", "source")
    )
    relations = [
        r.pk
        for r in Relationship.objects.filter(person_id=gone.pk).order_by("pk")
        if (r.institution_id, r.kind, r.source) not in taken
    ]
    event = _log(
        scope,
        keep.pk,
        "merged",
        reason,
        before={"gone": gone.pk, "sources": [s.pk for s in sources], "relations": relations},
        after={"keep": keep.pk},
    )
    SourceRecord.objects.unscoped(_WHY).filter(pk__in=[s.pk for s in sources]).update(person_id=keep.pk)
    Relationship.objects.filter(pk__in=relations).update(person_id=keep.pk)
    Person.objects.unscoped(_WHY).filter(pk=gone.pk).update(status="merged", merged_into_id=keep.pk)
    _recompute(keep.pk)
    _repoint(sources, [gone.number], gone.pk, keep.pk)
    for person in (keep, gone):
        audit.write(scope, "update", person_id=person.pk, what=f"merge {event.pk}", detail={"reason": reason})
    return event


@transaction.atomic
def unmerge(scope: Scope, event_id: int, reason: str = "") -> Person:
    """Undo one merge exactly, in whatever order merges are undone; returns the person that lives again.

    Registrations that meanwhile went elsewhere (a later unmerge or move) stay where they are; those that a later merge took
    along come back from there. Permission ``review_links``.
    """
    scope.demand("review_links")
    event = LinkEvent.objects.select_for_update().filter(pk=event_id, kind="merged").first()
    if event is None or event.undone_by_id is not None:
        raise _refuse("event", T("没有可撤销的合并。", "There is no such merge to undo."))
    gone_id, keep_id = event.before["gone"], event.after["keep"]
    holders = _chain(keep_id)
    people = _lock_people(gone_id, *holders)
    gone = people[gone_id]
    sources = list(
        SourceRecord.objects.unscoped(_WHY)
        .select_for_update()
        .filter(pk__in=event.before["sources"], person_id__in=holders)
        .order_by("pk")
    )
    Person.objects.unscoped(_WHY).filter(pk=gone_id).update(status="active", merged_into_id=None)
    SourceRecord.objects.unscoped(_WHY).filter(pk__in=[s.pk for s in sources]).update(person_id=gone_id)
    Relationship.objects.filter(pk__in=event.before["relations"], person_id__in=holders).update(
        person_id=gone_id
    )
    undo = _log(
        scope,
        keep_id,
        "unmerged",
        reason,
        before={"sources": [s.pk for s in sources]},
        after={"person": gone_id},
    )
    LinkEvent.objects.filter(pk=event.pk).update(undone_by=undo)
    for person_id in (gone_id, *holders):
        if SourceRecord.objects.unscoped(_WHY).filter(person_id=person_id).exists():
            _recompute(person_id)
    by_holder: dict[int, list[SourceRecord]] = {}
    for source in sources:
        by_holder.setdefault(source.person_id, []).append(source)
    last = holders[-1]
    for holder in {*by_holder, last}:
        _repoint(by_holder.get(holder, []), [gone.number] if holder == last else [], holder, gone_id)
    _keep_apart(scope, keep_id, gone_id, reason)
    for person_id in (keep_id, gone_id):
        audit.write(
            scope, "update", person_id=person_id, what=f"unmerge {event.pk}", detail={"reason": reason}
        )
    return Person.objects.unscoped(_WHY).get(pk=gone_id)


def _chain(person_id: int) -> list[int]:
    """The person and whoever it was merged into, in order; the last is alive."""
    out = [person_id]
    while True:
        into = (
            Person.objects.unscoped(_WHY).filter(pk=out[-1]).values_list("merged_into_id", flat=True).first()
        )
        if into is None or into in out:
            return out
        out.append(into)


@transaction.atomic
def move(
    scope: Scope, source: SourceRecord, person: Person | None, reason: str, *, apart: bool = True
) -> Person:
    """A registration belongs to another person (None: to a new one); both golden records follow. Permission ``review_links``.

    ``apart``: it also says that the two are different people (not when a sender only joined two of its own numbers).

    Raises :class:`Invalid` when that would leave a person without any registration (merge instead).
    """
    scope.demand("review_links")
    source = SourceRecord.objects.unscoped(_WHY).select_for_update().get(pk=source.pk)
    old = source.person_id
    others = SourceRecord.objects.unscoped(_WHY).filter(person_id=old).exclude(pk=source.pk)
    if person is not None and person.status != "active":
        raise _refuse(
            "person", T("目标已被合并或停用,请重新选择。", "The target is merged or retired; choose another.")
        )
    if (person is not None and person.pk == old) or (person is None and not others.exists()):
        raise _refuse("person", T("该登记已属于此人。", "The registration belongs to this person already."))
    if not others.exists():
        raise _refuse(
            "person",
            T(
                "这是此人唯一的登记,移走后此人将无来源;请改用合并。",
                "It is the person's only registration; merge the two instead.",
            ),
        )
    target = person or _empty_person(source)
    _lock_people(old, target.pk)
    SourceRecord.objects.unscoped(_WHY).filter(pk=source.pk).update(person_id=target.pk, disputed=False)
    _recompute(old)
    _recompute(target.pk)
    if apart:
        _keep_apart(scope, old, target.pk, reason)
    with connection.cursor() as cur:
        engine.relate_source(cur, target.pk, source.institution_id)
    _log(
        scope,
        target.pk,
        "moved",
        reason,
        source_id=source.pk,
        before={"person": old},
        after={"person": target.pk},
    )
    _repoint([source], [], old, target.pk)
    for person_id in (old, target.pk):
        audit.write(
            scope,
            "update",
            person_id=person_id,
            what=f"registration {source.pk} moved",
            detail={"reason": reason},
        )
    return Person.objects.unscoped(_WHY).get(pk=target.pk)


def _empty_person(source: SourceRecord) -> Person:
    from lianxin.index import golden, numbers

    with connection.cursor() as cur:
        cur.execute("SELECT nextval('index_number_seq')")
        n = cur.fetchone()[0]
    values = golden.compose([golden.spoken(source)]).values()
    return Person.objects.create(
        number=numbers.person_number(n), card_number=numbers.card_number(n), **values
    )


def reviews(scope: Scope, limit: int = 100) -> list[ReviewItem]:
    """Open questions of who is who, oldest first: those about registrations of the scope's institutions (permission
    ``review_links``)."""
    scope.demand("review_links")
    rows = ReviewItem.objects.filter(state="open").select_related("person_a", "person_b", "source")
    if not scope.everything:
        rows = rows.filter(source__institution_id__in=scope.institution_ids)
    return list(rows.order_by("opened_at", "pk")[:limit])


@transaction.atomic
def decide(scope: Scope, item_id: int, same: bool, note: str = "") -> ReviewItem:
    """A human's answer: the same (two persons are merged, the older number stays; a disputed registration stays) or
    different (never asked again; a disputed registration goes to a person of its own). Permission ``review_links``."""
    scope.demand("review_links")
    item = ReviewItem.objects.select_for_update().filter(pk=item_id).first()
    if item is None or item.state != "open":
        raise _refuse(
            "item", T("该疑似项已处理,请刷新列表。", "It has been decided already; refresh the list.")
        )
    one_person = item.person_a_id == item.person_b_id
    if one_person and item.source_id is not None:
        _settle_source(scope, item.source_id, same, note)
    elif same:
        ends = {_chain(item.person_a_id)[-1], _chain(item.person_b_id)[-1]}
        if len(ends) == 2:
            older, younger = (Person.objects.unscoped(_WHY).get(pk=pk) for pk in sorted(ends))
            merge(scope, older, younger, note or "复核确认为同一人")
    item.state = "same" if same else "different"
    item.decided_at, item.decided_by_id, item.note = clock.now(), scope.account_id, note[:300]
    item.save()
    _log(
        scope,
        item.person_a_id,
        "review",
        note,
        source_id=item.source_id,
        after={"item": item.pk, "state": item.state},
    )
    return item


def _settle_source(scope: Scope, source_id: int, same: bool, note: str) -> None:
    source = SourceRecord.objects.unscoped(_WHY).get(pk=source_id)
    alone = (
        not SourceRecord.objects.unscoped(_WHY)
        .filter(person_id=source.person_id)
        .exclude(pk=source_id)
        .exists()
    )
    if same or alone:
        # The person's only registration changed hands at its source: the person follows its only source.
        SourceRecord.objects.unscoped(_WHY).filter(pk=source_id).update(disputed=False)
        _recompute(source.person_id)
    else:
        move(scope, source, None, note or "复核确认为不同人")
