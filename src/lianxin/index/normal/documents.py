"""Identity documents in canonical form, and whose they are."""

from __future__ import annotations

from typing import NamedTuple

from lianxin.standards.identifiers import IdentifierError, normalise, resident_id

NONE, OWN, INVALID, OTHERS, OTHER_TYPE = 0, 1, 2, 3, 4
RESIDENT_ID = "01"
OWN_ID_YEARS = 10


class Document(NamedTuple):
    """What a document number says."""

    type: str = ""
    number: str = ""
    state: int = NONE
    born: int = 0
    sex: int = 0


def card(text: str) -> str:
    """A card or certificate number: no blanks, upper case."""
    return normalise(text)[:60] if text else ""


def number(text: str) -> str:
    """An identity number in canonical form ("" when it cannot be right)."""
    try:
        return resident_id(text).number if text else ""
    except IdentifierError:
        return ""


def read(kind: str, text: str, born: int, notes: list[str]) -> Document:
    """Read a document number; ``born`` is the stated birth date (yyyymmdd or 0)."""
    plain = normalise(text) if text else ""
    if not plain:
        return Document()
    if kind not in ("", RESIDENT_ID):
        return Document(kind[:8], plain[:60], OTHER_TYPE)
    try:
        found = resident_id(plain)
    except IdentifierError:
        return Document(RESIDENT_ID if kind or len(plain) in (15, 18) else "99", plain[:60], INVALID)
    day = int(found.number[6:14])
    state = OTHERS if born and abs(born // 10000 - day // 10000) >= OWN_ID_YEARS else OWN
    return Document(RESIDENT_ID, found.number, state, day, 1 if found.sex == "male" else 2)
