"""What a move changes, worked out before anything is written: pure, given the context and the open duties.

The result holds the case's new row, the duties to end, change and open, and the act's ``outcome``, from which alone the
case can be rebuilt (see ``proof.replay``).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lianxin.duty import clocks
from lianxin.duty.machine import Ctx, Effect, MachineError, Move, Owes, State
from lianxin.standards.text import Text

CLOCK_FIELDS = ("due_at", "paused_since", "pause_until", "paused_minutes", "spec")


@dataclass
class Owed:
    """An open duty as the kernel works with it (``id`` None: opened by the act in hand)."""

    kind: str
    label: Text
    party: str
    institution_id: int
    role: str
    account_id: int | None
    button: str
    clock: str
    spec: str
    since: str
    opened_at: dt.datetime
    due_at: dt.datetime
    id: int | None = None
    paused_since: dt.datetime | None = None
    pause_until: dt.datetime | None = None
    paused_minutes: int = 0
    level: int = 0

    def clock_state(self) -> dict[str, Any]:
        """The fields a pause, a resumption or a re-timing changes."""
        return {name: getattr(self, name) for name in CLOCK_FIELDS}

    def recorded(self) -> dict[str, Any]:
        """The duty as the act's outcome keeps it."""
        return {
            "institution": self.institution_id,
            "role": self.role,
            "party": self.party,
            **self.clock_state(),
        }


@dataclass
class Plan:
    """Everything one act writes."""

    target: State
    facts: dict[str, str]
    parties: dict[str, int]
    priority: str
    pathway_start: dt.datetime
    lead: Owed | None
    duties: dict[str, Owed]
    ended: list[tuple[Owed, str]] = field(default_factory=list)
    opened: list[Owed] = field(default_factory=list)
    changed: list[Owed] = field(default_factory=list)
    outcome: dict[str, Any] = field(default_factory=dict)


def _target(ctx: Ctx, move: Move, effect: Effect) -> State:
    source = ctx.case.state
    code = effect.to or move.target or source
    if effect.to and effect.to not in (*move.targets, source):
        raise MachineError(
            f"{ctx.machine.kind}.{move.name}: effect leads to {effect.to}, which the table does not"
        )
    if not code:
        raise MachineError(f"{ctx.machine.kind}.{move.name}: opens a case nowhere")
    state = ctx.machine.state(code)
    if state.terminal and move.system:
        raise MachineError(f"{ctx.machine.kind}.{move.name}: the system may not end a case (I2)")
    return state


def _facts(ctx: Ctx, effect: Effect) -> dict[str, str]:
    for name, value in effect.facts.items():
        if value not in ctx.machine.side_facts.get(name, ()):
            raise MachineError(f"{ctx.machine.kind}: no fact {name}={value}")
    return ctx.facts | effect.facts


def _parties(ctx: Ctx, effect: Effect) -> dict[str, int]:
    unknown = effect.parties.keys() - ctx.machine.parts.keys()
    if unknown:
        raise MachineError(f"{ctx.machine.kind}: unknown parts {sorted(unknown)}")
    merged = ctx.parties | effect.parties
    return {part: i for part, i in merged.items() if i is not None}


def _owed(ctx: Ctx, owes: Owes) -> Owed:
    institution = ctx.parties.get(owes.party)
    if institution is None:
        raise MachineError(f"{ctx.machine.kind}: duty {owes.kind} is owed by {owes.party}, whom nobody plays")
    spec = "" if owes.due and not owes.clock else clocks.spec_of(ctx, owes.clock, institution)
    due = owes.due or clocks.due(clocks.start_of(ctx, owes), spec)
    return Owed(
        kind=owes.kind, label=owes.label, party=owes.party, institution_id=institution, role=owes.role,
        account_id=owes.account_id, button=owes.button, clock=owes.clock, spec=spec, since=owes.since,
        opened_at=ctx.now, due_at=due,
    )  # fmt: skip


def _endings(
    ctx: Ctx, move: Move, effect: Effect, target: State, duties: dict[str, Owed], parties: dict[str, int]
) -> dict[str, str]:
    """kind → "done" or "withdrawn" for every open duty this act ends."""
    if target.terminal:
        ended = dict.fromkeys(duties, "withdrawn")
    else:
        ended = {}
    here = ctx.machine.by_state.get(ctx.case.state)
    resident = here.owes.kind if here and here.owes else None
    leaving = here is not None and target.code != here.code
    for kind, duty in duties.items():
        if kind == resident:
            if leaving and kind != (target.owes.kind if target.owes else None):
                mine = duty.institution_id in ctx.by.institution_ids
                ended[kind] = "done" if mine or duty.button == move.name else "withdrawn"
        elif duty.button == move.name:
            ended[kind] = "done"
        if (
            parties.get(duty.party) != duty.institution_id
        ):  # the part has passed to another institution, or lapsed
            ended.setdefault(kind, "withdrawn")
    ended |= dict.fromkeys((k for k in (*move.withdraws, *effect.withdraws) if k in duties), "withdrawn")
    ended |= dict.fromkeys((k for k in (*move.discharges, *effect.discharges) if k in duties), "done")
    return ended


def _lead(target: State, duties: dict[str, Owed]) -> Owed | None:
    """Whose ball it is: the state's own duty unless paused, else the most pressing running one, else the paused one."""
    if target.terminal or target.owes is None:
        return None
    own = duties[target.owes.kind]
    if own.paused_since is None:
        return own
    running = [d for d in duties.values() if d.paused_since is None]
    return min(running, key=lambda d: (d.due_at, d.kind)) if running else own


def _retime(ctx: Ctx, duties: Iterable[Owed]) -> None:
    """Priority changed: clocks that count from the pathway's start are counted anew; pauses so far are kept."""
    for duty in duties:
        if duty.since != "pathway" or not duty.clock:
            continue
        duty.spec = clocks.spec_of(ctx, duty.clock, duty.institution_id)
        due = clocks.due(ctx.case.pathway_start, duty.spec)
        pause = duty.paused_minutes
        duty.due_at = clocks.add(duty.spec, due, pause) if pause else due
        if duty.paused_since is not None:
            since, duty.paused_since, duty.pause_until = duty.paused_since, None, None
            clocks.pause(duty, since, ctx.machine.pause_max)


def make(ctx: Ctx, move: Move, effect: Effect | None, open_duties: dict[str, Owed]) -> Plan:
    """Work out the whole change. ``ctx.case`` and ``ctx.parties``/``facts`` take their new values on the way."""
    effect = effect or Effect()
    target = _target(ctx, move, effect)
    facts, parties = _facts(ctx, effect), _parties(ctx, effect)
    duties = dict(open_duties)
    before = {k: d.clock_state() for k, d in duties.items()}

    ended = [(duties.pop(k), how) for k, how in _endings(ctx, move, effect, target, duties, parties).items()]
    ctx.parties, ctx.facts = parties, facts
    reprioritised = effect.priority is not None and effect.priority != ctx.case.priority
    ctx.case.priority = effect.priority or ctx.case.priority
    ctx.case.pathway_start = effect.pathway_start or ctx.case.pathway_start
    if reprioritised:
        _retime(ctx, duties.values())

    opened: list[Owed] = []
    if not target.terminal:
        asked = [*(move.opens(ctx) if callable(move.opens) else move.opens), *effect.opens]
        if target.owes is not None and all(o.kind != target.owes.kind for o in asked):
            asked.append(target.owes)
        for owes in asked:
            if owes.kind not in duties:
                duties[owes.kind] = _owed(ctx, owes)
                opened.append(duties[owes.kind])
    for kind in effect.pauses:
        if kind in duties:
            clocks.pause(duties[kind], ctx.now, ctx.machine.pause_max)
    for kind in effect.resumes:
        if kind in duties:
            clocks.resume(duties[kind], ctx.now)
    for kind, due in effect.due.items():
        if kind in duties:
            duties[kind].due_at = due

    lead = _lead(target, duties)
    changed = [
        d for k, d in duties.items() if k in before and d.id is not None and d.clock_state() != before[k]
    ]
    plan = Plan(
        target=target, facts=facts, parties=parties, priority=ctx.case.priority, lead=lead, duties=duties,
        pathway_start=ctx.case.pathway_start, ended=ended, opened=opened, changed=changed,
    )  # fmt: skip
    plan.outcome = {
        "state": target.code,
        "owner": [lead.institution_id, lead.role] if lead else None,
        "due": lead.due_at if lead else None,
        "priority": plan.priority,
        "pathway_start": plan.pathway_start,
        "facts": facts,
        "parties": parties,
        "duties": {
            "opened": {d.kind: d.recorded() for d in opened},
            "ended": {d.kind: how for d, how in ended},
            "changed": {d.kind: d.clock_state() for d in changed},
        },
        "more": effect.outcome,
    }
    return plan
