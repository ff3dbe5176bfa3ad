"""Worklists: the open duties of an institution's roles, most pressing first, and how many there are.

One statement that walks the partial index (institution, role, due_at) of open duties: its cost follows the length of the
page asked for, not the number of open duties.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection

from lianxin.duty import machine
from lianxin.duty.machine import Move
from lianxin.standards import clock
from lianxin.standards.text import Text

if TYPE_CHECKING:
    from lianxin.access.scope import Scope


@dataclass(frozen=True)
class WorkItem:
    """A line of the worklist: who owes what, for whom, how long is left, and the one button that discharges it.

    ``person_id`` is None, and the person's words are empty, when the case is about no person.
    """

    duty_id: int
    kind: str
    label: Text
    institution_id: int
    role: str
    account_id: int | None
    due_at: dt.datetime
    seconds_left: int
    paused: bool
    level: int
    button: Move | None
    case_id: int
    case_number: str
    case_kind: str
    case_label: Text
    state: str
    state_label: Text
    priority: str
    version: int
    person_id: int | None
    person_number: str
    person_name: str
    person_sex: str
    person_age: int | None

    @property
    def overdue(self) -> bool:
        """Is it late?"""
        return self.seconds_left < 0


_COLUMNS = """d.id, d.kind, d.label_zh, d.label_en, d.owner_institution_id, d.owner_role, d.owner_account_id, d.due_at,
       d.paused_since, d.level, d.button, c.id, c.number, c.kind, c.state, c.priority, c.version,
       p.id, p.number, p.name, p.sex, p.birth_date"""

_LIST = f"""
SELECT {_COLUMNS}
  FROM unnest(%s::bigint[]) AS i(id) CROSS JOIN unnest(%s::text[]) AS r(code)
 CROSS JOIN LATERAL (
       SELECT * FROM duty_duty x
        WHERE x.ended = '' AND x.owner_institution_id = i.id AND x.owner_role = r.code
          AND (%s OR x.owner_account_id IS NULL OR x.owner_account_id = %s) AND (%s OR x.kind = %s)
        ORDER BY x.due_at LIMIT %s) d
  JOIN duty_case c ON c.id = d.case_id LEFT JOIN index_person p ON p.id = d.person_id
 ORDER BY d.due_at, d.id LIMIT %s"""

_COUNTS = """
SELECT d.kind, min(d.label_zh), min(d.label_en), count(*), count(*) FILTER (WHERE d.due_at < %s)
  FROM duty_duty d
 WHERE d.ended = '' AND d.owner_institution_id = ANY(%s) AND d.owner_role = ANY(%s)
   AND (d.owner_account_id IS NULL OR d.owner_account_id = %s)
 GROUP BY d.kind ORDER BY 5 DESC, 4 DESC, 1"""

_CLIMBED = f"""
SELECT {_COLUMNS}
  FROM duty_escalation e JOIN duty_duty d ON d.id = e.duty_id AND d.ended = ''
  JOIN duty_case c ON c.id = d.case_id LEFT JOIN index_person p ON p.id = d.person_id
 WHERE e.institution_id = ANY(%s) AND e.role = ANY(%s) AND e.level >= 3
 GROUP BY d.id, c.id, p.id ORDER BY d.due_at, d.id LIMIT %s"""


def age_on(birth: dt.date | None, day: dt.date) -> int | None:
    """Completed years on ``day``."""
    if birth is None:
        return None
    return day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))


def _item(row: tuple[Any, ...], now: dt.datetime) -> WorkItem:
    m = machine.get(row[13])
    due = row[7].astimezone(clock.ZONE)
    return WorkItem(
        duty_id=row[0], kind=row[1], label=Text(row[2], row[3]), institution_id=row[4], role=row[5], account_id=row[6],
        due_at=due, seconds_left=int((due - now).total_seconds()), paused=row[8] is not None, level=row[9],
        button=m.move(row[10]), case_id=row[11], case_number=row[12], case_kind=row[13], case_label=m.label,
        state=row[14], state_label=m.state(row[14]).label, priority=row[15], version=row[16], person_id=row[17],
        person_number=row[18] or "", person_name=row[19] or "", person_sex=row[20] or "", person_age=age_on(row[21], now.date()),
    )  # fmt: skip


def _rows(sql: str, params: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def worklist(
    scope: Scope, *, limit: int = 100, kind: str | None = None, everyone: bool = False
) -> list[WorkItem]:
    """Open duties of the scope's institutions and roles, most pressing first.

    Duties a colleague has claimed are left out unless ``everyone``. ``kind`` narrows to one kind of duty.
    """
    roles = sorted(scope.roles)
    if not roles or not scope.institution_ids:
        return []
    params = [
        sorted(scope.institution_ids), roles, everyone, scope.account_id or 0, kind is None, kind or "", limit, limit,
    ]  # fmt: skip
    now = clock.now()
    return [_item(row, now) for row in _rows(_LIST, params)]


@dataclass(frozen=True)
class Count:
    """How many duties of a kind are open, and how many of them late."""

    kind: str
    label: Text
    open: int
    late: int


def counts(scope: Scope) -> list[Count]:
    """Open and late duties of mine by kind."""
    if not scope.roles or not scope.institution_ids:
        return []
    rows = _rows(
        _COUNTS, [clock.now(), sorted(scope.institution_ids), sorted(scope.roles), scope.account_id or 0]
    )
    return [Count(row[0], Text(row[1], row[2]), row[3], row[4]) for row in rows]


def escalated(scope: Scope, *, limit: int = 100) -> list[WorkItem]:
    """Late duties of others that have climbed to the scope's institution and role (department head, consortium office)."""
    if not scope.roles or not scope.institution_ids:
        return []
    now = clock.now()
    return [
        _item(row, now)
        for row in _rows(_CLIMBED, [sorted(scope.institution_ids), sorted(scope.roles), limit])
    ]
