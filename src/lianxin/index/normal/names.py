"""Names in comparable form: Han, transliterated (minority) and Latin; newborns named after their mother; names that are none.

Order of work: fold the characters, take brackets, suffixes and titles off, ask whether it is a name at all, then cut it and
make its keys. What cannot be read is ``?``: a wildcard, never a disagreement.
"""

from __future__ import annotations

import itertools
import re
from functools import lru_cache
from typing import NamedTuple

from lianxin.index.normal import chars, latin, tables
from lianxin.standards import pinyin as standard

NAMED, NEWBORN, PLACEHOLDER = 0, 1, 2
HAN, LATIN, MINORITY = 0, 1, 2
LONGEST = 200
INFANT_YEARS = 2
"""Up to this age (from the stated birth date) a pet name or ordinal after a mother's name is a newborn's stand-in."""


class Name(NamedTuple):
    """A name taken apart. ``sex`` 1/2 when a newborn's stand-in name tells it; ``former`` when the brackets held one."""

    name: str = ""
    surname: str = ""
    given: str = ""
    kind: int = NAMED
    script: int = HAN
    pinyin: str = ""
    fuzzy: str = ""
    shape: str = ""
    mother: str = ""
    twin: int = 0
    sex: int = 0
    former: str = ""


_NOTHING = Name(kind=PLACEHOLDER)
_fillers = tables.fillers()
_WHOLE = frozenset(_fillers["names"])
_WORDS = re.compile("|".join(map(re.escape, _fillers["words"])))
_WORD_HEADS = frozenset(word[0] for word in _fillers["words"])
_LATIN_FILLERS = frozenset(_fillers["latin"])
_PAID = "|".join(sorted(map(re.escape, _fillers["suffixes"]), key=len, reverse=True))
_SUFFIX = re.compile(rf"(?:[ \-·,]*+(?:{_PAID}|[0-9]++[号床]?|(?<![a-z])[a-z]))++$")
_PREFIX = re.compile(rf"^(?:(?:{_PAID})[ \-·,]*+|[0-9]++[号床]?[ \-·,]*+)+(?=..)")
_TITLE = re.compile("(?:" + "|".join(map(re.escape, _fillers["titles"])) + ")$")
_LAST = frozenset(word[-1] for word in (*_fillers["suffixes"], *_fillers["titles"])) | frozenset(
    "0123456789号床"
)
_FIRST = frozenset(word[0] for word in _fillers["suffixes"]) | frozenset("0123456789")
_MASKED = re.compile(r"^.[x某]+$")
_STARRED = re.compile(r"^\s*\S[\s*＊※xX×某]*[*＊※×][\s*＊※xX×某]*$")
_MARKED = re.compile(r"(?<=\S\S\S)[*＊※★☆#＃]+\s*$")
"""A star after a whole name is somebody's mark; a star for a given name hides it."""
_STARS = frozenset("*＊※★☆#＃ ")
_BRACKETS = re.compile(r"\(([^()]*)\)?")
_FORMER = re.compile(r"^(?:曾用名|曾用|原名|又名|别名|旧名|原)[ ,·-]*(.+)$")
_CUT = re.compile(r"[ ·,\-()0-9]+")
_SEPARATORS = re.compile(r"[ ·,\-()]+")
_SPELT = re.compile(r"[a-z]{2,}")

# 王芳之子, 王芳之大女, 王芳大宝, 王芳婴, 王芳之双大子 …
_ORDER = {"大": 1, "长": 1, "老大": 1, "一": 1, "甲": 1, "a": 1, "1": 1, "二": 2, "次": 2, "小": 2, "老二": 2, "乙": 2, "b": 2, "2": 2,
          "三": 3, "丙": 3, "c": 3, "3": 3, "四": 4, "d": 4, "4": 4}  # fmt: skip
_CHILD = r"儿子|女儿|男婴|女婴|男孩|女孩|婴儿|孩子|宝宝|毛毛|新生儿|子|女|婴|男|儿|宝|毛"
_RANK = r"双胎?|双胞胎|第|"
_NEWBORN = re.compile(
    rf"^(?P<m>.+?)(?P<z>之)?(?:{_RANK})(?P<r>老?[大二]|[长次三四小甲乙丙]|一)?(?P<c>{_CHILD})(?P<n>[一二三四甲乙丙]|[abcd1-4])?$"
)
_NUMBERED = frozenset("1234abcd")
_BABY = frozenset("子女婴男儿孩宝毛")
_NAMELESS = re.compile(
    r"^(?:新生儿?|婴儿?|男婴|女婴|宝宝|毛毛|男孩|女孩|大宝|小宝|二宝|大毛|小毛|baby)+([0-9]*)$"
)
_SURELY = frozenset(("婴", "男婴", "女婴", "婴儿", "宝宝", "毛毛", "新生儿"))
_NOBODYS = frozenset(("儿子", "女儿", "男婴", "女婴", "男孩", "女孩", "孩子"))
"""No name ends like this, at whatever age the person is looked at."""
_GIRL = frozenset(("女", "女儿", "女婴", "女孩"))
_BOY = frozenset(("子", "男", "儿子", "男婴", "男孩", "儿"))

_SURNAMES = frozenset("".join(tables.lines("surnames.txt")))
_variants = tables.classes("transliteration.txt")
_SYLLABIC = (
    frozenset(_variants)
    | frozenset(_variants.values())
    | frozenset("阿艾买哈孜甫热西帕泰达桑措姆玛央卓增杰图巴格乌")
)
_to_variant = str.maketrans(_variants)
_to_shape = str.maketrans(tables.classes("lookalikes.txt"))
_TITLES_LATIN = frozenset(
    ("mr", "mrs", "ms", "miss", "dr", "prof", "jr", "sr", "ii", "iii", "iv", "mx", "md", "phd")
)
_PARTICLES = frozenset(
    ("van", "von", "de", "der", "den", "di", "da", "del", "la", "le", "el", "al", "bin", "ibn", "st", "ter")
)
_LETTERS = re.compile(r"[a-z]+")


def read(text: str, family: str = "", given: str = "", age: int = -1) -> Name:
    """A name in comparable form. ``age`` in whole years from the stated birth date (-1: unknown)."""
    return _read(text, family, given, min(age, INFANT_YEARS + 1))


@lru_cache(maxsize=1 << 16)
def _read(text: str, family: str, given: str, age: int) -> Name:
    text = text[:LONGEST] if text else ""
    if text and text[-1] in _STARS:
        if _STARRED.match(text):
            return _NOTHING
        text = _MARKED.sub("", text)
    raw = chars.fold(text)
    if not raw.strip(" ·-,"):
        if not (family or given):
            return _NOTHING
        raw = ""
    if raw and not raw.isascii():
        return _written(raw, age)
    given, family = chars.fold(given[:LONGEST]), chars.fold(family[:LONGEST])
    if not raw and not (given + family).isascii():
        return _written(family + given, age)
    return _latin(raw, family, given)


def key(text: str) -> str:
    """A name as ``Form.name`` writes it: for names of other people (mother, guardian, former name)."""
    return read(text).name if text else ""


def bare(text: str) -> str:
    """A text folded, without separators: whether a name was typed with nothing around it."""
    return _SEPARATORS.sub("", chars.fold(text))


def _written(raw: str, age: int, former: str = "", mother: str = "") -> Name:
    """A name that is not (only) in Latin letters."""
    if "(" in raw or ")" in raw:
        raw, former, mother = _outside(raw)
    core = raw.strip(" ·-,") if not raw.isalnum() else raw
    if core[-1:] in "x某" and _MASKED.match(core):
        return _NOTHING
    if core[-1:] in _NUMBERED and not _BABY.isdisjoint(
        core
    ):  # 王芳之女B: a number of the child, not of the name
        newborn = _newborn(_SEPARATORS.sub("", core), mother, age)
        if newborn is not None:
            return newborn
    core = _bare(core)
    if core.isalpha() and not core[-1].isascii():
        parts = [core]
    else:
        parts = [p for p in _CUT.split(core) if p]
    name = "".join(parts)
    if len(parts) > 1 and (again := _bare(name)) != name:
        parts, name = [again], again
    spelt: list[str] | None = None
    if not name.isascii() and _SPELT.search(name):
        name, spelt = _letters(name)
        if not any(spelt):
            return _written(name, age, former, mother)
        parts = [name]
    if not name or name in _WHOLE or (not _WORD_HEADS.isdisjoint(name) and _WORDS.search(name)):
        return _NOTHING
    if name[-1] in "x某" and spelt is None and _MASKED.match(name):
        return _NOTHING
    if not _BABY.isdisjoint(name) or mother:
        newborn = _newborn(name, mother, age)
        if newborn is not None:
            return newborn
    if name.isascii():
        return _latin(core, "", "")
    return _named(name, parts, former, spelt)


def _bare(core: str) -> str:
    """Suffixes, prefixes and titles off, until nothing changes; "" when a surname with a title is all there is."""
    while core:
        before = core
        if core[-1] in _LAST or core[-1] <= "z":
            core = _SUFFIX.sub("", core) or core
            if found := _TITLE.search(core):
                core = core[: found.start()].rstrip(" ·-,")
                if len(core) < 2:
                    return ""
        if core[0] in _FIRST:
            core = _PREFIX.sub("", core)
        if core == before:
            break
    return core


def _outside(raw: str) -> tuple[str, str, str]:
    """(name without its brackets, former name, mother) of a name with brackets; the inside when nothing is outside."""
    former = mother = ""
    inner = [i.strip(" ·-,") for i in _BRACKETS.findall(raw)]
    outer = _BRACKETS.sub("", raw).replace(")", "").strip(" ·-,")
    for one in inner:
        if found := _FORMER.match(one):
            former = key(found[1])
        elif _NAMELESS.match(outer) and chars.is_han(one[:1] or " "):
            mother = re.sub(r"^(?:母亲?|妈妈?)[ ,·-]*|之.*$", "", one)
    if not outer:
        outer = next((i for i in inner if i), "")
    return outer, former, mother


def _newborn(name: str, mother: str, age: int) -> Name | None:
    """A stand-in name made of the mother's, or None when it is a name of its own."""
    if _NAMELESS.match(name):
        return _stand_in(key(mother), "", 0, 2 if "女" in name else 1 if "男" in name else 0)
    found = _NEWBORN.match(name)
    if found is None:
        return None
    child = found["c"]
    young = age <= INFANT_YEARS
    if len(found["m"]) == 1 and not (found["z"] or child in _NOBODYS):
        return None
    told = child in _NOBODYS or found["z"] is not None or (child in _SURELY and young)
    ordinal = bool(found["r"]) and len(found["m"]) >= 2 and (child in ("宝", "子", "女", "毛", "男", "儿"))
    if not told and not (ordinal and young):
        return None
    rank = _ORDER.get(found["r"] or "") or _ORDER.get(found["n"] or "") or 0
    sex = 2 if child in _GIRL else 1 if child in _BOY else 0
    mother = found["m"] if len(found["m"]) > 1 else ""  # 李之子: the family's name only
    return _stand_in(_named(mother, [mother]).name if mother else "", child, rank, sex)


def _stand_in(mother: str, child: str, rank: int, sex: int) -> Name:
    word = "女" if sex == 2 else "子" if sex == 1 else "婴"
    if not mother:
        return Name("", kind=NEWBORN, twin=rank, sex=sex)
    plain = _named(mother, [mother])
    reading = plain.pinyin + "zhi"
    return Name(
        f"{mother}之{word}", plain.surname, f"{plain.given}之{word}", NEWBORN, plain.script, reading,
        plain.fuzzy + "zi", plain.shape + "之", mother, rank, sex,
    )  # fmt: skip


def _named(name: str, parts: list[str], former: str = "", spelt: list[str] | None = None) -> Name:
    if name == "?" * len(name):
        return _NOTHING
    script = _script(name, parts)
    if script == MINORITY:
        folded = name.translate(_to_variant)
        sounds = [chars.reading[c] or c for c in folded]
        loose = "".join([chars.fuzzy[s] for s in sounds])
        return Name(name, folded[:2], name[2:], NAMED, script, "".join(sounds), loose, folded, former=former)
    cut = 1
    if len(name) > 2 and (pair := standard.COMPOUND.get(name[:2])):
        sounds, cut = [*pair, *[chars.reading[c] or c for c in name[2:]]], 2
    else:
        sounds = [chars.reading[c] or c for c in name]
        if (special := standard.SURNAMES.get(name[0])) is not None:
            sounds[0] = special
    if spelt is not None:
        sounds = [said or sound for said, sound in zip(spelt, sounds, strict=True)]
    fuzzy = chars.fuzzy
    return Name(
        name, name[:cut], name[cut:], NAMED, script, "".join(sounds), "".join([fuzzy[s] for s in sounds]),
        name.translate(_to_shape), former=former,
    )  # fmt: skip


def _letters(name: str) -> tuple[str, list[str]]:
    """(name, what was spelt): a syllable in Latin letters stands for a character that could not be typed and becomes ``?``.

    Other runs of letters are notes, and go.
    """
    out: list[str] = []
    said: list[str] = []
    at = 0
    for found in _SPELT.finditer(name):
        out += name[at : found.start()]
        said += [""] * (found.start() - at)
        at = found.end()
        if found[0] in chars.syllables():
            out.append("?")
            said.append(found[0])
    out += name[at:]
    said += [""] * (len(name) - at)
    return "".join(out), said


def _script(name: str, parts: list[str]) -> int:
    length = len(name)
    if length <= 3:
        return (
            MINORITY
            if length == 3 and len(parts) == 2 and not _SYLLABIC.isdisjoint(name) and name[0] not in _SURNAMES
            else HAN
        )
    compound = name[:2] in standard.COMPOUND
    if length == 4:
        if compound or "?" in name:
            return HAN
        foreign = sum(c in _SYLLABIC for c in name)
        return HAN if foreign < 3 and name[0] in _SURNAMES else MINORITY
    return HAN if compound and length == 5 and name[2] in _SURNAMES else MINORITY


def _latin(raw: str, family: str, given: str) -> Name:
    """A name in Latin letters: ``Smith, John`` and ``John Smith`` are one; order never matters to the keys."""
    former = ""
    if "(" in raw:
        raw, former, _ = _outside(raw)
    if not family and "," in raw:
        family, _, given = raw.partition(",")
    if family or given:
        last = [t for t in _LETTERS.findall(family) if t not in _TITLES_LATIN]
        first = [t for t in _LETTERS.findall(given) if t not in _TITLES_LATIN]
    else:
        words = [t for t in _LETTERS.findall(raw) if t not in _TITLES_LATIN]
        cut = max(len(words) - 1, 0)
        while cut > 1 and words[cut - 1] in _PARTICLES:
            cut -= 1
        first, last = (words[:cut], words[cut:]) if len(words) > 1 else (words, [])
    tokens = first + last
    name = "".join(tokens)
    if (
        not name
        or name in _WHOLE
        or any(t in _LATIN_FILLERS for t in tokens)
        or (len(name) > 2 and len(set(name)) == 1)
    ):
        return _NOTHING
    ordered = sorted(tokens)
    kind = NAMED
    if tokens[0] in ("baby", "newborn", "infant") and len(tokens) > 1:
        kind = NEWBORN
    return Name(
        name, "".join(last), "".join(first), kind, LATIN, "".join([latin.phonetic[t] for t in ordered]),
        "".join(sorted([latin.soundex[t] for t in ordered])), "".join(ordered), former=former,
    )  # fmt: skip


def readings(name: str, script: int, first: str) -> tuple[str, ...]:
    """Other full readings (at most four) than ``first``: polyphones; for Latin letters the Chinese name they may spell."""
    if script == LATIN or not name:
        return ()
    table = chars.polyphones()
    if table.keys().isdisjoint(name):
        return ()
    choices: list[tuple[str, ...]] = []
    for index, char in enumerate(name):
        said = table.get(char) or (chars.reading[char] or char,)
        if index == 0 and script == HAN and (special := standard.SURNAMES.get(char)):
            said = tuple(dict.fromkeys((special, *said)))
        choices.append(said)
    if len(name) > 2 and script == HAN and (pair := standard.COMPOUND.get(name[:2])):
        choices[:2] = [(pair[0],), (pair[1],)]
    others = dict.fromkeys("".join(c) for c in itertools.islice(itertools.product(*choices), 64))
    return tuple(o for o in others if o != first)[:4]
