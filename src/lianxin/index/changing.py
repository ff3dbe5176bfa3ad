"""A known source says something new: it is taken when it still fits its person; else the link stays and a human is asked.

The link is never moved silently. It is lost when the new words fit the person's other registrations worse than the old ones did,
and not well enough to link by themselves; a local number was given to somebody else when old and new cannot be one person.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.index import decisions, engine, refit, store
from lianxin.index.form import Form, form_of
from lianxin.index.match.model import Model
from lianxin.index.match.policy import AUTO, Candidate, Judged, judge
from lianxin.index.match.score import probability
from lianxin.standards import clock

_UPDATE = (
    "UPDATE index_sourcerecord SET payload = %s, payload_hash = %s, received_at = %s, version = version + 1, disputed = %s,"
    " patient_id = COALESCE(%s, patient_id) WHERE id = %s"
)
_EVENT = (
    "INSERT INTO index_linkevent (person_id, source_id, kind, before, after, reason, account_id, client_id, at, decision)"
    " VALUES (%s, %s, 'updated', '{}', '{}', '', %s, %s, %s, %s)"
)


def update(cur: Any, scope: Scope, item: engine.Item, known: store.Source) -> engine.Registered:
    """Take the new words of a source; the source and its person are locked until the transaction ends."""
    if not store.still_there(cur, [known.person_id]):
        cur.execute("SELECT person_id FROM index_sourcerecord WHERE id = %s FOR UPDATE", [known.source_id])
        known.person_id = cur.fetchone()[0]
        known.number = store.still_there(cur, [known.person_id])[known.person_id][0] or ""
    words = refit.words_of(cur, [known.person_id])[known.person_id]
    old = next(w for w in words if w.source_id == known.source_id)
    seen = store.look(cur, [item.keys])
    model, generic = seen.held.model, seen.held.generic
    was = form_of(old.reg, generic)
    rest = [form_of(w.reg, generic) for w in words if w is not old and not w.disputed]
    code, why = _lost(item.form, was, rest, known.person_id, model)
    now = clock.now()
    if not item.reg.patient_id:
        item.reg.patient_id = old.reg.patient_id
    item.source_id = known.source_id
    cur.execute(
        _UPDATE,
        [item.sealed, item.digest, now, bool(code), item.reg.patient_id, known.source_id],
    )
    if not code or rest:
        refit.refit(cur, [known.person_id])
    until = now + dt.timedelta(days=engine.POLICY["registration_days"])
    relationships.grant_many(
        [(known.person_id, item.reg.institution_id, "registration", "index", until)], cursor=cur, since=now
    )
    others = [p for p in seen.people.get(0, ()) if p.person_id != known.person_id]
    decision = engine.judged(cur, item.form, others, model)
    questions: list[engine.Question] = []
    if code:
        bits, parts = (why.bits, ()) if why is not None else (0.0, ())
        questions.append(
            (
                code,
                known.person_id,
                known.person_id,
                known.source_id,
                bits,
                probability(bits),
                parts,
                model.version,
            )
        )
    else:
        found = list(decision.reviews)
        if decision.target is not None:
            found.append((decision.target, "two_matches", decision.bits, decision.parts))
        found += [(other, "two_matches", decision.bits, ()) for other in decision.joins]
        questions += [
            (kind, known.person_id, other, known.source_id, bits, probability(bits), parts, model.version)
            for other, kind, bits, parts in found
        ]
    engine.ask(cur, questions)
    cur.execute(
        _EVENT,
        [
            known.person_id,
            known.source_id,
            scope.account_id,
            scope.client_id,
            now,
            decisions.pack(decision, model.version),
        ],
    )
    audit.write_many(
        [audit.entry(scope, "update", person_id=known.person_id, what=f"registration {known.source_id}")],
        cursor=cur,
    )
    return engine.Registered(
        known.person_id,
        known.number,
        known.source_id,
        False,
        "review" if code else "linked",
        (code, *item.notes) if code else tuple(item.notes),
    )


def _lost(new: Form, old: Form, rest: list[Form], person_id: int, model: Model) -> tuple[str, Judged | None]:
    """("", …) when the link holds, else the kind of review and what the policy thought."""
    same = judge(new, Candidate(0, [old]), model)
    if same is None or same.verdict == 0:
        return "id_changed", same
    if not rest:
        return "", None
    now = judge(new, Candidate(person_id, rest), model)
    if now is not None and now.verdict == AUTO:
        return "", now
    before = judge(old, Candidate(person_id, rest), model)
    worse = now is None or (
        before is not None and (now.verdict, round(now.bits, 3)) < (before.verdict, round(before.bits, 3))
    )
    return ("link_lost", now) if worse else ("", now)
