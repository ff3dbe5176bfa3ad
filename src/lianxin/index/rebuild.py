"""Every person's forms and keys built anew from the sealed sources: for a new version of the normalisers, and when an existing
installation gets its first ones. Set-based, in person order, inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lianxin.index import payload, vault
from lianxin.index.form import NOTHING, Generic, form_of, pack
from lianxin.index.match.keys import keys_of
from lianxin.index.match.model import POLICY
from lianxin.standards import clock

CHUNK = 5000
CROWD: int = POLICY["crowd"]

KEYS_INDEX = "CREATE INDEX index_form_keys ON index_form USING gin (keys) WITH (fastupdate = off)"
PERSON_INDEX = "CREATE INDEX index_form_person ON index_form (person_id)"


def forms(cur: Any, progress: Callable[[int, int], None], generic: Generic = NOTHING) -> int:
    """Build index_form and index_crowd anew; returns how many forms there are. ``progress(done, total)`` in registrations."""
    cur.execute("DROP INDEX IF EXISTS index_form_keys; DROP INDEX IF EXISTS index_form_person")
    cur.execute("TRUNCATE index_form; DELETE FROM index_crowd")
    cur.execute("SELECT count(*) FROM index_sourcerecord")
    total, done, made, last = cur.fetchone()[0], 0, 0, 0
    while True:
        # Whole persons at a time: a form that a person has already is not kept twice, nor is a key.
        cur.execute(
            "SELECT s.person_id, s.payload FROM index_sourcerecord s WHERE s.person_id > %s AND s.person_id <= ("
            "SELECT max(p) FROM (SELECT person_id AS p FROM index_sourcerecord WHERE person_id > %s ORDER BY 1 LIMIT %s) c)"
            " ORDER BY s.person_id, s.id",
            [last, last, CHUNK],
        )
        rows = cur.fetchall()
        if not rows:
            break
        with cur.copy("COPY index_form (person_id, keys, body) FROM STDIN") as out:
            for person_id, keys, body in _of_rows(rows, generic):
                out.write_row((person_id, keys, vault.close_packed(body)))
                made += 1
        last, done = rows[-1][0], done + len(rows)
        progress(done, total)
    cur.execute(
        "INSERT INTO index_crowd (key, people, since) SELECT k, count(*), %s FROM index_form, unnest(keys) AS k"
        " GROUP BY k HAVING count(*) > %s",
        [clock.now(), CROWD],
    )
    cur.execute(
        "UPDATE index_form f SET keys = n.kept FROM (SELECT i.ctid AS at, array_agg(k) FILTER (WHERE NOT EXISTS ("
        "SELECT 1 FROM index_crowd c WHERE c.key = k)) AS kept FROM index_form i, unnest(i.keys) AS k"
        " GROUP BY i.ctid HAVING bool_or(EXISTS (SELECT 1 FROM index_crowd c WHERE c.key = k))) n WHERE f.ctid = n.at"
    )
    cur.execute(
        "SET LOCAL maintenance_work_mem = '1MB'"
    )  # in one go, every page of a GIN index would be left half empty
    cur.execute(KEYS_INDEX)
    cur.execute("RESET maintenance_work_mem")
    cur.execute(PERSON_INDEX)
    return made


def _of_rows(rows: list[tuple[int, Any]], generic: Generic) -> Iterator[tuple[int, list[int] | None, bytes]]:
    person, bodies, known = 0, set[bytes](), set[int]()
    for person_id, stored in rows:
        if person_id != person:
            person, bodies, known = person_id, set(), set()
        form = form_of(payload.unpack(stored), generic)
        body = pack(form)
        if body not in bodies:
            keys = [k for k in keys_of(form) if k not in known]
            bodies.add(body)
            known.update(keys)
            yield person_id, keys or None, body
