"""A new linkage held against the live index: what would be joined, what split, what a person should look at. Pure; numbers stay."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lianxin.index.batch.link import Linked


@dataclass(frozen=True, slots=True)
class Join:
    """``gone`` turns out to be ``keep``, the older of the two."""

    keep: int
    gone: int


@dataclass(frozen=True, slots=True)
class Split:
    """Forms ``rids`` of ``person`` are of ``other``, or of somebody new (None)."""

    person: int
    other: int | None
    rids: tuple[int, ...]


@dataclass(slots=True)
class Differences:
    """Joins by keeper, splits by person, and positions in the linkage's reviews that concern two different persons."""

    joins: list[Join] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    reviews: list[int] = field(default_factory=list)


def differences(linked: Linked) -> Differences:
    """Compare groups with persons.

    A person lives on in the group that holds most of its forms; among several persons of one group the oldest keeps its number.
    Forms without a person (0) do not count.
    """
    held = linked.pid != 0
    rid, pid, label = linked.rid[held], linked.pid[held], linked.label[held]
    order = np.lexsort((rid, label, pid))
    rid, pid, label = rid[order], pid[order], label[order]
    first = np.ones(len(pid), dtype=bool)
    first[1:] = (pid[1:] != pid[:-1]) | (label[1:] != label[:-1])
    start = np.flatnonzero(first)
    size = np.diff(np.append(start, len(pid)))
    part_pid, part_label = pid[start], label[start]

    # The main part of a person: most forms, then the smallest rid.
    best = np.lexsort((rid[start], -size, part_pid))
    main = np.zeros(len(start), dtype=bool)
    leads = np.ones(len(best), dtype=bool)
    leads[1:] = part_pid[best][1:] != part_pid[best][:-1]
    main[best[leads]] = True

    mains = np.flatnonzero(main)
    by_label = mains[np.lexsort((part_pid[mains], part_label[mains]))]
    out = Differences()
    keeper: dict[int, int] = {}
    heads = np.ones(len(by_label), dtype=bool)
    heads[1:] = part_label[by_label][1:] != part_label[by_label][:-1]
    crowded = np.zeros(len(by_label), dtype=bool)
    crowded[:-1] |= ~heads[1:]
    crowded |= ~heads
    strays = np.flatnonzero(~main)
    wanted = set(part_label[strays].tolist())
    for at, head, many in zip(by_label.tolist(), heads.tolist(), crowded.tolist(), strict=True):
        if not many and not (wanted and int(part_label[at]) in wanted):
            continue
        group, person = int(part_label[at]), int(part_pid[at])
        if head:
            keeper[group] = person
        else:
            out.joins.append(Join(keeper[group], person))
    for at in strays.tolist():
        rids = tuple(rid[start[at] : start[at] + size[at]].tolist())
        out.splits.append(Split(int(part_pid[at]), keeper.get(int(part_label[at])), rids))
    left = linked.pid[np.searchsorted(linked.rid, linked.left)]
    right = linked.pid[np.searchsorted(linked.rid, linked.right)]
    out.reviews = np.flatnonzero((left != right) & (left != 0) & (right != 0)).tolist()
    return out
