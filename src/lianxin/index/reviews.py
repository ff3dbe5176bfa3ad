"""The review desk's mechanism: questions of who is who, each answered once by people.

Items are opened set-based by the engine and the batches, handed out by priority so that two reviewers never hold the same one,
and answered same / different / cannot tell. A risky "same" (``reviews.yaml``, and what rooms above know) needs a second person.
Items keep the people they were asked about; after merges they mean whoever those are now, and ask nothing once both are one.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from django.db import connection, transaction

from lianxin.access import audit
from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.scope import Scope
from lianxin.index import engine, following, hooks, links
from lianxin.index.models import LinkEvent, Person, ReviewItem, SourceRecord
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T, Text

ANSWERS = ("same", "different", "unsure")
_WHY = "reviewers decide about people they may not open"

# (kind, person_a, person_b, source_id, bits, probability, parts, model_version)
Row = tuple[str, int, int, int | None, float | None, float | None, Any, str]


@cache
def figures() -> dict[str, Any]:
    """The desk's settings as data."""
    return dict(yaml.load((Path(__file__).parent / "reviews.yaml").read_text("utf-8"), yaml.CSafeLoader))


def priority(kind: str, probability: float | None) -> int:
    """Points of an item: its kind's, and how undecided the figures are."""
    rules = figures()["priority"]
    doubt = 0.0 if probability is None else 1 - abs(2 * probability - 1)
    return int(rules["kinds"].get(kind, rules["default"]) + round(rules["doubt"] * doubt))


def open_many(cur: Any, rows: Sequence[Row]) -> int:
    """Ask people, in one statement: once per pair of persons ever, and once per source while open when both are the same person.

    Pairs that somebody said to be two people, directly or through merges, are left out. Returns how many were opened.
    """
    pairs = [row for row in rows if row[1] != row[2]]
    if pairs:
        said = links.apart(cur, {row[1] for row in pairs})
        rows = [row for row in rows if row[1] == row[2] or row[2] not in said[row[1]]]
    if not rows:
        return 0
    now = clock.now()
    cur.execute(
        "INSERT INTO index_reviewitem (kind, person_a_id, person_b_id, source_id, reasons, bits, probability, parts,"
        " model_version, priority, state, opened_at, note)"
        " SELECT k, a, b, s, '[]', x, p, t::jsonb, m, y, 'open', %s, ''"
        " FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::float8[], %s::float8[], %s::text[],"
        " %s::text[], %s::int[]) AS r(k, a, b, s, x, p, t, m, y) ON CONFLICT DO NOTHING",
        [
            now,
            [row[0] for row in rows],
            [row[1] for row in rows],
            [row[2] for row in rows],
            [row[3] for row in rows],
            [row[4] for row in rows],
            [row[5] for row in rows],
            [json.dumps(row[6] or []) for row in rows],
            [row[7] or "" for row in rows],
            [priority(row[0], row[5]) for row in rows],
        ],
    )
    return int(cur.rowcount)


# --------------------------------------------------------------------------------------------------------- the queue

# Who a person is now: itself unless merged.
_NOW = (
    "(WITH RECURSIVE up AS (SELECT {p}.id, {p}.merged_into_id UNION ALL SELECT x.id, x.merged_into_id"
    " FROM up JOIN index_person x ON x.id = up.merged_into_id) SELECT id FROM up WHERE merged_into_id IS NULL)"
)
_FROM = f"""
FROM index_reviewitem i
JOIN index_person a ON a.id = i.person_a_id
JOIN index_person b ON b.id = i.person_b_id
CROSS JOIN LATERAL (SELECT CASE WHEN a.merged_into_id IS NULL THEN a.id ELSE {_NOW.format(p="a")} END AS now_a,
                           CASE WHEN b.merged_into_id IS NULL THEN b.id ELSE {_NOW.format(p="b")} END AS now_b) n
WHERE (i.person_a_id = i.person_b_id OR n.now_a <> n.now_b)
"""
_MINE = (
    " AND EXISTS (SELECT 1 FROM index_sourcerecord s WHERE s.person_id IN (n.now_a, n.now_b)"
    " AND s.institution_id = ANY(%(institutions)s))"
)
# A pair answered as two people through somebody merged meanwhile is not asked again.
_UNSAID = (
    " AND NOT EXISTS (SELECT 1 FROM index_reviewitem d WHERE d.state = 'different' AND d.person_a_id <> d.person_b_id"
    " AND (d.person_a_id, d.person_b_id) IN ((n.now_a, n.now_b), (n.now_b, n.now_a)) AND d.id <> i.id)"
)


# Questions that may concern the registrations of a small institution: from its people, and whoever was merged into them.
_NEAR = """
WITH RECURSIVE mine AS (
  SELECT person_id AS id FROM index_sourcerecord WHERE institution_id = ANY(%(institutions)s)
  UNION SELECT p.id FROM mine JOIN index_person p ON p.merged_into_id = mine.id)
SELECT i.id FROM index_reviewitem i WHERE i.state IN ('open', 'second', 'unsure')
AND (i.person_a_id IN (SELECT id FROM mine) OR i.person_b_id IN (SELECT id FROM mine)) LIMIT %(most)s
"""


def _mine(cur: Any, scope: Scope) -> tuple[str, dict[str, Any]]:
    """Condition for items of the scope's institutions. Few of very many questions are a small institution's: those are found first."""
    scope.demand("review_links")
    ids = links.within(scope)
    if ids is None:
        return "", {}
    small = figures()["small"]
    values: dict[str, Any] = {"institutions": sorted(ids)}
    cur.execute(
        "SELECT count(*) FROM (SELECT 1 FROM index_sourcerecord WHERE institution_id = ANY(%s) LIMIT %s) q",
        [values["institutions"], small["registrations"] + 1],
    )
    if cur.fetchone()[0] <= small["registrations"]:
        cur.execute(_NEAR, {**values, "most": small["questions"] + 1})
        near = [row[0] for row in cur.fetchall()]
        if len(near) <= small["questions"]:
            return f"{_MINE} AND i.id = ANY(%(near)s)", {**values, "near": near}
    return _MINE, values


def _pick(cur: Any, scope: Scope, where: str, tail: str, **params: Any) -> list[int]:
    mine, values = _mine(cur, scope)
    cur.execute(f"SELECT i.id {_FROM}{mine} AND {where}{_UNSAID} {tail}", {**values, **params})
    return [row[0] for row in cur.fetchall()]


_ORDER = "ORDER BY i.priority DESC, i.opened_at, i.id LIMIT %(limit)s"


def queue(scope: Scope, limit: int = 100, state: str = "waiting") -> list[ReviewItem]:
    """Questions of the scope's institutions, first things first: ``waiting`` (open or for a second person), or of one state."""
    states = list(ReviewItem.WAITING) if state == "waiting" else [state]
    with connection.cursor() as cur:
        ids = _pick(cur, scope, "i.state = ANY(%(states)s)", _ORDER, states=states, limit=limit)
    rows = ReviewItem.objects.select_related(
        "person_a", "person_b", "source", "assignee", "first_by"
    ).in_bulk(ids)
    return [rows[pk] for pk in ids]


def take(scope: Scope, item_id: int | None = None, after: int | None = None) -> ReviewItem | None:
    """Claim an item for this reviewer for ten minutes: the given one, or the next that nobody holds and it may answer.

    ``after``: not this one again (skipping). None when nothing waits; Invalid when the given one is held or answered.
    """
    now = clock.now()
    free = now - dt.timedelta(minutes=figures()["lease_minutes"])
    with transaction.atomic(), connection.cursor() as cur:
        can = (
            "i.state IN ('open', 'second') AND (i.state = 'open' OR i.first_by_id IS DISTINCT FROM %(me)s)"
            " AND (i.assignee_id IS NULL OR i.assignee_id = %(me)s OR i.taken_at < %(free)s)"
        )
        me = {"me": scope.account_id, "free": free}
        if item_id is not None:
            found = _pick(cur, scope, f"i.id = %(item)s AND {can}", "FOR UPDATE OF i", item=item_id, **me)
            if not found:
                raise _not_free(scope, item_id)
        else:
            # Skipped ones come back after all others; somebody else's claim in flight is passed over.
            skip = "i.id <> %(after)s AND" if after else ""
            found = _pick(
                cur,
                scope,
                f"{skip} {can}",
                f"{_ORDER} FOR UPDATE OF i SKIP LOCKED",
                after=after,
                limit=1,
                **me,
            )
        if not found:
            return None
        cur.execute(
            "UPDATE index_reviewitem SET assignee_id = NULL, taken_at = NULL WHERE assignee_id = %s"
            " AND id <> %s AND state IN ('open', 'second')",
            [scope.account_id, found[0]],
        )
        ReviewItem.objects.filter(pk=found[0]).update(assignee_id=scope.account_id, taken_at=now)
    return ReviewItem.objects.select_related("person_a", "person_b", "source", "first_by").get(pk=found[0])


def _not_free(scope: Scope, item_id: int) -> Invalid | NotPermitted:
    item = ReviewItem.objects.select_related("assignee", "decided_by").filter(pk=item_id).first()
    if item is None:
        return Invalid({"item": T("没有这条待复核项。", "There is no such item.")})
    if item.state not in ReviewItem.WAITING:
        who = item.decided_by.name if item.decided_by else str(T("系统", "the platform"))
        return Invalid(
            {
                "item": T(
                    "该疑似项已由{who}处理，请看下一条。",
                    "{who} has decided this one already; go to the next.",
                ).format(who=who)
            }
        )
    if item.state == "second" and item.first_by_id == scope.account_id:
        return Invalid(
            {"item": T("您已答复，须由另一人再次确认。", "You have answered; another person must confirm.")}
        )
    if item.assignee and item.assignee_id != scope.account_id:
        return Invalid(
            {
                "item": T(
                    "{who}正在处理这一条，请看下一条。", "{who} is working on this one; go to the next."
                ).format(who=item.assignee.name)
            }
        )
    roots = {root(item.person_a_id), root(item.person_b_id)}
    if item.person_a_id != item.person_b_id and len(roots) == 1:
        return Invalid({"item": T("两人已合并，无需再答。", "The two are one person by now.")})
    return NotPermitted(
        T(
            "这些登记不属于本机构，请由登记机构或主索引管理员处理。",
            "These registrations belong to other institutions; one of them or the index manager decides.",
        )
    )


def root(person_id: int) -> int:
    """Who a person is now, after merges."""
    with connection.cursor() as cur:
        return following.chain(cur, person_id)[-1]


@dataclass(frozen=True)
class Counts:
    """How much waits, and how long in the middle. Capped at ``count_up_to``: ``more`` says that there is more."""

    waiting: int
    second: int
    unsure: int
    decided_today: int
    median: dt.timedelta | None
    more: bool


def counts(scope: Scope) -> Counts:
    """The queue in figures, for the scope's institutions."""
    top = figures()["count_up_to"]
    with connection.cursor() as cur:
        mine, values = _mine(cur, scope)
        # each state up to the top: a long queue must not hide the few that were sent back
        each = " UNION ALL ".join(
            f"(SELECT i.state, i.opened_at {_FROM}{mine} AND i.state = '{state}'{_UNSAID} LIMIT %(top)s)"
            for state in ("open", "second", "unsure")
        )
        cur.execute(
            "SELECT count(*) FILTER (WHERE state <> 'unsure'), count(*) FILTER (WHERE state = 'second'),"
            " count(*) FILTER (WHERE state = 'unsure'),"
            " percentile_cont(0.5) WITHIN GROUP (ORDER BY %(now)s::timestamptz - opened_at) FILTER (WHERE state <> 'unsure')"
            f" FROM ({each}) q",
            {**values, "now": clock.now(), "top": top + 1},
        )
        waiting, second, unsure, median = cur.fetchone()
    start = dt.datetime.combine(clock.today(), dt.time(), clock.ZONE)
    today = ReviewItem.objects.filter(decided_by_id=scope.account_id, decided_at__gte=start).count()
    return Counts(min(waiting, top), min(second, top), min(unsure, top), today, median, waiting > top)


@dataclass(frozen=True)
class Asked:
    """Who is to find out what nobody could tell, and by when."""

    institution: Institution
    due: dt.datetime
    late: bool


def asked(items: Sequence[ReviewItem]) -> dict[int, Asked]:
    """For items sent back, by item: the institution that registered last (of a disputed registration: its own) asks the person."""
    with connection.cursor() as cur:
        cur.execute(
            f"SELECT DISTINCT ON (q.id) q.id, s.institution_id FROM (SELECT i.id, i.source_id, n.now_a, n.now_b {_FROM}"
            " AND i.id = ANY(%s)) q JOIN index_sourcerecord s ON s.person_id IN (q.now_a, q.now_b)"
            " ORDER BY q.id, (s.id = q.source_id) DESC NULLS LAST, s.id DESC",
            [[i.pk for i in items if i.state == "unsure"]],
        )
        whose = dict(cur.fetchall())
    places = Institution.objects.in_bulk(set(whose.values()))
    days, now = dt.timedelta(days=figures()["ask_days"]), clock.now()
    return {
        i.pk: Asked(places[whose[i.pk]], i.decided_at + days, i.decided_at + days < now)
        for i in items
        if i.pk in whose and i.decided_at
    }


# --------------------------------------------------------------------------------------------------------- answering


def state_of(item: ReviewItem) -> str:
    """A mark of what a reviewer sees; an answer that carries an older one is refused."""
    a, b = root(item.person_a_id), root(item.person_b_id)
    people = Person.objects.unscoped(_WHY).filter(pk__in={a, b}).values_list("pk", "version")
    return ",".join([item.state, *(f"{pk}.{version}" for pk, version in sorted(people))])


def dangers(item: ReviewItem) -> list[Text]:
    """Why a second person must agree that the two are one; empty when one is enough."""
    if item.person_a_id == item.person_b_id:
        return []
    return dangers_between(item.person_a_id, item.person_b_id, item.probability, item.kind)


def dangers_between(a: int, b: int, chance: float | None, kind: str = "") -> list[Text]:
    """The same for any two people, with the probability that the index gives them."""
    rules = figures()["second_look"]
    found: list[Text] = []
    if kind in rules["kinds"]:
        found.append(
            T(
                "两人的证件号不同，疑似录入错误",
                "Their identity numbers differ, perhaps by a slip of the hand",
            )
        )
    if chance is not None and chance < rules["probability_below"]:
        found.append(
            T("系统估计的可能性仅 {p}%", "The index thinks it only {p}% likely").format(
                p=f"{chance * 100:.0f}"
            )
        )
    sides = []
    with connection.cursor() as cur:
        for pk in (a, b):
            sides.append(following.subtree(cur, following.chain(cur, pk)[-1]))
        cur.execute(
            "SELECT count(*) FROM index_sourcerecord WHERE person_id = ANY(%s) GROUP BY person_id"
            " ORDER BY 1 DESC LIMIT 1",
            [sides[0] + sides[1]],
        )
        row = cur.fetchone()
    if row and row[0] >= rules["sources_from"]:
        found.append(T("其中一人已有 {n} 条登记", "One of them has {n} registrations").format(n=str(row[0])))
    return found + hooks.risks(*sides)


@transaction.atomic
def answer(scope: Scope, item_id: int, said: str, note: str = "", seen: str = "") -> ReviewItem:
    """A human's word on an item: ``same``, ``different`` or ``unsure``.

    Same: the two are merged, the older number stays (a disputed registration stays with its person); when it is risky the item
    waits for a second person instead. Different: never asked again (a disputed registration leaves). Unsure: back to the
    institution. Of two people answering at once one wins, the other is told. ``seen``: mark from :func:`state_of`.
    """
    if said not in ANSWERS:
        raise Invalid({"answer": T("请选择一个结论。", "Choose an answer.")})
    item = _held(scope, item_id)
    if seen and seen != state_of(item):
        raise Invalid(
            {
                "item": T(
                    "资料在您查看后有变化，请重新核对。",
                    "Something changed since you looked; please look again.",
                )
            }
        )
    now = clock.now()
    item.assignee, item.taken_at, item.event = None, None, None
    second = item.state == "second"
    if said == "same" and not second and dangers(item):
        item.state, item.first_answer, item.first_by_id, item.first_at = "second", said, scope.account_id, now
        item.note = note[:300]
    else:
        if second and said == "different":
            # Two people disagree: neither word is enough; the institution finds out.
            said = "unsure"
        if said != "unsure":
            item.event = _carry_out(scope, item, said == "same", note)
        item.state, item.decided_at, item.decided_by_id = said, now, scope.account_id
        item.note = note[:300] or item.note
    item.save()
    for pk in {item.person_a_id, item.person_b_id}:
        audit.write(scope, "update", person_id=pk, what=f"review {item.pk}", detail={"answer": item.state})
    return item


def _held(scope: Scope, item_id: int) -> ReviewItem:
    """The item, locked, if this reviewer may answer it now."""
    free = clock.now() - dt.timedelta(minutes=figures()["lease_minutes"])
    with connection.cursor() as cur:
        cur.execute("SELECT 1 FROM index_reviewitem WHERE id = %s FOR UPDATE", [item_id])
        found = _pick(
            cur,
            scope,
            "i.id = %(item)s AND i.state IN ('open', 'second') AND (i.state = 'open' OR i.first_by_id IS DISTINCT FROM %(me)s)"
            " AND (i.assignee_id IS NULL OR i.assignee_id IS NOT DISTINCT FROM %(me)s OR i.taken_at < %(free)s)",
            "",
            item=item_id,
            me=scope.account_id,
            free=free,
        )
    if not found:
        raise _not_free(scope, item_id)
    return ReviewItem.objects.get(pk=item_id)


def _carry_out(scope: Scope, item: ReviewItem, same: bool, note: str) -> LinkEvent | None:
    if item.person_a_id == item.person_b_id:
        return _settle(scope, item, same, note)
    if same:
        people = Person.objects.unscoped(_WHY)
        ends = sorted((root(item.person_a_id), root(item.person_b_id)))
        older, younger = (people.get(pk=pk) for pk in ends)
        return links.merge(scope, older, younger, note or "复核确认为同一人")
    with connection.cursor() as cur:
        after = {"a": item.person_a_id, "b": item.person_b_id}
        return LinkEvent.objects.get(
            pk=links.log(cur, scope, item.person_a_id, "apart", note or "复核确认不是同一人", after=after)
        )


def _settle(scope: Scope, item: ReviewItem, same: bool, note: str) -> LinkEvent | None:
    """A registration that no longer fits its person: it stays, or leaves for a person of its own."""
    if item.source_id is None:
        return None
    source = SourceRecord.objects.unscoped(_WHY).get(pk=item.source_id)
    others = SourceRecord.objects.unscoped(_WHY).filter(person_id=source.person_id).exclude(pk=source.pk)
    if not same and others.exists():
        links.move(scope, source, None, note or "复核确认为不同人")
        return LinkEvent.objects.filter(source_id=source.pk, kind="moved").latest("pk")
    # The person's only registration changed hands at its source: the person follows its only source.
    SourceRecord.objects.unscoped(_WHY).filter(pk=source.pk).update(disputed=False)
    with connection.cursor() as cur:
        engine.recompute(cur, source.person_id)
    return None


@transaction.atomic
def merge_by_hand(
    scope: Scope, a: Person, b: Person, note: str, *, despite: bool = False
) -> LinkEvent | None:
    """Somebody found two people that nobody asked about: merged at once, or, when it is risky, put before a second person.

    Returns the merge, or None when it waits. Raises what :func:`lianxin.index.links.merge` raises.
    """
    if not dangers_between(a.pk, b.pk, None):
        return links.merge(scope, a, b, note, despite=despite)
    with transaction.atomic():  # everything that would forbid it is said now, to whom asked
        links.merge(scope, a, b, note, despite=despite)
        transaction.set_rollback(True)
    now = clock.now()
    asked = {
        "state": "second",
        "first_answer": "same",
        "first_by_id": scope.account_id,
        "first_at": now,
        "note": note[:300],
    }
    with connection.cursor() as cur:
        cur.execute(
            "SELECT id FROM index_reviewitem WHERE LEAST(person_a_id, person_b_id) = %s"
            " AND GREATEST(person_a_id, person_b_id) = %s FOR UPDATE",
            [min(a.pk, b.pk), max(a.pk, b.pk)],
        )
        row = cur.fetchone()
    if row:
        ReviewItem.objects.filter(pk=row[0]).update(**asked, decided_at=None, decided_by=None, assignee=None)
    else:
        ReviewItem.objects.create(
            kind="look_alike",
            person_a=a,
            person_b=b,
            opened_at=now,
            priority=priority("look_alike", None),
            **asked,
        )
    return None


def last(scope: Scope) -> ReviewItem | None:
    """The reviewer's own last word that can still be taken back, or None."""
    if scope.account_id is None:
        return None
    since = clock.now() - dt.timedelta(hours=figures()["undo_hours"])
    with connection.cursor() as cur:
        cur.execute(
            "SELECT id FROM index_reviewitem WHERE (decided_by_id = %(me)s AND decided_at > %(since)s"
            " AND (state IN ('same', 'unsure') OR (state = 'different' AND (event_id IS NOT NULL OR person_a_id = person_b_id))))"
            " OR (state = 'second' AND first_by_id = %(me)s AND first_at > %(since)s)"
            " ORDER BY CASE WHEN state = 'second' THEN first_at ELSE decided_at END DESC, id DESC LIMIT 1",
            {"me": scope.account_id, "since": since},
        )
        row = cur.fetchone()
    return ReviewItem.objects.select_related("person_a", "person_b").get(pk=row[0]) if row else None


@transaction.atomic
def undo_last(scope: Scope, item_id: int) -> ReviewItem:
    """Take back one's own last word exactly: people, registrations and records return, the question is open again."""
    scope.demand("review_links")
    ReviewItem.objects.select_for_update().filter(pk=item_id).first()
    item = last(scope)
    if item is None or item.pk != item_id:
        raise Invalid({"item": T("没有可撤回的结论。", "There is no answer of yours to take back.")})
    now = clock.now()
    if item.state == "second":
        item.state, item.first_answer, item.first_by_id, item.first_at = "open", "", None, None
    else:
        event = item.event
        undone = item.state
        item.event, item.decided_at, item.decided_by_id = None, None, None
        item.state = "second" if item.first_by_id else "open"
        item.save()
        if event is not None and event.kind != "apart":
            links.undo(scope, event.pk, "撤回复核结论")
        elif item.source_id is not None and item.person_a_id == item.person_b_id and undone != "unsure":
            SourceRecord.objects.unscoped(_WHY).filter(pk=item.source_id).update(disputed=True)
            with connection.cursor() as cur:
                engine.recompute(cur, item.source.person_id)  # type: ignore[union-attr]
    item.assignee_id, item.taken_at = scope.account_id, now
    item.save()
    for pk in {item.person_a_id, item.person_b_id}:
        audit.write(scope, "update", person_id=pk, what=f"review {item.pk}", detail={"answer": "taken back"})
    return item


@transaction.atomic
def reopen(scope: Scope, item_id: int, note: str) -> ReviewItem:
    """The institution found out more about an item that nobody could tell: it waits again, with what was learned."""
    if len(note.strip()) < 2:
        raise Invalid({"note": T("请写明核实到的情况。", "Say what was found out.")})
    with connection.cursor() as cur:
        cur.execute("SELECT 1 FROM index_reviewitem WHERE id = %s FOR UPDATE", [item_id])
        if not _pick(cur, scope, "i.id = %(item)s AND i.state = 'unsure'", "", item=item_id):
            raise Invalid({"item": T("该项不在退回清单中。", "It is not among those sent back.")})
    item = ReviewItem.objects.get(pk=item_id)
    item.state, item.note, item.decided_at, item.decided_by_id = "open", note[:300], None, None
    item.first_answer, item.first_by_id, item.first_at = "", None, None
    item.save()
    for pk in {item.person_a_id, item.person_b_id}:
        audit.write(scope, "update", person_id=pk, what=f"review {item.pk}", detail={"answer": "reopened"})
    return item
