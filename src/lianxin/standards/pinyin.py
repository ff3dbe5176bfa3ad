"""Pinyin of names and terms, for search keys.

Two readings are needed: a *person's name* begins with a surname whose reading differs from the everyday one
(单 shan, 仇 qiu, 尉迟 yuchi); a *term* (disease, place, department) is read by words (重庆 chongqing, 重症 zhongzheng).
Characters come from ``pypinyin``'s table, one look-up per character ever; a name then costs a few microseconds.
``ü`` is written ``v``, as on a keyboard (吕 lv). Latin letters and digits stay, in lower case; the rest is dropped.
"""

from __future__ import annotations

import itertools
import json
import unicodedata
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

# Surname readings that differ from the character's first reading.
SURNAMES: dict[str, str] = {
    "单": "shan", "仇": "qiu", "曾": "zeng", "区": "ou", "查": "zha", "解": "xie", "朴": "piao", "盖": "ge",
    "乐": "yue", "翟": "zhai", "缪": "miao", "员": "yun", "贠": "yun", "种": "chong", "折": "she",
    "祭": "zhai", "秘": "bi", "黑": "he", "重": "chong", "会": "gui", "繁": "po", "佴": "nai", "洗": "xian",
    "覃": "qin", "乜": "nie", "隗": "wei", "都": "du", "阚": "kan", "召": "shao", "能": "nai", "卜": "bu",
    "薄": "bo", "牟": "mu", "长": "chang", "句": "gou", "角": "jue", "藏": "zang", "参": "shen",
}  # fmt: skip
COMPOUND: dict[str, tuple[str, str]] = {
    "尉迟": ("yu", "chi"), "万俟": ("mo", "qi"), "长孙": ("zhang", "sun"), "单于": ("chan", "yu"),
    "澹台": ("tan", "tai"), "令狐": ("ling", "hu"), "宿六": ("su", "liu"), "独孤": ("du", "gu"),
    "欧阳": ("ou", "yang"), "上官": ("shang", "guan"), "司马": ("si", "ma"), "司徒": ("si", "tu"),
    "诸葛": ("zhu", "ge"), "皇甫": ("huang", "fu"), "东方": ("dong", "fang"), "夏侯": ("xia", "hou"),
    "慕容": ("mu", "rong"), "公孙": ("gong", "sun"), "宇文": ("yu", "wen"), "轩辕": ("xuan", "yuan"),
    "淳于": ("chun", "yu"), "申屠": ("shen", "tu"), "太史": ("tai", "shi"), "端木": ("duan", "mu"),
    "呼延": ("hu", "yan"), "南宫": ("nan", "gong"), "西门": ("xi", "men"), "闻人": ("wen", "ren"),
    "钟离": ("zhong", "li"), "鲜于": ("xian", "yu"), "赫连": ("he", "lian"), "濮阳": ("pu", "yang"),
    "公冶": ("gong", "ye"), "宗政": ("zong", "zheng"), "太叔": ("tai", "shu"), "仲孙": ("zhong", "sun"),
    "亓官": ("qi", "guan"), "司寇": ("si", "kou"), "子车": ("zi", "ju"), "颛孙": ("zhuan", "sun"),
    "巫马": ("wu", "ma"), "公西": ("gong", "xi"), "漆雕": ("qi", "diao"), "乐正": ("yue", "zheng"),
    "壤驷": ("rang", "si"), "拓跋": ("tuo", "ba"), "夹谷": ("jia", "gu"), "宰父": ("zai", "fu"),
    "谷梁": ("gu", "liang"), "段干": ("duan", "gan"), "百里": ("bai", "li"), "东郭": ("dong", "guo"),
    "南门": ("nan", "men"), "羊舌": ("yang", "she"), "梁丘": ("liang", "qiu"), "左丘": ("zuo", "qiu"),
}  # fmt: skip

_first: dict[str, str] = {}
_all: dict[str, tuple[str, ...]] = {}
_LONGEST_WORD = 4


@lru_cache(maxsize=1)
def _table() -> dict[str, str]:
    """Character (decimal code point) -> readings. Importing ``pypinyin`` would also load its phrases, 58 MB a worker."""
    spec = find_spec("pypinyin")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("pypinyin is not installed")
    return json.loads((Path(spec.submodule_search_locations[0]) / "pinyin_dict.json").read_bytes())


@lru_cache(maxsize=1)
def _words() -> dict[str, tuple[str, ...]]:
    """Words read otherwise than their characters alone (derived from pypinyin's phrase table, MIT licence)."""
    lines = (Path(__file__).parent / "data" / "pinyin_words.txt").read_text("utf-8").splitlines()
    return {word: tuple(rest) for word, *rest in (line.split() for line in lines)}


def _plain(reading: str) -> str:
    """``lǜ`` -> ``lv``, ``shān`` -> ``shan``: tone marks off, ü as v."""
    out: list[str] = []
    for char in unicodedata.normalize("NFD", reading):
        if char == "\u0308" and out and out[-1] == "u":
            out[-1] = "v"
        elif char.isascii():
            out.append(char)
    return "".join(out)


def _learn(char: str) -> str:
    wide = unicodedata.normalize("NFKC", char)
    found: tuple[str, ...] = ()
    if wide.isascii():
        kept = "".join(c for c in wide.lower() if c.isalnum())
        found = (kept,) if kept else ()
    elif len(wide) == 1:
        raw = _table().get(str(ord(wide)))
        if raw:
            found = tuple(dict.fromkeys(_plain(r) for r in raw.split(",")))
    _all[char] = found
    _first[char] = found[0] if found else ""
    return _first[char]


def _char(char: str) -> str:
    reading = _first.get(char)
    return _learn(char) if reading is None else reading


def syllables(name: str) -> list[str]:
    """Reading of each character of a person's name (empty strings left out); the surname by the surname table."""
    if len(name) > 2 and (pair := COMPOUND.get(name[:2])):
        return [*pair, *(s for c in name[2:] if (s := _char(c)))]
    out = [s for c in name if (s := _char(c))]
    if out and name[0] in SURNAMES:
        out[0] = SURNAMES[name[0]]
    return out


def full(name: str) -> str:
    """``单雄信`` -> ``shanxiongxin``: a person's name in pinyin without tones or blanks."""
    return "".join(syllables(name))


def initials(name: str) -> str:
    """``单雄信`` -> ``sxx``: first letters of a person's name (Latin words and numbers stay whole)."""
    return "".join(s if not _han(c) else s[0] for c, s in _pairs(name))


@lru_cache(maxsize=1 << 14)
def _han(char: str) -> bool:
    return char > "\u2e7f" and not unicodedata.normalize("NFKC", char).isascii()


def _pairs(name: str) -> list[tuple[str, str]]:
    readable = [c for c in name if _char(c)]
    return list(zip(readable, syllables(name), strict=False))


def readings(name: str, limit: int = 16) -> tuple[str, ...]:
    """Every full reading a clerk might type for a name, likeliest first: polyphones multiplied out, at most ``limit``."""
    per: list[tuple[str, ...]] = []
    for index, char in enumerate(name):
        _char(char)
        choices = _all[char]
        if index == 0 and char in SURNAMES:
            choices = tuple(dict.fromkeys((SURNAMES[char], *choices)))
        if choices:
            per.append(choices)
    likeliest = full(name)
    others = ("".join(p) for p in itertools.product(*per))
    return tuple(itertools.islice(dict.fromkeys(itertools.chain([likeliest], others)), limit)) if per else ()


@lru_cache(maxsize=1)
def _word_heads() -> frozenset[str]:
    """First characters of those words: most characters begin none, and are read without looking further."""
    return frozenset(word[0] for word in _words())


def _term_pairs(text: str) -> list[tuple[str, str]]:
    """(character, reading) of a term, words before characters, longest first."""
    words, heads, at = _words(), _word_heads(), 0
    pairs: list[tuple[str, str]] = []
    while at < len(text):
        lengths = range(_LONGEST_WORD, 1, -1) if text[at] in heads else ()
        word = next((w for n in lengths if (w := text[at : at + n]) in words), "")
        if word:
            pairs.extend(zip(word, words[word], strict=True))
        elif reading := _char(text[at]):
            pairs.append((text[at], reading))
        at += len(word) or 1
    return pairs


def term_keys(text: str) -> tuple[str, str]:
    """(`term`, `term_initials`) in one reading."""
    pairs = _term_pairs(text)
    return "".join(s for _, s in pairs), "".join(s[0] if _han(c) else s for c, s in pairs)


def term(text: str) -> str:
    """``重症肺炎`` -> ``zhongzhengfeiyan``: a term (disease, place, department) in pinyin."""
    return "".join(s for _, s in _term_pairs(text))


def term_initials(text: str) -> str:
    """``重症肺炎`` -> ``zzfy``; Latin words and numbers stay whole (``2型糖尿病`` -> ``2xtnb``)."""
    return "".join(s[0] if _han(c) else s for c, s in _term_pairs(text))
