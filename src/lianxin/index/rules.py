"""Is this registration that person? Pure decisions, no I/O (domain: the index notes, rules 1-3 and "Newborns").

Safe before clever: two valid own identity numbers that differ are two people; the same number with another name, and names
that only sound alike, go to a human; newborn names and placeholders are never linked by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lianxin.index.facts import RESIDENT_ID, Facts

P = TypeVar("P")


@dataclass(frozen=True)
class Verdict:
    """``kind`` same | review | no; ``code`` of the review; ``strength`` to choose between two that are the same."""

    kind: str
    reasons: tuple[str, ...] = ()
    code: str = ""
    strength: int = 0


NO = Verdict("no")


def name_level(a: Facts, b: Facts) -> str:
    """exact | missing | sound | other."""
    if not a.name_key or not b.name_key:
        return "missing"
    if a.name_key == b.name_key:
        return "exact"
    return "sound" if a.pinyin and a.pinyin == b.pinyin else "other"


def same_id(a: Facts, b: Facts) -> bool:
    """Both hold the same own identifier of one type."""
    return a.id_blind is not None and a.id_blind == b.id_blind and a.id_type == b.id_type


def ids_differ(a: Facts, b: Facts) -> bool:
    """Two valid own resident identity numbers that differ: never one person (a check digit catches every typing slip)."""
    return (
        a.id_blind is not None
        and b.id_blind is not None
        and a.id_type == b.id_type == RESIDENT_ID
        and a.id_blind != b.id_blind
    )


def _sexes_differ(a: Facts, b: Facts) -> bool:
    return {a.sex, b.sex} == {"male", "female"}


def _household(a: Facts, b: Facts) -> tuple[str, ...]:
    out = []
    if a.phone_blind and a.phone_blind == b.phone_blind:
        out.append("电话相同")
    if a.address_key and a.address_key == b.address_key:
        out.append("地址相同")
    if a.village_key and a.village_key == b.village_key:
        out.append("同村")
    return tuple(out)


def compare(a: Facts, b: Facts) -> Verdict:
    """Decide for a registration ``a`` and a known person ``b``."""
    if ids_differ(a, b):
        return Verdict("no", ("两个有效本人证件号不同",))
    exact_id, exact_card = same_id(a, b), bool(a.card) and a.card == b.card
    near = _household(a, b)
    if a.placeholder or b.placeholder:
        return (
            Verdict("review", ("证件号或卡号相同,姓名为占位名",), "same_id") if exact_id or exact_card else NO
        )
    born_alike = a.birth_date is not None and a.birth_date == b.birth_date
    if a.newborn or b.newborn:
        if exact_id or exact_card:
            return Verdict("review", ("证件号或卡号相同,其一为新生儿暂用名",), "newborn")
        if born_alike and near and not _sexes_differ(a, b):
            return Verdict("review", ("出生日期相同", *near, "其一为新生儿暂用名"), "newborn")
        return NO
    level = name_level(a, b)
    if exact_id or exact_card:
        why = "证件号相同" if exact_id else "健康卡号相同"
        if level in ("exact", "missing") and not _sexes_differ(a, b):
            return Verdict("same", (why, "姓名一致"), strength=3 if exact_id else 2)
        odd = "性别不同" if level in ("exact", "missing") else "姓名同音" if level == "sound" else "姓名不同"
        return Verdict("review", (why, odd), "same_id")
    if not born_alike or _sexes_differ(a, b) or level not in ("exact", "sound"):
        return NO
    basis = ("姓名相同" if level == "exact" else "姓名同音", "出生日期相同")
    if level == "sound":
        return Verdict("review", (*basis, *near), "same_sound") if near else NO
    if near and a.sex == b.sex and not _other_ids_differ(a, b) and not (b.deceased and not a.deceased):
        return Verdict("same", (*basis, *near), strength=1)
    if not near and _contradict(a, b):
        return NO
    return Verdict("review", (*basis, *near), "look_alike")


def _other_ids_differ(a: Facts, b: Facts) -> bool:
    """Two identifiers of one type (a passport, say) that differ: a renewed document or another person."""
    return (
        a.id_blind is not None
        and b.id_blind is not None
        and a.id_type == b.id_type
        and a.id_blind != b.id_blind
    )


def _contradict(a: Facts, b: Facts) -> bool:
    return bool(
        a.phone_blind
        and b.phone_blind
        and a.phone_blind != b.phone_blind
        and a.address_key
        and b.address_key
        and a.address_key != b.address_key
    )


def still_holds(new: Facts, rest: Facts) -> bool:
    """Whether an updated registration still fits the person it is linked to (``rest``: what the other sources say)."""
    if ids_differ(new, rest) or name_level(new, rest) not in ("exact", "missing") or _sexes_differ(new, rest):
        return False
    return same_id(new, rest) or new.birth_date is None or rest.birth_date in (None, new.birth_date)


def reused(new: Facts, old: Facts) -> bool:
    """Whether a system seems to have given a local number to somebody else since it last told about it."""
    if ids_differ(new, old):
        return True
    other_birth = new.birth_date and old.birth_date and new.birth_date != old.birth_date
    return name_level(new, old) == "other" and bool(other_birth) and not same_id(new, old)


@dataclass(frozen=True)
class Decision(Generic[P]):
    """``target``: the person to link to (None: a new one); ``reviews``: (person, code, reasons) for a human."""

    target: P | None
    reasons: tuple[str, ...]
    reviews: tuple[tuple[P, str, tuple[str, ...]], ...]


def decide(facts: Facts, candidates: Sequence[tuple[P, Facts]]) -> Decision[P]:
    """Choose among candidates (in order of age): the strongest "same" wins, other likely ones go to review against it."""
    judged = [(person, compare(facts, other)) for person, other in candidates]
    same = sorted((j for j in judged if j[1].kind == "same"), key=lambda j: -j[1].strength)
    reviews = [(p, v.code, v.reasons) for p, v in judged if v.kind == "review"]
    if not same:
        return Decision(None, (), tuple(reviews))
    target, verdict = same[0]
    reviews += [(p, "two_matches", v.reasons) for p, v in same[1:]]
    return Decision(target, verdict.reasons, tuple(reviews))
