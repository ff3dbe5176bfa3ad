"""Which of several sources a field of the golden record is taken from: the rules of ``survivorship.yaml``, and why.

Every rule is a list of questions; a source answers each with something that can be ordered. The answer never depends on the order
in which sources came: the last question is always the row's own number.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lianxin.index.facts import tidy
from lianxin.index.form import NAMED, Form, Registration, form_of
from lianxin.index.normal.dates import FILLED
from lianxin.index.normal.documents import OTHER_TYPE, OWN, RESIDENT_ID
from lianxin.index.normal.places import Place
from lianxin.standards.text import T, Text

_RULES: dict[str, Any] = yaml.load(
    (Path(__file__).parent / "survivorship.yaml").read_text("utf-8"), yaml.CSafeLoader
)
FIELDS: tuple[str, ...] = tuple(_RULES["fields"])
_PLACE = ["place"]


def latest_word(rules: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Fields whose latest word stands, whoever spoke before: their rules ask for nothing else."""
    return frozenset(name for name, rule in rules.items() if list(rule) in (["recency"], _PLACE))


LATEST = latest_word(_RULES["fields"])
BY_PLACE: bool = _RULES["fields"]["address"] == _PLACE
"""Whether an address stands until another place is named; otherwise every other wording is another address."""


@dataclass(frozen=True)
class SourceClass:
    """A kind of source and how far it is trusted."""

    name: str
    trust: int
    label: Text


_CLASSES = [
    (tuple(c["words"]), SourceClass(c["name"], c["trust"], T(c["zh"], c["en"]))) for c in _RULES["classes"]
]


@lru_cache(maxsize=4096)
def class_of(system: str) -> SourceClass:
    """The class of a source system by its name."""
    name = system.casefold()
    return next(kind for words, kind in _CLASSES if not words or any(w in name for w in words))


@dataclass(slots=True)
class Spoken:
    """One source's word: its registration and its comparable form, when, and from which source row."""

    source_id: int
    received_at: dt.datetime
    reg: Registration
    form: Form = field(default_factory=Form)
    disputed: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.form, Form):
            self.form = form_of(self.reg)

    @property
    def trust(self) -> int:
        """How far the source's class is trusted."""
        return class_of(self.reg.system).trust


VALUE: dict[str, Callable[[Spoken], Any]] = {
    "id": lambda w: (
        (w.form.id_type, w.form.id_no) if w.form.id_state in (OWN, OTHER_TYPE) and w.form.id_no else None
    ),
    "name": lambda w: w.form.name if w.form.kind == NAMED else None,
    "sex": lambda w: w.form.sex if w.reg.sex in ("male", "female") or w.form.sex else None,
    "birth": lambda w: w.form.born if w.form.born % 10000 else None,
    "phone": lambda w: w.form.phone or None,
    "address": lambda w: (
        (w.form.county, w.form.town, w.form.village, w.form.house, w.reg.address)
        if w.reg.address or w.reg.village
        else None
    ),
    "home": lambda w: w.reg.home_institution_id,
    "deceased": lambda w: w.form.died or None,
    "contact": lambda w: w.form.mother or None,
}
"""What a source says of a field, comparable; None when it says nothing."""


@dataclass(slots=True)
class Chosen:
    """The outcome for one field: the source, the question that decided, and the sources that say otherwise."""

    word: Spoken
    why: str
    others: list[Spoken]


def choose(
    name: str, words: Sequence[Spoken], own: Form | None = None, others: bool = False
) -> Chosen | None:
    """Choose the source of a field; None when nobody says anything. ``own``: the form with the person's own number."""
    value = VALUE[name]
    said = [(w, v) for w in words if (v := value(w)) is not None]
    if not said:
        return None
    if len(said) == 1:
        return Chosen(said[0][0], "only", [])
    counts: dict[Any, int] = {}
    for _, v in said:
        counts[v] = counts.get(v, 0) + 1
    rule = _RULES["fields"][name]
    if rule == _PLACE:
        return _placed([w for w, _ in said], others)
    if len(counts) == 1:  # the rule tells only whose word it is: what asks about the value has one answer
        asked = [q for q in rule if q not in _OF_VALUE]
        return Chosen(max(said, key=lambda s: _rank(asked, s[0], s[1], counts, own))[0], "agreed", [])
    ranks = [(_rank(rule, s[0], s[1], counts, own), s) for s in said]
    ranks.sort(key=lambda r: r[0], reverse=True)
    first, (best, shown) = ranks[0]
    rest = [(rank, w) for rank, (w, v) in ranks[1:] if v != shown]
    why = next((q for q, a, b in zip(rule, first, rest[0][0], strict=False) if a != b), "recency")
    return Chosen(best, why, [w for _, w in rest] if others else [])


def _placed(words: Sequence[Spoken], others: bool) -> Chosen:
    """The address that stands when the words are heard in the order they came."""
    first, *later = sorted(words, key=lambda w: (w.received_at, w.source_id))
    stands, why = Where.of(first), "agreed"
    best = first
    for word in later:
        said = Where.of(word)
        if not stands.holds(said):
            best, stands, why = word, said, "place"
    value = VALUE["address"]
    return Chosen(best, why, [w for w in words if value(w) != value(best)] if others else [])


@dataclass(frozen=True, slots=True)
class Where:
    """An address as told (text, division, village) and what was read from it."""

    text: str
    division: str
    village: str
    county: str
    parts: tuple[str, str, str]

    @classmethod
    def of(cls, word: Spoken) -> Where:
        """What a source says."""
        return cls.said(word.reg, word.form)

    @classmethod
    def said(cls, reg: Registration, read: Form | Place) -> Where:
        """A registration's address, which was read as ``read``."""
        return cls.told(tidy(reg.address), reg.division, tidy(reg.village), read)

    @classmethod
    def told(cls, text: str, division: str, village: str, read: Form | Place) -> Where:
        """Columns of a golden row, which were read as ``read``."""
        parts = read.town, read.village, read.house
        return cls(text[:300], division[:12], village[:80], read.county, parts)

    def holds(self, new: Where) -> bool:
        """Whether a later word only repeats this place, in whatever wording, or says less of it."""
        if (new.text, new.division, new.village) == (self.text, self.division, self.village):
            return True
        if any(n and n != s for n, s in zip(new.parts, self.parts, strict=True)):
            return False
        # a county's name is read as a code only when somebody tells the code: town and village tell the place
        known = all(new.parts[:2]) and not (new.division and self.division)
        if new.county and new.county != self.county and not known:
            return False
        if new.parts != self.parts:
            return True
        if not any(self.parts) and new.text != self.text:
            return not new.text  # nothing could be read from either
        more = new.division.startswith(self.division) and self.village in ("", new.village)
        return not more or (new.division, new.village) == (self.division, self.village)


_OF_VALUE = frozenset(("agrees", "frequency"))


def _rank(
    rule: Sequence[str], word: Spoken, value: Any, counts: dict[Any, int], own: Form | None
) -> list[Any]:
    """The answers to a rule's questions, and the source's number last."""
    return [*[_ask(q, word, value, counts, own) for q in rule], word.source_id]


def _ask(question: str, word: Spoken, value: Any, counts: dict[Any, int], own: Form | None) -> Any:
    form = word.form
    if question == "trust":
        return word.trust
    if question == "verified":
        return form.id_state == OWN
    if question == "agrees":
        return own is not None and value in (int(own.id_no[6:14]), 1 if int(own.id_no[16]) % 2 else 2)
    if question == "definite":
        return form.born_default != FILLED
    if question == "resident":
        return form.id_type == RESIDENT_ID
    if question == "frequency":
        return counts[value]
    return word.received_at


WHY: dict[str, Text] = {
    "only": T("只有这一个来源", "the only source"),
    "agreed": T("各来源一致", "all sources agree"),
    "trust": T("来源更可信", "a more trusted source"),
    "verified": T("有本人有效证件号", "with the person's own valid number"),
    "agrees": T("与本人证件号一致", "agrees with the person's own number"),
    "definite": T("另一值像是填充值", "the other looks like a filler"),
    "resident": T("居民身份证优先", "a resident number before other documents"),
    "frequency": T("更多来源这样说", "more sources say so"),
    "recency": T("最近登记", "the latest word"),
    "place": T("最近说到的住处，取写得最全的", "the place named last, as fully as it was told"),
}
