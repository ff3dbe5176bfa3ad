"""What follows from a person's sources: the golden fields, the comparable forms with their keys, and the 'home' relationship.

All three are pure functions of the sources that the person has, so they are written again whenever those change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from lianxin.access import relationships
from lianxin.index import active, golden, payload, store, vault
from lianxin.index.facts import id_blind, phone_blind, tidy
from lianxin.index.form import Form, Registration, form_of, pack
from lianxin.index.golden import Spoken
from lianxin.index.match.keys import keys_of
from lianxin.index.normal import places
from lianxin.index.normal.documents import OTHER_TYPE, OWN
from lianxin.index.survivorship import BY_PLACE, LATEST, Where
from lianxin.standards import clock

_AT = {name: k + 1 for k, name in enumerate(golden.COLUMNS)}  # after the number, as still_there() tells


def opened(said: store.Said) -> Spoken:
    """One source's word, opened."""
    reg = payload.unpack(said.stored, *said.row)
    return Spoken(said.source_id, said.received_at, reg, form_of(reg, active.held().generic), said.disputed)


def words_of(cur: Any, person_ids: Collection[int]) -> dict[int, list[Spoken]]:
    """Every source of these persons, opened, in the order they came."""
    return {p: [opened(s) for s in found] for p, found in store.said(cur, sorted(person_ids)).items()}


_WRITTEN: dict[str, Callable[[Registration, Form], dict[str, Any]]] = {
    "phone": lambda reg, form: {
        **golden.phone_told(form.phone),
        "phone_sealed": golden.phone_sealed(reg, form),
    },
    "address": lambda reg, form: golden.address_told(reg),
}
LAST = LATEST & _WRITTEN.keys()
"""Fields that a newcomer's word decides by itself, by the rules of ``survivorship.yaml``."""


def news(kept: Sequence[str | None], reg: Registration, form: Form) -> set[str]:
    """Of which fields a newcomer says something that its person's golden columns (as ``store.still_there`` tells them) do not.

    When there is none, or only such as are in :data:`LAST`, the person's other sources need not be opened.
    """
    out = set()

    def told(field: str, column: str, value: str) -> None:
        if kept[_AT[column]] != value:
            out.add(field)

    told("name", "name", tidy(reg.name)[:200])
    if reg.sex in ("male", "female"):
        told("sex", "sex", reg.sex)
    if form.born and (kept[_AT["birth_date"]] or "").replace("-", "") != str(form.born):
        out.add("birth")
    if form.id_state in (OWN, OTHER_TYPE):
        told("id", "id_blind", "\\x" + id_blind(form.id_type, form.id_no).hex())
    if form.phone:
        told("phone", "phone_tail", form.phone[-4:])
        if "phone" not in out:  # the keyed digest is asked only where the tail cannot tell
            told("phone", "phone_blind", "\\x" + phone_blind(form.phone).hex())
    if form.mother or reg.guardian_name:  # who is named last is who is called
        out.add("contact")
    if (reg.address or reg.village) and not _stands(kept, reg, form):
        out.add("address")
    if reg.home_institution_id is not None:
        told("home", "home_institution_id", str(reg.home_institution_id))
    if reg.deceased_on is not None:
        told("deceased", "deceased_on", reg.deceased_on.isoformat())
    return out


def _stands(kept: Sequence[str | None], reg: Registration, form: Form) -> bool:
    """Whether the address that is kept stands after what a newcomer says."""
    said = golden.address_told(reg)
    text, division, village = stands = [kept[_AT[column]] or "" for column in said]
    if stands == [*said.values()] or not any(stands) or not BY_PLACE:
        return stands == [*said.values()]
    return Where.told(text, division, village, places.read(text, division, village)).holds(
        Where.said(reg, form)
    )


def latest(fields: Collection[str], reg: Registration, form: Form) -> dict[str, Any]:
    """Golden columns of some fields in :data:`LAST` when ``reg`` is the latest word."""
    return {column: value for name in fields for column, value in _WRITTEN[name](reg, form).items()}


def composed(kept: Sequence[str | None], words: Sequence[Spoken]) -> tuple[dict[str, Any] | None, int | None]:
    """(golden columns when they differ from what is kept, home institution) of a person's sources."""
    made = golden.compose(words)
    bare = made.bare()
    changed = {name for name, value in bare.items() if _text(value) != kept[_AT[name]]}
    if not changed:
        return None, bare["home_institution_id"]
    stays = [] if "id_blind" in changed else ["id_sealed"]
    if "phone_blind" not in changed:
        stays.append("phone_sealed")
    if "name" not in changed:
        stays += ["pinyin", "initials"]
    return made.values({name: kept[_AT[name]] for name in stays}), bare["home_institution_id"]


def _text(value: Any) -> str | None:
    """A golden value as SQL writes it."""
    if value is None or isinstance(value, str):
        return value
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def recompute_many(
    cur: Any, person_ids: Collection[int], words: dict[int, list[Spoken]] | None = None
) -> None:
    """Write the golden fields of persons anew where they changed; the 'home' relationship follows."""
    if not person_ids:
        return
    words = words_of(cur, person_ids) if words is None else words
    kept = store.values_of(cur, sorted(words))
    rows: list[list[Any]] = []
    homes: list[tuple[int, int | None]] = []
    for person_id in sorted(words):
        row, home = composed(kept[person_id], words[person_id])
        if row is not None:
            rows.append([person_id, *(row[c] for c in golden.COLUMNS)])
        if home_of(kept[person_id]) != home:
            homes.append((person_id, home))
    if rows:
        sets = ", ".join(f"{c} = g.{c}" for c in golden.COLUMNS)
        cur.execute(
            f"UPDATE index_person p SET {sets}, version = p.version + 1"
            f" FROM unnest(%s::bigint[], {store.GOLDEN_ARRAYS}) AS g(id, {', '.join(golden.COLUMNS)}) WHERE p.id = g.id",
            [list(c) for c in zip(*rows, strict=True)],
        )
    move_homes(cur, homes)


def home_of(kept: Sequence[str | None]) -> int | None:
    """Home institution among golden columns as they are kept."""
    home = kept[_AT["home_institution_id"]]
    return None if home is None else int(home)


def move_homes(cur: Any, homes: Sequence[tuple[int, int | None]]) -> None:
    """End the 'home' relationships of persons who have another home now (or none), and give the new ones."""
    if not homes:
        return
    now = clock.now()
    cur.execute(
        "UPDATE access_relationship r SET until = GREATEST(%s, r.since) FROM unnest(%s::bigint[], %s::bigint[]) AS g(id, home)"
        " WHERE r.person_id = g.id AND r.kind = 'home' AND r.source = 'index' AND r.institution_id IS DISTINCT FROM g.home"
        " AND (r.until IS NULL OR r.until > %s)",
        [now, [p for p, _ in homes], [h for _, h in homes], now],
    )
    relationships.grant_many(
        [(person_id, home, "home", "index", None) for person_id, home in homes if home], cursor=cur, since=now
    )


def reform_many(cur: Any, person_ids: Collection[int], words: dict[int, list[Spoken]] | None = None) -> None:
    """Write the forms and keys of persons anew from their sources (none left: their forms go)."""
    if not person_ids:
        return
    words = words_of(cur, person_ids) if words is None else words
    held = active.held()
    rows: list[tuple[int, str | None, bytes]] = []
    for person_id in sorted(person_ids):
        rows += [
            (person_id, store.numbers(keys) if keys else None, vault.close_packed(body))
            for keys, body in forms_of([w.reg for w in words.get(person_id, ())], held)
        ]
    cur.execute(
        "DELETE FROM index_form WHERE person_id = ANY(%s::bigint[])", [store.numbers(sorted(person_ids))]
    )
    if rows:
        people, keys, bodies = zip(*rows, strict=True)
        cur.execute(
            "INSERT INTO index_form (person_id, keys, body) SELECT p, k::int4[], b"
            " FROM unnest(%s::bigint[], %s::text[], %s::bytea[]) AS g(p, k, b)",
            [store.numbers(people), list(keys), list(bodies)],
        )


def forms_of(regs: Sequence[Registration], held: active.Held) -> list[tuple[list[int], bytes]]:
    """(keys, packed form) of a person's registrations: equal forms once, keys that an earlier form has left out."""
    out: list[tuple[list[int], bytes]] = []
    bodies: set[bytes] = set()
    known: set[int] = set()
    for reg in regs:
        form = form_of(reg, held.generic)
        body = pack(form)
        if body not in bodies:
            keys = [k for k in keys_of(form) if k not in known and k not in held.crowd]
            bodies.add(body)
            known.update(keys)
            out.append((keys, body))
    return out


def refit(cur: Any, person_ids: Collection[int]) -> None:
    """Golden fields and forms of persons whose sources changed (merge, move, update)."""
    words = words_of(cur, person_ids)
    recompute_many(cur, [p for p in person_ids if p in words], words)
    reform_many(cur, person_ids, words)
