"""Tables of codes: the sender's code on the left, ours on the right.

A table has ``system`` (of what stands on the right) and ``codes``: ``code``, ``code|display`` or ``system|code|display``.  Keys are
compared without regard to case, width and blanks.  A sender's mapping lays its own lines over the built-in ones.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lianxin.exchange.v2.mapping import reading
from lianxin.exchange.v2.mapping.reading import Fault, Sheet
from lianxin.record import units
from lianxin.standards.text import T

DATA = Path(__file__).parent.parent / "data"
_FOLD = str.maketrans(
    {"μ": "u", "µ": "u", "×": "x", "＊": "*", "∗": "*", "·": ".", "∕": "/", "–": "-", "—": "-"}
)


def folded(text: str) -> str:
    """A code as it is compared: full width and case folded, blanks gone."""
    if text.isascii() and text.isupper() and text.isalnum():
        return text
    return "".join(unicodedata.normalize("NFKC", text).translate(_FOLD).upper().split())


@dataclass(frozen=True)
class Table:
    """One table, as it is used."""

    name: str
    system: str
    codes: dict[str, str]

    def code(self, given: str) -> str | None:
        """Our code for the sender's; None when it is not in the table."""
        found = self.codes.get(given)
        if found is None:
            found = self.codes.get(folded(given))
        return None if found is None else self.parts(found)[1]

    def coding(self, given: str) -> dict[str, str] | None:
        """Our Coding for the sender's code; None when it is not in the table."""
        found = self.codes.get(folded(given))
        if found is None:
            return None
        system, code, display = self.parts(found)
        made = {"system": system, "code": code, "display": display}
        return {k: v for k, v in made.items() if v}

    def parts(self, found: str) -> tuple[str, str, str]:
        """System, code and display of a right-hand side."""
        bits = [b.strip() for b in found.split("|")]
        if len(bits) >= 3:
            return bits[0] or self.system, bits[1], "|".join(bits[2:])
        return self.system, bits[0], bits[1] if len(bits) > 1 else ""


class Tables:
    """The built-in tables with what a sender lays over them."""

    def __init__(self, base: dict[str, Table] | None = None) -> None:
        self.tables: dict[str, Table] = dict(base or {})

    def get(self, name: str) -> Table | None:
        """A table by its name."""
        return self.tables.get(name)

    def lay(self, sheet: Sheet, key: str = "tables") -> list[Fault]:
        """Lay a sheet's tables over these; what is wrong with them."""
        faults: list[Fault] = []
        given = sheet.data.get(key) or {}
        if not isinstance(given, dict):
            return [
                sheet.fault((key,), T("应为“表名: {代码: 目标}”。", "“name: {code: target}” is expected."))
            ]
        for name, body in given.items():
            if not isinstance(body, dict):
                faults.append(
                    sheet.fault((key, name), T("应为“代码: 目标”。", "“code: target” is expected."))
                )
                continue
            codes = body.get("codes") if isinstance(body.get("codes"), dict) else body
            assert isinstance(codes, dict)
            system = body.get("system") if codes is not body else None
            before = self.tables.get(name)
            made = dict(before.codes) if before else {}
            for code, target in codes.items():
                if target is None:
                    made.pop(folded(code), None)
                elif isinstance(target, dict | list):
                    faults.append(
                        sheet.fault((key, name, code), T("应为一个代码。", "One code is expected."))
                    )
                else:
                    plain = str(target).lower() if isinstance(target, bool) else str(target)
                    if name == "units" and plain and not units.valid(plain):
                        said = T("“{u}”不是 UCUM 单位。", "“{u}” is no UCUM unit.").format(u=plain[:30])
                        faults.append(sheet.fault((key, name, code), said))
                    made[folded(code)] = plain
            self.tables[name] = Table(name, str(system or (before.system if before else "")), made)
        return faults


@cache
def built_in() -> Tables:
    """The tables that are shipped (``data/tables.yaml``, ``data/units.yaml``)."""
    made = Tables()
    for name in ("tables.yaml", "units.yaml"):
        sheet = reading.read((DATA / name).read_text(encoding="utf-8"))
        faults = made.lay(sheet)
        if faults:
            raise reading.Faulty(faults)
    return made


def describe(name: str) -> Any:
    """What a built-in table is for, in both languages; the name itself for a table of a sender."""
    titles = _titles().get(name)
    return T(*titles) if titles else T(name, name)


@cache
def _titles() -> dict[str, tuple[str, str]]:
    sheet = reading.read((DATA / "tables.yaml").read_text(encoding="utf-8"))
    out = {}
    for name, title in (sheet.data.get("titles") or {}).items():
        zh, _, en = str(title).partition(" / ")
        out[name] = (zh, en or zh)
    return out
