"""Finding a person from what a desk has in hand: a card's QR, a number, a name in characters or pinyin, the tail of a phone.

Every path is one index look-up. Residents whose home is the own institution come first; strangers appear masked, so that the
right person can be recognised and checked in, no more.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from lianxin.access import audit, relationships, seal
from lianxin.access.scope import Scope
from lianxin.index import numbers
from lianxin.index.facts import RESIDENT_ID, id_blind, phone_blind, phone_digits, read_id, tidy
from lianxin.index.golden import mask_id, mask_name, mask_phone
from lianxin.standards import clock, pinyin
from lianxin.standards.identifiers import normalise

_OTHER_TYPES = ("02", "03", "04", "05", "06", "07", "99")
_POOL = 200
_COLUMNS = (
    "p.id, p.number, p.name, p.sex, p.birth_date, p.id_sealed, p.phone_sealed, p.address, p.village,"
    " p.home_institution_id, p.status, p.pinyin, p.deceased_on"
)


@dataclass(frozen=True)
class Hit:
    """One person found; everything but ``number`` is masked unless ``related``."""

    person_id: int
    person_number: str
    name: str
    sex: str
    age: int | None
    birth_date: dt.date | None
    town: str
    id_masked: str
    phone_masked: str
    related: bool
    deceased: bool = False


def find(scope: Scope, q: str, limit: int = 20) -> list[Hit]:
    """Persons that ``q`` may mean, related ones first (permission ``find_person``; audited by kind of query, not its text).

    Understood: card or person number (or a QR text ending in one), identity number 18 or 15, phone (11 digits) or its last
    4 and more, name prefix in characters, pinyin prefix or initials prefix, other document numbers.
    """
    scope.demand("find_person")
    text = tidy(q)
    with connection.cursor() as cur:
        by, rows = _search(cur, scope, text, limit)
    rows = list({row[0]: row for row in rows}.values())
    seen = relationships.seen(scope, [row[0] for row in rows])
    mine = scope.institution_ids
    rows.sort(key=lambda r: (r[0] not in seen, r[9] not in mine, r[11], r[0]))
    rows = rows[:limit]
    homes = _homes({row[9] for row in rows if row[9]})
    hits = [_hit(row, row[0] in seen, homes) for row in rows]
    audit.write(scope, "search", what="person", detail={"by": by, "hits": len(hits)})
    return hits


def _search(cur: Any, scope: Scope, text: str, limit: int) -> tuple[str, Sequence[Any]]:
    code = normalise(re.split(r"[:/?=|]", text)[-1]) if re.search(r"[:/?=|]", text) else normalise(text)
    if len(code) < 2 and code.isascii():
        return "nothing", []
    if numbers.is_card_number(code):
        return "card", _where(
            cur, "p.number = %s AND p.card_number = %s", [numbers.number_of_card(code), code]
        )
    if numbers.is_person_number(code) and (found := _where(cur, "p.number = %s", [code])):
        return "number", found
    kind, number, *_ = read_id("", code)
    if kind == RESIDENT_ID and number:
        return "id", _where(cur, "p.id_blind = %s AND p.status = 'active'", [id_blind(kind, number)])
    if code.isdigit():
        return _digits(cur, code)
    if not text.isascii():
        return "name", _by_name(cur, scope, text.replace(" ", ""), limit)
    letters = "".join(c for c in text.lower() if c.isalnum())
    if letters.isalpha():
        return "pinyin", _by_pinyin(cur, scope, letters, limit)
    blinds = [id_blind(t, code) for t in _OTHER_TYPES]
    found = _where(cur, "p.id_blind = ANY(%s) AND p.status = 'active'", [blinds])
    return "document", found or _by_pinyin(cur, scope, letters, limit)


def _where(cur: Any, condition: str, params: list[Any], limit: int = _POOL) -> list[Any]:
    cur.execute(f"SELECT {_COLUMNS} FROM index_person p WHERE {condition} LIMIT {int(limit)}", params)
    return cur.fetchall()


def _digits(cur: Any, code: str) -> tuple[str, Sequence[Any]]:
    phone = phone_digits(code)
    if phone and (found := _where(cur, "p.phone_blind = %s AND p.status = 'active'", [phone_blind(phone)])):
        return "phone", found
    if len(code) < 4:
        return "nothing", []
    rows = _where(cur, "p.phone_tail = %s AND p.phone_tail <> '' AND p.status = 'active'", [code[-4:]], 1000)
    if len(code) > 4:
        rows = [row for row in rows if seal.unseal(row[6]).endswith(code)]
    return "phone tail", rows[:_POOL]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def _near_and_far(
    cur: Any, scope: Scope, initial: str, condition: str, params: list[Any], limit: int
) -> list[Any]:
    """Own residents by the (home, initials) index, then anybody by the name or pinyin index."""
    rows: list[Any] = []
    if scope.institution_ids:
        rows = _where(
            cur,
            f"p.home_institution_id = ANY(%s) AND p.initials LIKE %s AND {condition} AND p.status = 'active'",
            [sorted(scope.institution_ids), _escape(initial), *params],
            limit,
        )
    if len(rows) < limit:
        rows = [*rows, *_where(cur, f"{condition} AND p.status = 'active'", params)]
    return rows


def _by_name(cur: Any, scope: Scope, text: str, limit: int) -> list[Any]:
    # The first letter alone: a polyphone later in the name may be read otherwise once the whole name is known.
    initial = pinyin.initials(text)[:1]
    return _near_and_far(cur, scope, initial, "p.name LIKE %s", [_escape(text)], limit)


def _by_pinyin(cur: Any, scope: Scope, letters: str, limit: int) -> list[Any]:
    rows = _near_and_far(cur, scope, letters[:1], "p.pinyin LIKE %s", [_escape(letters)], limit)
    if len(letters) <= 6 and len(rows) < _POOL:
        rows += _near_and_far(cur, scope, letters, "p.initials LIKE %s", [_escape(letters)], limit)
    return rows


def _homes(ids: set[int]) -> dict[int, str]:
    from lianxin.network.models import Institution

    rows = Institution.objects.filter(pk__in=ids).values_list("pk", "short_name", "name")
    return {pk: short or name for pk, short, name in rows}


def age_on(birth: dt.date | None, day: dt.date) -> int | None:
    """Whole years on ``day``."""
    if birth is None:
        return None
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


def _hit(row: Sequence[Any], related: bool, homes: dict[int, str]) -> Hit:
    person_id, number, name, sex, birth, id_sealed, phone_sealed, _, village, home, _, _, deceased = row
    town = homes.get(home, "") if home else ""
    return Hit(
        person_id=person_id,
        person_number=number,
        name=name if related else mask_name(name),
        sex=sex,
        age=age_on(birth, clock.today()),
        birth_date=birth if related else None,
        town=f"{town} {village}".strip() if related else town,
        id_masked=mask_id(seal.unseal(id_sealed)),
        phone_masked=mask_phone(seal.unseal(phone_sealed)),
        related=related,
        deceased=deceased is not None,
    )
