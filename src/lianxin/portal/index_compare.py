"""Two records side by side: what each says, which characters differ, what speaks for and against, who lives with them. No writes.

Reviewers see names, birth dates and addresses of the people they decide about; identity and phone numbers stay masked, but for
the one or two places in which they differ.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from django.db import connection
from django.db.models import Q

from lianxin.access import seal
from lianxin.access.models import Account
from lianxin.index import active, following, golden
from lianxin.index.form import form_of
from lianxin.index.match import reasons, score
from lianxin.index.models import LinkEvent, Person, SourceRecord
from lianxin.portal import words
from lianxin.standards import clock
from lianxin.standards.text import T, Text

_WHY = "a reviewer compares the registrations of two people"
REVEALED = 2
HOUSEHOLD = 8
HISTORY = 12
WEIGHED = 12

EVENTS = {
    "created": (T("首次登记，建立主索引", "First registration, number given"), "plus-circle"),
    "linked": (T("登记自动关联", "A registration was linked"), "link-45deg"),
    "merged": (T("合并", "Merged"), "sign-merge-right"),
    "unmerged": (T("撤销合并", "Merge undone"), "arrow-counterclockwise"),
    "moved": (T("登记改属", "A registration was moved"), "arrow-left-right"),
    "split": (T("登记拆出", "Registrations were split off"), "scissors"),
    "apart": (T("确认不是同一人", "Said to be two people"), "slash-circle"),
    "golden": (T("主记录更新", "Golden record changed"), "pencil"),
    "review": (T("人工复核", "Reviewed"), "person-check"),
}


@dataclass(frozen=True)
class Piece:
    """A run of characters; ``differs`` from the other side."""

    text: str
    differs: bool


@dataclass(frozen=True)
class Row:
    """One field on both sides. ``state``: same, near, differs, missing."""

    label: Text
    left: list[Piece]
    right: list[Piece]
    state: str

    @property
    def word(self) -> Text:
        """The state in words, for those who do not see colour."""
        return {
            "same": T("一致", "same"),
            "near": T("相近", "near"),
            "differs": T("不同", "differs"),
            "missing": T("缺", "missing"),
        }[self.state]


@dataclass
class Side:
    """One of the two: the person as the index knows it now, its registrations, what happened to it."""

    person: Person
    sources: list[SourceRecord]
    merged: list[Person]
    values: dict[str, str]
    forms: list[Any] = field(default_factory=list)


_LABELS = {
    "name": T("姓名", "Name"),
    "sex": T("性别", "Sex"),
    "birth": T("出生日期", "Born"),
    "id": T("证件号", "ID number"),
    "phone": T("手机", "Phone"),
    "address": T("住址", "Address"),
    "guardian": T("监护人、母亲", "Guardian, mother"),
    "card": T("医保、健康卡", "Insurance or health card"),
    "home": T("所属机构", "Home institution"),
    "died": T("死亡日期", "Died"),
}
_NUMBERS = frozenset({"id", "phone", "card"})
_WHOLE = frozenset({"sex", "birth", "died", "home"})


def side(person: Person, only: SourceRecord | None = None, without: SourceRecord | None = None) -> Side:
    """A person as reviewers see it; ``only``: just what one registration says; ``without``: all but that one."""
    rows = SourceRecord.objects.unscoped(_WHY).filter(person_id=person.pk).select_related("institution")
    sources = [s for s in rows.order_by("received_at", "pk") if only is None or s.pk == only.pk]
    if without is not None:
        sources = [s for s in sources if s.pk != without.pk] or sources
    spoken = [golden.spoken(s) for s in sources]
    latest = spoken[-1].reg if spoken else None
    if only is None and without is None:
        values = {
            "name": person.name,
            "sex": str(words.SEX.get(person.sex, words.SEX["unknown"])),
            "birth": person.birth_date.isoformat() if person.birth_date else "",
            "id": seal.unseal(person.id_sealed) if person.id_sealed else "",
            "phone": seal.unseal(person.phone_sealed) if person.phone_sealed else "",
            "address": f"{person.address} {person.village}".strip(),
            "home": str(person.home_institution or ""),
            "died": person.deceased_on.isoformat() if person.deceased_on else "",
        }
    else:
        values = {
            "name": latest.name if latest else "",
            "sex": str(words.SEX.get(latest.sex if latest else "", words.SEX["unknown"])),
            "birth": latest.birth_date.isoformat() if latest and latest.birth_date else "",
            "id": latest.id_no if latest else "",
            "phone": latest.phone if latest else "",
            "address": latest.address if latest else "",
            "home": "",
            "died": latest.deceased_on.isoformat() if latest and latest.deceased_on else "",
        }
    regs = [s.reg for s in reversed(spoken)]
    values["guardian"] = next(
        (v for r in regs for v in (getattr(r, "guardian_name", ""), getattr(r, "mother_name", "")) if v), ""
    )
    values["card"] = next((r.card for r in regs if r.card), "")
    with connection.cursor() as cur:
        below = [pk for pk in following.subtree(cur, person.pk) if pk != person.pk]
    merged = list(Person.objects.unscoped(_WHY).filter(pk__in=below).order_by("pk"))
    return Side(person, sources, merged, values, [form_of(s.reg) for s in spoken[-WEIGHED:]])


def rows(left: Side, right: Side) -> list[Row]:
    """The comparison, field by field; fields that neither side has are left out."""
    out = []
    for name, label in _LABELS.items():
        a, b = left.values.get(name, ""), right.values.get(name, "")
        if not a and not b:
            continue
        compare = _numbers if name in _NUMBERS else _parts if name in _WHOLE else _texts
        left_pieces, right_pieces = compare(a, b, name)
        out.append(Row(label, left_pieces, right_pieces, _state(a, b, left_pieces, right_pieces)))
    return out


def _state(a: str, b: str, left: list[Piece], right: list[Piece]) -> str:
    """Near: most of what is shown on both sides agrees."""
    if not a or not b:
        return "missing"
    if a == b:
        return "same"
    pieces = [*left, *right]
    agree = sum(len(p.text) for p in pieces if not p.differs)
    return "near" if agree >= 0.6 * sum(len(p.text) for p in pieces) else "differs"


def _parts(a: str, b: str, name: str) -> tuple[list[Piece], list[Piece]]:
    """Dates part by part (year, month, day), words as a whole."""
    if not a or not b:
        return [Piece(a, False)] if a else [], [Piece(b, False)] if b else []
    left, right = a.split("-"), b.split("-")
    if len(left) != len(right):
        return [Piece(a, True)], [Piece(b, True)]

    def shown(mine: list[str], other: list[str]) -> list[Piece]:
        out: list[Piece] = []
        for k, (one, two) in enumerate(zip(mine, other, strict=True)):
            out += [Piece("-", False)] if k else []
            out.append(Piece(one, one != two))
        return out

    return shown(left, right), shown(right, left)


def _texts(a: str, b: str, name: str) -> tuple[list[Piece], list[Piece]]:
    if not a or not b:
        return [Piece(a, False)] if a else [], [Piece(b, False)] if b else []
    left, right = [], []
    for kind, a0, a1, b0, b1 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if a1 > a0:
            left.append(Piece(a[a0:a1], kind != "equal"))
        if b1 > b0:
            right.append(Piece(b[b0:b1], kind != "equal"))
    return left, right


def _numbers(a: str, b: str, name: str) -> tuple[list[Piece], list[Piece]]:
    """Masked numbers; the places where they differ stand open when they are few enough to be a slip of the hand."""
    mask = golden.mask_phone if name == "phone" else golden.mask_id
    if not a or not b or a == b:
        return [Piece(mask(a), False)] if a else [], [Piece(mask(b), False)] if b else []
    places = [k for k in range(len(a)) if a[k] != b[k]] if len(a) == len(b) else []
    if not 0 < len(places) <= REVEALED:
        return [Piece(mask(a), True)], [Piece(mask(b), True)]

    def shown(text: str) -> list[Piece]:
        hidden = mask(text)
        out: list[Piece] = []
        if len(hidden) != len(text):
            hidden = "*" * len(text)
        for k, char in enumerate(text):
            one = Piece(char if k in places else hidden[k], k in places)
            if out and out[-1].differs == one.differs:
                out[-1] = Piece(out[-1].text + one.text, one.differs)
            else:
                out.append(one)
        return out

    return shown(a), shown(b)


# --------------------------------------------------------------------------------------------------------------- why


@dataclass(frozen=True)
class Bar:
    """One line of the waterfall: what it is, bits for (+) or against (-), and the bar's place in per cent of the width."""

    title: Text
    level: Text
    bits: float
    x: float
    width: float

    @property
    def signed(self) -> str:
        """+14.5"""
        return f"{self.bits:+.1f}"


def waterfall(parts: Sequence[Sequence[Any]]) -> tuple[list[Bar], float]:
    """Bars of (field, level, bits), each starting where the last one ended, and the scale's zero in per cent."""
    steps, total = [], 0.0
    for name, code, bits in (p for p in parts if float(p[2])):
        steps.append((name, code, float(bits), total))
        total += float(bits)
    ends = [0.0, *(start + bits for _, _, bits, start in steps)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    bars = [
        Bar(
            _titled(reasons.field, name),
            _titled(reasons.part, name, code),
            bits,
            round((min(start, start + bits) - low) / span * 100, 2),
            round(max(abs(bits) / span * 100, 0.4), 2),
        )
        for name, code, bits, start in steps
    ]
    return bars, round(-low / span * 100, 2)


def _titled(words_of: Any, *args: str) -> Text:
    """Words of a field or level; what an older table of levels called otherwise stands as it was kept."""
    try:
        return words_of(*args)
    except KeyError:
        return Text(args[-1], args[-1])


def weigh(left: Side, right: Side) -> tuple[list[list[Any]], float, float] | None:
    """Parts, bits and probability of the best pair of registrations by today's weights; None when a side says nothing."""
    with connection.cursor() as cur:
        model = active.current_model(cur)
    scored = [score.score(a, b, model) for a in left.forms for b in right.forms]
    if not scored:
        return None
    best = max(scored, key=lambda s: s.bits)
    return [list(p) for p in best.parts], best.bits, best.probability


# --------------------------------------------------------------------------------------------------------- household


@dataclass(frozen=True)
class Relative:
    """Somebody with the same phone or address, masked."""

    name: str
    sex: str
    age: Text
    shares: list[Text]
    with_left: bool
    with_right: bool


def household(left: Side, right: Side) -> list[Relative]:
    """Other people of the same phone or the same house as either, masked, youngest last."""
    people = (
        Person.objects.unscoped(_WHY)
        .filter(status="active")
        .exclude(pk__in=(left.person.pk, right.person.pk))
    )
    found: dict[int, Person] = {}
    for one in (left.person, right.person):
        where = Q()
        if one.phone_blind:
            where |= Q(phone_blind=one.phone_blind)
        near = people.filter(where)[:HOUSEHOLD] if where else []
        found |= {p.pk: p for p in near}
        if one.address and one.home_institution_id:
            same_house = people.filter(home_institution_id=one.home_institution_id, address=one.address)
            found |= {p.pk: p for p in same_house[:HOUSEHOLD]}
    out = []
    for p in sorted(found.values(), key=lambda p: (p.birth_date or dt.date.max, p.pk))[:HOUSEHOLD]:
        shares: list[Text] = []
        shared = [False, False]
        for k, one in enumerate((left.person, right.person)):
            phone = bool(one.phone_blind) and bytes(one.phone_blind or b"") == bytes(p.phone_blind or b"")
            house = bool(one.address) and one.address == p.address
            shared[k] = phone or house
            for held, word in ((phone, T("同手机", "same phone")), (house, T("同住址", "same address"))):
                if held and word not in shares:
                    shares.append(word)
        out.append(Relative(golden.mask_name(p.name), p.sex, words.age(p.birth_date), shares, *shared))
    return out


# ----------------------------------------------------------------------------------------------------------- history


@dataclass(frozen=True)
class Happening:
    """One line of what happened to an identity."""

    pk: int
    at: dt.datetime
    title: Text
    icon: str
    reason: str
    who: str
    other: str
    undoable: bool
    undone: bool


def history(person_ids: Sequence[int], limit: int = HISTORY) -> list[Happening]:
    """What happened to these people's links, newest first."""
    events = list(LinkEvent.objects.filter(person_id__in=person_ids).order_by("-id")[:limit])
    names = dict(
        Account.objects.filter(pk__in={e.account_id for e in events if e.account_id}).values_list(
            "pk", "name"
        )
    )
    ids = {
        pk
        for e in events
        for pk in (e.before.get("gone"), e.before.get("person"), e.after.get("person"), e.after.get("b"))
    }
    numbers = dict(Person.objects.unscoped(_WHY).filter(pk__in=ids - {None}).values_list("pk", "number"))
    platform = str(T("系统", "The platform"))
    out = []
    for e in events:
        title, icon = EVENTS.get(e.kind, (Text(e.kind, e.kind), "dot"))
        other = e.before.get("gone") or e.after.get("b") or e.after.get("person")
        if other == e.person_id:
            other = e.before.get("person")
        out.append(
            Happening(
                e.pk, e.at, title, icon, e.reason, names.get(e.account_id or 0, platform), numbers.get(other, ""),
                e.kind in ("merged", "moved", "split") and e.undone_by_id is None,
                e.undone_by_id is not None,
            )
        )  # fmt: skip
    return out


def waited(since: dt.datetime) -> Text:
    """How long something has waited."""
    return words.span((clock.now() - since).total_seconds())
