"""Laboratory work in the small county of the reading tests: orders, tubes, results, in few words."""

from __future__ import annotations

import datetime as dt
import itertools
from decimal import Decimal
from typing import Any

from lianxin.access.scope import Scope
from lianxin.duty.models import Case
from lianxin.regional.laboratory import results, service, transport
from lianxin.regional.laboratory.models import Analyser, AutoRule, Control, Measure, Specimen
from lianxin.regional.reading import items
from lianxin.regional.reading.models import Item, Reading
from lianxin.standards import clock
from tests.factories import SmallCounty
from tests.reading import world as reading_world
from tests.reading.world import make_person, published, scope_of

__all__ = ["make_person", "published", "scope_of"]
_serial = itertools.count(1)
CBC = {
    "WBC": "6.2", "NEUT": "3.6", "LYMPH": "1.9", "MONO": "0.4", "EOS": "0.1", "BASO": "0.02", "NEUTP": "58", "LYMPHP": "31",
    "RBC": "4.6", "HGB": "140", "HCT": "42", "MCV": "91", "MCH": "30", "MCHC": "333", "PLT": "220",
}  # fmt: skip


def make_world(prefix: str = "SC") -> SmallCounty:
    """The staffed county; the catalogue too, which tests with committed data empty after themselves."""
    items.load_shipped()
    return reading_world.make_world(prefix)


def key() -> str:
    return f"lab{next(_serial)}"


def order(
    county: SmallCounty,
    *codes: str,
    by: str = "gp0",
    person: int | None = None,
    priority: str = "routine",
    **more: Any,
) -> Reading:
    scope = scope_of(county, by)
    return service.order(
        scope, person or make_person(sex="male", birth_date=dt.date(1970, 5, 17)), [Item.objects.get(code=c) for c in codes or ("LAB-GLU",)],
        {"indication": "体检"}, key(), performer=county.posts[by].institution, centre_of=county.lead, priority=priority, **more,
    )  # fmt: skip


def act(county: SmallCounty, who: str, reading: Reading, move: str, **form: Any) -> Case:
    return service.act(scope_of(county, who), reading.case.number, move, form, None, key()).case


def collect(county: SmallCounty, reading: Reading, who: str = "technician0", **form: Any) -> Specimen:
    form = {"identity": "asked", "container": "on", "volume_ml": "10", **form}
    act(county, who, reading, "collect", **form)
    return tube(reading)


def tube(reading: Reading) -> Specimen:
    return service.reading_of(reading.case).laboratory.specimen


def sent(county: SmallCounty, *readings: Reading, who: str = "technician0") -> str:
    """Collected, packed and on the way; the box's number."""
    by = scope_of(county, who)
    low, high = (
        (Decimal(15), Decimal(25)) if tube(readings[0]).kind == "CITRATE" else (Decimal(2), Decimal(8))
    )
    box = transport.open_box(by, county.lead, low, high)
    for reading in readings:
        if state(reading) in ("ordered", "recollect"):
            collect(county, reading, who)
        transport.pack(by, box.number, tube(reading).number)
    transport.seal(by, box.number, "司机")
    return box.number


def received(county: SmallCounty, *codes: str, **more: Any) -> Reading:
    reading = order(county, *codes, **more)
    box = sent(county, reading)
    _, done, why = service.receive_box(scope_of(county, "lab0"), box, [tube(reading).number], key())
    assert done, why
    return service.reading_of(reading.case)


def rows(values: dict[str, str], source: str = "hand", **more: Any) -> list[dict[str, Any]]:
    return [{"analyte": code, "raw": raw, "source": source, **more} for code, raw in values.items()]


def enter(county: SmallCounty, reading: Reading, who: str = "lab0", **values: str) -> Case:
    return service.act(
        scope_of(county, who), reading.case.number, "enter", {"rows": rows(values)}, None, key()
    ).case


def measured(reading: Reading, message: str = "", **values: str) -> None:
    text = message or key()
    case = Case.objects.unscoped("test").get(pk=reading.pk)
    service.measured(case, rows(values, "astm", device="XN", key=text), f"dev:{text}:{reading.pk}")


def state(reading: Reading) -> str:
    return str(Case.objects.unscoped("test").get(pk=reading.pk).state)


def values(reading: Reading) -> dict[str, str]:
    return {c: results.number_of(r) for c, r in results.current(service.reading_of(reading.case)).items()}


def rule(
    county: SmallCounty, who: str = "lab1", analyte: str = "*", on: bool = True, **more: Any
) -> AutoRule:
    by: Scope = scope_of(county, who)
    return AutoRule.objects.create(
        institution=county.lead, analyte=analyte, on=on, account_id=by.account_id or 0, set_by=by.name, at=clock.now(), reason="试行", **more
    )  # fmt: skip


def control(
    county: SmallCounty,
    analyte: str = "GLU",
    level: int = 1,
    mean: str = "5.00",
    sd: str = "0.10",
    **more: Any,
) -> Control:
    return Control.objects.create(
        institution=county.lead, analyte=analyte, level=level, lot=f"L{next(_serial)}", mean=mean, sd=sd, opened_at=clock.now(), **more
    )  # fmt: skip


def qc(county: SmallCounty, one: Control, value: str, run: str = "", who: str = "lab0") -> Measure:
    from lianxin.regional.laboratory import quality

    return quality.measure(scope_of(county, who), one.pk, value, run or key(), key())


def analyser(county: SmallCounty, **fields: Any) -> Analyser:
    given = {"code": "XN", "name": "血球仪", "tests": {"WBC": "WBC", "HGB": "HGB", "GLU": "GLU"}, **fields}
    return Analyser.objects.create(institution=county.lead, **given)
