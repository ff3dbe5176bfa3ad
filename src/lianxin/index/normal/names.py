"""Names in comparable form."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from lianxin.standards import pinyin as sounds

NAMED, NEWBORN, PLACEHOLDER = 0, 1, 2
HAN, LATIN, MINORITY = 0, 1, 2
_NEWBORN = re.compile(r"^(.{2,4}?)之?(子|女|婴|男|大子|二子|大女|二女|长子|长女|次子|次女|大宝|二宝|毛毛)$")
_PLACEHOLDER = re.compile(r"无名|未知|不详|不明|测试|匿名|待查|患者|病人|路人|流浪|unknown|test|anonymous|johndoe|janedoe|xxx", re.I)  # fmt: skip
_FOLD = (("zh", "z"), ("ch", "c"), ("sh", "s"), ("ng", "n"), ("l", "n"), ("f", "h"))


class Name(NamedTuple):
    """A name taken apart."""

    name: str = ""
    surname: str = ""
    given: str = ""
    kind: int = NAMED
    script: int = HAN
    pinyin: str = ""
    fuzzy: str = ""
    shape: str = ""
    mother: str = ""
    twin: int = 0


def key(text: str) -> str:
    """A name without separators, blanks and case."""
    return "".join(c for c in unicodedata.normalize("NFKC", text or "").casefold() if c.isalnum())


def read(text: str, family: str = "", given: str = "") -> Name:
    """A name in comparable form."""
    name = key(text or given + family)
    if not name or _PLACEHOLDER.search(name):
        return Name(kind=PLACEHOLDER)
    kind, mother = NAMED, ""
    if "之" in name and (found := _NEWBORN.match(name)):
        kind, mother = NEWBORN, found[1]
    pinyin = sounds.full(name) or name
    fuzzy = pinyin
    for old, new in _FOLD:
        fuzzy = fuzzy.replace(old, new)
    cut = 2 if name[:2] in sounds.COMPOUND and len(name) > 2 else 1
    script = LATIN if name.isascii() else MINORITY if len(name) > 4 else HAN
    return Name(name, name[:cut], name[cut:], kind, script, pinyin, fuzzy, name, mother, 0)


def readings(name: str, script: int, first: str) -> tuple[str, ...]:
    """Other full readings (at most four)."""
    return tuple(r for r in sounds.readings(name, 5) if r != first)[:4] if script == HAN else ()
