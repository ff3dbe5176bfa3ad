"""Registering people, one or many thousands, by one code path of set-based SQL inside the caller's transaction.

Order of events (READ COMMITTED): take advisory locks on what identifies the newcomers, look up sources and candidates in the
next statement (:mod:`lianxin.index.store`), decide in Python (:mod:`lianxin.index.match.policy`), write in one statement. What
follows from a person's sources is written by :mod:`lianxin.index.refit`; a known source that says something new goes through
:mod:`lianxin.index.changing`.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from psycopg.pq import TransactionStatus

from lianxin.access import audit, journal, relationships
from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.scope import Scope
from lianxin.index import active, crowds, decisions, golden, numbers, payload, pipeline, refit, store
from lianxin.index.apart import apart
from lianxin.index.facts import tidy
from lianxin.index.form import Form, Registration, form_with_notes, pack
from lianxin.index.golden import Spoken
from lianxin.index.match.keys import keys_of, locks_of
from lianxin.index.match.model import Model
from lianxin.index.match.policy import Candidate, Decision, decide
from lianxin.index.match.score import probability
from lianxin.index.store import Person
from lianxin.standards import clock
from lianxin.standards.text import T

POLICY: dict[str, int] = {"registration_days": 90, "encounter_days": 30, "review_reasons": 10}
"""Figures of access and review; consortium rules may later override them."""

CHUNK = 5000
_HOME = golden.COLUMNS.index("home_institution_id")
TRIES = 3
"""Times a batch is decided anew because a person it was linked to was merged away meanwhile."""
current_model = active.current_model

Question = tuple[str, int, int, int | None, float | None, float | None, Any, str]
"""(kind, person, other, source, bits, probability, parts, model version): what people are asked."""


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
class Item:
    """One registration on its way."""

    at: int
    reg: Registration
    form: Form
    packed: bytes
    keys: list[int]
    body: bytes
    notes: list[str]
    digest: bytes = b""
    sealed: bytes = b""
    source_id: int = 0
    person: Person = field(default_factory=lambda: Person(0))
    decision: Decision | None = None
    stored: list[int] | None = None  # keys to be stored with the form; None: the person has the form already

    @property
    def source(self) -> tuple[int, str, str]:
        """What names its source record."""
        return self.reg.institution_id, self.reg.system, self.reg.local_id


def register_batch(
    cur: Any, scope: Scope, regs: Sequence[Registration], *, plain: bool = False
) -> list[Registered]:
    """Register ``regs`` with ``cur`` inside its transaction; results in the same order.

    Raises :class:`NotPermitted` when the scope may not register for an institution, :class:`Invalid` for a registration
    without institution, system, local id or name (the message names which one). ``plain``: it begins (and
    may end) the transaction itself, and raises :class:`NotPlain` rather than join persons or take an update.
    """
    permit(scope, regs)
    cur = store.plain(cur)
    held = active.ready(cur)
    named = {i for reg in regs for i in (reg.institution_id, reg.home_institution_id) if i is not None}
    if active.unknown(cur, held, named):
        raise Invalid({"institution": T("没有这个机构。", "There is no such institution.")})
    opening = [(pipeline.BEGIN, ())] if plain else []
    out: dict[int, Registered] = {}
    for start in range(0, len(regs), CHUNK):
        waiting = [item_of(start + k, reg, held) for k, reg in enumerate(regs[start : start + CHUNK])]
        before = [*opening, locking(waiting)]
        opening = []
        while waiting:
            # The same local id twice in a batch is an update of the first: it waits for the next round.
            seen: set[tuple[int, str, str]] = set()
            first: list[Item] = []
            later: list[Item] = []
            for item in waiting:
                (later if item.source in seen else first).append(item)
                seen.add(item.source)
            out.update(_round(cur, scope, first, before, plain))
            before = []
            waiting = later
    return [out[k] for k in range(len(regs))]


def permit(scope: Scope, regs: Sequence[Registration]) -> None:
    """Raise what :func:`register_batch` raises for registrations that may not be."""
    scope.demand("register_person")
    for k, reg in enumerate(regs):
        if not scope.everything and reg.institution_id not in scope.institution_ids:
            raise NotPermitted(
                T(
                    "只能以本机构名义登记居民，请切换到该机构的岗位。",
                    "Residents are registered for one's own institution; switch to a post there.",
                )
            )
        if reg.institution_id and reg.system and reg.local_id and reg.name and tidy(reg.name):
            continue
        missing = {}
        if not reg.institution_id:
            missing["institution"] = T("缺少登记机构。", "The registering institution is missing.")
        if not reg.system or not reg.local_id:
            missing["local_id"] = T(
                "缺少来源系统或院内号。", "The source system or its local number is missing."
            )
        if not tidy(reg.name):
            missing["name"] = T("第{n}条缺少姓名。", "Registration {n} has no name.").format(n=k + 1)
        raise Invalid(missing)


def item_of(at: int, reg: Registration, held: active.Held) -> Item:
    """A registration made ready: its form, keys and payload. Raises :class:`Invalid` for text that no database can hold."""
    named = f"{reg.system}{reg.local_id}{reg.patient_id}{reg.division}"
    try:
        if (
            "\0" in named
            or len(reg.system) > 200
            or len(reg.local_id) > 200
            or len(reg.patient_id or "") > 64
        ):
            raise UnicodeError
        named.encode()
        body = payload.plain(reg)
    except UnicodeError:
        raise Invalid(
            {
                "local_id": T(
                    "第{n}条含有无法保存的字符，或院内号、系统名过长。",
                    "Registration {n} has characters that cannot be kept, or too long a local number or system name.",
                ).format(n=at + 1)
            }
        ) from None
    form, notes = form_with_notes(reg, held.generic)
    return Item(at, reg, form, pack(form), keys_of(form), body, notes)


def locking(items: Sequence[Item]) -> pipeline.Step:
    """Nobody else registers these people or these sources until the transaction ends."""
    many = len(items) > store.FINE
    locks: set[int] = set()
    if not many:
        for item in items:
            named = "|".join(map(str, item.source)).encode()
            locks.add(int.from_bytes(blake2b(named, digest_size=8).digest(), "big", signed=True))
            locks.update(locks_of(item.form))
    return store.locking(locks, many)


def _round(
    cur: Any, scope: Scope, items: list[Item], before: Sequence[pipeline.Step], plain: bool
) -> dict[int, Registered]:
    def sealing() -> None:
        for item in items:
            item.digest, item.sealed = payload.digest(item.body), payload.sealed(item.body)

    for _ in range(TRIES):
        seen = store.look(cur, [i.keys for i in items], [i.source for i in items], before, sealing)
        before = ()
        if crowds.noted(cur, [i.keys for i in items], seen):
            seen = store.look(cur, [i.keys for i in items], [i.source for i in items])
        cards = [(n, i.form.card) for n, i in enumerate(items) if numbers.is_card_number(i.form.card)]
        if cards:
            store.by_own_card(cur, cards, seen.people)
        out: dict[int, Registered] = {}
        fresh: list[tuple[int, Item]] = []
        changed: list[tuple[Item, store.Source]] = []
        for n, item in enumerate(items):
            known = seen.sources.get(n)
            if known is None:
                fresh.append((n, item))
            elif known.digest == item.digest:
                out[item.at] = Registered(
                    known.person_id, known.number, known.source_id, False, "same_source"
                )
            else:
                changed.append((item, known))
        if changed and plain:
            raise NotPlain
        if fresh:
            weigh(cur, fresh, seen)
            if plain and any(i.decision is not None and i.decision.joins for _, i in fresh):
                raise NotPlain
            kept = _kept(cur, [item for _, item in fresh])
            if kept is None:
                continue  # a person was merged away since the look-up: whose these are is asked again
            now = clock.now()  # once the persons are locked: whoever had them before has an earlier time
            out.update(_store(cur, scope, [item for _, item in fresh], kept, seen.held.model, now, plain))
        if changed:
            from lianxin.index import changing

            for item, known in changed:
                out[item.at] = changing.update(cur, scope, item, known)
        return out
    raise Invalid(
        {"person": T("此人正在被合并，请重试。", "The person is being merged at this moment; try again.")}
    )


def weigh(cur: Any, fresh: Sequence[tuple[int, Item]], seen: store.Seen) -> None:
    """Give every item its person: a known one, one made earlier in this batch, or a new one."""
    held, several = seen.held, len(fresh) > 1
    met: dict[int, list[Person]] = {}
    ids = numbers.take_sources(cur, len(fresh))
    for (n, item), source_id in zip(fresh, ids, strict=True):
        item.source_id = source_id
        near = {p.alive().person_id: p.alive() for p in seen.people.get(n, ())}
        if several:
            for key in item.keys:
                for person in met.get(key, ()):
                    near[person.alive().person_id] = person.alive()
        decision = judged(cur, item.form, list(near.values()), held.model)
        item.decision = decision
        if decision.target is not None:
            person = near[decision.target]
            for gone in decision.joins:
                _absorb(person, near[gone])
        else:
            ((person_id, number, card),) = numbers.take_people(cur, 1)
            person = Person(person_id, number, card, new=True)
        item.person = person
        if item.packed in person.bodies:
            item.stored = None
        else:
            item.stored = [k for k in item.keys if k not in person.keys and k not in held.crowd]
            person.bodies.add(item.packed)
            person.forms.append(item.form)
            person.keys.update(item.stored)
        if several:
            for key in item.keys:
                held_here = met.setdefault(key, [])
                if person not in held_here and len(held_here) <= crowds.CROWD:
                    held_here.append(person)


def judged(cur: Any, form: Form, near: Sequence[Person], model: Model) -> Decision:
    """The decision among candidates; who was said never to be one person is asked only when two would become one."""
    candidates = [Candidate(p.person_id, p.forms, p.person_id) for p in near]
    decision = decide(form, candidates, model)
    if decision.joins:
        said = apart(cur, [p.person_id for p in near if not p.new])
        for candidate in candidates:
            candidate.apart = said.get(candidate.person_id, frozenset())
        decision = decide(form, candidates, model)
    return decision


def _absorb(person: Person, gone: Person) -> None:
    gone.into = person
    person.forms += gone.forms
    person.bodies |= gone.bodies
    person.keys |= gone.keys


Kept = dict[int, list[str | None]]
"""Golden columns of the known persons that newcomers are linked to."""


def _kept(cur: Any, items: Sequence[Item]) -> Kept | None:
    """The known persons that items are linked to, locked; None when one of them was merged away meanwhile."""
    ids = sorted({i.person.person_id for i in items if not i.person.new})
    if not ids:
        return {}
    kept = store.still_there(cur, ids)
    return kept if len(kept) == len(ids) else None


def _store(
    cur: Any,
    scope: Scope,
    items: Sequence[Item],
    kept: Kept,
    model: Model,
    now: dt.datetime,
    plain: bool,
) -> dict[int, Registered]:
    people = {i.person.person_id: i.person for i in items}
    until = now + dt.timedelta(days=POLICY["registration_days"])
    terms: dict[tuple[int, int, str], dt.datetime | None] = {
        (i.person.person_id, i.reg.institution_id, "registration"): until for i in items
    }
    made: list[tuple[int, str, str, Sequence[Any]]] = []
    changed: list[tuple[int, Mapping[str, Any]]] = []
    homes: list[tuple[int, int | None]] = []
    loud: dict[int, list[Spoken]] = {}
    for item in items:
        person = item.person
        if person.new or person.person_id in loud:
            person.words.append(Spoken(item.source_id, now, item.reg, item.form))
        elif told := refit.news(kept[person.person_id], item.reg, item.form):
            if len(items) == 1 and told <= refit.LAST:
                changed.append((person.person_id, refit.latest(told, item.reg, item.form)))
                continue
            person.words.append(Spoken(item.source_id, now, item.reg, item.form))
            loud[person.person_id] = person.words
    said = store.said(cur, sorted(loud)) if loud else {}
    for person_id, person in people.items():
        if person.new:
            row = golden.compose(person.words).row()
            made.append((person_id, person.number, person.card, row))
            if (home := row[_HOME]) is not None:
                terms[person_id, home, "home"] = None
            continue
        values = kept[person_id]
        person.number = values[0] or ""
        if person_id in loud:
            better, home = refit.composed(values, [*map(refit.opened, said[person_id]), *person.words])
            if better is not None:
                changed.append((person_id, better))
            if home != refit.home_of(values):
                homes.append((person_id, home))
    outcome = {i.at: outcome_of(i.decision) for i in items if i.decision is not None}
    questions = _questions(items, model)
    batch = store.Batch(
        made,
        changed,
        [_row(i, outcome[i.at], model) for i in items],
        [(i.person.person_id, i.stored, i.packed, i.person.new) for i in items if i.stored is not None],
        terms,
        scope.account_id,
        scope.client_id,
        now,
    )
    if len(items) == 1:
        last = plain and not questions and not homes
        written = store.write(
            cur, batch, _event(scope, items[0], outcome[items[0].at]), [(pipeline.COMMIT, ())] if last else ()
        )
        if written is not None and plain:
            _mine.unlinked.append(written)
    else:
        store.write(cur, batch, None)
        _audit(cur, scope, items, outcome)
    refit.move_homes(cur, homes)
    ask(cur, questions)
    _join(cur, items)
    return {
        i.at: Registered(
            i.person.person_id,
            i.person.number,
            i.source_id,
            outcome[i.at] in ("new", "review"),
            outcome[i.at],
            reasons(i),
        )
        for i in items
    }


def outcome_of(decision: Decision) -> str:
    """new | linked | review."""
    if decision.target is not None:
        return "linked"
    return "review" if decision.reviews else "new"


def reasons(item: Item) -> tuple[str, ...]:
    """Codes of a decision ("field.level"; kinds of review) and of what was odd in the registration."""
    decision = item.decision
    if decision is None:
        return tuple(item.notes)
    return (*decision.reasons, *(kind for _, kind, _, _ in decision.reviews), *item.notes)


def _row(item: Item, outcome: str, model: Model) -> store.Row:
    reg = item.reg
    return store.Row(
        item.source_id,
        item.person.person_id,
        reg.institution_id,
        reg.system,
        reg.local_id,
        reg.patient_id,
        item.sealed,
        item.digest,
        "linked" if outcome == "linked" else "created",
        decisions.pack(item.decision, model.version) if item.decision is not None else None,
    )


def _questions(items: Iterable[Item], model: Model) -> list[Question]:
    return [
        (kind, item.person.person_id, other, item.source_id, bits, probability(bits), parts, model.version)
        for item in items
        if item.decision is not None
        for other, kind, bits, parts in item.decision.reviews
    ]


def ask(cur: Any, questions: Sequence[Question]) -> None:
    """Ask people about pairs, each once."""
    if questions:
        from lianxin.index import reviews

        reviews.open_many(cur, questions)


def _join(cur: Any, items: Iterable[Item]) -> None:
    """Persons that one registration proves to be one become one; the older number stays."""
    for item in items:
        if item.decision is not None and item.decision.joins:
            from lianxin.index import links

            for gone in item.decision.joins:
                keep, other = sorted((item.person.person_id, gone))
                links.join(cur, keep, other, f"registration {item.source_id}")
                item.person.person_id = keep
            cur.execute("SELECT number FROM index_person WHERE id = %s", [item.person.person_id])
            item.person.number = cur.fetchone()[0]


def relate_source(cur: Any, person_id: int, institution_id: int) -> None:
    """Give a registering institution its term of access to a person (a registration was moved there)."""
    now = clock.now()
    until = now + dt.timedelta(days=POLICY["registration_days"])
    relationships.grant_many(
        [(person_id, institution_id, "registration", "index", until)], cursor=cur, since=now
    )


def recompute(cur: Any, person_id: int) -> None:
    """Rewrite what follows from a person's sources: golden fields, forms and keys, 'home'; those merged into it keep none."""
    cur = store.plain(cur)
    cur.execute(
        "DELETE FROM index_form f USING index_person p WHERE p.merged_into_id = %s AND f.person_id = p.id",
        [person_id],
    )
    refit.refit(cur, [person_id])


def _event(scope: Scope, item: Item, outcome: str) -> audit.Entry:
    return audit.entry(
        scope,
        "create",
        person_id=item.person.person_id,
        what=f"registration {item.source_id}",
        detail={"decision": outcome},
    )


def _audit(cur: Any, scope: Scope, items: Sequence[Item], outcome: dict[int, str]) -> None:
    if len(items) <= 20:
        entries = [_event(scope, i, outcome[i.at]) for i in items]
    else:
        detail = {"count": len(items), "from": items[0].source_id, "to": items[-1].source_id}
        entries = [audit.entry(scope, "create", what="registrations", detail=detail)]
    audit.write_many(entries, cursor=cur)


# --------------------------------------------------------------------------------------------------- one, at once


class NotPlain(Exception):
    """What is to be done is more than a plain registration: it belongs on Django's connection."""


class _Mine(threading.local):
    def __init__(self) -> None:
        self.unlinked: list[tuple[int, bytes]] = []


_mine = _Mine()


def register_one(cur: Any, scope: Scope, reg: Registration) -> Registered:
    """Register one person in a transaction of its own on this thread's steady connection; its audit event is linked after commit.

    Raises :class:`NotPlain`, with nothing done, when persons are to be joined or a known source says something new: rooms above take
    part in that, on Django's connection.
    """
    pg = cur.connection.pgconn
    _mine.unlinked.clear()
    try:
        (done,) = register_batch(cur, scope, [reg], plain=True)
        if pg.transaction_status != TransactionStatus.IDLE:
            pipeline.command(pg, b"COMMIT")
    except BaseException:
        if pg.transaction_status != TransactionStatus.IDLE:
            pipeline.command(pg, b"ROLLBACK")
        raise
    for event_id, digest in _mine.unlinked:
        journal.link_later(event_id, digest)
    return done
