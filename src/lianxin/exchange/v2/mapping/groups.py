"""Segments into groups: an order with its results, an appointment with its resources.

A group is opened by the segments it names, in their order (``[ORC, OBR]``: an ORC and the OBR after it are one group, the next
ORC or OBR opens another).  Every other segment belongs to the group that is open when it comes; those of the patient and the
visit always belong to the message.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lianxin.exchange.v2.mapping.made import Context
from lianxin.exchange.v2.message import Message, Segment

TOP = frozenset(
    {
        "MSH",
        "SFT",
        "UAC",
        "EVN",
        "PID",
        "PD1",
        "NK1",
        "PV1",
        "PV2",
        "GT1",
        "MRG",
        "ARV",
        "SCH",
        "TXA",
        "RF1",
        "MSA",
    }
)
"""Segments that belong to the message wherever they stand."""
TEXTS = frozenset({"TX", "FT"})


@dataclass
class Group:
    """A kind of group: what opens it, what it holds. ``joins``: lines of one text become one group.

    ``holds``: segments that belong to it even after a group inside it has begun (a specimen after the results).
    """

    name: str
    opens: dict[str, int] = field(default_factory=dict)
    children: dict[str, Group] = field(default_factory=dict)
    joins: bool = False
    holds: frozenset[str] = frozenset()
    inside: list[Group] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """One message on its way through a mapping."""

    message: Message
    context: Context
    patient: str
    usual: bool
    variables: dict[str, str]
    warnings: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    mark: str = ""


class Env:
    """What an expression can see: the nearest segment of each name, and the segments and groups of this group."""

    __slots__ = ("every", "kids", "last", "made", "memo", "one", "parent", "place", "run")

    def __init__(self, run: Run, parent: Env | None) -> None:
        self.run, self.parent = run, parent
        self.one: dict[str, Segment] = dict(parent.one) if parent is not None else {}
        self.every: dict[str, list[Segment]] = {}
        self.kids: dict[str, list[Env]] = {}
        self.memo: dict[int, Any] = {}
        self.made: dict[str, list[dict[str, Any]]] = {}
        self.last = -1
        self.place = 0

    def add(self, segment: Segment) -> None:
        """Take a segment into this group."""
        name = segment.name
        known = self.every.get(name)
        if known is None:
            self.every[name] = [segment]
            self.one[name] = segment
        else:
            known.append(segment)

    def hold(self, segment: Segment) -> None:
        """Take a segment into this group that the groups inside it see too."""
        first = segment.name not in self.every
        self.add(segment)
        for line in self.kids.values() if first else ():
            for kid in line:
                kid.one.setdefault(segment.name, segment)


def split(run: Run, top: Group) -> Env:
    """The message as groups."""
    root = Env(run, None)
    stack: list[tuple[Group, Env]] = [(top, root)]
    rest = []
    for (
        segment
    ) in run.message.segments:  # what belongs to the message first: groups are to see it wherever it stands
        if segment.name in TOP:
            root.add(segment)
        else:
            rest.append(segment)
    for segment in rest:
        name = segment.name
        for depth in range(len(stack) - 1, -1, -1):
            group, env = stack[depth]
            if name in group.holds:
                del stack[depth + 1 :]
                env.hold(segment)
                break
            order = group.opens.get(name)
            if order is not None and order > env.last:  # the group that is open goes on
                del stack[depth + 1 :]
                env.last = order
                env.add(segment)
                break
            child = group.children.get(name)
            if child is not None:
                before = stack[depth + 1][1] if len(stack) > depth + 1 else None
                if (
                    child.joins
                    and before is not None
                    and stack[depth + 1][0] is child
                    and _continues(before, segment)
                ):
                    before.add(segment)
                    break
                del stack[depth + 1 :]
                opened = Env(run, env)
                opened.add(segment)
                opened.last = child.opens[name]
                line = env.kids.setdefault(child.name, [])
                opened.place = len(line) + 1
                line.append(opened)
                stack.append((child, opened))
                break
        else:
            stack[-1][1].add(segment)
    return root


def _continues(before: Env, segment: Segment) -> bool:
    """Whether a line goes on with the text before it: lines of one observation, with nothing between."""
    earlier = before.every.get(segment.name)
    if not earlier or "NTE" in before.every:
        return False
    last, fields = earlier[-1].fields, segment.fields
    if (
        len(fields) < 6
        or len(last) < 6
        or fields[2] not in TEXTS
        or fields[2] != last[2]
        or fields[3] != last[3]
    ):
        return False
    if not fields[3].strip() or _of(fields, 11) != _of(last, 11) or _of(fields, 14) != _of(last, 14):
        return False
    if fields[4] == last[4]:
        return True
    return fields[4].isdigit() and last[4].isdigit() and int(fields[4]) == int(last[4]) + 1


def _of(fields: list[str], n: int) -> str:
    return fields[n] if n < len(fields) else ""
