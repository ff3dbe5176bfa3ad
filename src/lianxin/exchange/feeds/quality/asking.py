"""What only the database knows about pieces, asked for all of them in one statement each: the person, references, content."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lianxin.exchange.feeds.quality.seen import Seen, Told
from lianxin.record.keys import hash64, ref_key
from lianxin.standards.text import T, Text

_PEOPLE = "SELECT id, name, sex, birth_date FROM index_person WHERE id = ANY(%s::bigint[])"
_THERE = "SELECT key FROM record_resource WHERE key = ANY(%s::bigint[]) AND NOT deleted"
# The rows that were there before this statement (its own insertions are not seen by its own query).
_CONTENT = (
    "WITH g AS (SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[])"
    " AS g(institution_id, mark, ids, piece, control_id)),"
    " w AS (INSERT INTO exchange_contentmark (institution_id, mark, ids, piece, control_id, day)"
    " SELECT DISTINCT ON (institution_id, mark) institution_id, mark, ids, piece, control_id, %s FROM g ORDER BY 1, 2"
    " ON CONFLICT (institution_id, mark) DO NOTHING)"
    " SELECT m.institution_id, m.mark, m.ids, m.piece, m.control_id FROM exchange_contentmark m"
    " JOIN (SELECT DISTINCT institution_id, mark FROM g) g USING (institution_id, mark)"
)

Person = tuple[str, str, str]


def ask(seen: Sequence[Seen], cur: Any) -> None:
    """Settle what the walk left open, for all pieces together."""
    _people(seen, cur)
    _references(seen, cur)
    _contents(seen, cur)


# ------------------------------------------------------------------------------------------------------------ the person


def _people(seen: Sequence[Seen], cur: Any) -> None:
    asked = [
        s for s in seen if s.person_id is not None and ((s.identity and s.about) or (s.sexed and not s.sex))
    ]
    people: dict[int, Person] = {}
    if asked:
        cur.execute(_PEOPLE, [sorted({s.person_id for s in asked if s.person_id is not None})])
        for pk, name, sex, birth in cur.fetchall():
            people[pk] = (name, sex, birth.isoformat() if birth else "")
    for one in seen:
        person = people.get(one.person_id or 0)
        if person is not None and one.about is not None and one.identity is not None:
            _compare(one, person, *one.identity)
        sex = one.sex or (person[1] if person else "")
        for told, wanted, place in one.sexed:
            if sex in ("male", "female") and sex != wanted:
                one.say(told, place)


_BLANK = re.compile(r"[\s·.\-'’*＊]")
_HAN = re.compile(r"[㐀-鿿\U00020000-\U0003ffff]")
PARTS: dict[str, Text] = {
    "name": T("姓名", "the name"), "sex": T("性别", "the sex"), "birth": T("出生日期", "the birth date"),
}  # fmt: skip


def differing(name: str, sex: str, birth: str, person: Person) -> list[str]:
    """Which of name, sex and birth date (of a piece; "" unknown) are not those of a person; what cannot be compared is left out.

    Names of different scripts are not compared, nor masked ones; a foreign name's parts may stand in another order.
    """
    found = []
    ours, theirs = _BLANK.sub("", person[0]).lower(), _BLANK.sub("", name).lower()
    masked = "*" in name or "＊" in name
    chinese = bool(_HAN.search(ours))
    comparable = ours and theirs and not masked and chinese == bool(_HAN.search(theirs))
    if comparable and ours != theirs and (chinese or sorted(ours) != sorted(theirs)):
        found.append("name")
    if sex in ("male", "female") and person[1] in ("male", "female") and sex != person[1]:
        found.append("sex")
    if birth and person[2] and birth[:10] != person[2][: len(birth[:10])]:
        found.append("birth")
    return found


def _compare(one: Seen, person: Person, slip: Told | None, differs: Told | None) -> None:
    wrong = differing(one.name, one.sex, one.birth, person)
    if len(wrong) >= 2:
        if differs is not None:
            one.say(differs, "/Patient")
    elif wrong and slip is not None:
        one.say(slip, f"/Patient.{wrong[0]}", name=PARTS[wrong[0]])


# -------------------------------------------------------------------------------------------------------------- references


def _references(seen: Sequence[Seen], cur: Any) -> None:
    keys = {ref_key(ref) for one in seen for _, ref, _ in one.wanted if ref not in one.local}
    if not keys:
        return
    cur.execute(_THERE, [sorted(keys)])
    there = {row[0] for row in cur.fetchall()}
    for one in seen:
        for told, ref, place in one.wanted:
            if ref not in one.local and ref_key(ref) not in there:
                kind = ref.partition("/")[0]
                one.say(told, place, name=T(kind, kind))


# ----------------------------------------------------------------------------------------------------------------- content


def _contents(seen: Sequence[Seen], cur: Any) -> None:
    asked: list[tuple[Seen, int, int, int, int]] = []
    for one in seen:
        institution = one.piece.scope.institution_id
        if not one.content or institution is None or one.person_id is None:
            continue
        mark = hash64(f"{one.person_id}\0" + "\1".join(sorted(one.content)))
        asked.append(
            (one, institution, mark, hash64("\0".join(sorted(one.ids))), hash64(f"{one.piece.sender}\0{one.piece.control_id}"))
        )  # fmt: skip
    if not asked:
        return
    # In the order of the key, so that two writers cannot wait for each other.
    rows = sorted((i, m, n, p, s.piece.control_id[:199]) for s, i, m, n, p in asked)
    day = asked[0][0].now.date()
    cur.execute(_CONTENT, [*(list(c) for c in zip(*rows, strict=True)), day])
    before = {(i, m): (n, p, c) for i, m, n, p, c in cur.fetchall()}
    for one, institution, mark, ids, piece in asked:
        known = before.get((institution, mark))
        if known is None:
            before[institution, mark] = (ids, piece, one.piece.control_id[:199])
        elif known[0] != ids and known[1] != piece and one.content_rule is not None:
            number = known[2] or "—"
            one.say(one.content_rule, "/Observation", name=T(number, number))
