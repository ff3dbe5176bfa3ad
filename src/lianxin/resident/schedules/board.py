"""The week as a grid: a row for each doctor or device of a department, a column for each half of a day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

from lianxin.pool.models import Session
from lianxin.standards import calendar, clock
from lianxin.standards.text import T, Text

NOON = 12
STATES: dict[str, Text] = {
    "open": T("可约", "Free numbers"),
    "kept": T("仅余预留", "Only kept numbers left"),
    "full": T("约满", "Full"),
    "early": T("未放号", "Not open yet"),
    "over": T("已结束", "Over"),
    "stopped": T("停诊", "Stopped"),
}
ICONS = {
    "open": "check-circle", "kept": "shield-lock", "full": "slash-circle", "early": "clock", "over": "dash",
    "stopped": "x-octagon",
}  # fmt: skip
WEEKDAYS = [
    T("周一", "Mon"), T("周二", "Tue"), T("周三", "Wed"), T("周四", "Thu"), T("周五", "Fri"), T("周六", "Sat"),
    T("周日", "Sun"),
]  # fmt: skip


def standing(session: Session, now: dt.datetime) -> str:
    """The state of a session's numbers, as the board shows it."""
    if session.status == "stopped":
        return "stopped"
    if session.ends_at <= now:
        return "over"
    if session.opens_at > now:
        return "early"
    left = session.capacity - session.taken
    if left <= 0:
        return "full"
    return "open" if public_left(session, now) > 0 else "kept"


def public_left(session: Session, now: dt.datetime) -> int:
    """Numbers the public may still take, what is kept left out (holds count as taken)."""
    left = session.capacity - session.taken
    before = 0
    for tier, taken in (
        ("county", session.taken_public),
        ("township", session.taken_county),
        ("village", session.taken_township),
    ):
        before += taken
        if getattr(session, f"release_{tier}") > now:
            left = min(left, session.capacity - getattr(session, f"reserved_{tier}") - before)
    return max(left, 0)


@dataclass
class Cell:
    """One session on the board."""

    session: Session
    state: str

    @property
    def label(self) -> Text:
        """The state in words."""
        return STATES[self.state]

    @property
    def icon(self) -> str:
        """The state's sign."""
        return ICONS[self.state]

    @property
    def times(self) -> str:
        """``08:00–11:30``."""
        return times(self.session)


@dataclass
class Row:
    """A doctor's or device's week; ``cells``: one list of sessions for each half day."""

    name: Text
    title: str
    practitioner_id: int | None
    resource_id: int | None
    department_id: int
    cells: list[list[Cell]] = field(default_factory=list)


@dataclass
class Group:
    """The rows of a department."""

    name: Text
    department_id: int
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Day:
    """A column head: the day, whether it is worked, whether it is today; ``note`` says 休 or 班 where the calendar differs."""

    day: dt.date
    weekday: Text
    worked: bool
    today: bool
    note: Text | None


def times(session: Session) -> str:
    """``08:00–11:30`` in local time."""
    start, end = (t.astimezone(clock.ZONE) for t in (session.starts_at, session.ends_at))
    return f"{start:%H:%M}–{end:%H:%M}"


def monday(day: dt.date) -> dt.date:
    """The Monday of the day's week."""
    return day - dt.timedelta(days=day.weekday())


def days(week: dt.date) -> list[Day]:
    """The seven days from ``week`` (a Monday) with what the calendar says of them."""
    found = []
    for n in range(7):
        day = week + dt.timedelta(days=n)
        worked = calendar.is_workday(day)
        note = None
        if worked and n >= 5:
            note = T("调休上班", "Make-up workday")
        elif not worked and n < 5:
            note = T("节假日", "Holiday")
        found.append(Day(day, WEEKDAYS[n], worked, day == clock.today(), note))
    return found


def groups(sessions: Iterable[Session], week: dt.date) -> list[Group]:
    """The grid of a week's sessions (select department, practitioner and resource with them)."""
    now = clock.now()
    made: dict[int, Group] = {}
    rows: dict[tuple[int, int | None, int | None], Row] = {}
    for session in sessions:
        group = made.get(session.department_id)
        if group is None:
            group = made[session.department_id] = Group(session.department.label, session.department_id)
        key = (session.department_id, session.practitioner_id, session.resource_id)
        row = rows.get(key)
        if row is None:
            row = rows[key] = _row(session)
            group.rows.append(row)
        start = session.starts_at.astimezone(clock.ZONE)
        half = (start.date() - week).days * 2 + (start.hour >= NOON)
        if 0 <= half < 14:
            row.cells[half].append(Cell(session, standing(session, now)))
    return list(made.values())


def _row(session: Session) -> Row:
    if session.practitioner is not None:
        name, title = session.practitioner.label, session.practitioner.title
    elif session.resource is not None:
        name, title = session.resource.label, ""
    else:
        name, title = T("普通号", "Any doctor"), ""
    return Row(
        name,
        title,
        session.practitioner_id,
        session.resource_id,
        session.department_id,
        [[] for _ in range(14)],
    )
