"""Characters: one table folds width, case, script and separators; another gives each its reading without looking words up.

Both fill themselves as characters are met (a county meets some 5,000) and begin anew when somebody sends every character there is.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import opencc

from lianxin.index.normal import tables
from lianxin.standards import pinyin

SEPARATOR, HYPHEN, BLANK, OPEN, CLOSE, UNREADABLE, COMMA = "·", "-", " ", "(", ")", "?", ","

LARGEST = 60_000
# Simplified texts use these characters too, with a reading of their own: 李乾 is not 李干.
_KEPT = frozenset("乾著藉瞭覆夥")
_HAN = ((0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF), (0x3007, 0x3007))
_LATIN = {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th", "ß": "ss"}


@lru_cache(maxsize=1)
def _simplified() -> dict[str, str]:
    """Traditional character -> simplified: OpenCC's whole table asked once, a character a line so that no phrase is seen."""
    chars = [chr(c) for c in (*range(0x3400, 0xA000), *range(0xF900, 0xFB00))]
    found = opencc.OpenCC("t2s").convert("\n".join(chars)).split("\n")
    return {a: b for a, b in zip(chars, found, strict=True) if a != b and len(b) == 1 and a not in _KEPT}


def is_han(char: str) -> bool:
    """Whether a character is a Han ideograph (private use is not)."""
    code = ord(char)
    return any(low <= code <= high for low, high in _HAN)


class _Folds(dict[int, str]):
    """Code point -> what stands for it; made for ``str.translate``."""

    _given = {
        **dict.fromkeys("·•‧∙⋅・･﹒．.｡。˙●᛫・ㆍ", SEPARATOR),
        **dict.fromkeys("-‐‑‒–—―－﹣_＿/／\\|~～", HYPHEN),
        **dict.fromkeys("(（[［【〔{｛《<＜「『〈", OPEN),
        **dict.fromkeys(")）]］】〕}｝》>＞」』〉", CLOSE),
        **dict.fromkeys("□■▢▣◻◼☐?？*＊※○◯〇�〓▇█＃#", UNREADABLE),
        **dict.fromkeys(",，、;；:：", COMMA),
        **dict.fromkeys("'’‘`´ʼ\"“”", ""),
    }

    def __missing__(self, code: int) -> str:
        if len(self) > LARGEST:
            self.clear()
        found = self[code] = self._fold(chr(code))
        return found

    def _fold(self, char: str) -> str:
        if (given := self._given.get(char)) is not None:
            return given
        if char.isspace():
            return BLANK
        category = unicodedata.category(char)
        if category in ("Co", "Cn", "Cs"):
            return UNREADABLE
        if category in ("Cc", "Cf", "Mn", "Me"):
            return ""
        plain = unicodedata.normalize("NFKC", char)
        if len(plain) > 1 or (not is_han(plain) and not plain.isalnum()):
            plain = unicodedata.normalize("NFKD", char)
        if len(plain) == 1 and is_han(plain):
            return _simplified().get(plain, plain)
        out = []
        for one in unicodedata.normalize("NFKD", plain).casefold():
            if is_han(one):
                out.append(_simplified().get(one, one))
            elif one.isdecimal():
                out.append(str(unicodedata.decimal(one)))
            elif one.isalpha():
                out.append(_LATIN.get(one, one))
        return "".join(out)


_folds = _Folds()


def fold(text: str) -> str:
    """Half-width, lower case, simplified, one sign for each kind of separator, ``?`` for what cannot be read; idempotent."""
    return text.translate(_folds)


class _Readings(dict[str, str]):
    """Character -> its everyday reading without tone; Latin letters read as themselves, ``?`` as ``?``."""

    def __missing__(self, char: str) -> str:
        if len(self) > LARGEST:
            self.clear()
        found = self[char] = UNREADABLE if char == UNREADABLE else pinyin.term(char)
        return found


reading = _Readings()

_INITIALS = (("zh", "z"), ("ch", "c"), ("sh", "s"), ("l", "n"), ("r", "n"))
_AFTER_HU = {"ui": "ei", "un": "en"}
"""Finals that f writes otherwise: hui sounds like fei, hun like fen; the glide of hua, huan, huang, huo is not heard."""


class _Fuzzy(dict[str, str]):
    """Syllable -> the same after merging what southern speakers and tired clerks do not keep apart.

    zh/z ch/c sh/s, n/l/r, f/h, an/ang en/eng in/ing, ü/u.
    """

    def __missing__(self, syllable: str) -> str:
        if len(self) > LARGEST:
            self.clear()
        found = syllable or UNREADABLE
        for old, new in _INITIALS:
            if found.startswith(old):
                found = new + found[len(old) :]
                break
        if found[0] == "h":
            final = found[1:]
            glide = len(final) > 1 and final[0] == "u"
            found = "f" + (_AFTER_HU.get(final) or (final[1:] if glide else final))
        if found.endswith("ng") and found[-3:-2] != "o":
            found = found[:-1]
        self[syllable] = found = found.replace("v", "u")
        return found


fuzzy = _Fuzzy()


@lru_cache(maxsize=1)
def polyphones() -> dict[str, tuple[str, ...]]:
    """Characters of names with several everyday readings."""
    return {char: tuple(rest) for char, *rest in (line.split() for line in tables.lines("polyphones.txt"))}


@lru_cache(maxsize=1)
def syllables() -> frozenset[str]:
    """All syllables of Mandarin, as the characters of GB 2312 are read."""
    block = (
        bytes((high, low)).decode("gb2312", "ignore")
        for high in range(0xB0, 0xF8)
        for low in range(0xA1, 0xFF)
    )
    return frozenset(reading[c] for c in block if c) - {""}
