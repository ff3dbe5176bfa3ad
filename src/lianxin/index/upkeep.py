"""Self-check of the index for ``lianxin check``: set-based, changes nothing; forms are checked on a sample, drawn anew each time."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from django.db import connection

from lianxin.index import active, refit, store, vault
from lianxin.index.form import Form
from lianxin.index.match import levels
from lianxin.index.match.levels import compare
from lianxin.index.match.model import POLICY
from lianxin.index.normal.documents import OWN

CROWD: int = POLICY["crowd"]
BEARERS: int = POLICY["number_bearers"]
_ID, _NUMBERS_DIFFER = levels.POSITION["id"], levels.number("id", "strangers")

_CHECKS = {
    "person {} is merged into one that is not there any more or in a ring": """
        WITH RECURSIVE up(start, at, depth) AS (
          SELECT id, merged_into_id, 1 FROM index_person WHERE merged_into_id IS NOT NULL
          UNION ALL SELECT u.start, p.merged_into_id, u.depth + 1 FROM up u JOIN index_person p ON p.id = u.at
          WHERE p.merged_into_id IS NOT NULL AND u.depth < 100)
        SELECT DISTINCT p.number FROM up JOIN index_person p ON p.id = up.start WHERE up.depth >= 100""",
    "person {} is merged and still has registrations": """
        SELECT DISTINCT p.number FROM index_person p JOIN index_sourcerecord s ON s.person_id = p.id
        WHERE p.status = 'merged'""",
    "person {} is active and has no registration": """
        SELECT p.number FROM index_person p WHERE p.status = 'active'
        AND NOT EXISTS (SELECT 1 FROM index_sourcerecord s WHERE s.person_id = p.id)""",
    # With another name and another birth date it is a lent card, which the policy tells by itself; of a number that more bear than
    # it asks about, nobody need have been asked.
    "person {} shares an identity number and a birth date with another, and nobody has been asked": f"""
        SELECT p.number FROM index_person p JOIN index_person o
          ON o.id_blind = p.id_blind AND o.id_type = p.id_type AND o.id > p.id AND o.status = 'active' AND o.birth_date = p.birth_date
        WHERE p.status = 'active' AND p.id_blind IS NOT NULL AND NOT EXISTS (
          SELECT 1 FROM index_reviewitem r WHERE (r.person_a_id, r.person_b_id) IN ((p.id, o.id), (o.id, p.id)))
        AND (SELECT count(*) FROM index_person b
          WHERE b.id_blind = p.id_blind AND b.id_type = p.id_type AND b.status = 'active') <= {BEARERS}""",
    "person {} has a home institution without its relationship": """
        SELECT p.number FROM index_person p WHERE p.status = 'active' AND p.home_institution_id IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM access_relationship r WHERE r.person_id = p.id AND r.kind = 'home'
          AND r.institution_id = p.home_institution_id AND r.until IS NULL)""",
    "person {} is merged or gone and still has forms: nobody would find the living one by them": """
        SELECT DISTINCT f.person_id FROM index_form f LEFT JOIN index_person p ON p.id = f.person_id
        WHERE p.id IS NULL OR p.status <> 'active'""",
    "person {} has no form: newcomers cannot meet it": """
        SELECT p.number FROM index_person p WHERE p.status = 'active'
        AND NOT EXISTS (SELECT 1 FROM index_form f WHERE f.person_id = p.id)""",
    # Writing asks no foreign key, which would lock the institution for every registration.
    "institution {} is named by registrations, persons or relationships and is not there": """
        SELECT n.id FROM (SELECT institution_id AS id FROM index_sourcerecord
          UNION SELECT institution_id FROM access_relationship
          UNION SELECT home_institution_id FROM index_person WHERE home_institution_id IS NOT NULL) n
        WHERE NOT EXISTS (SELECT 1 FROM network_institution i WHERE i.id = n.id)""",
    "key {} has a crowd behind it and is still stored (lianxin index rebuild)": f"""
        SELECT c.key FROM index_crowd c WHERE (SELECT count(*) FROM (SELECT 1 FROM index_form f
          WHERE f.keys @> ARRAY[c.key] LIMIT {4 * CROWD}) n) >= {4 * CROWD}""",
}
OUTGROWN = 2
"""A model is told on when the index holds so many times the persons that it was made for."""
SAMPLE = 200
"""Persons whose forms and keys are built again from their sealed sources at each check, drawn anew each time."""


def check() -> list[str]:
    """One line per disagreement (at most 50 of a kind)."""
    problems: list[str] = []
    with connection.cursor() as cur:
        for words, query in _CHECKS.items():
            cur.execute(query + " LIMIT 50")
            problems += [words.format(row[0]) for row in cur.fetchall()]
        problems += _forms(cur)
        problems += _outgrown(cur)
    return problems


def _outgrown(cur: Any) -> list[str]:
    """Whether the index holds many more persons than its model reckons with: with every doubling a chance likeness is worth a bit less."""
    cur.execute("SELECT count(*) FROM index_person WHERE status = 'active'")
    held, made_for = int(cur.fetchone()[0]), active.fresh(cur).model.people
    if held <= OUTGROWN * made_for:
        return []
    return [
        f"the index holds {held:,} persons, its model was made for {made_for:,}: train it anew (lianxin index train)"
    ]


def _forms(cur: Any) -> list[str]:
    """A sample of persons: their forms must be what their sources give, each key stored, and one valid own number at most."""
    cur = store.plain(cur)
    held = active.fresh(cur)
    cur.execute(
        "SELECT id, number FROM index_person WHERE status = 'active' AND id >= (SELECT floor(random() * max(id)) FROM index_person)"
        " ORDER BY id LIMIT %s",
        [SAMPLE],
    )
    people = dict(cur.fetchall())
    words = refit.words_of(cur, list(people))
    cur.execute(
        "SELECT person_id, keys, body FROM index_form WHERE person_id = ANY(%s)",
        [list(people)],
    )
    stored: dict[int, tuple[set[int], set[bytes]]] = {p: (set(), set()) for p in people}
    for person_id, keys, body in cur.fetchall():
        stored[person_id][0].update(keys or ())
        stored[person_id][1].update(vault.open_packed([bytes(body)]))
    cur.execute(
        "SELECT DISTINCT p FROM index_reviewitem r, LATERAL (VALUES (r.person_a_id), (r.person_b_id)) AS v(p) WHERE p = ANY(%s)",
        [list(people)],
    )
    asked = {row[0] for row in cur.fetchall()}
    problems = []
    for person_id, number in people.items():
        forms = refit.forms_of([w.reg for w in words.get(person_id, ())], held)
        keys = {k for ks, _ in forms for k in ks}
        if {body for _, body in forms} != stored[person_id][1]:
            problems.append(
                f"person {number}: its forms are not what its sources say (lianxin index rebuild)"
            )
        elif keys - stored[person_id][0] - held.crowd:
            problems.append(f"person {number}: keys are missing (lianxin index rebuild)")
        own = [w.form for w in words.get(person_id, ()) if w.form.id_state == OWN and not w.disputed]
        if _strangers(own) and person_id not in asked and not _by_hand(cur, person_id):
            problems.append(f"person {number} has two valid identity numbers, and nobody has been asked")
    return problems


def _strangers(forms: list[Form]) -> bool:
    """Whether two of these hold numbers that forbid one person (a lent number, or one its birth date belies, does not)."""
    return any(compare(a, b)[_ID] == _NUMBERS_DIFFER for a, b in combinations(forms, 2) if a.id_no != b.id_no)


def _by_hand(cur: Any, person_id: int) -> bool:
    """Whether people have put registrations together under this person."""
    cur.execute(
        "SELECT EXISTS (SELECT 1 FROM index_linkevent WHERE person_id = %s AND kind IN ('merged', 'moved', 'split'))",
        [person_id],
    )
    return bool(cur.fetchone()[0])
