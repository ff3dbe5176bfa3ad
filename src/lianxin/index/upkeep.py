"""Self-check of the index for ``lianxin check``: set-based, changes nothing."""

from __future__ import annotations

from django.db import connection

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
    "person {} shares an identity number with another, and nobody has been asked": """
        SELECT p.number FROM index_person p JOIN index_person o
          ON o.id_blind = p.id_blind AND o.id_type = p.id_type AND o.id > p.id AND o.status = 'active'
        WHERE p.status = 'active' AND p.id_blind IS NOT NULL AND NOT EXISTS (
          SELECT 1 FROM index_reviewitem r WHERE (r.person_a_id, r.person_b_id) IN ((p.id, o.id), (o.id, p.id)))""",
    "person {} has a home institution without its relationship": """
        SELECT p.number FROM index_person p WHERE p.status = 'active' AND p.home_institution_id IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM access_relationship r WHERE r.person_id = p.id AND r.kind = 'home'
          AND r.institution_id = p.home_institution_id AND r.until IS NULL)""",
}


def check() -> list[str]:
    """One line per disagreement (at most 50 of a kind)."""
    problems: list[str] = []
    with connection.cursor() as cur:
        for words, query in _CHECKS.items():
            cur.execute(query + " LIMIT 50")
            problems += [words.format(row[0]) for row in cur.fetchall()]
    return problems
