"""Identifiers with check digits: resident identity numbers, institution codes, our own person numbers.

GB 11643-1999 (居民身份证: 6 division + 8 birth + 3 sequence + check), its 15-digit predecessor, the residence permits of
Hong Kong, Macau and Taiwan residents (81/82/83 0000), the foreign permanent resident card of 2023 (18 digits from 9),
GB 32100-2015 (统一社会信用代码), GB 11714-1997 (组织机构代码), ISO 7064 MOD 11,10 for person numbers.
An unknown division is a warning, never a refusal: tables age, people do not.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from dataclasses import dataclass

from lianxin.standards import clock
from lianxin.standards.text import T, Text

_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_WEIGHTS = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)
_ORG_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
OLDEST_YEARS = 130

# First two digits of GB/T 2260, with 71/81/82/83 for Taiwan, Hong Kong, Macau and their residents' permits.
PROVINCES: frozenset[str] = frozenset(
    str(n)
    for n in (*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66))
) | {"71", "81", "82", "83"}


class IdentifierError(ValueError):
    """An identifier that cannot be right: ``field`` says which, ``message`` (both languages) says why and what to do."""

    def __init__(self, field: str, message: Text) -> None:
        super().__init__(message.en)
        self.field = field
        self.message = message


@dataclass(frozen=True)
class ResidentId:
    """A valid resident identity number and what it says of its holder."""

    number: str
    birth_date: dt.date
    sex: str  # male | female
    division: str  # first six digits; "" for a foreign permanent resident card
    warnings: tuple[Text, ...] = ()
    kind: str = "resident"  # resident | hmt_permit | foreign_permanent


@dataclass(frozen=True)
class OrgId:
    """A valid institution code (USCC or organisation code), canonical form."""

    number: str
    division: str = ""
    org_code: str = ""


def normalise(text: str) -> str:
    """Full-width to half-width, blanks and separators out, upper case."""
    plain = unicodedata.normalize("NFKC", text or "")
    return re.sub(r"[\s\u200b\ufeff·.\-‐-―−]", "", plain).upper()


def resident_check_digit(first17: str) -> str:
    """Check character of GB 11643 for the first 17 digits (ISO 7064 MOD 11-2)."""
    if not re.fullmatch(r"[0-9]{17}", first17):
        raise ValueError("17 digits are needed")
    return _ID_CHECKS[sum(int(d) * w for d, w in zip(first17, _ID_WEIGHTS, strict=True)) % 11]


def resident_id(text: str, field: str = "id_no") -> ResidentId:
    """Read a resident identity number as people write it (full-width digits, blanks, lower-case x, 15 digits).

    Returns the canonical 18 characters with birth date, sex and division; raises `IdentifierError` naming ``field``.
    """
    number = normalise(text)
    if not number:
        raise IdentifierError(field, T("请填写身份证号。", "Give the identity number."))
    old = bool(re.fullmatch(r"[0-9]{15}", number))
    if old:
        number = number[:6] + "19" + number[6:]
        number += resident_check_digit(number)
    if not re.fullmatch(r"[0-9]{17}[0-9X]", number):
        raise IdentifierError(
            field,
            T(
                "身份证号应为18位(前17位数字，末位数字或X)或15位旧号，请核对证件。",
                "An identity number has 18 characters (17 digits, then a digit or X) or 15 old-style digits; "
                "check the card.",
            ),
        )
    if resident_check_digit(number[:17]) != number[17]:
        raise IdentifierError(
            field,
            T(
                "身份证号校验码不符，可能有一位录错，请对照证件重新录入。",
                "The check digit of the identity number does not fit: a digit may be mistyped; enter it again "
                "from the card.",
            ),
        )
    birth = _birth(number[6:14], field)
    warnings: list[Text] = []
    kind, division = "resident", number[:6]
    if number[0] == "9":
        kind, division = "foreign_permanent", ""
    elif number[:6] in ("810000", "820000", "830000"):
        kind = "hmt_permit"
    elif number[:2] not in PROVINCES or number[2:6] == "0000":
        warnings.append(
            T(
                "身份证前6位({code})不在行政区划表中，请留意。",
                "The first six digits ({code}) are in no table of divisions; please note.",
            ).format(code=division)
        )
    if old:
        warnings.append(T("已由15位旧号升为18位。", "Upgraded from the 15-digit form."))
    return ResidentId(
        number, birth, "male" if int(number[16]) % 2 else "female", division, tuple(warnings), kind
    )


def _birth(digits: str, field: str) -> dt.date:
    try:
        birth = dt.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        birth = None
    today = clock.today()
    if birth is None or birth > today or birth.year < today.year - OLDEST_YEARS:
        raise IdentifierError(
            field,
            T(
                "身份证号中的出生日期({digits})不可能，请对照证件重新录入。",
                "The birth date within the identity number ({digits}) is impossible; enter it again from the card.",
            ).format(digits=digits),
        )
    return birth


def resident_id_make(division: str, birth: dt.date, seq: int) -> str:
    """Compose a synthetic number; ``seq`` 0–999, odd for men."""
    if not re.fullmatch(r"[0-9]{6}", division) or not 0 <= seq <= 999:
        raise ValueError("division of 6 digits and sequence 0..999 are needed")
    body = f"{division}{birth:%Y%m%d}{seq:03d}"
    return body + resident_check_digit(body)


def uscc_check_char(first17: str) -> str:
    """Check character of GB 32100 for the first 17 characters."""
    total = sum(_USCC_ALPHABET.index(c) * w for c, w in zip(first17, _USCC_WEIGHTS, strict=True))
    return _USCC_ALPHABET[(31 - total % 31) % 31]


def uscc(text: str, field: str = "uscc") -> OrgId:
    """Read a unified social credit code (GB 32100-2015); raises `IdentifierError`."""
    number = normalise(text)
    if len(number) != 18 or any(c not in _USCC_ALPHABET for c in number):
        raise IdentifierError(
            field,
            T(
                "统一社会信用代码应为18位数字或大写字母(不含I、O、S、V、Z),请对照登记证书。",
                "A unified social credit code has 18 digits or capitals (no I, O, S, V, Z); check the certificate.",
            ),
        )
    if uscc_check_char(number[:17]) != number[17]:
        raise IdentifierError(
            field,
            T(
                "统一社会信用代码校验码不符，请对照登记证书重新录入。",
                "The check character of the unified social credit code does not fit; enter it again from the "
                "certificate.",
            ),
        )
    return OrgId(number, number[2:8], number[8:17])


def uscc_make(body: str) -> str:
    """Compose a synthetic code from 2 + 6 + 8 characters (the organisation code's own check is computed)."""
    if len(body) != 16 or any(c not in _USCC_ALPHABET for c in body):
        raise ValueError("16 characters of the GB 32100 alphabet are needed")
    first17 = body + org_check_char(body[8:])
    return first17 + uscc_check_char(first17)


def org_check_char(first8: str) -> str:
    """Check character of GB 11714 for 8 digits or capitals."""
    rest = 11 - sum(int(c, 36) * w for c, w in zip(first8, _ORG_WEIGHTS, strict=True)) % 11
    return {10: "X", 11: "0"}.get(rest, str(rest))


def org_code(text: str, field: str = "org_code") -> OrgId:
    """Read an organisation code (GB 11714), with or without its hyphen; canonical form ``60003734-1``."""
    number = normalise(text)
    if not re.fullmatch(r"[0-9A-Z]{8}[0-9X]", number):
        raise IdentifierError(
            field,
            T(
                "组织机构代码应为8位数字或大写字母加1位校验码，请核对。",
                "An organisation code has 8 digits or capitals and a check character; check it.",
            ),
        )
    if org_check_char(number[:8]) != number[8]:
        raise IdentifierError(
            field,
            T(
                "组织机构代码校验码不符，请对照证书重新录入。",
                "The check character of the organisation code does not fit; enter it again from the certificate.",
            ),
        )
    return OrgId(f"{number[:8]}-{number[8]}", "", number)


def number_with_check(body: str) -> str:
    """Append the ISO 7064 MOD 11,10 check digit: every single-digit error is caught, and nearly every adjacent swap."""
    if not re.fullmatch(r"[0-9]+", body):
        raise ValueError("digits are needed")
    return body + str(_mod_11_10(body))


def number_valid(text: str) -> bool:
    """True when the digits end in their ISO 7064 MOD 11,10 check digit."""
    return bool(re.fullmatch(r"[0-9]{2,}", text)) and _mod_11_10(text[:-1]) == int(text[-1])


def _mod_11_10(digits: str) -> int:
    product = 10
    for digit in digits:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10
