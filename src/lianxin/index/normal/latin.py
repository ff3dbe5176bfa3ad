"""Names in Latin letters: a phonetic code that survives the usual spellings, and a coarser one for keys.

The rules are those of the classic codes (Soundex, Metaphone) put simply: sounds that are written in several ways get one letter,
vowels count only at the beginning, doubled letters once.
"""

from __future__ import annotations

import re

_SOUNDS = {
    "sch": "sk", "tch": "c", "dge": "j", "ph": "f", "pf": "f", "ck": "k", "gh": "g", "kn": "n", "gn": "n", "wr": "r",
    "wh": "w", "ps": "s", "rh": "r", "mb": "m", "ch": "c", "sh": "s", "zh": "s", "th": "t", "dt": "t", "ce": "se",
    "ci": "si", "cy": "si", "c": "k", "q": "k", "x": "ks", "z": "s", "v": "f", "mac": "mk", "mc": "mk",
}  # fmt: skip
_SOUND = re.compile(
    "^mac|^mc|" + "|".join(sorted((s for s in _SOUNDS if s not in ("mac", "mc")), key=lambda s: -len(s)))
)
_MUTE = re.compile(r"(?<=.)[aeiouyhw]+")
_DOUBLE = re.compile(r"(.)\1+")
_SOUNDEX = str.maketrans("bfpvcgjkqsxzdtlmnraeiouyhw", "11112222222233455600000077")


class _Codes(dict[str, str]):
    """Word -> code, kept for the words met most (cleared when too many)."""

    limit = 50_000

    def __missing__(self, word: str) -> str:
        if len(self) >= self.limit:
            self.clear()
        self[word] = found = self.code(word)
        return found

    def code(self, word: str) -> str:
        """The code of one word."""
        raise NotImplementedError


class _Phonetic(_Codes):
    def code(self, word: str) -> str:
        sounds = _SOUND.sub(lambda m: _SOUNDS[m[0]], word)
        return _DOUBLE.sub(r"\1", _MUTE.sub("", sounds))


class _Soundex(_Codes):
    def code(self, word: str) -> str:
        digits = word.translate(_SOUNDEX)
        out, last = word[0], digits[0]
        for digit in digits[1:]:
            if digit == "7":
                continue
            if digit not in (last, "0"):
                out += digit
            last = digit
        return (out + "000")[:4]


phonetic = _Phonetic()
soundex = _Soundex()
