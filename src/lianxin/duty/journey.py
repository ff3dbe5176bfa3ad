"""The journey strip: where a case came from, where it stands, what comes next, drawn from the table and the acts."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from lianxin.duty import machine
from lianxin.duty.models import Act, Case
from lianxin.standards import clock
from lianxin.standards.text import Text


@dataclass(frozen=True)
class Step:
    """A station of the strip. ``status`` is past, now or next; past ones are dated and signed, now has owner and due."""

    state: str
    label: Text
    status: str
    at: dt.datetime | None = None
    actor: str = ""
    institution: str = ""
    role: str = ""
    move: Text | None = None
    due_at: dt.datetime | None = None
    terminal: bool = False


def log(case: Case) -> list[Act]:
    """The acts of a case in order, each with its institution."""
    return list(Act.objects.filter(case=case).select_related("institution").order_by("seq"))


def journey(case: Case, acts: list[Act] | None = None) -> list[Step]:
    """Stations visited (the last visit of each run), the present one, and those still ahead on the main path.

    ``acts`` is :func:`log` when the caller has it already.
    """
    m = machine.get(case.kind)
    acts = log(case) if acts is None else acts
    visits = [a for n, a in enumerate(acts) if n == 0 or a.to_state != acts[n - 1].to_state]
    steps = []
    for n, act in enumerate(visits):
        state, last = m.state(act.to_state), n == len(visits) - 1
        move = m.move(act.move)
        steps.append(
            Step(
                state=state.code,
                label=state.label,
                status="now" if last and not state.terminal else "past",
                at=act.at.astimezone(clock.ZONE),
                actor=act.actor,
                role=act.role,
                move=move.label if move else None,
                institution=act.institution.short if act.institution else "",
                due_at=case.due_at if last else None,
                terminal=state.terminal,
            )
        )
    if case.terminal:
        return steps
    ahead = m.path[m.path.index(case.state) + 1 :] if case.state in m.path else _ahead_of_side_exit(m, visits)
    return steps + [Step(c, m.state(c).label, "next", terminal=m.state(c).terminal) for c in ahead]


def _ahead_of_side_exit(m: machine.Machine, visits: list[Act]) -> tuple[str, ...]:
    """From a side exit the path goes on after the furthest main state reached."""
    reached = [m.path.index(a.to_state) for a in visits if a.to_state in m.path]
    return m.path[max(reached) + 1 :] if reached else m.path
