"""Escalation: a late duty climbs its owner chain, step by step, and nothing else happens to it.

person (or team) → team → the institution's management → the consortium office at the lead institution. Each step is one
append-only row and one notice, once per duty and level; the case keeps its state, owner and due time, so no timer ever
ends a case (I2) and replaying the acts is unaffected.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from lianxin.duty import clocks, machine
from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.network.roles import MANAGER
from lianxin.standards import clock
from lianxin.standards.text import T, Text

_BATCH = 200
LEVELS = {
    1: T("已到期未办", "due and not done"),
    2: T("超时，提醒团队", "late; the team is reminded"),
    3: T("超时，已报本机构管理部门", "late; reported to the institution's management"),
    4: T("超时，已报医共体办公室", "late; reported to the consortium office"),
}

_LATE = """
SELECT d.id, d.level, d.due_at, d.owner_institution_id, d.owner_role, d.owner_account_id, d.label_zh, d.label_en,
       d.case_id, c.number, c.kind
  FROM duty_duty d JOIN duty_case c ON c.id = d.case_id
 WHERE d.ended = '' AND d.next_escalation_at <= %s
 ORDER BY d.next_escalation_at LIMIT %s FOR NO KEY UPDATE OF d SKIP LOCKED"""


@dataclass(frozen=True)
class _Step:
    duty: int
    level: int
    due_at: dt.datetime
    institution: int
    role: str
    account: int | None
    case: int
    next_at: dt.datetime | None
    said: Text


def _lead(institution_id: int, known: dict[int, int]) -> int:
    """The institution whose consortium office is told (itself when it belongs to no consortium)."""
    if institution_id not in known:
        hub = directory.lead_of(Institution.objects.get(pk=institution_id))
        known[institution_id] = hub.pk if hub else institution_id
    return known[institution_id]


def _step(row: tuple[Any, ...], now: dt.datetime, leads: dict[int, int]) -> _Step:
    duty, level, due_at, institution, role, account, zh, en, case, number, kind = row
    m, level = machine.get(kind), level + 1
    to = {
        1: (institution, role, account),
        2: (institution, role, None),
        3: (institution, MANAGER, None),
    }.get(level) or (_lead(institution, leads), MANAGER, None)
    said = LEVELS[min(level, 4)]
    next_at = clocks.escalation_at(due_at, level, m.escalation)
    if next_at is not None and next_at <= now:  # long asleep: climb one step now, the next in a minute
        next_at = now + dt.timedelta(minutes=1)
    text = T(
        f"{m.label.zh} {number}：{zh}（{said.zh}）"[:240], f"{m.label.en} {number}: {en} ({said.en})"[:320]
    )
    return _Step(duty, level, due_at, to[0], to[1], to[2], case, next_at, text)


def _write(steps: list[_Step], now: dt.datetime) -> None:
    columns = [
        list(c)
        for c in zip(
            *[(s.duty, s.level, s.due_at, s.institution, s.role, s.account) for s in steps], strict=True
        )
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO duty_escalation (duty_id, level, due_at, institution_id, role, account_id, at)"
            " SELECT x.*, %s FROM unnest(%s::bigint[], %s::int[], %s::timestamptz[], %s::bigint[], %s::text[],"
            " %s::bigint[]) AS x ON CONFLICT (duty_id, level) DO NOTHING",
            [now, *columns],
        )
        cursor.execute(
            "UPDATE duty_duty d SET level = x.level, escalated_at = %s, next_escalation_at = x.next_at"
            " FROM unnest(%s::bigint[], %s::int[], %s::timestamptz[]) AS x(id, level, next_at) WHERE d.id = x.id",
            [now, [s.duty for s in steps], [s.level for s in steps], [s.next_at for s in steps]],
        )
        cursor.execute(
            "INSERT INTO duty_notice (case_id, institution_id, role, account_id, text_zh, text_en, level, created_at)"
            " SELECT x.*, %s FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::text[],"
            " %s::int[]) AS x",
            [
                now,
                [s.case for s in steps],
                [s.institution for s in steps],
                [s.role for s in steps],
                [s.account for s in steps],
                [s.said.zh for s in steps],
                [s.said.en for s in steps],
                [s.level for s in steps],
            ],
        )


def escalate(now: dt.datetime | None = None) -> int:
    """Let every late duty climb at most one level; returns how many did. Safe to run anywhere, any number of times."""
    now = now or clock.now()
    climbed = 0
    leads: dict[int, int] = {}
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_LATE, [now, _BATCH])
            rows = cursor.fetchall()
            if rows:
                _write([_step(row, now, leads) for row in rows], now)
        climbed += len(rows)
        if len(rows) < _BATCH:
            return climbed


def run() -> None:
    """The ticker's chore."""
    escalate()
