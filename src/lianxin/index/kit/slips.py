"""Slips of hand, ear and eye: one value in, the value as a desk may have written it out. Pure but for the random draws."""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from random import Random

from lianxin.index.kit import tables
from lianxin.index.kit.people import Home

SUFFIXES = (
    "1",
    "2",
    "（医保）",
    "(农合)",
    "（自费）",
    "A",
    "(儿)",
    "*",
    "（新）",
    "-1",
    "(本人)",
    "（门诊）",
    "B",
    "先生",
    "女士",
)
PLACEHOLDERS = (
    "无名氏",
    "未知",
    "急诊患者",
    "不详",
    "无名",
    "患者",
    "路人",
    "无名男",
    "无名女",
    "未知名",
    "测试",
    "待查",
    "无",
)
SEPARATORS = (".", "•", "・", " ", "．", "‧", "·", "-", "、", "。")
JUNK_NUMBERS = (
    "000000000000000000",
    "111111111111111111",
    "无",
    "0",
    "123456789012345678",
    "不详",
    "999999999999999999",
    "1",
    "/",
    "未带",
)
JUNK_PHONES = (
    "13800138000",
    "00000000000",
    "11111111111",
    "12345678901",
    "无",
    "0",
    "13000000000",
    "99999999999",
    "88888888",
    "/",
    "1",
    "13888888888",
    "13900000000",
)
FILLERS = ((1900, 1, 1), (1970, 1, 1), (1980, 1, 1), (2000, 1, 1), (1949, 10, 1), (1960, 7, 1), (1990, 1, 1))
SYLLABLES = (("阿布都", "阿不都"), ("阿卜杜", "阿不都"), ("买买提", "麦麦提"), ("艾合买提", "艾合麦提"), ("吐尔逊", "图尔荪"), ("热合曼", "热和曼"),
             ("依明", "伊明"), ("古丽", "姑丽"), ("艾力", "艾利"), ("肉孜", "如孜"), ("努尔", "奴尔"), ("阿不", "阿布"), ("提", "体"), ("才让", "才仁"),
             ("卓玛", "卓麻"), ("次仁", "才仁"), ("扎西", "扎喜"), ("达瓦", "达娃"), ("尼玛", "尼马"), ("旦增", "丹增"))  # fmt: skip
NUMERALS = "零一二三四五六七八九"


def wrong_digit(number: str, rng: Random) -> str:
    """One digit replaced by another."""
    at = rng.randrange(len(number) - 1)
    other = (ord(number[at]) - 48 + 1 + rng.randrange(9)) % 10
    return f"{number[:at]}{other}{number[at + 1 :]}"


def swapped_digits(number: str, rng: Random) -> str:
    """Two neighbours that differ, swapped; the number itself when all are alike."""
    for _ in range(20):
        at = rng.randrange(len(number) - 2)
        if number[at] != number[at + 1]:
            return number[:at] + number[at + 1] + number[at] + number[at + 2 :]
    return number


def dropped_digit(number: str, rng: Random) -> str:
    """One digit left out."""
    at = rng.randrange(len(number) - 1)
    return number[:at] + number[at + 1 :]


def doubled_digit(number: str, rng: Random) -> str:
    """One digit typed twice."""
    at = rng.randrange(len(number) - 1)
    return number[: at + 1] + number[at:]


def full_width(text: str) -> str:
    """ASCII letters and digits as full-width ones."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def homophone(name: str, rng: Random, near: bool = False) -> str:
    """One character replaced by another that sounds the same (or nearly); the name itself when none does."""
    table = tables.sounds()[1 if near else 0]
    places = [i for i, c in enumerate(name) if c in table]
    if not places:
        return name
    # The surname is said and shown more carefully than the rest.
    at = (
        places[-1 - rng.randrange(len(places) - 1)]
        if len(places) > 1 and rng.random() < 0.8
        else rng.choice(places)
    )
    return name[:at] + table[name[at]](rng) + name[at + 1 :]


def lookalike(name: str, rng: Random) -> str:
    """One character replaced by one that looks alike; the name itself when none does."""
    table = tables.looks()
    places = [i for i, c in enumerate(name) if c in table]
    if not places:
        return name
    at = rng.choice(places)
    return name[:at] + rng.choice(table[name[at]]) + name[at + 1 :]


def dropped_character(name: str, rng: Random) -> str:
    """One character (not the first) left out of a name of three or more."""
    if len(name) < 3:
        return name
    at = 1 + rng.randrange(len(name) - 1)
    return name[:at] + name[at + 1 :]


def doubled_character(name: str, rng: Random) -> str:
    """One character typed twice."""
    at = rng.randrange(len(name))
    return name[: at + 1] + name[at:]


def swapped_characters(name: str, rng: Random) -> str:
    """Two neighbouring characters swapped."""
    if len(name) < 3:
        return name
    at = 1 + rng.randrange(len(name) - 2)
    return name[:at] + name[at + 1] + name[at] + name[at + 2 :]


def unknown_character(name: str, rng: Random) -> str:
    """A character that the system cannot write."""
    at = 1 + rng.randrange(len(name) - 1) if len(name) > 1 else 0
    return name[:at] + rng.choice("?？□*\ue000\ue1c5〓") + name[at + 1 :]


def traditional(name: str) -> str:
    """Every character in its traditional form."""
    table = tables.traditional()
    return "".join(table.get(c, c) for c in name)


def blanks(text: str, rng: Random) -> str:
    """A blank somewhere: within, before or after, sometimes a full-width one."""
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice((" ", " ", "　", "  ")) + text[at:]


def syllable(name: str, rng: Random) -> str:
    """Another way to transliterate a part of a minority name."""
    fits = [(a, b) for a, b in SYLLABLES if a in name] + [(b, a) for a, b in SYLLABLES if b in name]
    if not fits:
        return name
    old, new = rng.choice(fits)
    return name.replace(old, new, 1)


@lru_cache(maxsize=65536)
def lunar(ordinal: int) -> tuple[int, int, int]:
    """Lunar year, month and day of a solar day (a leap month counts as its month)."""
    from lunar_python import Solar

    day = dt.date.fromordinal(ordinal)
    found = Solar.fromYmd(day.year, day.month, day.day).getLunar()
    return found.getYear(), abs(found.getMonth()), found.getDay()


def chinese_number(number: int) -> str:
    """A number below 1,000 as read: 32 -> 三十二."""
    if number < 10:
        return NUMERALS[number]
    if number < 20:
        return "十" + (NUMERALS[number - 10] if number > 10 else "")
    if number < 100:
        tens, ones = divmod(number, 10)
        return NUMERALS[tens] + "十" + (NUMERALS[ones] if ones else "")
    hundreds, rest = divmod(number, 100)
    if not rest:
        return NUMERALS[hundreds] + "百"
    middle = "零" if rest < 10 else "一" if rest < 20 else ""
    return NUMERALS[hundreds] + "百" + middle + chinese_number(rest)


STYLES = (
    # prefix, group word, building, unit, room, bare village
    (3, "组", "幢", "单元", "室", False),
    (2, "组", "号楼", "单元", "室", False),
    (1, "社", "栋", "单元", "", False),
    (0, "队", "幢", "-", "", True),
    (2, "", "-", "-", "", True),
    (3, "村民小组", "号楼", "门", "号", False),
)


def address(home: Home, province: str, city: str, style: int, odd: int = 0) -> str:
    """An address as a system of style 0-5 writes it; ``odd`` 1 leaves the prefix out, 2 writes numbers in Chinese, 3 shortens."""
    town = home.town
    prefix, group, building, unit, room, bare = STYLES[style]
    if odd == 1:
        prefix = 0
    county = town.county_name
    head = (
        ""
        if prefix == 0
        else county
        if prefix == 1
        else city + county
        if prefix == 2
        else province + city + county
    )
    number = chinese_number(home.number) if odd == 2 and home.number < 1000 else str(home.number)
    if not home.building:
        village = home.village
        if bare and len(village) > 2:
            village = village.removesuffix("村") if odd != 3 else village
        part = f"{home.group}{group}" if group and odd != 3 else ""
        return f"{head}{town.name}{village}{part}{number}号"
    road = "" if odd == 3 or bare else f"{home.road}{number}号"
    return f"{head}{town.name}{road}{home.village}{home.building}{building}{home.unit}{unit}{home.room}{room}"
