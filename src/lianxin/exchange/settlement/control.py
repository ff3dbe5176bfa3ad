"""The control sheet 对账单: read, kept, and compared with the lines of its batch, to the fen.

A sheet tells apart what it has columns for (provider, scheme, month, any of them); the lines are summed up just so.  Without a
sheet nothing can agree: the batch is held until somebody sends one or takes the responsibility.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from django.db import connection
from django.db.models import Q

from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.settlement import checking, layout
from lianxin.exchange.settlement.models import (
    SettlementBatch,
    SettlementControl,
    SettlementIssue,
    SettlementLine,
    SettlementProvider,
)
from lianxin.exchange.tables import reading
from lianxin.standards.text import T, Text

_MONTH = re.compile(r"(\d{4})\D?(\d{1,2})(?:\D.*)?")
DIMENSIONS = ("provider", "scheme", "month")
AMOUNTS = ("rows", "total", "fund")
MOST_CANDIDATES = 20
Key = tuple[str, str, str]
Sums = tuple[int, int, int]


@dataclass(frozen=True)
class Difference:
    """Where lines and sheet differ: the group ("" = all), what the sheet says (None: nothing) and what the lines sum up to."""

    provider: str
    scheme: str
    month: str
    said: tuple[int | None, int | None, int | None]
    found: Sums
    name: str = ""

    @property
    def by(self) -> tuple[int | None, int | None, int | None]:
        """Lines less sheet: rows, total, fund."""
        rows, total, fund = (
            None if said is None else found - said for said, found in zip(self.said, self.found, strict=True)
        )
        return rows, total, fund


def read(file: BinaryIO) -> list[SettlementControl]:
    """The lines of a sheet (not saved); :class:`Refusal` when it cannot be understood."""
    known = [name for names in layout.control_fields().values() for name in names]
    try:
        how = reading.look(file, known)
    except reading.Unreadable as failure:
        raise _refused("structure", failure.text) from None
    at: dict[str, int] = {}
    units: dict[int, int] = {}
    for position, heading in enumerate(how.columns):
        name = next(
            (n for n, names in layout.control_fields().items() if reading.plain(heading) in names), ""
        )
        if name and name not in at:
            at[name] = position
            units[position] = layout.unit_of(heading)
    if "total" not in at and "fund" not in at:
        told = T(
            "没有认出总费用或基金支付一列。",
            "Neither a column of totals nor one of fund payments was recognised.",
        )
        raise _refused("required", told)
    out = []
    for row in reading.rows(file, how):
        if row.refusal is not None:
            raise _refused("structure", row.refusal, row.number)
        made = _line(row, at, units)
        if made is not None:
            out.append(made)
    if not out:
        raise _refused("required", T("没有数据行。", "There are no rows."))
    return out


def _refused(code: str, told: Text, row: int = 0) -> Refusal:
    where = (
        T("对账单第 {n} 行：{told}", "Control sheet, row {n}: {told}")
        if row
        else T("对账单：{told}", "Control sheet: {told}")
    )
    return Refusal(code, where.format(n=row, told=told), f"control[{row}]" if row else "control")


def _line(row: reading.Row, at: dict[str, int], units: dict[int, int]) -> SettlementControl | None:
    cells = {name: row.cells[position].strip() for name, position in at.items() if position < len(row.cells)}
    words = {cells.get(n, "") for n in ("provider", "provider_name", "scheme", "month")} | {
        row.cells[0].strip()
    }
    if any(w.endswith("小计") for w in words):
        return None  # a subtotal says nothing that its parts do not
    whole = bool(words & set(layout.data()["whole"]))
    out = SettlementControl(row=row.number, whole=whole)
    try:
        if cells.get("rows"):
            out.rows = int(float(cells["rows"].replace(",", "")))
        for name in ("total", "fund"):
            if name in cells:
                setattr(out, name, checking.fen(cells[name], units[at[name]]) or 0)
    except (ValueError, OverflowError):
        told = T("人次或金额不是数。", "A count or an amount is no number.")
        raise _refused("value", told, row.number) from None
    if whole:
        return out
    out.provider = (cells.get("provider") or cells.get("provider_name", ""))[:200]
    if cells.get("scheme"):
        out.scheme = layout.scheme_of(cells["scheme"]) or "other"
    if cells.get("month"):
        found = _MONTH.fullmatch(cells["month"])
        if found is None or not 1 <= int(found[2]) <= 12:
            raise _refused("value", T("月份不认识。", "This is no month."), row.number)
        out.month = f"{found[1]}-{int(found[2]):02d}"
    return out


# -------------------------------------------------------------------------------------------------------------------- comparing

_SUMS = """
SELECT p.code, l.scheme, to_char(l.settled_on, 'YYYY-MM'), count(*), sum(l.total), sum(l.fund)
FROM exchange_settlementline l JOIN exchange_settlementprovider p ON p.id = l.provider_id
WHERE l.batch_id = %s GROUP BY 1, 2, 3
"""


def compare(batch: SettlementBatch) -> list[Difference]:
    """Where the lines of a batch and its control sheet differ, the largest first; one without groups when there is no sheet."""
    with connection.cursor() as cur:
        cur.execute(_SUMS, [batch.pk])
        found = {(p, s, m): (int(n), int(t), int(f)) for p, s, m, n, t, f in cur.fetchall()}
    sheet = list(batch.controls.all())
    names = dict(
        SettlementProvider.objects.filter(consortium=batch.consortium_id).values_list("code", "name")
    )
    if not sheet:
        return [Difference("", "", "", (None, None, None), _added(found.values()))]
    out = _groups([c for c in sheet if not c.whole], found, names)
    for one in sheet:
        if one.whole:
            out += _differs("", "", "", one, _added(found.values()), "")
    return sorted(out, key=lambda d: (-max(abs(x or 0) for x in d.by[1:]), d.provider, d.scheme, d.month))


def _added(parts: Iterable[Sums]) -> Sums:
    rows = total = fund = 0
    for n, t, f in parts:
        rows, total, fund = rows + n, total + t, fund + f
    return rows, total, fund


def _groups(
    sheet: Sequence[SettlementControl], found: dict[Key, Sums], names: dict[str, str]
) -> list[Difference]:
    if not sheet:
        return []
    kept = [any(getattr(c, d) for c in sheet) for d in DIMENSIONS]
    codes = {reading.plain(name): code for code, name in names.items() if name}
    wanted: dict[Key, list[SettlementControl]] = defaultdict(list)
    for one in sheet:
        provider = (
            one.provider if one.provider in names else codes.get(reading.plain(one.provider), one.provider)
        )
        wanted[provider, one.scheme, one.month].append(one)
    summed: dict[Key, list[Sums]] = defaultdict(list)
    for key, sums in found.items():
        group = tuple(part if keep else "" for part, keep in zip(key, kept, strict=True))
        summed[group].append(sums)  # type: ignore[index]
    out = []
    for key in sorted(wanted.keys() | summed.keys()):
        said = _said(wanted.get(key, []))
        out += _differs(
            *key, said, _added(summed.get(key, [])), names.get(key[0], ""), known=key in wanted, sheet=sheet
        )
    return out


def _said(lines: Sequence[SettlementControl]) -> SettlementControl:
    """Several lines of one group are one."""
    out = SettlementControl()
    for name in AMOUNTS:
        values = [getattr(c, name) for c in lines if getattr(c, name) is not None]
        setattr(out, name, sum(values) if values else None)
    return out


def _differs(
    provider: str,
    scheme: str,
    month: str,
    said: SettlementControl,
    found: Sums,
    name: str,
    *,
    known: bool = True,
    sheet: Sequence[SettlementControl] = (),
) -> list[Difference]:
    amounts: list[int | None] = [getattr(said, a) for a in AMOUNTS]
    if not known:  # a group the sheet does not have: it says nought of what it has columns for
        amounts = [0 if any(getattr(c, a) is not None for c in sheet) else None for a in AMOUNTS]
    rows, total, fund = amounts
    one = Difference(provider, scheme, month, (rows, total, fund), found, name)
    return [one] if any(one.by) else []


def candidates(batch: SettlementBatch, one: Difference) -> dict[str, list[Any]]:
    """Rows that may explain a difference: rejected ones of the group, and lines whose amount is just the difference (or half of it)."""
    issues = SettlementIssue.objects.filter(batch=batch, severity="refuse")
    lines = SettlementLine.objects.unscoped(
        "rows that may explain a difference of a batch the caller may see"
    ).filter(batch=batch)
    if one.provider:
        issues = issues.filter(Q(provider=one.provider) | Q(provider=""))
        lines = lines.filter(provider__code=one.provider)
    if one.scheme:
        issues = issues.filter(Q(scheme=one.scheme) | Q(scheme=""))
        lines = lines.filter(scheme=one.scheme)
    if one.month:
        year, month = map(int, one.month.split("-"))
        issues = issues.filter(Q(month=one.month) | Q(month=""))
        lines = lines.filter(settled_on__year=year, settled_on__month=month)
    _, total, fund = one.by
    matching = Q(pk__in=())
    for field, by in (("total", total), ("fund", fund)):
        if by:
            matching |= Q(**{field: abs(by)}) | Q(**{field: -abs(by)})
    return {
        "issues": list(issues.order_by("row", "id")[:MOST_CANDIDATES]),
        "lines": list(lines.filter(matching).select_related("provider").order_by("row")[:MOST_CANDIDATES]),
    }


def summary(found: Sequence[Difference]) -> dict[str, list[dict[str, Any]]]:
    """The differences summed up by provider, by scheme and by month (a grand total's own is left out)."""
    out: dict[str, list[dict[str, Any]]] = {}
    for dimension in DIMENSIONS:
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for one in found:
            key = getattr(one, dimension)
            if key:
                for i, by in enumerate(one.by):
                    sums[key][i] += by or 0
                sums[key][3] += 1
        out[dimension] = [
            {"key": key, "rows": v[0], "total": v[1], "fund": v[2], "groups": v[3]}
            for key, v in sorted(sums.items())
        ]
    return out
