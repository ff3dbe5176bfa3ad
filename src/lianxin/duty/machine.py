"""Transition tables as data.

A function of the platform (referral, reading, consult…) describes its case as a :class:`Machine`: states, moves between
them, and what each move makes people owe. The kernel runs the table; pages draw buttons and the journey strip from it;
the API lists allowed actions from it; the documentation's diagram and the property tests are generated from it.

Ownership follows from the table alone. Every non-terminal state carries ``owes``: the duty that exists as long as the
case stands there. Its owner owns the case and its due time is the case's due time (invariant I1). While that duty is
paused, the most pressing other open duty leads. Entering a state opens its duty; leaving it ends it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.forms import Form

from lianxin.standards.text import T, Text

if TYPE_CHECKING:
    from lianxin.access.scope import Scope
    from lianxin.duty.models import Case

PRIORITIES: dict[str, Text] = {
    "routine": T("常规", "Routine"),
    "urgent": T("紧急", "Urgent"),
    "emergency": T("急诊", "Emergency"),
}


class MachineError(Exception):
    """A table that breaks the rules of the house, or an effect that left them: a mistake of the programmer."""


@dataclass(frozen=True)
class Owes:
    """A duty: who owes what by when, and which move discharges it.

    ``party`` is a part name (``"receiver"``); ``clock`` is looked up in the machine's policy. ``since="pathway"`` counts
    from the start of the patient's pathway instead of now. ``due`` fixes the time outright (an appointment's end).
    ``account_id`` claims it for one person from the start.
    """

    kind: str
    label: Text
    party: str
    role: str
    clock: str
    button: str = ""
    since: str = "now"
    due: dt.datetime | None = None
    account_id: int | None = None


@dataclass(frozen=True)
class State:
    """A place where a case can stand. ``owes`` is the duty of whoever has the ball there (None only when terminal).

    ``access_days``: how long the parties still read the record after a case ended here (to answer what is asked about it).
    """

    code: str
    label: Text
    terminal: bool = False
    fhir_status: str = ""
    business: str = ""
    owes: Owes | None = None
    access_days: int = 0


@dataclass(frozen=True)
class Tell:
    """A notice to a party's role (or one account of it)."""

    party: str
    role: str
    text: Text
    account_id: int | None = None


@dataclass
class Effect:
    """What a move does beyond its row of the table. Everything in it is written to the act, so the act log replays.

    ``to`` chooses the target among ``Move.choices`` · ``facts`` sets side facts · ``parties`` names who plays a part
    (``None`` ends the part) · ``opens``/``discharges``/``withdraws``/``pauses``/``resumes`` act on duties by kind ·
    ``due`` sets a duty's due time · ``priority`` re-times running pathway clocks · ``outcome`` keeps extra facts.
    """

    to: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    parties: dict[str, int | None] = field(default_factory=dict)
    opens: Iterable[Owes] = ()
    discharges: Iterable[str] = ()
    withdraws: Iterable[str] = ()
    pauses: Iterable[str] = ()
    resumes: Iterable[str] = ()
    due: dict[str, dt.datetime] = field(default_factory=dict)
    priority: str | None = None
    pathway_start: dt.datetime | None = None
    notices: Iterable[Tell] = ()
    events: Iterable[tuple[str, dict[str, Any]]] = ()
    outcome: dict[str, Any] = field(default_factory=dict)


@dataclass
class Ctx:
    """What guards, effects, clocks and ``publish`` look at. ``data`` is empty until the form is valid, so guards never
    depend on it (otherwise the offered buttons would not equal the moves that succeed, I7)."""

    machine: Machine
    case: Case
    by: Scope
    now: dt.datetime
    subject: Any = None
    parties: dict[str, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    open_duties: frozenset[str] = frozenset()
    move: Move | None = None
    data: dict[str, Any] = field(default_factory=dict)
    act: Any = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def mine(self) -> frozenset[str]:
        """The parts that the acting institution plays in this case."""
        return frozenset(p for p, i in self.parties.items() if i in self.by.institution_ids)

    def is_party(self, part: str) -> bool:
        """Does the acting institution play ``part``?"""
        return self.parties.get(part) in self.by.institution_ids


Guard = Callable[[Ctx], "Text | None"]
EffectFn = Callable[[Ctx], "Effect | None"]
Opens = tuple[Owes, ...] | Callable[[Ctx], Iterable[Owes]]


@dataclass(frozen=True)
class Move:
    """One row of the table. ``sources=()`` opens a case. ``target=None`` stays (or the effect chooses among
    ``choices``). ``parties``/``roles`` empty: any party, any role. ``system``: only the system makes it.
    ``resident``: the person the case is about (or who acts for them) may make it too, and plays no part for it."""

    name: str
    label: Text
    sources: tuple[str, ...]
    target: str | None = None
    parties: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    form: type[Form] | None = None
    guards: tuple[Guard, ...] = ()
    discharges: tuple[str, ...] = ()
    withdraws: tuple[str, ...] = ()
    opens: Opens = ()
    effect: EffectFn | None = None
    system: bool = False
    resident: bool = False
    tone: str = "quiet"
    choices: tuple[str, ...] = ()
    when: Mapping[str, str] = field(default_factory=dict)  # side facts that must hold, e.g. {"info": "asked"}

    @property
    def targets(self) -> tuple[str, ...]:
        """Every state this move may lead to; empty means it stays where it is."""
        return ((self.target,) if self.target else ()) + self.choices

    def leads_from(self, source: str) -> tuple[str, ...]:
        """States reachable from ``source`` by this move (``source`` itself when the move may stay)."""
        stay = () if self.target else (source,)
        return self.targets + stay


@dataclass
class Machine:
    """A transition table with its policy.

    ``parts``       part name → words ("referrer": 转出机构)
    ``side_facts``  fact name → allowed values, the first being the initial one
    ``clocks``      name → spec ("4wh") or {priority: spec}; or a function ``(ctx, name) -> spec``. A consortium overrides
                    them in ``rules["clocks"][kind][name]``
    ``load``        case → domain row (``ctx.subject``); ``load_many`` the same for a list of cases → {case id: row}
    ``publish``     ctx → None, writes the case's FHIR projection in the same transaction
    ``path``        the main states in order, for the journey strip
    ``onlookers``   parts that may act but owe nothing yet: playing one gives no access to the patient's record
    ``personal``    whether every case is about a person; a machine about something else (bad data of a system) says False,
                    and its cases give access to nobody's record
    """

    kind: str
    label: Text
    prefix: str
    states: tuple[State, ...]
    moves: tuple[Move, ...]
    parts: dict[str, Text]
    clocks: Mapping[str, str | Mapping[str, str]] | Callable[[Ctx, str], str]
    side_facts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    publish: Callable[[Ctx], None] | None = None
    load: Callable[[Case], Any] | None = None
    load_many: Callable[[list[Case]], dict[int, Any]] | None = None
    summary: Callable[[Ctx], Text] | None = None
    pause_max: str = "5wd"
    escalation: tuple[str, ...] = ("0m", "4wh", "1wd", "2wd")
    onlookers: tuple[str, ...] = ()
    personal: bool = True

    def __post_init__(self) -> None:
        self.by_state: dict[str, State] = {s.code: s for s in self.states}
        self.by_move: dict[str, Move] = {m.name: m for m in self.moves}

    def state(self, code: str) -> State:
        """The state called ``code``."""
        return self.by_state[code]

    def move(self, name: str) -> Move | None:
        """The move called ``name`` or None."""
        return self.by_move.get(name)

    def openings(self) -> list[Move]:
        """Moves that open a case."""
        return [m for m in self.moves if not m.sources]

    def readers(self, parties: Mapping[str, int]) -> set[int]:
        """Institutions that read the patient's record because of the part they play."""
        return {institution for part, institution in parties.items() if part not in self.onlookers}

    def label_of_duty(self, kind: str) -> Text:
        """Words for a duty kind (the kind itself when it is only opened by effects without a static label)."""
        for owes in self._static_duties():
            if owes.kind == kind:
                return owes.label
        return T(kind, kind)

    def _static_duties(self) -> list[Owes]:
        found = [s.owes for s in self.states if s.owes]
        for m in self.moves:
            if isinstance(m.opens, tuple):
                found.extend(m.opens)
        return found

    def validate(self) -> None:
        """Prove the table sound or raise :class:`MachineError` naming every fault.

        Names unique; sources, targets and parts exist; every state reachable; every non-terminal state has an owner rule
        and a move by a person out of it or within it, and a terminal state can be reached from it by persons' moves;
        no move leaves a terminal state; no system move ends a case (I2); each duty's button is a move that can be made
        where the duty is owed; every static duty can be discharged; clocks exist.
        """
        faults = [*self._faults_in_names(), *self._faults_in_references()]
        if not faults:
            faults = [*self._faults_in_reach(), *self._faults_in_duties()]
        if faults:
            raise MachineError(f"{self.kind}: " + "; ".join(faults))

    def _faults_in_names(self) -> list[str]:
        faults = []
        for what, names in (("state", [s.code for s in self.states]), ("move", [m.name for m in self.moves])):
            faults += [f"{what} {n} named twice" for n in sorted(set(names)) if names.count(n) > 1]
        if not self.openings():
            faults.append("no move opens a case")
        faults += [f"fact {n} has no values" for n, values in self.side_facts.items() if not values]
        return faults

    def _faults_in_references(self) -> list[str]:
        faults = []
        for m in self.moves:
            faults += [
                f"{m.name}: unknown state {s}" for s in {*m.sources, *m.targets} - self.by_state.keys()
            ]
            faults += [f"{m.name}: unknown part {p}" for p in set(m.parties) - self.parts.keys()]
            faults += [
                f"{m.name}: unknown fact {f}={v}"
                for f, v in m.when.items()
                if v not in self.side_facts.get(f, ())
            ]
            faults += [
                f"{m.name}: leaves terminal {s}"
                for s in m.sources
                if s in self.by_state and self.state(s).terminal
            ]
            if not m.sources and not m.targets:
                faults.append(f"{m.name}: opens a case nowhere")
            if m.system and any(t in self.by_state and self.state(t).terminal for t in m.targets):
                faults.append(f"{m.name}: the system may not end a case (I2)")
            if m.tone not in ("primary", "quiet", "danger"):
                faults.append(f"{m.name}: tone {m.tone}")
        for s in self.states:
            if s.terminal == (s.owes is not None):
                faults.append(
                    f"{s.code}: " + ("terminal states owe nothing" if s.terminal else "nobody owns it (I1)")
                )
        for owes in self._static_duties():
            if owes.party not in self.parts:
                faults.append(f"duty {owes.kind}: unknown part {owes.party}")
            if isinstance(self.clocks, Mapping) and owes.due is None and owes.clock not in self.clocks:
                faults.append(f"duty {owes.kind}: unknown clock {owes.clock}")
            if owes.since not in ("now", "pathway"):
                faults.append(f"duty {owes.kind}: since {owes.since}")
        faults += [f"path: unknown state {c}" for c in self.path if c not in self.by_state]
        faults += [f"onlookers: unknown part {p}" for p in self.onlookers if p not in self.parts]
        return faults

    def _faults_in_reach(self) -> list[str]:
        reached = {t for m in self.openings() for t in m.targets}
        grew = True
        while grew:
            new = {
                t for m in self.moves for s in m.sources if s in reached for t in m.leads_from(s)
            } - reached
            reached |= new
            grew = bool(new)
        faults = [f"{s.code}: never reached" for s in self.states if s.code not in reached]
        ends = {s.code for s in self.states if s.terminal}
        grew = True
        while grew:
            new = {
                s for m in self.moves if not m.system for s in m.sources if ends.intersection(m.targets)
            } - ends
            ends |= new
            grew = bool(new)
        faults += [f"{s.code}: no way out by people's moves" for s in self.states if s.code not in ends]
        return faults

    def _faults_in_duties(self) -> list[str]:
        faults = []
        for s in self.states:
            if s.owes is None:
                continue
            button = self.move(s.owes.button)
            if button is None or button.system or s.code not in button.sources:
                faults.append(f"{s.code}: button {s.owes.button!r} of its duty is no person's move there")
        in_states = {s.owes.kind for s in self.states if s.owes}
        ended = {k for m in self.moves for k in (*m.discharges, *m.withdraws)}
        for m in self.moves:
            for owes in m.opens if isinstance(m.opens, tuple) else ():
                if owes.kind not in in_states | ended and self.move(owes.button) is None:
                    faults.append(f"{m.name}: duty {owes.kind} is never discharged")
        return faults

    def diagram(self) -> str:
        """The table as Mermaid ``stateDiagram-v2`` text, with the owner of each state."""
        lines = ["stateDiagram-v2"]
        for s in self.states:
            owner = f" · {self.parts[s.owes.party].zh}/{s.owes.role}" if s.owes else ""
            lines.append(f'    state "{s.label.zh} {s.label.en}{owner}" as {s.code}')
        edges: dict[tuple[str, str], list[str]] = {}
        for m in self.moves:
            name = f"{m.label.zh}{' ⚙' if m.system else ''}"
            for source in m.sources or ("[*]",):
                for target in m.leads_from(source) if m.sources else m.targets:
                    edges.setdefault((source, target), []).append(name)
        lines += [f"    {a} --> {b}: {' / '.join(names)}" for (a, b), names in edges.items()]
        lines += [f"    {s.code} --> [*]" for s in self.states if s.terminal]
        return "\n".join(lines) + "\n"


_machines: dict[str, Machine] = {}


def register(machine: Machine) -> Machine:
    """Prove ``machine`` and offer it to the kernel under its kind (again: replaces; raises MachineError if unsound)."""
    machine.validate()
    _machines[machine.kind] = machine
    return machine


def get(kind: str) -> Machine:
    """The registered machine of this kind; KeyError when no room registered it."""
    return _machines[kind]


def all_machines() -> list[Machine]:
    """Every registered machine, by kind."""
    return [_machines[k] for k in sorted(_machines)]
