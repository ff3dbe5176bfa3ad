"""Phone numbers as digits: no country code, no area code, no extension; what cannot be one, or is a known filler, is ""."""

from __future__ import annotations

import re

from lianxin.index.normal import chars, tables
from lianxin.index.normal.generic import NOTHING, Generic

_MOBILE = re.compile(r"1[3-9][0-9]{9}")
_FILLERS = frozenset(str(v) for v in tables.fillers()["phones"])
_SPLIT = re.compile(r"[,()·]| {2,}|转|分机|或|和|及|ext\.?|x(?=[0-9])")
_SEVERAL = re.compile(r"[/、;；,，|\\\n]")
_EXTENSION = re.compile(r"^((?:0[0-9]{2,3}[- ]?)?[0-9]{7,8})-[0-9]{1,5}$")
_DIGITS = re.compile(r"[0-9]+")
_AREA = re.compile(r"^0(?:10|2[0-9])(?=[0-9]{8}$)|^0[3-9][0-9]{2}(?=[0-9]{7,8}$)")
_RUNS = "01234567890123456789", "98765432109876543210"


def read(text: str, generic: Generic = NOTHING) -> str:
    """The first usable number of what was typed."""
    return both(text, generic)[0] if text else ""


def both(text: str, generic: Generic = NOTHING) -> tuple[str, str]:
    """The first two usable numbers of what was typed (``13712345678/83011234``)."""
    if not text:
        return "", ""
    if len(text) == 11 and text.isascii() and text.isdecimal():
        return _usable(text, generic), ""
    found: list[str] = []
    for part in (p for piece in _SEVERAL.split(text[:80]) for p in _SPLIT.split(chars.fold(piece))):
        part = _EXTENSION.sub(r"\1", part.strip(" -"))
        digits = "".join(_DIGITS.findall(part))
        if len(digits) > 16:
            found += _MOBILE.findall(digits)[:2]
        elif len(digits) < 7 and found:
            continue
        elif digits:
            found.append(digits)
    usable = [one for digits in found if (one := _usable(_local(digits), generic))]
    first = usable[0] if usable else ""
    return first, next((u for u in usable if u != first), "")


def shown(text: str, number: str) -> str:
    """The digits to show for ``number`` (as :func:`read` gave it): with its area code when that was typed."""
    if len(number) > 8 or not number:
        return number
    for piece in _SEVERAL.split(text[:80]):
        digits = "".join(_DIGITS.findall(_EXTENSION.sub(r"\1", chars.fold(piece).strip(" -"))))
        if (found := _AREA.match(digits)) and digits[found.end() :] == number:
            return digits
    return number


def _local(digits: str) -> str:
    """Without country and area code."""
    if found := _AREA.match(digits):
        return digits[found.end() :]
    if len(digits) > 11:
        for prefix in ("0086", "086", "86", "0"):
            rest = digits.removeprefix(prefix)
            if rest != digits and (_MOBILE.fullmatch(rest) or 9 <= len(rest) <= 12):
                digits = rest
                break
    if len(digits) == 12 and digits[0] == "0" and _MOBILE.fullmatch(digits[1:]):
        return digits[1:]
    return _AREA.sub("", digits)


def _usable(digits: str, generic: Generic) -> str:
    if not 7 <= len(digits) <= 15 or digits in _FILLERS or digits in generic.phones:
        return ""
    tail = digits[-8:]
    if tail == tail[0] * len(tail) or digits in _RUNS[0] or digits in _RUNS[1] or len(set(digits)) <= 2:
        return ""
    return digits
