"""A row of a file becomes a line, or says why not. Pure: no database; one :class:`Checker` for a file.

Amounts are read exactly as :meth:`lianxin.standards.money.Money.of_yuan` reads them, some times faster because of how many there are
(a test holds the two alike).
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from lianxin.access import seal
from lianxin.exchange.settlement import layout
from lianxin.exchange.settlement.layout import Columns
from lianxin.exchange.settlement.models import MONEY
from lianxin.exchange.tables.reading import Row
from lianxin.index import facts
from lianxin.standards import clock, identifiers, tables
from lianxin.standards.text import Text

RESIDENT_ID = facts.RESIDENT_ID
_MONEY = re.compile(r"[¥￥]?(-?)[¥￥]?(\d{1,13})(?:\.(\d{1,2})0*)?", re.ASCII)
_LONG = re.compile(r"(-?\d{1,13}\.\d{2})(?:0{3,}\d{0,3}|9{4,}\d{0,3})", re.ASCII)
_NOTHING = frozenset({"", "-", "—", "/", "null", "NULL", "None", "\\N"})
_REMEMBERED = 200_000
_LENGTHS = {
    "settlement_id": 60, "reverses": 60, "id_no": 40, "insured_no": 60, "name": 200, "provider": 60, "provider_name": 200,
    "diagnosis": 20, "grouped": 40, "insured_place": 12, "provider_area": 12, "diagnosis_name": 300, "id_type": 40, "sex": 20,
}  # fmt: skip
_CUT = frozenset(
    {"diagnosis", "grouped", "insured_place", "provider_area", "diagnosis_name", "id_type", "sex"}
)


@dataclass(slots=True)
class Issue:
    """A rule that a row breaks; ``column``: the field it is about."""

    rule: str
    column: str = ""


@dataclass(slots=True)
class Line:
    """A row that was understood. ``money``: amounts in the order of ``MONEY``, None where the file has no such column."""

    row: int
    settlement_id: str
    settled_on: dt.date
    money: list[int | None]
    scheme: str
    care: str
    provider: str
    provider_name: str
    provider_level: str
    provider_area: str
    outside: bool
    reversal: bool
    reverses: str
    refunded: bool
    insured_place: str
    admitted_on: dt.date | None
    discharged_on: dt.date | None
    diagnosis: str
    grouped: str
    excluded: bool
    id_type: str
    id_no: str
    name: str
    digest: bytes
    body: bytes
    issues: list[Issue] = field(default_factory=list)

    @property
    def total(self) -> int:
        """医疗费总额 in fen."""
        return self.money[0] or 0

    @property
    def fund(self) -> int:
        """基金支付总额 in fen."""
        return self.money[_FUND] or 0


_FUND = MONEY.index("fund")


@dataclass(slots=True)
class Refused:
    """A row that is no line, with what could be read of it all the same."""

    row: int
    issues: list[Issue]
    settlement_id: str = ""
    provider: str = ""
    scheme: str = ""
    month: str = ""
    total: int | None = None
    fund: int | None = None


class _Bad(Exception):
    def __init__(self, rule: str, column: str) -> None:
        super().__init__(rule)
        self.rule, self.column = rule, column


def fen(text: str, unit: int = 100) -> int | None:
    """An amount in fen, ``unit`` fen each (100: yuan); nothing is None; ValueError when it is no amount.

    What Excel makes of 30.30 (30.300000000000001) is taken for 30.30.
    """
    if unit == 100 and 4 <= len(text) <= 16 and text[-3] == "." and text.isascii() and _digits(text):
        return int(text[:-3] + text[-2:])  # as nearly all are written
    plain = text.strip().replace(",", "").replace("，", "")
    found = _MONEY.fullmatch(plain)
    if found is None:
        if plain in _NOTHING:
            return None
        close = _LONG.fullmatch(plain)
        if close is None:
            raise ValueError(text)
        found = _MONEY.fullmatch(f"{float(plain):.2f}")
        assert found is not None
    sign, whole, part = found.groups()
    hundredths = int(whole) * 100 + (int(part) * (10 if len(part) == 1 else 1) if part else 0)
    if unit != 100:
        hundredths, rest = divmod(hundredths * unit, 100)
        if rest:
            raise ValueError(text)
    return -hundredths if sign else hundredths


def _digits(text: str) -> bool:
    return text[:-3].isdigit() and text[-2:].isdigit()


def day(text: str) -> dt.date | None:
    """A date as exports write it (with or without a time); nothing is None; ValueError when it is no date."""
    plain = text.strip()
    if plain in _NOTHING:
        return None
    if plain.isdecimal() and len(plain) in (12, 14):
        plain = plain[:8]
    elif len(plain) > 10:
        plain = re.split(r"[ T]", plain, maxsplit=1)[0]
    found, wrong = tables.as_date(plain)
    if wrong is not None or found is None or not 1900 < found.year < 2200:
        raise ValueError(text)
    return found


class Checker:
    """Turns rows into lines by ``columns``; ``today``: later settlements are of the future."""

    def __init__(self, columns: Columns, today: dt.date | None = None) -> None:
        self.columns = columns
        self.today = today or clock.today()
        self._days: dict[str, dt.date | None] = {}
        fens: dict[int, dict[str, int | None]] = {}
        self._people: dict[str, tuple[str, str]] = {}
        at = columns.at
        self._text = [
            (n, at[n][0], _LENGTHS.get(n, 60))
            for n, f in layout.fields().items()
            if n in at and f.kind in ("code", "text")
        ]
        self._dates = {n: at[n][0] for n, f in layout.fields().items() if n in at and f.kind == "date"}
        self._flags = {n: at[n][0] for n, f in layout.fields().items() if n in at and f.kind == "flag"}
        self._money = [
            (n, [(p, columns.fen[p], fens.setdefault(columns.fen[p], {})) for p in at.get(n, ())])
            for n in MONEY
        ]

    # ------------------------------------------------------------------------------------------------------------ reading cells

    def _texts(self, cells: list[str], out: dict[str, str]) -> None:
        for name, position, most in self._text:
            value = cells[position].strip()
            if value in _NOTHING:
                value = ""
            elif value[0] in "'=`":
                value = self._marked(name, value)
            if len(value) > most:
                if name not in _CUT:
                    raise _Bad("too_long", name)
                value = value[:most]
            out[name] = value

    @staticmethod
    def _marked(name: str, value: str) -> str:
        """A mark in front, by which exports keep long numbers text: ``'0012``, ``="0012"``."""
        if value.startswith('="') and value.endswith('"'):
            return value[2:-1].strip()
        if value.startswith("="):
            raise _Bad("formula", name)
        return value[1:].strip()

    def _day(self, name: str, text: str) -> dt.date | None:
        if len(text) > 10 and text[10] in " T":
            text = text[:10]
        try:
            return self._days[text]
        except KeyError:
            pass
        try:
            found = day(text)
        except ValueError:
            raise _Bad("date", name) from None
        if len(self._days) > _REMEMBERED:
            self._days.clear()
        self._days[text] = found
        return found

    def _amounts(self, cells: list[str]) -> list[int | None]:
        out: list[int | None] = []
        for name, places in self._money:
            if len(places) == 1:
                position, unit, known = places[0]
                text = cells[position]
                amount = known[text] if text in known else self._amount(name, text, unit, known)
                if amount is None:
                    if name in ("total", "fund"):
                        raise _Bad("missing", name)
                    amount = 0
                out.append(amount)
            elif places:
                out.append(sum(self._amount(name, cells[p], unit, known) or 0 for p, unit, known in places))
            else:
                out.append(None)
        return out

    @staticmethod
    def _amount(name: str, text: str, unit: int, known: dict[str, int | None]) -> int | None:
        if text in known:
            return known[text]
        try:
            amount = fen(text, unit)
        except ValueError:
            raise _Bad("formula" if text.lstrip().startswith("=") else "money", name) from None
        if len(known) < _REMEMBERED:
            known[text] = amount
        return amount

    def _flag(self, name: str, cells: list[str], issues: list[Issue]) -> bool:
        position = self._flags.get(name)
        if position is None:
            return False
        found = layout.truth(cells[position].strip())
        if found is None:
            issues.append(Issue("flag", name))
        return bool(found)

    # ---------------------------------------------------------------------------------------------------------------- one row

    def check(self, row: Row) -> Line | Refused:
        """The line of a row, with the rules it breaks, or a refusal."""
        if row.refusal is not None:  # its cells are not where the columns are
            return Refused(row.number, [Issue("broken" if len(row.cells) <= 1 else "cells")])
        issues: list[Issue] = []
        cells = row.cells
        texts: dict[str, str] = {}
        try:
            if row.bad:
                raise _Bad("formula", self._field_at(next(iter(row.bad))))
            self._texts(cells, texts)
            for name in ("settlement_id", "provider"):
                if not texts[name]:
                    raise _Bad("missing", name)
            money = self._amounts(cells)
            dates = {name: self._day(name, cells[position]) for name, position in self._dates.items()}
            settled = dates["settled_on"]
            if settled is None:
                raise _Bad("missing", "settled_on")
            if settled > self.today:
                raise _Bad("future", "settled_on")
            reversal, refunded = self._reversal(texts, cells, money, issues)
            return self._line(row, texts, dates, settled, money, reversal, refunded, issues)
        except _Bad as bad:
            return self._refused(row, texts, [*issues, Issue(bad.rule, bad.column)])

    def _field_at(self, position: int) -> str:
        return next((n for n, places in self.columns.at.items() if position in places), "")

    def _reversal(
        self, texts: dict[str, str], cells: list[str], money: list[int | None], issues: list[Issue]
    ) -> tuple[bool, bool]:
        """(a reversal, marked as refunded though positive)."""
        flagged = self._flag("reversal", cells, issues)
        negative = next((i for i, amount in enumerate(money) if amount is not None and amount < 0), None)
        if negative is None:
            return False, flagged and bool(money[0])
        if not flagged and not texts.get("reverses"):
            raise _Bad("negative", MONEY[negative])
        return True, False

    def _line(
        self,
        row: Row,
        texts: dict[str, str],
        dates: dict[str, dt.date | None],
        settled: dt.date,
        money: list[int | None],
        reversal: bool,
        refunded: bool,
        issues: list[Issue],
    ) -> Line:
        cells = row.cells
        scheme, care = layout.scheme_of(texts["scheme"]), layout.care_of(texts["care"])
        if scheme is None:
            issues.append(Issue("scheme", "scheme"))
        if care is None:
            issues.append(Issue("care", "care"))
        outside, excluded = self._flag("outside", cells, issues), self._flag("excluded", cells, issues)
        admitted, discharged = dates.get("admitted_on"), dates.get("discharged_on")
        _sums(money, issues)
        _order(admitted, discharged, settled, care, self._dates, issues)
        id_type, id_no = self._identity(texts, issues)
        key, reverses = texts["settlement_id"], texts.get("reverses", "")
        if reversal and reverses in ("", key):  # systems that reverse under the number of the original
            key, reverses = f"{key[:58]}/R", key
        told = {n: texts.get(n, "") for n in ("name", "insured_no", "diagnosis_name", "sex")}
        told |= {"id_type": id_type, "id_no": texts.get("id_no", "")}
        line = Line(
            row.number, key, settled, money, scheme or "other", care or "other", texts["provider"],
            texts.get("provider_name", ""), texts.get("provider_level", ""), texts.get("provider_area", ""), outside, reversal,
            reverses, refunded, texts.get("insured_place", ""), admitted, discharged,
            texts.get("diagnosis", ""), texts.get("grouped", ""), excluded, id_type, id_no, told["name"], b"", b"", issues,
        )  # fmt: skip
        body = orjson.dumps(told)
        plain = orjson.dumps(
            (settled, money, line.scheme, line.care, line.provider, reversal, line.reverses, line.insured_place, admitted,
             discharged, line.diagnosis, line.grouped, excluded)
        )  # fmt: skip
        line.digest = seal.blind((plain + body).decode(), "settlement")
        line.body = seal.seal_bytes(body)
        return line

    def _identity(self, texts: dict[str, str], issues: list[Issue]) -> tuple[str, str]:
        """(type, number in its canonical form) of who was treated; "" when nobody can be looked for by it."""
        number = texts.get("id_no", "")
        if not number:
            issues.append(Issue("id_missing", "id_no"))
            return "", ""
        said = texts.get("id_type", "")
        known = layout.data()["documents"].get(said, said)
        try:
            return self._people[f"{known}:{number}"]
        except KeyError:
            pass
        if known in ("", RESIDENT_ID):
            try:
                found = (RESIDENT_ID, identifiers.resident_id(number).number)
            except identifiers.IdentifierError:
                issues.append(Issue("id_check", "id_no"))
                return RESIDENT_ID, ""
        else:
            found = facts.read_id(known[:8], number)[:2]
        if len(self._people) > _REMEMBERED:
            self._people.clear()
        self._people[f"{known}:{number}"] = found
        return found

    def _refused(self, row: Row, texts: dict[str, str], issues: list[Issue]) -> Refused:
        """A refusal that still says whose totals it is missing from, where that can be read."""
        out = Refused(row.number, issues, texts.get("settlement_id", ""), texts.get("provider", ""))
        if not row.cells:
            return out
        scheme = row.cells[self.columns.at["scheme"][0]].strip()
        out.provider = out.provider or row.cells[self.columns.at["provider"][0]].strip()[:60]
        out.scheme = layout.scheme_of(scheme) or "other"
        for name, places in self._money:
            if name in ("total", "fund") and places:
                try:
                    setattr(out, name, fen(row.cells[places[0][0]], places[0][1]))
                except ValueError:
                    continue  # that is why it is refused
        try:
            settled = day(row.cells[self._dates["settled_on"]])
        except ValueError:
            settled = None
        out.month = f"{settled:%Y-%m}" if settled else ""
        return out


def _sums(money: list[int | None], issues: list[Issue]) -> None:
    """Do the amounts add up? What the file has no column for is not asked."""
    total, in_scope, _, fund, pool, big, aid, other, account, cash, personal, hospital = money
    if total is None or fund is None:
        return  # such a row is refused before
    if personal is None and account is not None and cash is not None:
        personal = account + cash
    if personal is not None and total != fund + personal + (hospital or 0):
        issues.append(Issue("total_parts", "total"))
    if None not in (pool, big, aid, other) and fund != pool + big + aid + other:  # type: ignore[operator]
        issues.append(Issue("fund_parts", "fund"))
    if account is not None and cash is not None and personal != account + cash:
        issues.append(Issue("personal_parts", "personal"))
    if in_scope is not None:
        if abs(in_scope) > abs(total):
            issues.append(Issue("in_scope", "in_scope"))
        if pool is not None and in_scope and abs(pool) > abs(in_scope):
            issues.append(Issue("fund_scope", "pool"))


def _order(
    admitted: dt.date | None,
    discharged: dt.date | None,
    settled: dt.date,
    care: str | None,
    columns: dict[str, int],
    issues: list[Issue],
) -> None:
    if admitted and discharged and discharged < admitted:
        issues.append(Issue("order", "discharged_on"))
    if admitted and settled < admitted:
        issues.append(Issue("settled_early", "settled_on"))
    if care == "inpatient" and (not admitted or not discharged) and "admitted_on" in columns:
        issues.append(Issue("stay", "discharged_on" if admitted else "admitted_on"))


def words(issue: Issue) -> Text:
    """An issue in words."""
    named = layout.fields().get(issue.column)
    return layout.rules()[issue.rule].text.format(column=named.label if named else issue.column)


def severity(issues: list[Issue]) -> str:
    """refuse, warn, or "" when there are none."""
    found: set[Any] = {layout.rules()[i.rule].severity for i in issues}
    return "refuse" if "refuse" in found else "warn" if found else ""
