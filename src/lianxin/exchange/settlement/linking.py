"""Whose a settlement is: by the identity number's blind index, without registering anybody; who is not there yet is found later."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from django.db import connection, transaction

from lianxin.access import seal
from lianxin.index import facts
from lianxin.record import rows

AT_ONCE = 2_000
Candidate = tuple[int, str]


def blinds(pairs: Iterable[tuple[str, str]]) -> list[bytes | None]:
    """The look-up keys of (type, number), None where there is no number."""
    return [facts.id_blind(kind, number) if number else None for kind, number in pairs]


def find(cur: Any, keys: Sequence[bytes]) -> dict[bytes, list[Candidate]]:
    """(id, name) of the active people behind look-up keys."""
    if not keys:
        return {}
    cur.execute(
        "SELECT id_blind, id, name FROM index_person WHERE id_blind = ANY(%s::bytea[]) AND status = 'active'",
        [list(set(keys))],
    )
    out: dict[bytes, list[Candidate]] = {}
    for blind, person, name in cur.fetchall():
        out.setdefault(bytes(blind), []).append((person, name))
    return out


def agree(candidates: Sequence[Candidate], name: str) -> tuple[int | None, str]:
    """(the person, the rule that is broken): exactly one, who is called so (a name that was not given agrees)."""
    if not candidates:
        return None, ""
    if len(candidates) > 1:
        return None, "several"
    person, known = candidates[0]
    return (None, "identity") if name and not _alike(name, known) else (person, "")


def _alike(said: str, known: str) -> bool:
    """Whether a name (or what is left of it when it is masked: 王*明) is the one that is known."""
    if "*" in said or "＊" in said:
        parts = re.split(r"[*＊]+", said)
        return known.startswith(parts[0]) and known.endswith(parts[-1]) and bool(parts[0] or parts[-1])
    return facts.name_key(said) == facts.name_key(known)


def link_rest(seconds: float = 20.0) -> int:
    """Find the people of current lines that are still without one (periodic); returns how many were found."""
    until = time.monotonic() + seconds
    after = linked = 0
    while time.monotonic() < until:
        with transaction.atomic(), connection.cursor() as own:
            cur = rows.server_cursor(own)
            cur.execute(_CANDIDATES, [after, AT_ONCE])
            found = cur.fetchall()
            people = find(cur, [bytes(blind) for _, blind, _ in found])
            for pk, blind, body in found:
                name = orjson.loads(seal.unseal_bytes(bytes(body)))["name"]
                person, _ = agree(people.get(bytes(blind), ()), name)
                if person is not None:
                    cur.execute(_LINK, [person, pk])
                    linked += cur.rowcount
        if len(found) < AT_ONCE:
            break
        after = found[-1][0]
    return linked


_CANDIDATES = (
    "SELECT l.id, l.id_blind, l.body FROM exchange_settlementline l WHERE l.person_id IS NULL AND l.id_blind IS NOT NULL AND l.current"
    " AND l.id > %s AND EXISTS (SELECT 1 FROM index_person p WHERE p.id_blind = l.id_blind AND p.status = 'active')"
    " ORDER BY l.id LIMIT %s"
)
_LINK = "UPDATE exchange_settlementline SET person_id = %s WHERE id = %s AND person_id IS NULL"
