"""Never the same: what people said about two persons, remembered for ever, through merges.

The memory is a review item in state ``different``. It names the two persons it was said of; whoever they are merged into inherits it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lianxin.access.scope import Scope
from lianxin.index import following
from lianxin.standards import clock

_APART = """
WITH RECURSIVE down(root, id) AS (
  SELECT p, p FROM unnest(%(ids)s::bigint[]) AS p
  UNION SELECT d.root, x.id FROM down d JOIN index_person x ON x.merged_into_id = d.id
), said(root, other) AS (
  SELECT d.root, r.person_b_id FROM down d JOIN index_reviewitem r ON r.person_a_id = d.id
   WHERE r.state = 'different' AND r.person_b_id <> r.person_a_id
  UNION SELECT d.root, r.person_a_id FROM down d JOIN index_reviewitem r ON r.person_b_id = d.id
   WHERE r.state = 'different' AND r.person_b_id <> r.person_a_id
), up(root, id, into_id) AS (
  SELECT s.root, p.id, p.merged_into_id FROM said s JOIN index_person p ON p.id = s.other
  UNION SELECT u.root, p.id, p.merged_into_id FROM up u JOIN index_person p ON p.id = u.into_id
)
SELECT DISTINCT root, id FROM up WHERE into_id IS NULL AND id <> root
"""


def apart(cur: Any, person_ids: Collection[int]) -> dict[int, frozenset[int]]:
    """For each living person, the living ones it was said never to be (by itself or by whoever was merged into either)."""
    found: dict[int, set[int]] = {pk: set() for pk in person_ids}
    if found:
        cur.execute(_APART, {"ids": list(found)})
        for root, other in cur.fetchall():
            found[root].add(other)
    return {pk: frozenset(others) for pk, others in found.items()}


_WORD = "id, state, decided_at, decided_by_id, note, event_id"


def _word(row: Any) -> dict[str, Any]:
    """A review item's answer as it can be kept in an event."""
    pk, state, at, by, note, event = row
    when = at.isoformat() if at else None
    return {"id": pk, "state": state, "at": when, "by": by, "note": note, "event": event}


def say(cur: Any, scope: Scope, a: int, b: int, note: str) -> dict[str, Any]:
    """A human said that these are two people: whatever asked is answered, nobody is asked again. Returns what :func:`restore`
    needs to take it back."""
    cur.execute(
        f"SELECT {_WORD} FROM index_reviewitem WHERE LEAST(person_a_id, person_b_id) = LEAST(%s::bigint, %s::bigint)"
        " AND GREATEST(person_a_id, person_b_id) = GREATEST(%s::bigint, %s::bigint) FOR UPDATE",
        [a, b, a, b],
    )
    row = cur.fetchone()
    cur.execute(
        "INSERT INTO index_reviewitem (kind, person_a_id, person_b_id, reasons, state, opened_at, decided_at, decided_by_id, note)"
        " VALUES ('look_alike', %(a)s, %(b)s, '[]', 'different', %(now)s, %(now)s, %(by)s, %(note)s)"
        " ON CONFLICT (LEAST(person_a_id, person_b_id), GREATEST(person_a_id, person_b_id)) WHERE NOT person_a_id = person_b_id"
        " DO UPDATE SET state = 'different', decided_at = EXCLUDED.decided_at, decided_by_id = EXCLUDED.decided_by_id,"
        " note = EXCLUDED.note, assignee_id = NULL, taken_at = NULL, event_id = NULL RETURNING id",
        {"a": a, "b": b, "now": clock.now(), "by": scope.account_id, "note": note[:300]},
    )
    pk = cur.fetchone()[0]
    return _word(row) if row is not None else {"id": pk, "state": None}


def unsay(cur: Any, scope: Scope, a: int, b: int) -> list[dict[str, Any]]:
    """Overrule "two people" between everybody who stands under ``a`` and ``b``; returns what :func:`restore` needs."""
    cur.execute(
        f"SELECT {_WORD} FROM index_reviewitem"
        " WHERE state = 'different' AND ((person_a_id = ANY(%(a)s) AND person_b_id = ANY(%(b)s))"
        " OR (person_a_id = ANY(%(b)s) AND person_b_id = ANY(%(a)s))) ORDER BY id FOR UPDATE",
        {"a": following.subtree(cur, a), "b": following.subtree(cur, b)},
    )
    rows = cur.fetchall()
    cur.execute(
        "UPDATE index_reviewitem SET state = 'same', decided_at = %s, decided_by_id = %s WHERE id = ANY(%s)",
        [clock.now(), scope.account_id, [row[0] for row in rows]],
    )
    return [_word(row) for row in rows]


def restore(cur: Any, words: Collection[dict[str, Any]]) -> None:
    """Answers are again what they were before :func:`say` or :func:`unsay`."""
    for word in words:
        if word["state"] is None:
            cur.execute("DELETE FROM index_reviewitem WHERE id = %s", [word["id"]])
        else:
            cur.execute(
                "UPDATE index_reviewitem SET state = %s, decided_at = %s, decided_by_id = %s, note = %s, event_id = %s"
                " WHERE id = %s",
                [word["state"], word["at"], word["by"], word["note"], word["event"], word["id"]],
            )
