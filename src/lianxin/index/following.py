"""Rows that follow a person through merges, and back: exact in whatever order merges are undone.

People form a forest by ``merged_into``; a row is held by the root of its own person. ``index_origin`` remembers a row's own
person while somebody else holds it, so undoing a merge is: cut the branch, give it the rows whose own person stands in it.
Nothing is remembered per merge, hence no order of undoing can mix two merges up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lianxin.index import hooks
from lianxin.index.hooks import Follower

SOURCES = "index_sourcerecord"
RELATIONS = "access_relationship"

_SAME_KEY = (
    "EXISTS (SELECT 1 FROM access_relationship k WHERE k.person_id = %(keep)s AND k.institution_id = r.institution_id"
    " AND k.kind = r.kind AND k.source = r.source)"
)
_OWN = (Follower(SOURCES), Follower(RELATIONS, stays=_SAME_KEY))

# A relationship that stays with the gone person because the kept one has its like, but would have lasted longer.
_STAND_IN = """
WITH made AS (
  INSERT INTO access_relationship (person_id, institution_id, kind, source, account_id, since, until)
  SELECT %(keep)s, r.institution_id, r.kind, 'merged:' || r.id, r.account_id, r.since, r.until
    FROM access_relationship r
    JOIN access_relationship k ON k.person_id = %(keep)s AND k.institution_id = r.institution_id AND k.kind = r.kind
     AND k.source = r.source
   WHERE r.person_id = %(gone)s AND r.kind <> 'home' AND k.until IS NOT NULL
     AND (r.until IS NULL OR r.until > k.until)
  ON CONFLICT DO NOTHING RETURNING id)
INSERT INTO index_origin (table_name, row_id, person_id, made)
SELECT 'access_relationship', id::text, %(gone)s, true FROM made
"""


def subtree(cur: Any, person_id: int) -> list[int]:
    """The person and everybody merged into it, directly or not."""
    cur.execute(
        "WITH RECURSIVE down(id) AS (SELECT %s::bigint UNION"
        " SELECT p.id FROM down d JOIN index_person p ON p.merged_into_id = d.id) SELECT id FROM down",
        [person_id],
    )
    return [row[0] for row in cur.fetchall()]


def chain(cur: Any, person_id: int) -> list[int]:
    """The person and whoever it was merged into, in order; the last one lives."""
    cur.execute(
        "WITH RECURSIVE up(id, into_id, n) AS (SELECT id, merged_into_id, 0 FROM index_person WHERE id = %s"
        " UNION ALL SELECT p.id, p.merged_into_id, u.n + 1 FROM up u JOIN index_person p ON p.id = u.into_id"
        " WHERE u.n < 1000) SELECT id FROM up ORDER BY n",
        [person_id],
    )
    return [row[0] for row in cur.fetchall()]


def numbers_of(cur: Any, person_ids: list[int]) -> list[str]:
    """Their person numbers, which are Patient ids of what was written about the golden record."""
    cur.execute("SELECT number FROM index_person WHERE id = ANY(%s) ORDER BY id", [person_ids])
    return [row[0] for row in cur.fetchall()]


def gather(cur: Any, gone: int, keep: int) -> None:
    """Everything ``gone`` holds goes to ``keep``; whose it was is remembered."""
    cur.execute(_STAND_IN, {"gone": gone, "keep": keep})
    _gather(cur, gone, keep, (*_OWN, *hooks.followers()))


def gather_again(cur: Any, holder: int) -> None:
    """Somebody left ``holder``: rows of those still merged into it, which stood back for what has left, come forward."""
    held_back = [one for one in (*_OWN, *hooks.followers()) if one.stays != "FALSE"]
    for member in subtree(cur, holder):
        if member != holder:
            _gather(cur, member, holder, held_back)


def _gather(cur: Any, gone: int, keep: int, tables: Sequence[Follower]) -> None:
    people = {"gone": gone, "keep": keep, "kept": keep}
    for one in tables:
        yielded: list[Any] = []
        if one.yields:
            cur.execute(one.yields, people)
            yielded = [str(row[0]) for row in cur.fetchall()]
        moving = f"r.person_id = %(gone)s AND NOT ({one.stays})"
        cur.execute(
            "INSERT INTO index_origin (table_name, row_id, person_id)"
            f" SELECT %(table)s, r.{one.key}::text, %(gone)s FROM {one.table} r WHERE {moving}"
            " ON CONFLICT (table_name, row_id) DO NOTHING",
            {**people, "table": one.table},
        )
        if yielded:
            cur.execute(
                "UPDATE index_origin SET yielded = true WHERE table_name = %s AND row_id = ANY(%s)",
                [one.table, yielded],
            )
        cur.execute(f"UPDATE {one.table} r SET person_id = %(keep)s WHERE {moving}", people)


def give_back(cur: Any, gone: int, branch: list[int], holders: list[int]) -> list[int]:
    """``gone`` lives again: rows whose own person stands in its ``branch`` come from ``holders``. Returns source ids that came."""
    sources: list[int] = []
    for one in (*_OWN, *hooks.followers()):
        cur.execute(
            f"DELETE FROM {one.table} r USING index_origin o WHERE o.table_name = %s AND o.made AND o.row_id = r.{one.key}::text"
            " AND o.person_id = %s AND r.person_id = ANY(%s)",
            [one.table, gone, holders],
        )
        cur.execute(
            f"UPDATE {one.table} r SET person_id = %(gone)s FROM index_origin o WHERE o.table_name = %(table)s"
            f" AND o.row_id = r.{one.key}::text AND o.person_id = ANY(%(branch)s) AND r.person_id = ANY(%(holders)s)"
            f" AND NOT ({one.stays.replace('%(keep)s', '%(gone)s')}) RETURNING r.{one.key}",
            {"gone": gone, "table": one.table, "branch": branch, "holders": holders},
        )
        came = [row[0] for row in cur.fetchall()]
        if one.table == SOURCES:
            sources = came
        if one.resumes:
            cur.execute(
                "SELECT row_id FROM index_origin WHERE table_name = %s AND yielded AND row_id = ANY(%s)",
                [one.table, [str(pk) for pk in came]],
            )
            if waiting := [row[0] for row in cur.fetchall()]:
                cur.execute(one.resumes, {"ids": waiting})
                stand = [str(row[0]) for row in cur.fetchall()]
                cur.execute(
                    "UPDATE index_origin SET yielded = false WHERE table_name = %s AND row_id = ANY(%s)",
                    [one.table, stand],
                )
    cur.execute("DELETE FROM index_origin WHERE person_id = %s AND NOT yielded", [gone])
    return sorted(sources)


def waiting(cur: Any, branch: list[int], holders: list[int]) -> dict[str, list[str]]:
    """Rows that :func:`give_back` would move, by table."""
    out: dict[str, list[str]] = {}
    for one in (*_OWN, *hooks.followers()):
        cur.execute(
            f"SELECT o.row_id FROM index_origin o JOIN {one.table} r ON o.row_id = r.{one.key}::text WHERE o.table_name = %s"
            " AND NOT o.made AND o.person_id = ANY(%s) AND r.person_id = ANY(%s)",
            [one.table, branch, holders],
        )
        out[one.table] = [row[0] for row in cur.fetchall()]
    return out


def settle(cur: Any, source_id: int, own: int, holder: int) -> None:
    """A registration's own person is ``own`` from now on, held by ``holder`` (its root)."""
    cur.execute("DELETE FROM index_origin WHERE table_name = %s AND row_id = %s", [SOURCES, str(source_id)])
    if own != holder:
        cur.execute(
            "INSERT INTO index_origin (table_name, row_id, person_id) VALUES (%s, %s, %s)",
            [SOURCES, str(source_id), own],
        )
    cur.execute("UPDATE index_sourcerecord SET person_id = %s WHERE id = %s", [holder, source_id])


def owners(cur: Any, source_ids: list[int]) -> dict[int, int]:
    """Own person of each registration (who holds it when nobody else ever took it over)."""
    cur.execute(
        "SELECT s.id, COALESCE(o.person_id, s.person_id) FROM index_sourcerecord s"
        " LEFT JOIN index_origin o ON o.table_name = %s AND o.row_id = s.id::text WHERE s.id = ANY(%s)",
        [SOURCES, source_ids],
    )
    return dict(cur.fetchall())
