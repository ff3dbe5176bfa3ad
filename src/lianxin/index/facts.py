"""Small helpers of golden record and search: tidy text, keyed digests of numbers, a document number as it is shown."""

from __future__ import annotations

import datetime as dt
import unicodedata

from lianxin.access import seal
from lianxin.index.normal import dates, documents, phones
from lianxin.standards.identifiers import IdentifierError, resident_id

RESIDENT_ID = "01"
"""Type code of the resident identity card in CV02.01.101 (WS/T 364); other types keep their own code."""
OWN_ID_YEARS = 10
"""A number whose birth year is this far from the stated birth date is somebody else's (a guardian's)."""


def tidy(text: str) -> str:
    """NFKC, blanks collapsed, control characters out."""
    if not text:
        return ""
    plain = text if unicodedata.is_normalized("NFKC", text) else unicodedata.normalize("NFKC", text)
    if not plain.isprintable():
        plain = "".join(c for c in plain if c.isprintable() or c.isspace())
    return " ".join(plain.split())


def name_key(name: str) -> str:
    """A name without separators, blanks and case: 买买提·艾力 = 买买提艾力."""
    return "".join(c for c in name.casefold() if c.isalnum())


def phone_digits(text: str) -> str:
    """A phone number as it is compared: no country or area code; "" for what cannot be one or is a known filler."""
    return phones.read(text)


def id_blind(id_type: str, number: str) -> bytes:
    """Look-up key of an identifier; only the same type ever compares."""
    return seal.blind(f"{id_type}:{number}", "id")


def phone_blind(digits: str) -> bytes:
    """Look-up key of a phone number."""
    return seal.blind(digits, "phone")


def read_id(id_type: str, id_no: str) -> tuple[str, str, dt.date | None, str, str]:
    """(type, canonical number, birth date, sex, note) of an identifier; number "" when it cannot be right."""
    read = documents.read(id_type, id_no, 0, dates.today(), [])
    if read.state == documents.OWN:
        born = dt.date(read.born // 10000, read.born // 100 % 100, read.born % 100)
        return read.type, read.number, born, "male" if read.sex == 1 else "female", ""
    if read.state == documents.INVALID:
        try:
            resident_id(id_no)
        except IdentifierError as error:
            return read.type, "", None, "", error.message.zh
        return read.type, "", None, "", ""
    return read.type, read.number, None, "", ""
