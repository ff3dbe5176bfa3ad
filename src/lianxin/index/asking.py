"""Questions to the index that write nothing: who might this be, and why was it decided so."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

from django.db import connection

from lianxin.access import connections
from lianxin.access.errors import Invalid
from lianxin.access.scope import Scope
from lianxin.index import active, crowds, decisions, numbers, payload, store
from lianxin.index.form import Form, Registration, form_of
from lianxin.index.match import model as models
from lianxin.index.match import score
from lianxin.index.match.keys import keys_of
from lianxin.index.match.levels import FIELDS, compare
from lianxin.index.match.model import Model
from lianxin.index.match.policy import AUTO, Candidate, Decision, Parts, decide, judge
from lianxin.standards.text import T


@dataclass(frozen=True, slots=True)
class Matched:
    """A person that a registration may be. ``grade``: FHIR match grade; only "certain" would be linked by itself."""

    person_id: int
    number: str
    bits: float
    probability: float
    grade: str
    parts: Parts


def match(scope: Scope | None, reg: Registration, limit: int = 20, *, cursor: Any = None) -> list[Matched]:
    """Persons that ``reg`` may be, best first; nothing is written, and who may see them is for the caller to say.

    ``scope``: asked for permission ``find_person`` when given. Persons who cannot be it (a veto) or almost surely are not are left out.
    """
    if scope is not None:
        scope.demand("find_person")
    if cursor is None and not connection.in_atomic_block:
        return connections.steady(lambda cur: _matched(cur, reg, limit))
    if cursor is None:
        with connection.cursor() as own:
            return _matched(store.plain(own), reg, limit)
    return _matched(store.plain(cursor), reg, limit)


def _matched(cur: Any, reg: Registration, limit: int) -> list[Matched]:
    held = active.ready(cur)
    form = form_of(reg, held.generic)
    near, held = _near(cur, form)
    found = []
    for person in near:
        judged = judge(form, Candidate(person.person_id, person.forms, person.person_id), held.model)
        if judged is None:
            continue
        grade = score.grade(judged.bits, False, held.model)
        if judged.verdict == AUTO:
            grade = score.CERTAIN
        elif grade == score.CERTAIN:
            grade = score.PROBABLE
        elif grade == score.CERTAINLY_NOT:
            if not judged.verdict:
                continue
            grade = score.POSSIBLE
        found.append((judged.verdict, judged.bits, -person.person_id, grade, person, judged))
    return [
        Matched(
            person.person_id,
            person.number,
            bits,
            score.probability(bits),
            grade,
            score.parts(judged.vector, form, judged.best, held.model),
        )
        for _, bits, _, grade, person, judged in heapq.nlargest(limit, found, key=lambda f: f[:3])
    ]


def _near(cur: Any, form: Form) -> tuple[list[store.Person], active.Held]:
    """Persons that share a key with a form, or whose e-health card it shows."""
    keys = keys_of(form)
    seen = store.look(cur, [keys])
    if seen.hits.get(0, 0) > crowds.CROWD:
        few = crowds.uncrowded(cur, keys, seen.held)
        if len(few) < len(keys):
            seen = store.look(cur, [few])
    if numbers.is_card_number(form.card):
        store.by_own_card(cur, [(0, form.card)], seen.people)
    return seen.people.get(0, []), seen.held


@dataclass(frozen=True, slots=True)
class Explained:
    """A decision told again. ``weighed``: (person id, kind, bits then, waterfall then); ``now``: what the active model says of the
    registration today, its own person's other registrations and everybody else being there."""

    source_id: int
    person_id: int
    kind: str
    model: str
    weighed: tuple[tuple[int, str, float, Parts], ...]
    now: Decision
    now_model: str


def explain(
    scope: Scope, source_id: int | None = None, *, event_id: int | None = None, cursor: Any = None
) -> Explained:
    """Why a registration was linked as it was (by source, or by event of the log), and what would be decided now.

    Permission ``review_links``. Raises :class:`Invalid` when there is no such registration or decision.
    """
    scope.demand("review_links")
    if cursor is None:
        with connection.cursor() as own:
            return explain(scope, source_id, event_id=event_id, cursor=own)
    cur = store.plain(cursor)
    which, given = (
        ("e.id = %s", event_id) if event_id is not None else ("s.id = %s AND e.at = s.received_at", source_id)
    )
    cur.execute(
        "SELECT e.kind, e.person_id, e.decision, s.id, s.person_id, s.payload FROM index_linkevent e"
        " JOIN index_sourcerecord s ON s.id = e.source_id WHERE e.kind IN ('created', 'linked', 'updated')"
        f" AND {which} ORDER BY e.id DESC LIMIT 1",
        [given],
    )
    row = cur.fetchone()
    if row is None:
        raise Invalid(
            {"source": T("没有这条登记的判定记录。", "There is no decision about this registration.")}
        )
    kind, person_then, stored, source, person_now, body = row
    held = active.fresh(cur)
    form = form_of(payload.unpack(body), held.generic)
    kept = decisions.unpack(stored)
    used = _model(cur, kept.model, held.model)
    near, held = _near(cur, form)
    others = {p.person_id: p for p in near}
    weighed = tuple(
        (w.person_id, w.kind, w.bits, _waterfall(form, w.vector, others.get(w.person_id), used))
        for w in kept.weighed
    )
    rest = _without(cur, source, person_now, held)
    if rest:
        others[person_now] = store.Person(person_now, forms=rest)
    else:
        others.pop(person_now, None)
    now = decide(form, [Candidate(p.person_id, p.forms, p.person_id) for p in others.values()], held.model)
    return Explained(source, person_then, kind, kept.model, weighed, now, held.model.version)


def _model(cur: Any, version: str, held: Model) -> Model:
    """The model of a version; the active one when that version is not kept any more."""
    if version in ("", held.version):
        return held
    cur.execute("SELECT body FROM index_indexmodel WHERE version = %s", [version])
    row = cur.fetchone()
    if row is not None:
        return models.load(bytes(row[0]))
    return models.DEFAULT if version == models.DEFAULT.version else held


def _waterfall(form: Form, vector: tuple[int, ...], person: store.Person | None, model: Model) -> Parts:
    """The parts of a stored level vector, with the rarity of the names of the registration that it was compared with."""
    if len(vector) != len(FIELDS):
        return ()
    other = next((f for f in person.forms if compare(form, f) == vector), form) if person else form
    return score.parts(vector, form, other, model)


def _without(cur: Any, source_id: int, person_id: int, held: active.Held) -> list[Form]:
    """Forms of a person's other registrations."""
    cur.execute(
        "SELECT payload FROM index_sourcerecord WHERE person_id = %s AND id <> %s AND NOT disputed",
        [person_id, source_id],
    )
    return [form_of(payload.unpack(body), held.generic) for (body,) in cur.fetchall()]
