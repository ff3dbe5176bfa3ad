"""Taking results: what was written or sent becomes attempts of an analyte, judged by the person's range and previous value.

Called inside the move's transaction with the case locked. A result that is in force and was vouched for is never replaced by what a device
sends: that is kept as an earlier attempt, and a person runs the test again or takes the result back first.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from lianxin.access.scope import Scope
from lianxin.duty.errors import Refused
from lianxin.exchange.v2.mapping import tables as v2_tables
from lianxin.record import timeline, units
from lianxin.regional.critical import limits
from lianxin.regional.laboratory import calc, catalogue, judge, policy
from lianxin.regional.laboratory.catalogue import Analyte
from lianxin.regional.laboratory.judge import Said
from lianxin.regional.laboratory.models import Result, Verification
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock
from lianxin.standards.text import T, Text


def _rows() -> Any:
    return Result.objects.unscoped("the work was reached within the scope")


def expected(reading: Reading) -> list[str]:
    """The analytes the report of a piece of work has, in order."""
    items = reading.ordered.filter(active=True).order_by("pk").values_list("item__code", flat=True)
    return catalogue.expected(items)


def current(reading: Reading) -> dict[str, Result]:
    """The results in force, by analyte in the order of the report."""
    found = {r.analyte: r for r in _rows().filter(reading=reading, state="current")}
    return {code: found[code] for code in expected(reading) if code in found}


def attempts(reading: Reading) -> dict[str, list[Result]]:
    """Every attempt by analyte, the last first."""
    out: dict[str, list[Result]] = {}
    for row in _rows().filter(reading=reading).order_by("analyte", "-attempt"):
        out.setdefault(row.analyte, []).append(row)
    return out


def lacking(reading: Reading) -> list[str]:
    """Analytes that have no result yet. A computed one that does not apply (eGFR of a child) is not lacking."""
    have = current(reading)
    return [code for code in expected(reading) if code not in have and not catalogue.analyte(code).formula]


def age_days(reading: Reading, at: dt.datetime) -> int | None:
    """How old the person was, in days."""
    born: dt.date | None = reading.person.birth_date
    return None if born is None else max((clock_day(at) - born).days, 0)


def clock_day(at: dt.datetime) -> dt.date:
    """The day of an instant here."""
    return at.astimezone(clock.ZONE).date()


def age_years(born: dt.date | None, at: dt.datetime) -> int | None:
    """Whole years."""
    if born is None:
        return None
    on = clock_day(at)
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


def mark(reading: Reading) -> str:
    """A fingerprint of the results in force: what was on the screen when they were verified."""
    return ".".join(str(r.pk) for r in current(reading).values())[-40:]


def number_of(result: Result) -> str:
    """A result in characters: "<0.05", "5.2", "阳性"."""
    if result.value is None:
        return result.text
    return f"{result.comparator}{catalogue.analyte(result.analyte).shown(result.value)}"


def said_of(result: Result) -> Said:
    """A stored result as the rules see it."""
    return Said(result.comparator, result.value, result.text)


def critical_hit(reading: Reading, result: Result) -> limits.Hit | None:
    """The critical limit that a result passes for this person, if it does. Raises ``limits.UnknownUnit``."""
    one = catalogue.analyte(result.analyte)
    return limits.check(
        one.loinc, number_of(result), one.unit, age_days=age_days(reading, result.measured_at), sex=reading.person.sex,
        known=frozenset(reading.facts.get("known", ())), institution_id=reading.centre_of_id,
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- taking


def take(reading: Reading, rows: Sequence[Mapping[str, Any]], by: Scope, now: dt.datetime) -> list[Result]:
    """Take ``rows`` (``analyte``, ``raw``, and as known ``unit``, ``flags``, ``device``, ``method``, ``measured_at``, ``source``, ``key``,
    ``why``); what was made of them. Raises Refused naming each analyte that cannot be taken: then nothing is."""
    wanted, faults = expected(reading), {}
    understood: list[tuple[Analyte, Said, Mapping[str, Any]]] = []
    for row in rows:
        code = str(row.get("analyte", ""))
        if code not in wanted or catalogue.analyte(code).formula:
            faults[code or "__all__"] = T("本单没有申请项目“{c}”。", "“{c}” was not ordered.").format(
                c=code[:20]
            )
            continue
        one = catalogue.analyte(code)
        said = _in_unit(one, str(row.get("raw", "")), str(row.get("unit", "")))
        if isinstance(said, Text):
            faults[code] = T(f"{one.label.zh}：{said.zh}", f"{one.label.en}: {said.en}")
        else:
            understood.append((one, said, row))
    if faults:
        raise Refused(faults)
    made = [_one(reading, one, said, row, by, now) for one, said, row in understood]
    taken = [r for r in made if r is not None]
    if any(r.state == "current" for r in taken):
        taken += computed(reading, by, now)
    return taken


def _in_unit(one: Analyte, raw: str, unit: str) -> Said | Text:
    """What was said, in the analyte's own unit; words when it cannot be."""
    said = judge.read(one, raw)
    if isinstance(said, Text) or said.value is None or not unit:
        return said
    code = unit_code(unit)
    if code == one.unit:
        return said
    plain = judge.read(_finer(one), raw)  # not rounded before it is converted
    assert not isinstance(plain, Text)
    assert plain.value is not None
    found = units.convert(plain.value, code, one.unit)
    if found is None:
        return T("单位“{u}”不能换算为 {own}。", "The unit {u} cannot be turned into {own}.").format(
            u=unit[:20], own=one.unit
        )
    return Said(said.comparator, one.rounded(found))


def _finer(one: Analyte) -> Analyte:
    return replace(one, decimals=9)


def unit_code(unit: str) -> str:
    """The UCUM code of a unit as devices write it."""
    text = unit.strip()
    table = v2_tables.built_in().get("units")
    return (table.code(text) if table else None) or text


def _one(
    reading: Reading, one: Analyte, said: Said, row: Mapping[str, Any], by: Scope, now: dt.datetime
) -> Result | None:
    key = str(row.get("key", ""))[:80]
    before = list(_rows().filter(reading=reading, analyte=one.code).order_by("-attempt"))
    if key and any(b.key == key for b in before):
        return None  # the same message again
    standing = next((b for b in before if b.state == "current"), None)
    source = str(row.get("source", "hand"))
    vouched = standing is not None and Verification.objects.filter(result=standing).exists()
    if vouched and source == "hand":
        raise Refused(
            {
                one.code: T("{n}已审核，请先退回复检。", "{n} is verified; send it back first.").format(
                    n=one.label
                )
            }
        )
    if standing is not None and source == "hand" and said_of(standing) == said:
        return None  # the grid was sent with what stands already
    if standing is not None and not vouched:
        standing.state = "earlier"
        standing.save(update_fields=["state"])
    measured = _instant(row.get("measured_at"), now)
    work = reading.laboratory
    fits = one.range_for(
        reading.person.sex, age_days(reading, measured), work.pregnant_weeks, str(row.get("method") or "")
    )
    made = Result(
        reading=reading, person_id=reading.person_id, institution_id=reading.centre_of_id, specimen_id=work.specimen_id,
        analyte=one.code, attempt=(before[0].attempt + 1) if before else 1, state="earlier" if vouched else "current",
        comparator=said.comparator, value=said.value, text=said.text, unit=one.unit, sent=str(row.get("raw", ""))[:80],
        flag=judge.flag(one, said, fits), low=fits.low if fits else None, high=fits.high if fits else None,
        range_text=fits.words if fits else "", method=str(row.get("method") or one.method)[:60], device=str(row.get("device", ""))[:20],
        device_flags=str(row.get("flags", ""))[:40], source=source, key=key, account_id=by.account_id if source == "hand" else None,
        at=now, measured_at=measured, why=str(row.get("why", ""))[:200],
    )  # fmt: skip
    made.flag = _critical(reading, made) or made.flag
    made.delta = _delta(reading, one, made)
    made.save(force_insert=True)
    return made


def _instant(given: Any, now: dt.datetime) -> dt.datetime:
    """When it was measured; a device whose clock runs ahead is not believed."""
    try:
        at = dt.datetime.fromisoformat(str(given)) if given else now
    except ValueError:
        return now
    if at.tzinfo is None:
        at = at.replace(tzinfo=clock.ZONE)
    return at if now - dt.timedelta(days=7) < at <= now else now


def _critical(reading: Reading, result: Result) -> str:
    try:
        hit = critical_hit(reading, result)
    except limits.UnknownUnit:
        return ""
    return {"low": "LL", "high": "HH"}.get(hit.side, "AA") if hit else ""


def _delta(reading: Reading, one: Analyte, made: Result) -> dict[str, Any]:
    if one.delta is None or made.value is None:
        return {}
    found = previous(reading, one, made.measured_at)
    return judge.delta(one, made.value, *found) if found else {}


def previous(reading: Reading, one: Analyte, at: dt.datetime) -> tuple[Decimal, dt.timedelta] | None:
    """The person's last value of an analyte before ``at``, from this laboratory or from anybody's in the record; and how long ago."""
    oldest = at - dt.timedelta(days=int(policy.value("delta.days", reading.centre_of_id)))
    own = (
        _rows().filter(person_id=reading.person_id, analyte=one.code, state="current", value__isnull=False, reading__issued_at__isnull=False)
        .exclude(reading=reading).filter(measured_at__lt=at, measured_at__gt=oldest).order_by("-measured_at").first()
    )  # fmt: skip
    if own is not None:
        return own.value, at - own.measured_at
    points = timeline.series(Scope.system("delta check"), reading.person_id, one.loinc, limit=20)
    for point in reversed(points):
        value = units.convert(Decimal(str(point.value)), point.unit, one.unit) if point.unit else None
        if value is not None and oldest < point.date < at:
            return value, at - point.date
    return None


def computed(reading: Reading, by: Scope, now: dt.datetime) -> list[Result]:
    """Compute what follows from the results in force; a value that changed is a new attempt, one that no longer follows is set aside."""
    have = current(reading)
    values = {
        c: r.value
        for c, r in have.items()
        if r.value is not None and not r.comparator and not catalogue.analyte(c).formula
    }
    years = age_years(reading.person.birth_date, reading.laboratory.specimen.collected_at or now)
    out = []
    for code in expected(reading):
        one = catalogue.analyte(code)
        if not one.formula:
            continue
        value = calc.compute(one.formula, values, reading.person.sex, years)
        standing = have.get(code)
        if value is not None:
            value = one.rounded(value)
        if standing is not None and standing.value == value:
            continue
        if standing is not None:
            if Verification.objects.filter(result=standing).exists():
                continue  # its inputs cannot have changed: they are vouched for too
            standing.state = "earlier"
            standing.save(update_fields=["state"])
        if value is not None:
            made = _one(
                reading,
                one,
                Said("", value),
                {"raw": one.shown(value), "source": "calc", "method": one.method},
                by,
                now,
            )
            if made is not None:
                out.append(made)
    return out


def set_aside(reading: Reading, codes: Iterable[str], state: str, why: str) -> list[str]:
    """Take results out of force (``earlier``: run again, ``retracted``: was wrong) with what is computed from them; the codes."""
    chosen = set(codes)
    for code in expected(reading):
        one = catalogue.analyte(code)
        if one.formula and chosen.intersection(calc.needs(one.formula)):
            chosen.add(code)
    done = []
    for row in _rows().filter(reading=reading, state="current", analyte__in=chosen):
        row.state, row.why = state, why[:200]
        row.save(update_fields=["state", "why"])
        done.append(row.analyte)
    return done
