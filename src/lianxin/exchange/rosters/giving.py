"""The cross-reference as CSV: which numbers belong to one person, for an institution (what it may know) or for the platform.

Names are masked unless the caller says otherwise; identity documents are never in it.  ``since`` gives what changed later: people
whose registrations came or changed, who were merged (their number with ``merged_into``), unmerged or moved.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterator
from typing import Any, Protocol

from django.db import connection

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.exchange.ihe import domains, identifiers
from lianxin.exchange.ihe.identifiers import Held
from lianxin.exchange.ihe.models import PARTNERS
from lianxin.index.golden import mask_name
from lianxin.network.models import Institution
from lianxin.record import rows

CHUNK = 200
COLUMNS = (
    "person_number", "status", "merged_into", "name", "sex", "birth_date", "institution", "system", "value", "patient_id",
)  # fmt: skip
_PEOPLE = (
    "SELECT p.id, p.number, p.status, coalesce(q.number, ''), p.name, p.sex, p.birth_date FROM index_person p"
    " LEFT JOIN index_person q ON q.id = p.merged_into_id WHERE p.id > %(after)s AND p.status <> 'retired' {mine} {since}"
    " ORDER BY p.id LIMIT %(limit)s"
)
_MINE = (
    " AND EXISTS (SELECT 1 FROM index_sourcerecord s WHERE s.institution_id = ANY(%(ids)s::bigint[])"
    " AND s.person_id = coalesce(p.merged_into_id, p.id))"
)
_SINCE = (
    " AND (EXISTS (SELECT 1 FROM index_sourcerecord s WHERE s.person_id = p.id AND s.received_at >= %(since)s)"
    " OR EXISTS (SELECT 1 FROM index_linkevent e WHERE e.at >= %(since)s AND e.kind IN ('merged', 'unmerged', 'moved', 'split')"
    " AND (e.person_id = p.id OR (e.before ->> 'gone')::bigint = p.id OR (e.before ->> 'person')::bigint = p.id"
    " OR (e.after ->> 'person')::bigint = p.id)))"
)


class Writable(Protocol):
    """What texts are written to: a file, or the answer to a browser."""

    def write(self, text: str, /) -> object:
        """Take a text."""


def give(scope: Scope, out: Writable, *, since: dt.datetime | None = None, masked: bool = True) -> int:
    """Write the cross-reference that ``scope`` may know; returns the number of lines. Audited before anything is written."""
    audit.write(scope, "export", what="cross-reference", detail={"masked": masked, "since": since})
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    count = 0
    for line in lines(scope, since, masked):
        writer.writerow([safe(cell) for cell in line])
        count += 1
    return count


def safe(cell: Any) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def lines(scope: Scope, since: dt.datetime | None, masked: bool) -> Iterator[tuple[Any, ...]]:
    """The lines, in order of people."""
    codes = dict(Institution.objects.values_list("pk", "code"))
    query = _PEOPLE.format(mine="" if scope.everything else _MINE, since=_SINCE if since else "")
    given: dict[str, Any] = {"after": 0, "limit": CHUNK, "ids": sorted(scope.institution_ids), "since": since}
    while True:
        with connection.cursor() as own:
            own.execute(query, given)
            people = own.fetchall()
            held = identifiers.of_people(rows.server_cursor(own), [p[0] for p in people if p[2] == "active"])
        if not people:
            return
        given["after"] = people[-1][0]
        sharing = domains.sharing_of(h.system for mine in held.values() for h in mine)
        for pk, number, status, into, name, sex, born in people:
            first = (
                number, status, into, mask_name(name) if masked else name, sex,
                born and (str(born.year) if masked else born.isoformat()),
            )  # fmt: skip
            mine = [h for h in held.get(pk, []) if h.institution_id and _told(scope, h, sharing)]
            for one in mine or [Held("", "", pk, 0)]:
                yield (*first, codes.get(one.institution_id, ""), one.system, one.value, one.patient_id)


def _told(scope: Scope, held: Held, sharing: dict[tuple[str, int], str]) -> bool:
    return domains.open_to(
        scope, held.institution_id, sharing.get((held.system, held.institution_id), PARTNERS)
    )
