"""What a registration says, in the comparable form that the rules and the search keys need. Pure but for the keyed digests."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from dataclasses import dataclass, field

from lianxin.access import seal
from lianxin.index.form import Registration
from lianxin.index.normal import dates, documents, phones
from lianxin.standards import clock, pinyin
from lianxin.standards.identifiers import IdentifierError, normalise, resident_id

RESIDENT_ID = "01"
"""Type code of the resident identity card in CV02.01.101 (WS/T 364); other types keep their own code."""
OWN_ID_YEARS = 10
"""A number whose birth year is this far from the stated birth date is somebody else's (a guardian's)."""

_NEWBORN = re.compile(r"之(子|女|婴|男|大子|二子|大女|二女|长子|长女|次子|次女|双胞胎.?)$|新生儿|婴儿?$")
_PET_NAME = re.compile(r"(毛毛|大宝|小宝|二宝)$")
NEWBORN_DAYS = 365
"""Pet names stand for a newborn's name within the first year only; grown people are called 王小宝 too."""
_PLACEHOLDER = re.compile(
    r"无名|未知|不详|不明|测试|匿名|待查|患者|病人|路人|流浪|unknown|test|anonymous|johndoe|janedoe|xxx", re.I
)
SEXES = frozenset({"male", "female", "unknown", "other"})


@dataclass(slots=True)
class Facts:
    """A registration or a person in comparable form; the empty value of a field means it is not known."""

    name: str
    name_key: str
    pinyin: str
    initials: str
    sex: str
    birth_date: dt.date | None
    id_type: str = ""
    id_no: str = ""
    id_blind: bytes | None = None
    phone: str = ""
    phone_blind: bytes | None = None
    address_key: str = ""
    village_key: str = ""
    card: str = ""
    newborn: bool = False
    placeholder: bool = False
    deceased: bool = False
    notes: list[str] = field(default_factory=list)


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


def address_key(address: str) -> str:
    """An address for equality: letters and digits only; too short ones say nothing."""
    key = "".join(c for c in unicodedata.normalize("NFKC", address).casefold() if c.isalnum())
    return key if len(key) >= 6 else ""


def village_key(division: str, village: str) -> str:
    """County and village together, or "" when the village is unknown."""
    return f"{division[:6]}|{name_key(village)}" if village.strip() and division.strip() else ""


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


def _is_newborn(name: str, birth: dt.date | None, number: str) -> bool:
    if _NEWBORN.search(name):
        return True
    young = birth is not None and (clock.today() - birth).days <= NEWBORN_DAYS
    return young and not number and bool(_PET_NAME.search(name))


def facts_of(reg: Registration) -> Facts:
    """Comparable form of a registration: sex and birth date come from an own identity number when not stated."""
    name = tidy(reg.name)[:200]
    key = name_key(name)
    kind, number, id_birth, id_sex, note = read_id(reg.id_type, reg.id_no)
    birth = reg.birth_date
    sex = reg.sex if reg.sex in SEXES else "unknown"
    notes = [note] if note else []
    if number and id_birth and birth and abs(id_birth.year - birth.year) >= OWN_ID_YEARS:
        notes.append("证件号的出生年与出生日期相差十年以上,视为监护人证件,不作本人标识")
        number = ""
    if number and id_birth:
        birth = birth or id_birth
        if sex == "unknown":
            sex = id_sex
        elif sex in ("male", "female") and sex != id_sex:
            notes.append("性别与证件号不符")
    phone = phone_digits(reg.phone)
    return Facts(
        name=name,
        name_key=key,
        pinyin=(pinyin.full(name) or key)[:400],
        initials=(pinyin.initials(name) or key)[:120],
        sex=sex,
        birth_date=birth,
        id_type=kind if number else "",
        id_no=number,
        id_blind=id_blind(kind, number) if number else None,
        phone=phone,
        phone_blind=phone_blind(phone) if phone else None,
        address_key=address_key(reg.address),
        village_key=village_key(reg.division, reg.village),
        card=normalise(reg.card),
        newborn=_is_newborn(name, birth, number),
        placeholder=not key or bool(_PLACEHOLDER.search(key)),
        deceased=reg.deceased_on is not None,
        notes=notes,
    )
