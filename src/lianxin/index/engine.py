"""Registering people, one or many thousands, by one code path of set-based SQL inside the caller's transaction.

Order of events (READ COMMITTED): take advisory locks on what identifies the newcomers, look up sources and candidates in the
next statements, decide in Python, write with COPY. Up to :data:`FINE` registrations lock key by key under a shared gate; larger
batches close the gate, because one lock per key would exhaust the lock table.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lianxin.access import audit, relationships
from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.scope import Scope
from lianxin.index import golden, numbers, payload, rules
from lianxin.index.facts import Facts, Registration, address_key, facts_of, name_key, tidy, village_key
from lianxin.index.golden import Spoken
from lianxin.standards import clock
from lianxin.standards.text import T

POLICY: dict[str, int] = {"registration_days": 90, "encounter_days": 30, "review_reasons": 10}
"""Figures of access and review; consortium rules may later override them."""

FINE = 300
CHUNK = 5000
_GATE = 0x4C58_0001


@dataclass(slots=True)
class Registered:
    """What became of one registration. ``decision``: new | same_source | linked | review."""

    person_id: int
    number: str
    source_id: int
    created: bool
    decision: str
    reasons: tuple[str, ...] = ()

    @property
    def person(self) -> Any:
        """The person, read now."""
        from lianxin.index.models import Person

        return Person.objects.unscoped("the registrar reads what was registered").get(pk=self.person_id)

    @property
    def source(self) -> Any:
        """The source record, read now."""
        from lianxin.index.models import SourceRecord

        return SourceRecord.objects.unscoped("the registrar reads what was registered").get(pk=self.source_id)


@dataclass(slots=True)
class _Known:
    """A person that a newcomer may be: from the database, or made in this batch (``person_id`` 0 until numbered)."""

    person_id: int
    number: str
    facts: Facts
    words: list[Spoken] = field(default_factory=list)
    card: str = ""
    created: bool = False

    def hear(self, word: Spoken) -> None:
        """Another source belongs to this person: its facts are composed anew, as they will be read later."""
        self.words.append(word)
        self.facts = golden.compose(self.words).facts
        self.facts.card = self.card


@dataclass(slots=True)
class _Item:
    """One registration on its way."""

    at: int
    reg: Registration
    facts: Facts
    body: bytes
    digest: bytes
    known: _Known = field(init=False)
    source_id: int = 0
    decision: str = ""
    reasons: tuple[str, ...] = ()
    reviews: tuple[tuple[_Known, str, tuple[str, ...]], ...] = ()


def register_batch(cur: Any, scope: Scope, regs: Sequence[Registration]) -> list[Registered]:
    """Register ``regs`` with ``cur`` inside its transaction; results in the same order.

    Raises :class:`NotPermitted` when the scope may not register for an institution, :class:`Invalid` for a registration
    without institution, system, local id or name (the message names which one).
    """
    _permit(scope, regs)
    out: dict[int, Registered] = {}
    for start in range(0, len(regs), CHUNK):
        waiting = [_item(start + k, reg) for k, reg in enumerate(regs[start : start + CHUNK])]
        _lock(cur, waiting)
        while waiting:
            # The same local id twice in a batch is an update of the first: it waits for the next round.
            seen: set[tuple[int, str, str]] = set()
            first: list[_Item] = []
            later: list[_Item] = []
            for item in waiting:
                key = (item.reg.institution_id, item.reg.system, item.reg.local_id)
                (later if key in seen else first).append(item)
                seen.add(key)
            for result in _round(cur, scope, first):
                out[result[0]] = result[1]
            waiting = later
    return [out[k] for k in range(len(regs))]


def _permit(scope: Scope, regs: Sequence[Registration]) -> None:
    scope.demand("register_person")
    for k, reg in enumerate(regs):
        if not scope.everything and reg.institution_id not in scope.institution_ids:
            raise NotPermitted(
                T(
                    "只能以本机构名义登记居民,请切换到该机构的岗位。",
                    "Residents are registered for one's own institution; switch to a post there.",
                )
            )
        missing = {}
        if not reg.institution_id:
            missing["institution"] = T("缺少登记机构。", "The registering institution is missing.")
        if not reg.system or not reg.local_id:
            missing["local_id"] = T(
                "缺少来源系统或院内号。", "The source system or its local number is missing."
            )
        if not tidy(reg.name):
            missing["name"] = T("第{n}条缺少姓名。", "Registration {n} has no name.").format(n=k + 1)
        if missing:
            raise Invalid(missing)


def _item(at: int, reg: Registration) -> _Item:
    body = payload.plain(reg)
    return _Item(at, reg, facts_of(reg), body, payload.digest(body))


def _key(*parts: Any) -> int:
    raw = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(raw, "big", signed=True)


def _lock(cur: Any, items: Sequence[_Item]) -> None:
    if len(items) > FINE:
        cur.execute("SELECT pg_advisory_xact_lock(%s)", [_GATE])
        return
    keys = set()
    for item in items:
        facts, reg = item.facts, item.reg
        keys.add(_key("source", reg.institution_id, reg.system, reg.local_id))
        if facts.id_blind:
            keys.add(_key("id", facts.id_type, facts.id_blind.hex()))
        if facts.birth_date:
            keys.add(_key("born", facts.pinyin, facts.birth_date))
        if facts.card:
            keys.add(_key("card", facts.card))
    cur.execute(
        "SELECT pg_advisory_xact_lock_shared(%s), (SELECT count(pg_advisory_xact_lock(k)) FROM unnest(%s::bigint[]) AS k)",
        [_GATE, sorted(keys)],
    )


def _round(cur: Any, scope: Scope, items: list[_Item]) -> list[tuple[int, Registered]]:
    cur.execute(
        "SELECT r.n, s.id, s.person_id, s.payload_hash, p.number"
        " FROM unnest(%s::int[], %s::bigint[], %s::text[], %s::text[]) AS r(n, i, y, l)"
        " JOIN index_sourcerecord s ON s.institution_id = r.i AND s.system = r.y AND s.local_id = r.l"
        " JOIN index_person p ON p.id = s.person_id",
        [
            list(range(len(items))),
            [i.reg.institution_id for i in items],
            [i.reg.system for i in items],
            [i.reg.local_id for i in items],
        ],
    )
    known = {row[0]: row[1:] for row in cur.fetchall()}
    out: list[tuple[int, Registered]] = []
    fresh: list[_Item] = []
    for k, item in enumerate(items):
        if k not in known:
            fresh.append(item)
            continue
        source_id, person_id, stored, number = known[k]
        if bytes(stored) == item.digest:
            out.append((item.at, Registered(person_id, number, source_id, False, "same_source")))
        else:
            out.append((item.at, _update(cur, scope, item, source_id, person_id, number)))
    if fresh:
        now = clock.now()
        cur.execute("SELECT nextval('index_sourcerecord_id_seq') FROM generate_series(1, %s)", [len(fresh)])
        for item, (source_id,) in zip(fresh, cur.fetchall(), strict=True):
            item.source_id = source_id
        _decide(cur, fresh, now)
        _store(cur, scope, fresh, now)
        for item in fresh:
            out.append(
                (
                    item.at,
                    Registered(
                        item.known.person_id,
                        item.known.number,
                        item.source_id,
                        item.decision in ("new", "review"),
                        item.decision,
                        item.reasons,
                    ),
                )
            )
    return out


_CANDIDATE = (
    "p.id, p.number, p.card_number, p.name, p.pinyin, p.initials, p.sex, p.birth_date, p.id_type, p.id_blind,"
    " p.phone_blind, p.address, p.division, p.village, p.deceased_on"
)


def _person_facts(row: Sequence[Any]) -> Facts:
    (
        _, _, card, name, pinyin, initials, sex, birth, id_type, id_blind, phone_blind, address, division, village,
        deceased,
    ) = row  # fmt: skip
    key = name_key(name)
    facts = facts_of(Registration(0, "", "", name))
    return Facts(
        name=name,
        name_key=key,
        pinyin=pinyin,
        initials=initials,
        sex=sex,
        birth_date=birth,
        id_type=id_type,
        id_blind=bytes(id_blind) if id_blind is not None else None,
        phone_blind=bytes(phone_blind) if phone_blind is not None else None,
        address_key=address_key(address),
        village_key=village_key(division, village),
        card=card,
        newborn=facts.newborn,
        placeholder=facts.placeholder,
        deceased=deceased is not None,
    )


def candidates(cur: Any, wanted: Sequence[Facts]) -> dict[int, list[_Known]]:
    """Active persons that share an identifier, a card, or name sound and birth date with each of ``wanted`` (by position)."""
    ids = [(n, f.id_blind) for n, f in enumerate(wanted) if f.id_blind]
    cards = [(n, f.card) for n, f in enumerate(wanted) if f.card]
    born = [(n, f.pinyin, f.birth_date) for n, f in enumerate(wanted) if f.birth_date]
    parts, params = [], []
    if ids:
        parts.append(
            f"SELECT r.n, {_CANDIDATE} FROM unnest(%s::int[], %s::bytea[]) AS r(n, b)"
            " JOIN index_person p ON p.id_blind = r.b AND p.status = 'active'"
        )
        params += [list(c) for c in zip(*ids, strict=True)]
    if cards:
        parts.append(
            f"SELECT r.n, {_CANDIDATE} FROM unnest(%s::int[], %s::text[]) AS r(n, c)"
            " JOIN index_person p ON p.card_number = r.c AND p.status = 'active'"
        )
        params += [list(c) for c in zip(*cards, strict=True)]
    if born:
        parts.append(
            f"SELECT r.n, {_CANDIDATE} FROM unnest(%s::int[], %s::text[], %s::date[]) AS r(n, y, d)"
            " JOIN index_person p ON p.pinyin = r.y AND p.birth_date = r.d AND p.status = 'active'"
        )
        params += [list(c) for c in zip(*born, strict=True)]
    found: dict[int, list[_Known]] = defaultdict(list)
    if not parts:
        return found
    cur.execute(" UNION ALL ".join(parts), params)
    shared: dict[int, _Known] = {}
    for n, *row in cur.fetchall():
        person = shared.setdefault(row[0], _Known(row[0], row[1], _person_facts(row), card=row[2]))
        if person not in found[n]:
            found[n].append(person)
    for people in found.values():
        people.sort(key=lambda k: k.person_id)
    return found


def _load_words(cur: Any, people: Iterable[_Known]) -> None:
    """Open the sources of known persons, so that their facts can be composed with what this batch adds."""
    by_id = {person.person_id: person for person in people}
    if not by_id:
        return
    cur.execute(
        "SELECT person_id, id, received_at, payload, disputed, institution_id, system, local_id, patient_id FROM index_sourcerecord"
        " WHERE person_id = ANY(%s) ORDER BY id",
        [sorted(by_id)],
    )
    for person_id, *row in cur.fetchall():
        by_id[person_id].words.append(_word(*row))


def _word(source_id: int, received_at: dt.datetime, stored: bytes, disputed: bool, *row: Any) -> Spoken:
    reg = payload.unpack(stored, *row)
    return Spoken(source_id, received_at, reg, facts_of(reg), disputed)


def _decide(cur: Any, items: list[_Item], now: dt.datetime) -> None:
    """Give every item its person: a known one, one made earlier in this batch, or a new one."""
    known = candidates(cur, [item.facts for item in items])
    _load_words(cur, (k for people in known.values() for k in people))
    by_id: dict[tuple[str, bytes], list[_Known]] = defaultdict(list)
    by_birth: dict[tuple[str, dt.date], list[_Known]] = defaultdict(list)

    def remember(person: _Known, facts: Facts) -> None:
        """Later items of the batch must meet this person, be it new or a known one that gained facts."""
        keys: list[list[_Known]] = []
        if facts.id_blind:
            keys.append(by_id[(facts.id_type, facts.id_blind)])
        if facts.birth_date:
            keys.append(by_birth[(facts.pinyin, facts.birth_date)])
        for held in keys:
            if not any(person is other for other in held):
                held.append(person)

    for n, item in enumerate(items):
        facts = item.facts
        near = list(known.get(n, ()))
        ids = by_id[(facts.id_type, facts.id_blind)] if facts.id_blind else []
        born = by_birth[(facts.pinyin, facts.birth_date)] if facts.birth_date else []
        for person in (*ids, *born):
            if not any(person is other for other in near):
                near.append(person)
        near.sort(key=lambda k: (k.created, k.person_id))  # stable: batch order among new ones
        decision = rules.decide(facts, [(k, k.facts) for k in near])
        item.reviews = decision.reviews
        item.reasons = (*decision.reasons, *facts.notes)
        if decision.target is not None:
            item.known, item.decision = decision.target, "linked"
        else:
            item.known = _Known(0, "", facts, created=True)
            item.decision = "review" if decision.reviews else "new"
            item.reasons += tuple(r for _, _, reasons in decision.reviews for r in reasons)
        word = Spoken(item.source_id, now, item.reg, facts)
        if item.decision == "linked":
            item.known.hear(word)
            remember(item.known, item.known.facts)
        else:
            item.known.words.append(word)
        remember(item.known, facts)


def _store(cur: Any, scope: Scope, items: list[_Item], now: dt.datetime) -> None:
    new = list({id(i.known): i.known for i in items if i.known.created}.values())
    if new:
        cur.execute(
            "SELECT nextval('index_person_id_seq'), nextval('index_number_seq') FROM generate_series(1, %s)",
            [len(new)],
        )
        for person, (person_id, n) in zip(new, cur.fetchall(), strict=True):
            person.person_id = person_id
            person.number, person.card = numbers.person_number(n), numbers.card_number(n)
    touched: dict[int, _Known] = {}
    for item in items:
        known = item.known
        if not known.created:
            touched[known.person_id] = known
    _copy_persons(cur, new)
    _copy(
        cur,
        "index_sourcerecord",
        ("id", "institution_id", "system", "local_id", "patient_id", "person_id", "payload", "payload_hash",
         "received_at", "version", "disputed"),
        (
            (i.source_id, i.reg.institution_id, i.reg.system, i.reg.local_id, i.reg.patient_id, i.known.person_id,
             payload.sealed(i.body), i.digest, now, 1, False)
            for i in items
        ),
    )  # fmt: skip
    for person_id in sorted(touched):
        _rewrite(cur, person_id, touched[person_id].words)
    _relate(cur, items, new, now)
    _copy(
        cur,
        "index_linkevent",
        ("person_id", "source_id", "kind", "before", "after", "reason", "account_id", "client_id", "at"),
        (
            (i.known.person_id, i.source_id, "linked" if i.decision == "linked" else "created", "{}", "{}",
             "；".join(i.reasons)[:300], scope.account_id, scope.client_id, now)
            for i in items
        ),
    )  # fmt: skip
    for item in items:
        for other, code, reasons in item.reviews:
            open_review(cur, code, item.known.person_id, other.person_id, item.source_id, reasons)
    _audit(cur, scope, items)


def _copy(cur: Any, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with cur.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as out:
        for row in rows:
            out.write_row(row)


def _copy_persons(cur: Any, people: Sequence[_Known]) -> None:
    if not people:
        return
    columns = ("id", "number", "card_number", "status", "version", *golden.COLUMNS)

    def rows() -> Iterable[tuple[Any, ...]]:
        for person in people:
            best = golden.compose(person.words)
            yield person.person_id, person.number, person.card, "active", 1, *best.row()

    _copy(cur, "index_person", columns, rows())


def _relate(cur: Any, items: Sequence[_Item], new: Sequence[_Known], now: dt.datetime) -> None:
    """'registration' for who registered (a term), 'home' for the home institution (no end)."""
    until = now + dt.timedelta(days=POLICY["registration_days"])
    made: dict[tuple[int, int, str], tuple[Any, ...]] = {}
    grants: list[relationships.Row] = []
    for item in items:
        known, reg = item.known, item.reg
        rows: list[relationships.Row] = [
            (known.person_id, reg.institution_id, "registration", "index", until)
        ]
        home = reg.home_institution_id
        if known.created and home and known.words[-1].reg.home_institution_id == home:
            rows.append((known.person_id, home, "home", "index", None))
        for row in rows:
            if known.created:
                made[row[:3]] = (*row[:4], now, row[4])
            else:
                grants.append(row)
    if made:
        columns = ("person_id", "institution_id", "kind", "source", "since", "until")
        _copy(cur, "access_relationship", columns, made.values())
    relationships.grant_many(grants, cursor=cur, since=now)


def relate_source(cur: Any, person_id: int, institution_id: int) -> None:
    """Give a registering institution its term of access to a person (a registration was moved there)."""
    now = clock.now()
    until = now + dt.timedelta(days=POLICY["registration_days"])
    relationships.grant_many(
        [(person_id, institution_id, "registration", "index", until)], cursor=cur, since=now
    )


def recompute(cur: Any, person_id: int) -> None:
    """Rewrite a person's golden fields from its sources; moves the 'home' relationship when the home changed."""
    cur.execute(
        "SELECT id, received_at, payload, disputed, institution_id, system, local_id, patient_id FROM index_sourcerecord WHERE person_id = %s ORDER BY id",
        [person_id],
    )
    if words := [_word(*row) for row in cur.fetchall()]:
        _rewrite(cur, person_id, words)


def _rewrite(cur: Any, person_id: int, words: Sequence[Spoken]) -> None:
    best = golden.compose(words)
    sets = ", ".join(f"{c} = %s" for c in golden.COLUMNS)
    cur.execute(
        f"UPDATE index_person SET {sets}, version = version + 1 WHERE id = %s", [*best.row(), person_id]
    )
    home = best.chosen["home"].reg.home_institution_id
    now = clock.now()
    cur.execute(
        "UPDATE access_relationship SET until = GREATEST(%s, since) WHERE person_id = %s AND kind = 'home'"
        " AND source = 'index' AND institution_id IS DISTINCT FROM %s AND (until IS NULL OR until > %s)",
        [now, person_id, home, now],
    )
    if home:
        relationships.grant_many([(person_id, home, "home", "index", None)], cursor=cur, since=now)


def open_review(cur: Any, code: str, a: int, b: int, source_id: int | None, reasons: Sequence[str]) -> None:
    """Ask a human, once per pair of persons ever (once per source while open, when both are the same person)."""
    cur.execute(
        "INSERT INTO index_reviewitem (kind, person_a_id, person_b_id, source_id, reasons, state, opened_at, note)"
        " VALUES (%s, %s, %s, %s, %s, 'open', %s, '') ON CONFLICT DO NOTHING",
        [code, a, b, source_id, json.dumps(list(reasons)[: POLICY["review_reasons"]]), clock.now()],
    )


def _update(cur: Any, scope: Scope, item: _Item, source_id: int, person_id: int, number: str) -> Registered:
    """A known source says something new: take it when it still fits, else keep the link and ask a human."""
    cur.execute(
        "SELECT id, received_at, payload, disputed, institution_id, system, local_id, patient_id FROM index_sourcerecord WHERE person_id = %s"
        " ORDER BY id FOR UPDATE",
        [person_id],
    )
    words, old = [], None
    for row in cur.fetchall():
        word = _word(*row)
        if word.source_id == source_id:
            old = word
        else:
            words.append(word)
    voices = [w for w in words if not w.disputed]
    code = ""
    if old is not None and rules.reused(item.facts, old.facts):
        code = "id_changed"
    elif voices and not rules.still_holds(item.facts, golden.compose(voices).facts):
        code = "link_lost"
    now = clock.now()
    if not item.reg.patient_id and old is not None:
        item.reg.patient_id = old.reg.patient_id
        item.body = payload.plain(item.reg)
    cur.execute(
        "UPDATE index_sourcerecord SET payload = %s, payload_hash = %s, received_at = %s,"
        " version = version + 1, disputed = %s, patient_id = COALESCE(%s, patient_id) WHERE id = %s",
        [payload.sealed(item.body), item.digest, now, bool(code), item.reg.patient_id, source_id],
    )
    until = now + dt.timedelta(days=POLICY["registration_days"])
    relationships.grant_many(
        [(person_id, item.reg.institution_id, "registration", "index", until)], cursor=cur, since=now
    )
    decision, reasons = "linked", tuple(item.facts.notes)
    if code:
        decision = "review"
        reasons = (
            "该院内号的资料已变为另一人" if code == "id_changed" else "更新后的资料与此人其他登记不符",
            *reasons,
        )
        open_review(cur, code, person_id, person_id, source_id, reasons)
    if not code or voices:
        recompute(cur, person_id)
    if not code:
        near = candidates(cur, [item.facts]).get(0, [])
        judged = rules.decide(item.facts, [(k, k.facts) for k in near if k.person_id != person_id])
        pairs = list(judged.reviews)
        if judged.target is not None:
            pairs.append((judged.target, "two_matches", judged.reasons))
        for other, kind, why in pairs:
            open_review(cur, kind, person_id, other.person_id, source_id, why)
    audit.write_many(
        [audit.entry(scope, "update", person_id=person_id, what=f"registration {source_id}")], cursor=cur
    )
    return Registered(person_id, number, source_id, False, decision, reasons)


def _audit(cur: Any, scope: Scope, items: Sequence[_Item]) -> None:
    if len(items) <= 20:
        entries = [
            audit.entry(
                scope,
                "create",
                person_id=i.known.person_id,
                what=f"registration {i.source_id}",
                detail={"decision": i.decision},
            )
            for i in items
        ]
    else:
        detail = {"count": len(items), "from": items[0].source_id, "to": items[-1].source_id}
        entries = [audit.entry(scope, "create", what="registrations", detail=detail)]
    audit.write_many(entries, cursor=cur)
