"""Administrative divisions of GB/T 2260: names, levels, the path of a code."""

from __future__ import annotations

from collections.abc import Iterable

from lianxin.standards import pinyin
from lianxin.standards.models import Division

_LEVELS = {9: "township", 12: "village"}


def level_of(code: str) -> str:
    """Level that the form of a code says: province, prefecture, county, township (9 digits), village (12)."""
    if len(code) in _LEVELS:
        return _LEVELS[len(code)]
    return "province" if code[2:] == "0000" else "prefecture" if code[4:] == "00" else "county"


def build(pairs: Iterable[tuple[str, str]]) -> list[Division]:
    """Divisions from (code, name); the parent is the nearest code above that is in the list."""
    names = dict(pairs)
    out = []
    for code, name in names.items():
        above = [code[:9], code[:6]] if len(code) == 12 else [code[:6]] if len(code) == 9 else []
        above += [code[:4] + "00", code[:2] + "0000"]
        parent = next((a for a in above if a != code and a in names), "")
        out.append(
            Division(
                code=code, name=name, level=level_of(code), parent=parent, pinyin=pinyin.term(name)[:200]
            )
        )
    return out


def path(code: str) -> list[Division]:
    """The division and what it lies in, largest first (empty when unknown)."""
    found = Division.objects.in_bulk([code, code[:9], code[:6], code[:4] + "00", code[:2] + "0000"])
    out: list[Division] = []
    at = found.get(code)
    while at is not None:
        out.insert(0, at)
        at = found.get(at.parent)
    return out


def full_name(code: str) -> str:
    """``331023`` -> ``浙江省台州市天台县``; empty when unknown."""
    return "".join(d.name for d in path(code) if d.name not in ("市辖区", "县"))
