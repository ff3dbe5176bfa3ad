"""Identity documents in canonical form, and whose they are.

Validity of a resident number = its check digit, a plausible date, a known first pair of digits; whether the division existed in the
birth year is not asked (tables age, people do not). A number is the person's own unless something speaks against it: a birth year
ten or more from the stated one, or that it is the guardian's or mother's (a birth date that no slip explains: :mod:`lianxin.index.form`).
A number that :class:`Generic` knows says nothing at all.
"""

from __future__ import annotations

import re
from operator import mul
from typing import NamedTuple

from lianxin.index.normal import dates, tables
from lianxin.index.normal.generic import NOTHING, Generic
from lianxin.standards.identifiers import OLDEST_YEARS, PROVINCES, normalise

NONE, OWN, INVALID, OTHERS, OTHER_TYPE = 0, 1, 2, 3, 4
RESIDENT_ID = "01"
PASSPORT, OFFICER, HONG_KONG, TAIWAN, OTHER = "03", "04", "06", "07", "99"
BIRTH_CERTIFICATE = "birth"
FOREIGN_RESIDENT = "foreign"
"""Types of our own where CV02.01.101 has only "other": numbers of one kind compare, whatever code the sender chose."""
OWN_ID_YEARS = 10
"""A number whose birth year is this far from the stated one is somebody else's."""
LONGEST = 60

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"
_PAIRS = PROVINCES | {str(n) for n in range(90, 100)}
_RESIDENT = re.compile(r"[0-9]{17}[0-9X]")
_SIGNS = frozenset("*×╳+")
_MISREAD = str.maketrans("OILQDZSB", "01100258")
_FILLERS = frozenset(str(v) for v in (*tables.fillers()["ids"], *tables.fillers()["cards"]))

_HK = re.compile(r"^([HM][0-9]{8})(?:[0-9]{2})?$")
_TW = re.compile(r"^([0-9]{8})$|^([0-9]{10})[A-Z0-9]?$|^T([0-9]{8})$")
_OLD_FOREIGN = re.compile(r"^[A-Z]{3}[0-9]{12}$")
_BIRTH = re.compile(r"^[A-Z][0-9]{9}$")
_PASSPORT = re.compile(r"^[A-Z]{1,2}[0-9]{7,8}$")
_OFFICER = re.compile(r"^[字第号证军官士兵文职]+|[字第号]")


class Document(NamedTuple):
    """What a document number says; ``born`` (yyyymmdd) and ``sex`` (1/2) as written in a valid resident number."""

    type: str = ""
    number: str = ""
    state: int = NONE
    born: int = 0
    sex: int = 0


_NONE = Document()


def plain(text: str) -> str:
    """Upper case, half-width, without blanks and hyphens."""
    if text.isascii() and text.isalnum():
        return text[:200].upper()
    return "".join(c for c in normalise(text[:200]) if c.isalnum() or c in _SIGNS)


def valid(number: str, today: int) -> bool:
    """Whether 18 characters are a resident number, residence permit or foreign permanent resident card (2023)."""
    if _RESIDENT.fullmatch(number) is None or number[:2] not in _PAIRS:
        return False
    if _CHECKS[sum(map(mul, map(int, number[:17]), _WEIGHTS)) % 11] != number[17]:
        return False
    born = int(number[6:14])
    return dates.exists(born) and today - (OLDEST_YEARS + 1) * 10000 < born <= today


def canonical(text: str, today: int, notes: list[str]) -> str:
    """A valid 18-character number out of what was typed, or ""; letters typed for digits and a lost final X are mended."""
    number = plain(text)
    if len(number) == 18 and valid(number, today):
        return number
    if len(number) == 15 and number.isdecimal() and number.isascii():
        longer = number[:6] + "19" + number[6:]
        longer += _CHECKS[sum(map(mul, map(int, longer), _WEIGHTS)) % 11]
        if valid(longer, today):
            notes.append("id_15")
            return longer
        return ""
    if len(number) == 18:
        mended = number.translate(_MISREAD) if not number[:17].isdecimal() else number[:17] + "X"
        if number[:17].isdecimal() and number[17] not in "*×╳":
            return ""
    elif len(number) == 17 and number.isdecimal():
        mended = number + "X"
    else:
        return ""
    if valid(mended, today):
        notes.append("id_mended")
        return mended
    return ""


def number(text: str, today: int) -> str:
    """Somebody's identity number in canonical form; "" for what is none. A non-resident document stays as typed."""
    return (canonical(text, today, []) or _kept(plain(text))) if text else ""


def card(text: str) -> str:
    """A card or certificate number: no blanks, upper case; "" for fillers."""
    return _kept(plain(text)) if text else ""


def _kept(number: str) -> str:
    """The number unless it says nothing: too short, one character repeated, a known filler."""
    if (
        len(number) < 5
        or len(set(number)) <= 2
        or number in _FILLERS
        or not any(c.isdecimal() for c in number)
    ):
        return ""
    return number[:LONGEST]


def read(
    kind: str,
    text: str,
    born: int,
    today: int,
    notes: list[str],
    others: tuple[str, ...] = (),
    generic: Generic = NOTHING,
) -> Document:
    """Read a document number. ``born``: the stated birth date (yyyymmdd, 0 unknown); ``others``: numbers of relatives."""
    if not text:
        return _NONE
    number = canonical(text, today, notes) if kind not in (PASSPORT, OFFICER, "05") else ""
    if number in generic.ids:
        notes.append("id_generic")
        return _NONE
    if number:
        found = _resident(number, born, notes, others)
        if found.state == OWN and len(plain(text)) == len(number) - 1:
            # any digit may be the lost one: what is mended here passes the check by chance once in eleven times
            return Document(RESIDENT_ID, number, INVALID)
        return found
    number = _kept(plain(text))
    if not number:
        notes.append("id_filler")
        return _NONE
    if "E+" in number or (len(number) == 18 and number.endswith("000")):
        notes.append("id_spreadsheet")  # a spreadsheet keeps 15 digits: the rest of the number is gone
        return _NONE
    if number in generic.ids:
        notes.append("id_generic")
        return _NONE
    kind, number = _other(kind, number)
    if kind == RESIDENT_ID:
        notes.append("id_invalid")
        return Document(RESIDENT_ID, number, INVALID)
    if number in others:
        notes.append("id_not_own")
        return Document(kind, number, OTHERS)
    return Document(kind, number, OTHER_TYPE)


def _resident(number: str, born: int, notes: list[str], others: tuple[str, ...]) -> Document:
    inside = int(number[6:14])
    state = OWN
    if number in others or (born and abs(born // 10000 - inside // 10000) >= OWN_ID_YEARS):
        notes.append("id_not_own")
        state = OTHERS
    return Document(RESIDENT_ID, number, state, inside, 1 if int(number[16]) % 2 else 2)


def _other(kind: str, number: str) -> tuple[str, str]:
    """(type, canonical number) of a document that is no valid resident number."""
    digits = sum(c.isdecimal() for c in number)
    if (
        kind in ("", RESIDENT_ID)
        and digits >= 14
        and 14 <= len(number) <= 20
        and not _OLD_FOREIGN.match(number)
    ):
        return RESIDENT_ID, number
    if found := _HK.match(number):
        return HONG_KONG, found[1]
    if _OLD_FOREIGN.match(number):
        return FOREIGN_RESIDENT, number
    if kind == TAIWAN and (found := _TW.match(number)):
        return TAIWAN, found[1] or found[2] or found[3]
    if _BIRTH.match(number) and kind not in (PASSPORT, OFFICER, "05", HONG_KONG, TAIWAN):
        return BIRTH_CERTIFICATE, number
    if kind in ("", RESIDENT_ID, OTHER) and _PASSPORT.match(number):
        return PASSPORT, number
    if kind == OFFICER:
        return OFFICER, _OFFICER.sub("", number) or number
    if kind == RESIDENT_ID:
        return RESIDENT_ID, number
    return (kind or OTHER)[:8], number
