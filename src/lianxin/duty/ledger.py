"""The writes of an act, in as few statements as possible, all inside the kernel's transaction.

Raw SQL on purpose: one act touches the case, its duties, the act log, notices and the outbox, and the kernel's speed is
counted in round trips.
"""

from __future__ import annotations

import json
from typing import Any

from django.db import IntegrityError, connection

from lianxin.access import relationships
from lianxin.duty import chain, clocks
from lianxin.duty.errors import KeyReused
from lianxin.duty.machine import Ctx, Tell
from lianxin.duty.models import Act, Case
from lianxin.duty.plan import Owed, Plan
from lianxin.standards.text import Text

_END = """
UPDATE duty_duty d SET ended = x.ended, discharged_seq = x.seq, discharged_at = x.at, due_at = x.due_at, spec = x.spec,
       paused_since = x.paused_since, pause_until = x.pause_until, paused_minutes = x.paused_minutes,
       next_escalation_at = x.next_at
  FROM jsonb_to_recordset(%s) AS x(id bigint, ended text, seq int, at timestamptz, due_at timestamptz, spec text,
       paused_since timestamptz, pause_until timestamptz, paused_minutes int, next_at timestamptz)
 WHERE d.id = x.id"""

_CASE_COLUMNS = (
    "id", "number", "kind", "person_id", "state", "facts", "version", "owner_institution_id", "owner_role", "due_at",
    "priority", "pathway_start", "opened_at", "changed_at", "closed_at", "terminal", "head_seq", "head_hash",
)  # fmt: skip
_CHANGING = [c for c in _CASE_COLUMNS if c not in ("id", "number", "kind", "person_id", "opened_at")]
_INSERT_CASE = (
    f"INSERT INTO duty_case ({', '.join(_CASE_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_CASE_COLUMNS))})"
)
_UPDATE_CASE = f"UPDATE duty_case SET {', '.join(f'{c} = %s' for c in _CHANGING)} WHERE id = %s"

_ACT_COLUMNS = (
    "case_id", "seq", "move", "from_state", "to_state", "account_id", "client_id", "practitioner_id", "institution_id",
    "actor", "role", "at", "form", "outcome", "key", "request_hash", "prev_hash", "hash",
)  # fmt: skip
_INSERT_ACT = (
    f"INSERT INTO duty_act ({', '.join(_ACT_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_ACT_COLUMNS))})"
)

_OPEN = """
INSERT INTO duty_duty (case_id, person_id, kind, label_zh, label_en, party, owner_institution_id, owner_role,
       owner_account_id, button, clock, spec, since, opened_seq, opened_at, due_at, paused_since, pause_until,
       paused_minutes, ended, level, next_escalation_at)
SELECT %s, %s, x.kind, x.label_zh, x.label_en, x.party, x.institution, x.role, x.account, x.button, x.clock, x.spec,
       x.since, %s, x.opened_at, x.due_at, x.paused_since, x.pause_until, x.paused_minutes, '', 0, x.next_at
  FROM jsonb_to_recordset(%s) AS x(kind text, label_zh text, label_en text, party text, institution bigint, role text,
       account bigint, button text, clock text, spec text, since text, opened_at timestamptz, due_at timestamptz,
       paused_since timestamptz, pause_until timestamptz, paused_minutes int, next_at timestamptz)"""

_TELL = """
INSERT INTO duty_notice (case_id, institution_id, role, account_id, text_zh, text_en, level, created_at)
SELECT %s, x.institution, x.role, x.account, x.zh, x.en, 0, %s
  FROM jsonb_to_recordset(%s) AS x(institution bigint, role text, account bigint, zh text, en text)"""

_EMIT = """
INSERT INTO duty_outbox (topic, key, payload, created_at, attempts, not_before, last_error)
SELECT x.topic, %s, x.payload, %s, 0, %s, '' FROM jsonb_to_recordset(%s) AS x(topic text, payload jsonb)"""


def _dump(value: Any) -> str:
    return json.dumps(chain.plain(value), ensure_ascii=False)


def _next_step(ctx: Ctx, duty: Owed) -> Any:
    return clocks.escalation_at(duty.due_at, duty.level, ctx.machine.escalation)


def _end_and_change(ctx: Ctx, plan: Plan, seq: int) -> None:
    rows = [
        {"id": d.id, "ended": how, "seq": seq, "at": ctx.now, "next_at": None, **d.clock_state()}
        | {"paused_since": None, "pause_until": None}
        for d, how in plan.ended
    ]
    rows += [
        {"id": d.id, "ended": "", "seq": None, "at": None, "next_at": _next_step(ctx, d), **d.clock_state()}
        for d in plan.changed
    ]
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(_END, [_dump(rows)])


def _notices(ctx: Ctx, plan: Plan, told: list[Tell]) -> list[dict[str, Any]]:
    """The owner of each newly opened duty learns of it unless it is the actor's own; then what the effect tells."""
    rows = []
    for duty in plan.opened:
        if duty.institution_id in ctx.by.institution_ids and duty.role in ctx.by.roles:
            continue
        rows.append((duty.institution_id, duty.role, duty.account_id, duty.label))
    for tell in told:
        institution = ctx.parties.get(tell.party)
        if institution is not None:
            rows.append((institution, tell.role, tell.account_id, tell.text))
    head = ctx.machine.label
    return [
        {
            "institution": institution,
            "role": role,
            "account": account,
            "zh": f"{head.zh} {ctx.case.number}：{text.zh}"[:240],
            "en": f"{head.en} {ctx.case.number}: {text.en}"[:320],
        }
        for institution, role, account, text in rows
    ]


def _write_parties(case: Case, before: dict[str, int], after: dict[str, int], seq: int) -> None:
    gone = [part for part, institution in before.items() if after.get(part) != institution]
    came = [(part, institution) for part, institution in after.items() if before.get(part) != institution]
    with connection.cursor() as cursor:
        if gone:
            cursor.execute(
                "UPDATE duty_caseparty SET until_seq = %s WHERE case_id = %s AND until_seq IS NULL AND part = ANY(%s)",
                [seq, case.pk, gone],
            )
        if came:
            cursor.execute(
                "INSERT INTO duty_caseparty (case_id, part, institution_id, since_seq)"
                " SELECT %s, x.part, x.institution, %s FROM unnest(%s::text[], %s::bigint[]) AS x(part, institution)",
                [case.pk, seq, [p for p, _ in came], [i for _, i in came]],
            )


def access_source(case_id: int, institution_id: int) -> str:
    """The source under which a case gives an institution access to its patient."""
    return f"duty:{case_id}:{institution_id}"


def _grant_access(ctx: Ctx, plan: Plan, before: set[int]) -> None:
    """Access follows the duty: given with the first part or duty, ended with the last, or some days after the case."""
    case = ctx.case
    if case.person_id is None:
        return
    after = ctx.machine.readers(plan.parties) | {d.institution_id for d in plan.duties.values()}
    came = after - before
    if came:
        relationships.grant_many(
            [(case.person_id, i, "duty", access_source(case.pk, i), None) for i in sorted(came)]
        )
    for institution in sorted(before - after):
        relationships.end(access_source(case.pk, institution), at=ctx.now)
    if plan.target.terminal:
        later = clocks.due(ctx.now, f"{plan.target.access_days}d")
        for institution in sorted(after):
            relationships.end(access_source(case.pk, institution), at=later)


def write(
    ctx: Ctx,
    plan: Plan,
    act: Act,
    *,
    new: bool,
    parties_before: dict[str, int],
    institutions_before: set[int],
    told: list[Tell],
    events: list[tuple[str, dict[str, Any]]],
) -> None:
    """Write the whole change; the case's row must be locked (or be new). Raises KeyReused when the key is taken."""
    case, seq = ctx.case, act.seq
    case.state, case.facts, case.version, case.changed_at = plan.target.code, plan.facts, seq, ctx.now
    case.owner_institution_id = plan.lead.institution_id if plan.lead else None
    case.owner_role = plan.lead.role if plan.lead else ""
    case.due_at = plan.lead.due_at if plan.lead else None
    case.terminal = plan.target.terminal
    case.closed_at = ctx.now if plan.target.terminal else None
    act.prev_hash = bytes(case.head_hash) or chain.GENESIS
    act.hash = chain.act_hash(act, act.prev_hash)
    case.head_seq, case.head_hash = seq, act.hash

    _end_and_change(ctx, plan, seq)
    values = {c: getattr(case, c) for c in _CASE_COLUMNS} | {"facts": _dump(case.facts)}
    parts, params = [], []
    columns = _CASE_COLUMNS if new else [*_CHANGING, "id"]
    parts.append(_INSERT_CASE if new else _UPDATE_CASE)
    params += [values[c] for c in columns]
    row = {c: getattr(act, c) for c in _ACT_COLUMNS} | {
        "form": _dump(act.form),
        "outcome": _dump(act.outcome),
    }
    parts.append(_INSERT_ACT)
    params += [row[c] for c in _ACT_COLUMNS]
    if plan.opened:
        parts.append(_OPEN)
        params += [case.pk, case.person_id, seq, _dump([_opened_row(ctx, d) for d in plan.opened])]
    notices = _notices(ctx, plan, told)
    if notices:
        parts.append(_TELL)
        params += [case.pk, ctx.now, _dump(notices)]
    parts.append(_EMIT)
    params += [
        case.number,
        ctx.now,
        ctx.now,
        _dump([{"topic": topic, "payload": payload} for topic, payload in events]),
    ]
    ctes = ", ".join(f"w{n} AS ({sql} RETURNING id)" for n, sql in enumerate(parts))
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"WITH {ctes} SELECT id FROM w1", params)
            act.pk = cursor.fetchone()[0]
    except IntegrityError as error:
        if "duty_act_key" in str(error):
            raise KeyReused from error
        raise
    if parties_before != plan.parties:
        _write_parties(case, parties_before, plan.parties, seq)
    _grant_access(ctx, plan, institutions_before)


def _opened_row(ctx: Ctx, duty: Owed) -> dict[str, Any]:
    label: Text = duty.label
    return {
        "kind": duty.kind, "label_zh": label.zh, "label_en": label.en, "party": duty.party,
        "institution": duty.institution_id, "role": duty.role, "account": duty.account_id, "button": duty.button,
        "clock": duty.clock, "since": duty.since, "opened_at": duty.opened_at, "next_at": _next_step(ctx, duty),
        **duty.clock_state(),
    }  # fmt: skip
