"""Changing who is who: merge, unmerge, move, split, "never the same". Each is one transaction, logged, and can be undone exactly.

Numbers never change: a merged person's number leads to the living one, and comes back to life with what was its own (see
:mod:`lianxin.index.following`). :func:`join` is the index's own door; everything else asks for permission ``review_links`` and
that the people concern the scope's institutions. Answers to reviews are in :mod:`lianxin.index.reviews`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from django.db import connection, transaction

from lianxin.access import audit, relationships
from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.scope import Scope
from lianxin.index import apart as words
from lianxin.index import engine, following, golden, hooks, numbers
from lianxin.index.apart import apart
from lianxin.index.facts import RESIDENT_ID
from lianxin.index.following import owners
from lianxin.index.models import LinkEvent, Person, SourceRecord
from lianxin.standards import clock
from lianxin.standards.text import T, Text

_WHY = "the index itself changes links"


def _refuse(field: str, message: Text) -> Invalid:
    return Invalid({field: message})


def within(scope: Scope) -> frozenset[int] | None:
    """Institutions whose registrations the scope may change links of; None: all of them."""
    return None if scope.everything else scope.institution_ids | scope.oversight_ids


def _demand(cur: Any, scope: Scope, person_ids: Collection[int], source_ids: Collection[int] = ()) -> None:
    """The permission, and that somebody among the people (or every given registration) concerns the scope."""
    scope.demand("review_links")
    mine = within(scope)
    if mine is None:
        return
    cur.execute(
        "SELECT EXISTS (SELECT 1 FROM index_sourcerecord WHERE person_id = ANY(%s) AND institution_id = ANY(%s)),"
        " NOT EXISTS (SELECT 1 FROM index_sourcerecord WHERE id = ANY(%s) AND NOT institution_id = ANY(%s))",
        [list(person_ids), sorted(mine), list(source_ids), sorted(mine)],
    )
    concerned, own = cur.fetchone()
    if not (concerned if not source_ids else own):
        raise NotPermitted(
            T(
                "这些登记不属于本机构，请由登记机构或主索引管理员处理。",
                "These registrations belong to other institutions; one of them or the index manager decides.",
            )
        )


def require(scope: Scope, person_ids: Collection[int]) -> None:
    """Raise :class:`NotPermitted` unless some registration of these people concerns the scope."""
    with connection.cursor() as cur:
        _demand(cur, scope, person_ids)


def lock(cur: Any, person_ids: Iterable[int]) -> dict[int, tuple[str, int | None]]:
    """Lock people against any other change of links; id -> (status, merged into)."""
    cur.execute(
        "SELECT id, status, merged_into_id FROM index_person WHERE id = ANY(%s) ORDER BY id FOR UPDATE",
        [sorted(set(person_ids))],
    )
    return {row[0]: (row[1], row[2]) for row in cur.fetchall()}


def log(
    cur: Any,
    scope: Scope,
    person_id: int,
    kind: str,
    reason: str,
    *,
    source_id: int | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> int:
    """Append to the log of everything that happens to identities; returns the event's id."""
    cur.execute(
        "INSERT INTO index_linkevent (person_id, source_id, kind, before, after, reason, account_id, client_id, at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id",
        [
            person_id,
            source_id,
            kind,
            json.dumps(before or {}),
            json.dumps(after or {}),
            reason[:300],
            scope.account_id,
            scope.client_id,
            clock.now(),
        ],
    )
    return int(cur.fetchone()[0])


def _audit(cur: Any, scope: Scope, person_ids: Iterable[int], what: str, reason: str) -> None:
    audit.write_many(
        [
            audit.entry(scope, "update", person_id=pk, what=what, detail={"reason": reason})
            for pk in person_ids
        ],
        cursor=cur,
    )


def _recompute(cur: Any, person_id: int) -> None:
    """Golden record anew; homes that both people brought into a merge stay open until something else is known of them."""
    cur.execute(
        "SELECT id, until FROM access_relationship WHERE person_id = %s AND kind = 'home' AND source = 'index'"
        " AND (until IS NULL OR until > %s)",
        [person_id, clock.now()],
    )
    homes = cur.fetchall()
    engine.recompute(cur, person_id)
    for pk, until in homes:
        cur.execute("UPDATE access_relationship SET until = %s WHERE id = %s", [until, pk])


def patients_of(cur: Any, source_ids: Collection[int]) -> list[str]:
    """FHIR Patient ids of registrations."""
    cur.execute(
        "SELECT patient_id FROM index_sourcerecord WHERE id = ANY(%s) AND patient_id IS NOT NULL ORDER BY id",
        [list(source_ids)],
    )
    return [row[0] for row in cur.fetchall()]


# ----------------------------------------------------------------------------------------------------------- merging


def _join(
    cur: Any, scope: Scope, keep: int, gone: int, reason: str, unsaid: list[dict[str, Any]] | None = None
) -> int:
    """Merge two locked, living people; everything checked by the caller. Returns the event's id."""
    branch = following.subtree(cur, gone)
    cur.execute("SELECT id FROM index_sourcerecord WHERE person_id = %s ORDER BY id", [gone])
    sources = [row[0] for row in cur.fetchall()]
    event = log(
        cur,
        scope,
        keep,
        "merged",
        reason,
        before={"gone": gone, "sources": sources, "unsaid": unsaid or []},
        after={"keep": keep},
    )
    following.gather(cur, gone, keep)
    cur.execute("UPDATE index_person SET status = 'merged', merged_into_id = %s WHERE id = %s", [keep, gone])
    _recompute(cur, keep)
    hooks.repoint(cur, patients_of(cur, sources) + following.numbers_of(cur, branch), gone, keep)
    _audit(cur, scope, (keep, gone), f"merge {event}", reason)
    return event


def join(cur: Any, keep_id: int, gone_id: int, why: str, *, scope: Scope | None = None) -> int | None:
    """The index itself found that two people are one: merged as by hand, and undone as such. Returns the event's id.

    None when one of them no longer lives, both are one, or a human said that they are two. The caller has asked the policy for
    vetoes. ``scope``: on whose registration it happens (default: the platform itself).
    """
    people = lock(cur, (keep_id, gone_id))
    if len(people) < 2 or any(status != "active" for status, _ in people.values()):
        return None
    if gone_id in apart(cur, [keep_id])[keep_id]:
        return None
    return _join(cur, scope or Scope.system("automatic join"), keep_id, gone_id, why)


@transaction.atomic
def merge(scope: Scope, keep: Person, gone: Person, reason: str, *, despite: bool = False) -> LinkEvent:
    """``gone`` turns out to be ``keep``: its registrations and relationships go there, its number leads there.

    Raises :class:`Invalid` when one is not active, both are the same, their valid own identity numbers differ, or somebody said
    that they are two people (unless ``despite``: that word is taken back, with this reason).
    """
    with connection.cursor() as cur:
        scope.demand("review_links")
        if keep.pk == gone.pk:
            raise _refuse("person", T("两条记录是同一人，无需合并。", "They are one person already."))
        people = lock(cur, (keep.pk, gone.pk))
        if len(people) < 2 or any(status != "active" for status, _ in people.values()):
            raise _refuse(
                "person",
                T(
                    "其中一条已被合并或停用，请刷新后重试。",
                    "One of them is merged or retired; refresh and retry.",
                ),
            )
        _demand(cur, scope, (keep.pk, gone.pk))
        if _two_numbers(cur, keep.pk, gone.pk):
            raise _refuse(
                "person",
                T(
                    "两人各有有效且不同的身份证号，不能合并。若其中一个号码录错，请先在来源系统更正。",
                    "Both hold valid, different identity numbers and cannot be merged; if one was mistyped, correct it "
                    "in its source first.",
                ),
            )
        unsaid = []
        if gone.pk in apart(cur, [keep.pk])[keep.pk]:
            if not despite:
                raise _refuse(
                    "despite",
                    T(
                        "已有人确认这不是同一人。如确需合并，请勾选“推翻原结论”并写明理由。",
                        "Somebody said that these are two people. To merge them, tick “overrule” and say why.",
                    ),
                )
            unsaid = words.unsay(cur, scope, keep.pk, gone.pk)
        event = _join(cur, scope, keep.pk, gone.pk, reason, unsaid)
    return LinkEvent.objects.get(pk=event)


def _two_numbers(cur: Any, a: int, b: int) -> bool:
    cur.execute(
        "SELECT EXISTS (SELECT 1 FROM index_person a JOIN index_person b ON b.id = %s WHERE a.id = %s"
        " AND a.id_type = %s AND b.id_type = %s AND a.id_blind <> b.id_blind)",
        [a, b, RESIDENT_ID, RESIDENT_ID],
    )
    return bool(cur.fetchone()[0])


@transaction.atomic
def unmerge(scope: Scope, event_id: int, reason: str = "", *, two: bool = True) -> Person:
    """Undo one merge exactly, in whatever order merges are undone; returns the person that lives again.

    What was registered meanwhile, and what people moved meanwhile, stays where it is. ``two``: they are two people and nobody
    is asked again; False: only the merge was a mistake of the hand, the question stays open.
    """
    with connection.cursor() as cur:
        scope.demand("review_links")
        cur.execute(
            "SELECT before, after, undone_by_id, at FROM index_linkevent WHERE id = %s AND kind = 'merged' FOR UPDATE",
            [event_id],
        )
        row = cur.fetchone()
        if row is None or row[2] is not None:
            raise _refuse("event", T("没有可撤销的合并。", "There is no such merge to undo."))
        before, after = (json.loads(v) if isinstance(v, str) else v for v in row[:2])
        gone, keep = before["gone"], after["keep"]
        holders = _lock_chain(cur, gone)[1:]
        _demand(cur, scope, holders)
        branch = following.subtree(cur, gone)
        holder = holders[-1]
        sources = following.give_back(cur, gone, branch, holders)
        cur.execute("UPDATE index_person SET status = 'active', merged_into_id = NULL WHERE id = %s", [gone])
        undo = log(
            cur,
            scope,
            keep,
            "unmerged",
            reason,
            before={"sources": sources, "event": event_id},
            after={"person": gone},
        )
        cur.execute("UPDATE index_linkevent SET undone_by_id = %s WHERE id = %s", [undo, event_id])
        for pk in (gone, holder):
            following.gather_again(cur, pk)
            _recompute(cur, pk)
        _renew_terms(cur, gone, sources, row[3])
        hooks.repoint(cur, patients_of(cur, sources) + following.numbers_of(cur, branch), holder, gone)
        words.restore(cur, before.get("unsaid", []))
        if two:
            words.say(cur, scope, keep, gone, reason)
        _audit(cur, scope, {keep, gone, holder}, f"unmerge {event_id}", reason)
    return Person.objects.unscoped(_WHY).get(pk=gone)


def _lock_chain(cur: Any, person_id: int) -> list[int]:
    """Lock a person and everybody above it, whatever merges happen while waiting."""
    while True:
        ids = following.chain(cur, person_id)
        lock(cur, ids)
        if following.chain(cur, person_id) == ids:
            return ids


def _renew_terms(cur: Any, person_id: int, source_ids: Collection[int], since: Any) -> None:
    """Institutions that registered again while merged keep their term of access to whom they registered."""
    cur.execute(
        "SELECT DISTINCT institution_id FROM index_sourcerecord WHERE id = ANY(%s) AND received_at > %s",
        [list(source_ids), since],
    )
    for (institution_id,) in cur.fetchall():
        engine.relate_source(cur, person_id, institution_id)


# ------------------------------------------------------------------------------------------- single registrations


@transaction.atomic
def move(
    scope: Scope, source: SourceRecord, person: Person | None, reason: str, *, apart: bool = True
) -> Person:
    """A registration belongs to another person (None: to a new one); both golden records follow.

    ``apart``: it also says that the two are different people (not when a sender only joined two of its own numbers).
    Raises :class:`Invalid` when that would leave a person without any registration (merge instead).
    """
    return _carry(scope, [source.pk], person.pk if person is not None else None, reason, "moved", apart)


def _carry(
    scope: Scope, source_ids: list[int], to: int | None, reason: str, kind: str, two: bool = True
) -> Person:
    with connection.cursor() as cur:
        cur.execute(
            "SELECT id, person_id, institution_id, disputed FROM index_sourcerecord WHERE id = ANY(%s) ORDER BY id",
            [source_ids],
        )
        rows = cur.fetchall()
        if not rows or len({row[1] for row in rows}) > 1:
            raise _refuse("sources", T("请选择同一人的登记。", "Choose registrations of one person."))
        old = rows[0][1]
        people = lock(cur, {old} if to is None else {old, to})
        cur.execute(
            "SELECT count(*) FILTER (WHERE id = ANY(%s)), count(*) FROM index_sourcerecord WHERE person_id = %s",
            [source_ids, old],
        )
        going, all_ = cur.fetchone()
        if going < len(rows) or (to is not None and people[to][0] != "active"):
            raise _refuse(
                "person",
                T("登记或目标刚被改动，请刷新后重试。", "Something has just changed; refresh and retry."),
            )
        _demand(cur, scope, (old,), [row[0] for row in rows])
        if to == old:
            raise _refuse(
                "person", T("该登记已属于此人。", "The registration belongs to this person already.")
            )
        if going == all_:
            raise _refuse(
                "person",
                T(
                    "这是此人的全部登记，移走后此人将无来源；请改用合并。",
                    "These are all of the person's registrations; merge the two instead.",
                ),
            )
        own = owners(cur, [row[0] for row in rows])
        target = to if to is not None else _new_person(cur, rows[0][0])
        for pk, *_ in rows:
            following.settle(cur, pk, target, target)
        cur.execute("UPDATE index_sourcerecord SET disputed = false WHERE id = ANY(%s)", [source_ids])
        terms = _end_terms(cur, old, {row[2] for row in rows})
        for pk in (old, target):
            engine.recompute(cur, pk)
        for institution_id in {row[2] for row in rows}:
            engine.relate_source(cur, target, institution_id)
        before = {
            "person": old,
            "sources": [row[0] for row in rows],
            "own": {str(k): v for k, v in own.items()},
            "disputed": [row[0] for row in rows if row[3]],
            "terms": terms,
            "said": [words.say(cur, scope, old, target, reason)] if two else [],
        }
        single = rows[0][0] if len(rows) == 1 else None
        event = log(
            cur,
            scope,
            target if kind == "moved" else old,
            kind,
            reason,
            source_id=single,
            before=before,
            after={"person": target},
        )
        hooks.repoint(cur, patients_of(cur, source_ids), old, target)
        _audit(cur, scope, (old, target), f"{kind} {event}", reason)
    return Person.objects.unscoped(_WHY).get(pk=target)


def _end_terms(cur: Any, person_id: int, institution_ids: Collection[int]) -> dict[str, str]:
    """Institutions without any registration of the person left lose the access that rested on it; what was ended, to restore."""
    now = clock.now()
    cur.execute(
        "SELECT id, until FROM access_relationship r WHERE person_id = %s AND kind = 'registration' AND source = 'index'"
        " AND institution_id = ANY(%s) AND until > %s AND NOT EXISTS (SELECT 1 FROM index_sourcerecord s"
        " WHERE s.person_id = r.person_id AND s.institution_id = r.institution_id)",
        [person_id, list(institution_ids), now],
    )
    ended = {str(pk): until.isoformat() for pk, until in cur.fetchall()}
    cur.execute(
        "UPDATE access_relationship SET until = GREATEST(%s, since) WHERE id = ANY(%s)",
        [now, [int(pk) for pk in ended]],
    )
    return ended


def _new_person(cur: Any, source_id: int) -> int:
    """A living person with fresh numbers for a registration that leaves; its fields follow by ``recompute``."""
    source = SourceRecord.objects.unscoped(_WHY).get(pk=source_id)
    cur.execute("SELECT nextval('index_number_seq')")
    n = cur.fetchone()[0]
    values = golden.compose([golden.spoken(source)]).values()
    person = Person.objects.create(
        number=numbers.person_number(n), card_number=numbers.card_number(n), **values
    )
    if person.home_institution_id:
        grant = (person.pk, person.home_institution_id, "home", "index", None)
        relationships.grant_many([grant], cursor=cur, since=clock.now())
    return int(person.pk)


@transaction.atomic
def split(scope: Scope, person: Person, source_ids: Collection[int], reason: str) -> Person:
    """Some registrations of a person are somebody else's: they leave together, to the number they once had, else to a new one.

    When all of them came with one merge, that merge is undone and what else it brought stays (see :func:`former`).
    """
    chosen = sorted(set(source_ids))
    if not chosen:
        raise _refuse("sources", T("请至少选择一条登记。", "Choose at least one registration."))
    with connection.cursor() as cur:
        lock(cur, [person.pk])
        old = former(cur, person.pk, chosen)
        if old is None:
            return _carry(scope, chosen, None, reason, "split")
        event_id, gone, brought = old
        _demand(cur, scope, (person.pk,), chosen)
    back = unmerge(scope, event_id, reason)
    staying = [pk for pk in brought if pk not in chosen]
    if staying:
        _carry(scope, staying, person.pk, reason, "moved", two=False)
    return Person.objects.unscoped(_WHY).get(pk=back.pk if gone else person.pk)


@transaction.atomic
def transfer(
    scope: Scope, person: Person, source_ids: Collection[int], target: Person, reason: str
) -> Person:
    """Chosen registrations of a person belong to ``target``."""
    mine = SourceRecord.objects.unscoped(_WHY).filter(person_id=person.pk, pk__in=source_ids)
    return _carry(scope, sorted(mine.values_list("pk", flat=True)), target.pk, reason, "moved")


def former(cur: Any, person_id: int, source_ids: Collection[int]) -> tuple[int, int, list[int]] | None:
    """The number that registrations had before: (merge to undo, person that returns, all registrations that came with it)."""
    own = owners(cur, list(source_ids))
    paths = [following.chain(cur, pk)[::-1] for pk in set(own.values())]
    if not paths or any(path[0] != person_id for path in paths):
        return None
    common = [step[0] for step in zip(*paths, strict=False) if len(set(step)) == 1]
    if len(common) < 2:
        return None
    gone = common[-1]
    cur.execute(
        "SELECT id FROM index_linkevent WHERE kind = 'merged' AND undone_by_id IS NULL AND (before->>'gone')::bigint = %s"
        " AND person_id = (SELECT merged_into_id FROM index_person WHERE id = %s) ORDER BY id DESC LIMIT 1",
        [gone, gone],
    )
    event = cur.fetchone()
    if event is None:
        return None
    cur.execute("SELECT id FROM index_sourcerecord WHERE person_id = %s", [person_id])
    held = owners(cur, [row[0] for row in cur.fetchall()])
    branch = set(following.subtree(cur, gone))
    return event[0], gone, sorted(pk for pk, owner in held.items() if owner in branch)


@transaction.atomic
def undo(scope: Scope, event_id: int, reason: str = "") -> None:
    """Take back one logged change of links (merged, moved, split): registrations return to whom they belonged to before.

    A merge undone so leaves no "never the same". Raises :class:`Invalid` when it was undone, or later changes stand on it.
    """
    with connection.cursor() as cur:
        cur.execute("SELECT kind FROM index_linkevent WHERE id = %s", [event_id])
        row = cur.fetchone()
        if row is not None and row[0] == "merged":
            unmerge(scope, event_id, reason, two=False)
            return
        cur.execute(
            "SELECT person_id, before, after, undone_by_id FROM index_linkevent WHERE id = %s AND kind IN ('moved', 'split')"
            " FOR UPDATE",
            [event_id],
        )
        row = cur.fetchone()
        if row is None or row[3] is not None:
            raise _refuse("event", T("没有可撤销的操作。", "There is nothing to undo."))
        before, after = (json.loads(v) if isinstance(v, str) else v for v in row[1:3])
        ids, target = before["sources"], after["person"]
        at = _lock_chain(cur, target)[-1]
        own = owners(cur, ids)
        if any(owner != target for owner in own.values()):
            raise _refuse(
                "event",
                T(
                    "这些登记之后又被调整过，请先撤销后来的操作。",
                    "These registrations were moved again since; undo that first.",
                ),
            )
        _demand(cur, scope, (at,), ids)
        back: dict[int, list[int]] = defaultdict(list)
        for pk, owner in before["own"].items():
            root = _lock_chain(cur, owner)[-1]
            following.settle(cur, int(pk), owner, root)
            back[root].append(int(pk))
        cur.execute("UPDATE index_sourcerecord SET disputed = true WHERE id = ANY(%s)", [before["disputed"]])
        for pk, until in before["terms"].items():
            cur.execute("UPDATE access_relationship SET until = %s WHERE id = %s", [until, int(pk)])
        places = _institutions(cur, ids)
        undone = log(
            cur,
            scope,
            before["person"],
            "moved",
            reason,
            source_id=ids[0] if len(ids) == 1 else None,
            before={
                "person": at,
                "sources": ids,
                "own": {str(pk): target for pk in ids},
                "disputed": [],
                "terms": _end_terms(cur, at, places),
                "said": [],
                "event": event_id,
            },
            after={"person": before["person"]},
        )
        cur.execute("UPDATE index_linkevent SET undone_by_id = %s WHERE id = %s", [undone, event_id])
        cur.execute("SELECT EXISTS (SELECT 1 FROM index_sourcerecord WHERE person_id = %s)", [at])
        empty = not cur.fetchone()[0]
        if empty:
            cur.execute(
                "UPDATE index_person SET status = 'retired' WHERE id = %s AND status = 'active'", [at]
            )
        for pk in (at, *back):
            engine.recompute(cur, pk)
        for root, returned in back.items():
            hooks.repoint(cur, patients_of(cur, returned), at, root)
        words.restore(cur, before["said"])
        _audit(cur, scope, {at, *back}, f"undo {event_id}", reason)


def _institutions(cur: Any, source_ids: list[int]) -> set[int]:
    cur.execute("SELECT DISTINCT institution_id FROM index_sourcerecord WHERE id = ANY(%s)", [source_ids])
    return {row[0] for row in cur.fetchall()}


# ------------------------------------------------------------------------------------------------- never the same


@transaction.atomic
def keep_apart(scope: Scope, a: Person, b: Person, note: str = "") -> LinkEvent:
    """These are two people, for ever: neither the index nor a batch joins them, nobody is asked again."""
    with connection.cursor() as cur:
        people = lock(cur, (a.pk, b.pk))
        if a.pk == b.pk or len(people) < 2 or any(status != "active" for status, _ in people.values()):
            raise _refuse(
                "person",
                T(
                    "请选择两个不同的、有效的人。",
                    "Choose two different people who are neither merged nor retired.",
                ),
            )
        _demand(cur, scope, (a.pk, b.pk))
        words.say(cur, scope, a.pk, b.pk, note)
        event = log(cur, scope, a.pk, "apart", note, after={"a": a.pk, "b": b.pk})
        _audit(cur, scope, (a.pk, b.pk), f"apart {event}", note)
    return LinkEvent.objects.get(pk=event)
