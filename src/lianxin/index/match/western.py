"""Lists of people from the West, all at once: the same levels and scores, weights learned from the list itself, one fixed threshold.

A list that names street, town and postcode in columns of their own is put into forms part by part (no Chinese address is read out
of them, a birth date stays as typed even when no calendar has it). Used for comparison with published results and for imports.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from lianxin.index.form import Form
from lianxin.index.match import em, score
from lianxin.index.match.keys import keys_of
from lianxin.index.match.model import Model, starting
from lianxin.index.normal import names

THRESHOLD = 2.0
"""Bits from which two rows are of one person: the same for every list."""
STRANGERS = 400_000
CROWD = 400
LEAST = 2
"""A name met once is as rare as one met this often: no slip looks rarer than that."""

_NUMBER_TYPE = "99"
_FREE = 99.0
_LETTER = re.compile(r"[A-Za-zÀ-ɏ]")
_OTHER = re.compile(r"[\u0370-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Parts:
    """A row by columns. ``born``: digits yyyymmdd as typed; ``number``: a social security or similar number, typos and all."""

    given: str = ""
    family: str = ""
    born: str = ""
    sex: int = 0
    number: str = ""
    house: str = ""
    street: str = ""
    town: str = ""
    area: str = ""
    phone: str = ""


def written(parts: Parts) -> bool:
    """Whether the names are in Latin letters."""
    name = parts.given + parts.family
    return bool(_LETTER.search(name)) and not _OTHER.search(name)


def form_of_parts(parts: Parts) -> Form:
    """A form from columns."""
    read = names.read("", family=parts.family, given=parts.given)
    digits = re.sub(r"\D", "", parts.born)
    return Form(
        read.name,
        read.surname,
        read.given,
        read.kind,
        read.script,
        read.pinyin,
        read.fuzzy,
        read.shape,
        sex=parts.sex,
        born=int(digits) if len(digits) == 8 else 0,
        id_type=_NUMBER_TYPE if parts.number else "",
        id_no=parts.number,
        id_state=4 if parts.number else 0,
        phone=parts.phone,
        county=_plain(parts.area),
        town=_plain(parts.town),
        village=_plain(parts.street),
        house=_plain(parts.house),
    )


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.casefold())


def pairs_of(forms: Sequence[Form], left: int | None = None) -> list[tuple[int, int]]:
    """Positions that share a key, ascending; ``left``: only pairs between the first so many rows and the others."""
    blocks: defaultdict[int, list[int]] = defaultdict(list)
    for at, form in enumerate(forms):
        for key in keys_of(form):
            blocks[key].append(at)
    found: set[tuple[int, int]] = set()
    for block in blocks.values():
        if len(block) <= CROWD:
            found.update(combinations(block, 2))
    return sorted(p for p in found if left is None or p[0] < left <= p[1])


def train(forms: Sequence[Form], pairs: Iterable[tuple[int, int]], left: int | None = None) -> Model:
    """A model learned from the rows themselves, without labels. Deterministic."""
    count = len(forms)
    begin = starting().with_frequencies(forms, LEAST).for_people(count)
    rng = random.Random(count)
    drawn = ((rng.randrange(count), rng.randrange(count)) for _ in range(min(STRANGERS, 40 * count)))
    space = count * (count - 1) / 2 if left is None else left * (count - left)
    record: dict[str, Any] = {"data": "list", "rows": count}
    return em.train(
        em.count(((forms[a], forms[b]) for a, b in pairs), begin),
        em.count(((forms[a], forms[b]) for a, b in drawn if a != b), begin),
        begin,
        pairs=max(space, 1.0),
        version="list",
        record=record,
        leash=_FREE,
    )


Scored = tuple[float, int, int]
"""Bits, row, row."""


def ranked(forms: Sequence[Form], left: int | None = None) -> tuple[Model, list[Scored]]:
    """The model learned from the rows and every pair that shares a key under it, strongest first."""
    pairs = pairs_of(forms, left)
    model = train(forms, pairs, left)
    scored = ((score.bits(forms[a], forms[b], model), a, b) for a, b in pairs)
    return model, sorted(scored, key=lambda s: (-s[0], s[1], s[2]))


def link(forms: Sequence[Form], left: int | None = None) -> list[tuple[int, int, float]]:
    """(row, row, bits) of all rows that are of one person, strongest first; see :func:`chosen`."""
    return chosen(len(forms), ranked(forms, left)[1], left)


def chosen(count: int, scored: Iterable[Scored], left: int | None = None) -> list[tuple[int, int, float]]:
    """The pairs to link out of ranked ones.

    Within one list, rows that are linked through others belong together too; between two lists (``left`` rows in the first, each
    without duplicates) a row has one partner at most.
    """
    strong = [s for s in scored if s[0] >= THRESHOLD]
    return _groups(count, strong) if left is None else partners(strong)


def partners(strong: Iterable[Scored]) -> list[tuple[int, int, float]]:
    """Each row's best partner that is still free, strongest pairs first."""
    taken: set[int] = set()
    out = []
    for bits, a, b in strong:
        if a not in taken and b not in taken:
            taken.update((a, b))
            out.append((a, b, bits))
    return out


def _groups(count: int, strong: Sequence[tuple[float, int, int]]) -> list[tuple[int, int, float]]:
    root = list(range(count))

    def find(at: int) -> int:
        while root[at] != at:
            root[at] = root[root[at]]
            at = root[at]
        return at

    known = {}
    for bits, a, b in strong:
        known[a, b] = bits
        root[max(find(a), find(b))] = min(find(a), find(b))
    members: defaultdict[int, list[int]] = defaultdict(list)
    for at in range(count):
        members[find(at)].append(at)
    out = [
        (a, b, known.get((a, b), THRESHOLD))
        for group in members.values()
        if len(group) > 1
        for a, b in combinations(group, 2)
    ]
    return sorted(out, key=lambda p: (-p[2], p[0], p[1]))
