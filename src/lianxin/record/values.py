"""Values as the index tables hold them: time ranges, folded strings, numbers with their implied precision."""

import re
import unicodedata
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from lianxin.standards import pinyin
from lianxin.standards.clock import ZONE

FIRST = "0001-01-01T00:00:00+00:00"
LAST = "9999-12-31T00:00:00+00:00"
HAN = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")
STRING_CAP = 200
DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?")


@lru_cache(maxsize=50_000)
def date_range(text: str) -> tuple[datetime, datetime]:
    """Half-open instant range of a date, dateTime or instant at its own precision; no zone means Asia/Shanghai."""
    match = DATE.fullmatch(text)
    if not match:
        raise ValueError(text)
    year, month, day, hour, minute, second, part, zone = match.groups()
    y = int(year)
    if month is None:
        end = datetime(y + 1, 1, 1, tzinfo=ZONE) if y < 9999 else datetime(9999, 12, 31, tzinfo=UTC)
        return datetime(y, 1, 1, tzinfo=ZONE), end
    m = int(month)
    if day is None:
        return datetime(y, m, 1, tzinfo=ZONE), datetime(y, m, 1, tzinfo=ZONE) + timedelta(
            days=monthrange(y, m)[1]
        )
    if hour is None:
        start = datetime(y, m, int(day), tzinfo=ZONE)
        return start, start + timedelta(days=1)
    tz = (
        ZONE
        if zone is None
        else UTC
        if zone == "Z"
        else datetime.fromisoformat(f"2000-01-01T00:00:00{zone}").tzinfo
    )
    start = datetime(y, m, int(day), int(hour), int(minute), min(int(second or 0), 59), tzinfo=tz)
    if second is None:
        return start, start + timedelta(minutes=1)
    if part is None:
        return start, start + timedelta(seconds=1)
    digits = min(len(part) - 1, 6)
    start = start.replace(microsecond=int(part[1:7].ljust(6, "0")))
    return start, start + timedelta(microseconds=10 ** (6 - digits))


@lru_cache(maxsize=50_000)
def date_texts(text: str) -> tuple[str, str]:
    """:func:`date_range` as ISO texts for SQL and COPY."""
    low, high = date_range(text)
    return low.isoformat(), high.isoformat()


@lru_cache(maxsize=50_000)
def fold(text: str) -> str:
    """Text for string search: accents and case removed, blanks joined, cut to what the index holds."""
    if text.isascii():
        return " ".join(text.lower().split())[:STRING_CAP]
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(unicodedata.normalize("NFC", plain).casefold().split())[:STRING_CAP]


@lru_cache(maxsize=50_000)
def readings(text: str) -> tuple[str, ...]:
    """Pinyin and initials of a text with Chinese characters (empty without)."""
    if len(text) > 60 or not HAN.search(text):
        return ()
    return tuple(dict.fromkeys(v for v in (pinyin.full(text), pinyin.initials(text)) if v))


def number_range(text: str) -> tuple[Decimal, Decimal, Decimal]:
    """(value, low, high) of a number as written in a search: ``100`` is 99.5 to 100.5, ``1e2`` is 50 to 150."""
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(text) from error
    exponent = value.as_tuple().exponent
    if not value.is_finite() or not isinstance(exponent, int) or abs(exponent) > 60 or len(text) > 80:
        raise ValueError(text)
    half = Decimal(5).scaleb(exponent - 1)
    return value, value - half, value + half
