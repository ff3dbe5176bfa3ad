"""Mobile numbers as they are typed and as they are kept: eleven digits of the mainland."""

from __future__ import annotations

import re
import unicodedata

from lianxin.access.errors import Invalid
from lianxin.standards.text import T

_MOBILE = re.compile(r"1[3-9]\d{9}")


class NotAPhone(Invalid):
    """What was typed cannot be a mobile number."""


def mobile(text: str) -> str:
    """The eleven digits of a mobile number, whatever blanks, hyphens or +86 stand around them; raises :class:`NotAPhone`."""
    plain = re.sub(r"[\s\-()]", "", unicodedata.normalize("NFKC", text[:40]))
    plain = re.sub(r"^(?:\+86|0086|86(?=1\d{10}$))", "", plain)
    if not (plain.isascii() and _MOBILE.fullmatch(plain)):
        raise NotAPhone({"phone": T("请填写 11 位手机号码。", "Type a mobile number of 11 digits.")})
    return plain


def masked(number: str) -> str:
    """138****5678."""
    return f"{number[:3]}****{number[-4:]}"
