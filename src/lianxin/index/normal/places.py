"""Addresses as county, town, village (or estate, or road) and house numbers.

Names of provinces, prefectures and counties (GB/T 2260) are taken off the front by a table keyed on their first two characters;
towns, villages, estates and roads are recognised by their last word, house numbers by being numbers. Addresses in Latin letters
give postcode, suburb, street and number.
"""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from lianxin.index.normal import chars, tables

LONGEST = 300


class Place(NamedTuple):
    """Where somebody lives; "" is unknown."""

    county: str = ""
    town: str = ""
    village: str = ""
    house: str = ""


_NOWHERE = Place()
_FILLERS = frozenset(tables.fillers()["addresses"])
_ENDINGS = (
    "特别行政区", "维吾尔自治区", "壮族自治区", "回族自治区", "自治区", "自治州", "自治县", "自治旗", "地区", "林区", "新区",
    "省", "市", "县", "区", "旗", "盟",
)  # fmt: skip
_PEOPLES = re.compile(
    r"(?:(?:蒙古|回|藏|维吾尔|苗|彝|壮|布依|朝鲜|满|侗|瑶|白|土家|哈尼|哈萨克|傣|黎|傈僳|佤|畲|高山|拉祜|水|东乡|纳西|景颇|柯尔克孜|土|达斡尔"
    r"|仫佬|羌|布朗|撒拉|毛南|仡佬|锡伯|阿昌|普米|塔吉克|怒|鄂温克|德昂|保安|裕固|独龙|鄂伦春|赫哲|门巴|珞巴|基诺|各)族?)+$"
)
_NOT_AFTER_SHORT = re.compile(
    r"街道|镇|乡|村|路|街|社区|小区|大道|花园|巷|新村|省|市|县|区|州|盟|旗|自治|地区"
)
_UNLISTED = re.compile(
    r"(?:[^0-9 ,]{2,12}?(?:自治区|自治州|地区|省|盟)[ ,]*)?"
    r"(?:[^0-9 ,县区镇乡]{2,8}?市(?![场区民政])[ ,]*)?"
    r"(?:([^0-9 ,镇乡路街村]{1,12}?(?:自治县|自治旗|县(?![城前府道])|(?<![小社校院园厂矿库街郊a-z])区|旗(?!杆)))[ ,]*(?=[^0-9 ,]{2}))?"
)
"""Prefecture and county that no table of divisions has (new ones, old ones, invented ones), by their last words."""


def _short(name: str) -> str:
    """天台县 -> 天台, 恩施土家族苗族自治州 -> 恩施; "" when fewer than two characters stay."""
    for ending in _ENDINGS:
        if name.endswith(ending) and len(name) > len(ending):
            name = name[: -len(ending)]
            break
    bare = _PEOPLES.sub("", name) if "族" in name else name
    return bare if len(bare) >= 2 else name if len(name) >= 2 else ""


@lru_cache(maxsize=1)
def _divisions() -> dict[str, list[tuple[str, bool, tuple[str, ...]]]]:
    """First two characters -> [(name, is short, codes)], longest name first."""
    names: dict[tuple[str, bool], list[str]] = {}
    with files("lianxin.standards").joinpath("data/divisions.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            code, name = row["code"], row["name"]
            if name in ("市辖区", "县"):
                continue
            names.setdefault((name, False), []).append(code)
            short = _short(name)
            if short and short != name:
                names.setdefault((short, True), []).append(code)
    out: dict[str, list[tuple[str, bool, tuple[str, ...]]]] = {}
    for (name, abridged), codes in names.items():
        out.setdefault(name[:2], []).append((name, abridged, tuple(codes)))
    for found in out.values():
        found.sort(key=lambda f: (-len(f[0]), f[1]))
    return out


def _within(code: str, outer: str) -> bool:
    """Whether a division lies in another one."""
    return code != outer and (
        (outer[2:] == "0000" and code[:2] == outer[:2]) or (outer[4:] == "00" and code[:4] == outer[:4])
    )


def _leading(text: str, hint: str) -> tuple[str, int]:
    """(county code or name, where the rest begins) of an address; ``hint``: a code known from elsewhere."""
    table = _divisions()
    at, outer, county = 0, "", ""
    for _ in range(4):
        for name, abridged, codes in table.get(text[at : at + 2], ()):
            if not text.startswith(name, at):
                continue
            end = at + len(name)
            if abridged and _NOT_AFTER_SHORT.match(text, end):
                continue
            inside = [c for c in codes if not outer or _within(c, outer)]
            if hint:
                inside = [c for c in inside if c == hint or _within(hint, c)] or inside
            if not inside or (outer and outer[4:] != "00"):
                continue
            at = end
            outer = inside[0] if len(inside) == 1 else outer
            county = inside[0] if len(inside) == 1 else name
            break
        else:
            break
        while at < len(text) and text[at] in " ,-":
            at += 1
    if county.isdecimal() and county[2:] == "0000":
        county = ""
    if not county or county[4:] == "00":
        found = _UNLISTED.match(text, at)
        if found and found.end() > at:
            at, county = found.end(), county or found[1] or ""
    return county, at


_NUMERAL = re.compile(
    r"[零一二三四五六七八九十百两]+(?=(?:号|组|栋|幢|单元|室|楼|层|弄|巷|队|社|排|座|户|村民小组|区|期|门|梯|房|之))|[零一二三四五六七八九十百]{2,}$"
)
_SIGNS = str.maketrans({"#": "号", "＃": "号", "〇": "零", "○": "零"})
_UNIT = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"两": 2}


def _figure(found: re.Match[str]) -> str:
    """三十二 -> 32; a list of digits (三〇二) stays one."""
    text = found[0]
    if "十" not in text and "百" not in text:
        return "".join(str(_UNIT[c]) for c in text)
    total = digit = 0
    for char in text:
        if char in "百十":
            total += (digit or 1) * (100 if char == "百" else 10)
            digit = 0
        else:
            digit = _UNIT[char]
    return str(total + digit)


_NUMERAL_CHARS = frozenset("一二三四五六七八九十百两")
_TOWN = re.compile(
    r"([^0-9 ,]{1,10}?)(?:街道办事处|街道办|街道|镇|民族乡|乡|苏木)(?!路|街|小区|花园|大道|政府|中学|卫生院)"
)
_VILLAGE = re.compile(
    r"([^0-9 ,?号]{1,14}?|(?<![0-9])[0-9]{1,2}(?=村))(?:村民委员会|村委会|行政村|自然村|村|屯|寨|嘎查|生产队)(?!路|街|大道|巷|弄|镇|乡)"
)
_ON_ROAD = re.compile(r"(?:路|街|大道|巷|弄|胡同|里)[0-9]+号?([^0-9 ,号幢栋楼座单室组?]{2,14})(?=[0-9]|$)")
_PLACES = tuple(
    re.compile(rf"([^0-9 ,?号]{{1,14}}?(?:{ending}))(?!路|街|大道|巷|弄|镇|乡)")
    for ending in (
        "小区|花园|家园|公寓|花苑|新苑|佳苑|名苑|苑|公馆|府邸|府|华庭|花城|新城|嘉园|佳园|雅园|大厦|广场|名邸|名都|庄园|山庄|豪庭|雅居|宿舍|家属院|里弄",
        "大道|路|大街|街|胡同|巷|弄|里",
        "林场|农场|牧场|茶场|渔场",
    )
)
_COMMUNITY = re.compile(r"([^0-9 ,?号路]{1,12}?)(?:社区居委会|社区|居民委员会|居委会)[ ,-]*")
_TAIL = re.compile(
    r"(?:村民委员会|村委会|行政村|自然村|居民委员会|居委会|社区|村|屯|寨|嘎查|小区|生产队|大道|路|大街|街|胡同|巷|弄)+$"
)
_ASIDE = re.compile(r"\([^()]*\)?")
_GROUP = re.compile(r"([0-9]+)(?:村民小组|小组|组|队|社)")
_NUMBERS = re.compile(r"[0-9]+|(?<![a-z])[a-z](?![a-z])")
_BARE = re.compile(r"[^0-9 ,?a-z]{2,12}")


def read(address: str, division: str, village: str) -> Place:
    """Take an address apart. ``division``: GB/T 2260 code (6, 9 or 12 digits) or a foreign postcode, when told beside it."""
    code = division if division.isascii() and division.isdecimal() else ""
    hint = code[:6] if len(code) >= 6 and code[2:6] != "0000" else ""
    text = chars.fold(address[:LONGEST].translate(_SIGNS)).strip(" ,-·") if address else ""
    if not text or text in _FILLERS:
        if not (code or village):
            return _NOWHERE
        text = ""
    if text.isascii() and text:
        return _latin(text, code, village)
    if "(" in text:
        text = _ASIDE.sub("", text)
    county, at = _leading(text, hint) if text else ("", 0)
    rest = text[at:]
    if not _NUMERAL_CHARS.isdisjoint(rest):
        rest = _NUMERAL.sub(_figure, rest)
    town = ""
    if found := _TOWN.match(rest):
        town, rest = found[1], rest[found.end() :].lstrip(" ,-")
    if not town and len(code) >= 9:
        town = code[:9]
    name, rest = _locality(rest, _name(village) if village else "")
    return Place(hint or county or (code if 4 <= len(code) <= 5 else ""), town, name, _house(rest))


@lru_cache(maxsize=1 << 14)
def _name(text: str) -> str:
    """A village's name without what says that it is one."""
    bare = "".join(c for c in chars.fold(text[:80]) if c.isalnum())
    return _TAIL.sub("", bare) or bare


def _locality(rest: str, told: str) -> tuple[str, str]:
    """(village, estate or road; what follows it)."""
    if told:
        at = rest.find(told)
        return told, rest[at + len(told) :] if at >= 0 else rest
    community = _COMMUNITY.match(rest)
    if community:
        rest = rest[community.end() :]
    for pattern in (_VILLAGE, _ON_ROAD, *_PLACES):
        if found := pattern.search(rest):
            return _name(found[1]), rest[found.end() :]
    if community:
        return _name(community[1]), rest
    if found := _BARE.match(rest):
        return _name(found[0]), rest[found.end() :]
    return "", rest


def _house(rest: str) -> str:
    """House, building, unit and room numbers; a villagers' group only when there is nothing else."""
    if not rest:
        return ""
    group = _GROUP.search(rest)
    numbers = _NUMBERS.findall(_GROUP.sub(" ", rest) if group else rest)
    if numbers:
        return "-".join([n.lstrip("0") or "0" for n in numbers])
    return f"g{group[1].lstrip('0')}" if group else ""


_STREETS = frozenset(tables.fillers()["streets"])
_WORD = re.compile(r"[a-z0-9]+")
_POSTCODE = re.compile(r"\b[0-9]{4,6}\b")


def _latin(text: str, code: str, village: str) -> Place:
    """number street, suburb, state postcode: with or without commas."""
    parts = [p for p in (p.strip() for p in text.split(",")) if p]
    codes = _POSTCODE.findall(" ".join(parts[1:]) if len(parts) > 1 else text[4:])
    county = code or (codes[-1] if codes else "")
    words = _WORD.findall(parts[0])
    house = [w for w in words if w[0].isdecimal() and w != county]
    street: list[str] = []
    after: list[str] = []
    seen = False
    for word in words:
        if word[0].isdecimal():
            continue
        if not seen and street and word in _STREETS:
            seen = True
            continue
        (after if seen else street).append(word)
    if len(parts) > 1 and not street:  # the number stood in a part of its own
        words = _WORD.findall(parts[1])
        street = [w for w in words if w not in _STREETS and not w[0].isdecimal()]
        parts = parts[1:]
    suburb = "".join(after)
    for part in parts[1:]:
        bare = "".join(w for w in _WORD.findall(part) if not w[0].isdecimal())
        if len(bare) > 3 and not suburb:
            suburb = bare
    return Place(county, suburb, _name(village) if village else "".join(street), "-".join(house))
