"""Patterns and words from outside, matched in bounded time: regular expressions by RE2 (linear, no look-around or back
references), filter texts as plain words."""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

import re2

from lianxin.record.problems import refuse
from lianxin.standards import pinyin

LONGEST = 200  # characters of a pattern or a filter text
REPEATS = 1000  # sum of counted repetitions: RE2 writes them out
WORDS = 6

_COUNTED = re.compile(r"\{(\d*),?(\d*)\}")
_HAN = re.compile(r"[\u3400-\u9fff]")
_OPTIONS = re2.Options()
_OPTIONS.max_mem = 1 << 20
_OPTIONS.log_errors = False


@lru_cache(maxsize=256)
def full(pattern: str) -> Callable[[str], bool]:
    """A test whether a whole text matches a regular expression; 422 for a pattern that is wrong or too large."""
    repeats = sum(int(n[:9]) for pair in _COUNTED.findall(pattern) for n in pair if n)
    if len(pattern) > LONGEST or repeats > REPEATS:
        raise refuse(
            422,
            "too-costly",
            f"正则表达式过长或重复过多（最长 {LONGEST} 字符，重复合计 {REPEATS}）",
            f"the regular expression is too large (at most {LONGEST} characters, {REPEATS} counted repetitions in all)",
        )
    try:
        compiled = re2.compile(pattern, _OPTIONS)
    except re2.error:
        raise refuse(
            422,
            "value",
            "正则表达式无效，或用了不支持的语法（前后查找、反向引用）",
            "the regular expression is not valid, or uses what is not supported (look-around, back references)",
        ) from None
    return lambda text: compiled.fullmatch(text) is not None


def fold(text: str) -> str:
    """Text for comparing: compatibility forms, accents and case removed."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFC", "".join(c for c in plain if not unicodedata.combining(c))).casefold()


def words(text: str) -> list[str]:
    """The words of a filter text, folded; all of them must be found."""
    if len(text) > LONGEST:
        raise refuse(
            422,
            "too-long",
            f"过滤文字最长 {LONGEST} 字符",
            f"a filter text has at most {LONGEST} characters",
            "filter",
        )
    return fold(text).split()[:WORDS]


def haystack(code: str, names: list[str]) -> str:
    """Where the words of a filter are looked for: the code, the names, the pinyin and initials of Chinese names."""
    parts = [code, *names]
    for name in names:
        if _HAN.search(name):
            parts += [pinyin.term(name), pinyin.term_initials(name)]
    return "\n".join(fold(part) for part in dict.fromkeys(parts) if part)
