"""Tubes between the village and the laboratory: boxes, their temperatures, and whether a tube that arrives may still be measured.

A box moves by conditional updates: open → sealed → taken → received. Tubes go in while it is open; sealing makes each tube's case move
(``ship``) in one transaction, so that a tube is on its way exactly when its box is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Q

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.network.models import Institution
from lianxin.regional.laboratory import catalogue, errors, policy
from lianxin.regional.laboratory.models import Box, Specimen, Temperature
from lianxin.standards import clock
from lianxin.standards.text import T, Text

_STATES: dict[str, Text] = {
    "open": T("装箱中", "Being packed"),
    "sealed": T("已封箱", "Sealed"),
    "taken": T("转运中", "On its way"),
    "received": T("已接收", "Received"),
}


def label(state: str) -> Text:
    """A box's state in words."""
    return _STATES[state]


def _boxes(by: Scope) -> Any:
    return Box.objects.within(by).select_related("sender", "destination")


def box_of(by: Scope, number: str) -> Box:
    """A box within the scope; NotAllowed when there is none."""
    found: Box | None = _boxes(by).filter(number=number.strip().upper()).first()
    if found is None:
        raise errors.no_box(number)
    return found


def tube_of(by: Scope, number: str) -> Specimen:
    """A tube within the scope by its bar code; NotAllowed when there is none."""
    rows = Specimen.objects.within(by).select_related(
        "reading__case", "reading__person", "box", "institution"
    )
    found: Specimen | None = rows.filter(number=number.strip().upper()).first()
    if found is None:
        raise errors.no_tube(number)
    return found


@transaction.atomic
def open_box(
    by: Scope, destination: Institution, low: Decimal = Decimal(2), high: Decimal = Decimal(8)
) -> Box:
    """A box for a destination: the one being packed for it, else a new one."""
    if by.institution_id is None:
        raise errors.by_person()
    by.demand("acquire")
    sender = Institution.objects.select_for_update(no_key=True).get(pk=by.institution_id)
    packing: Box | None = (
        Box.objects.unscoped("the own institution's").filter(sender=sender, destination=destination, state="open", low=low, high=high)
        .order_by("-pk").first()
    )  # fmt: skip
    if packing is not None:
        return packing
    now = clock.now()
    made: Box = Box.objects.create(
        number=f"TMP{sender.pk}", sender=sender, destination=destination, low=low, high=high, opened_at=now, opened_by=by.account_id
    )  # fmt: skip
    made.number = f"BX{now:%y%m%d}{made.pk:05d}"
    made.save(update_fields=["number"])
    return made


@transaction.atomic
def pack(by: Scope, box_number: str, tube_number: str) -> Specimen:
    """Put a collected tube into an open box of the own institution; in it already: nothing changes."""
    box = _locked(by, box_number, "open")
    tube = tube_of(by, tube_number)
    if tube.state == "packed" and tube.box_id == box.pk:
        return tube
    if tube.institution_id not in by.institution_ids:
        raise errors.no_tube(tube_number)
    if tube.centre_of_id != box.destination_id:
        raise Refused({"tube": T("{n} 应送往 {to}，不是本箱的目的地。", "{n} goes to {to}, not where this box goes.").format(n=tube.number, to=tube.centre_of.label)})  # fmt: skip
    kind = catalogue.kind(tube.kind)
    if box.high < kind.low or box.low > kind.high:
        raise Refused({"tube": T("{k}须在 {a}–{b} ℃ 转运，本箱为 {c}–{d} ℃。", "{k} travels at {a}-{b} °C; this box is {c}-{d} °C.").format(k=kind.label, a=str(kind.low), b=str(kind.high), c=str(box.low), d=str(box.high))})  # fmt: skip
    rows = Specimen.objects.unscoped("reached within the scope").filter(pk=tube.pk, state="collected")
    if not rows.update(state="packed", box=box):
        raise Refused({"tube": T("标本 {n} 当前不能装箱（未采集、已装箱或已送出）。", "Tube {n} cannot be packed now (not collected, packed or sent already).").format(n=tube.number)})  # fmt: skip
    tube.refresh_from_db()
    return tube


@transaction.atomic
def unpack(by: Scope, box_number: str, tube_number: str) -> None:
    """Take a tube out of an open box again."""
    box = _locked(by, box_number, "open")
    rows = Specimen.objects.unscoped("reached within the scope")
    rows.filter(number=tube_number.strip().upper(), box=box, state="packed").update(
        state="collected", box=None
    )


def _locked(by: Scope, number: str, *states: str) -> Box:
    row: Box | None = (
        Box.objects.within(by)
        .select_for_update(of=("self",), no_key=True)
        .filter(number=number.strip().upper())
        .first()
    )
    if row is None or row.sender_id not in by.institution_ids:
        raise errors.no_box(number)
    if row.state not in states:
        raise Refused({"box": T("转运箱 {n} {s}，不能再操作。", "Box {n} is {s}; it cannot be changed.").format(n=row.number, s=label(row.state))})  # fmt: skip
    return row


@transaction.atomic
def seal(by: Scope, number: str, driver: str = "") -> Box:
    """Seal a box and hand it over: every tube in it is on its way. Sealing a sealed box again only names the driver."""
    box = _locked(by, number, "open", "sealed")
    now = clock.now()
    tubes = list(
        Specimen.objects.unscoped("the box's own").select_related("reading__case").filter(box=box, state="packed").order_by("pk")
    )  # fmt: skip
    if box.state == "open":
        if not tubes:
            raise Refused({"box": T("箱内没有标本。", "The box is empty.")})
        box.state, box.sealed_at = "sealed", now
        box.save(update_fields=["state", "sealed_at"])
        for tube in tubes:
            kernel.execute(
                "ship", tube.reading.case, by, {"box": box.number}, None, f"ship:{box.pk}:{tube.pk}"
            )
    if driver.strip():
        box.state, box.taken_at, box.taken_by = "taken", now, driver.strip()[:40]
        box.save(update_fields=["state", "taken_at", "taken_by"])
        audit.write(by, "update", what=f"box {box.number} handed over")
    return box


def log(by: Scope, number: str, readings: Iterable[tuple[dt.datetime, Decimal]]) -> int:
    """Keep readings of a box's logger (moment, °C); the same moment again is the same reading. How many are new."""
    box = box_of(by, number)
    rows = [Temperature(box=box, at=at, celsius=value, by=by.account_id) for at, value in readings]
    before = Temperature.objects.filter(box=box).count()
    Temperature.objects.bulk_create(rows, ignore_conflicts=True)
    return Temperature.objects.filter(box=box).count() - before


def parse_log(text: str) -> list[tuple[dt.datetime, Decimal]]:
    """Lines "2026-11-24 08:30, 4.5" of a logger (or one number: now); Refused naming the line that cannot be read."""
    out = []
    for n, line in enumerate(text.replace("，", ",").replace("\t", ",").splitlines()[:2000], 1):
        if not line.strip():
            continue
        moment, _, degrees = line.rpartition(",")
        value = catalogue.number(degrees.replace("℃", "").replace("°C", ""))
        at: dt.datetime | None = clock.now() if not moment.strip() else None
        if at is None:
            try:
                at = dt.datetime.fromisoformat(moment.strip().replace("/", "-"))
            except ValueError:
                at = None
        if value is None or at is None or not -90 <= value <= 60:
            raise Refused(
                {
                    "log": T("第 {n} 行无法识别：{x}", "Line {n} cannot be read: {x}").format(
                        n=str(n), x=line[:40]
                    )
                }
            )
        at = at if at.tzinfo else at.replace(tzinfo=clock.ZONE)
        if at > clock.now() + dt.timedelta(minutes=5):
            raise Refused(
                {"log": T("第 {n} 行的时间晚于现在。", "Line {n} lies in the future.").format(n=str(n))}
            )
        out.append((at, value.quantize(Decimal("0.1"))))
    return out


def out_of_range(box: Box, low: Decimal, high: Decimal, since: dt.datetime | None, now: dt.datetime) -> float:
    """Minutes that a box was outside ``low``–``high`` °C since a moment; a reading holds until the next one (the last until arrival)."""
    rows = list(Temperature.objects.filter(box=box).order_by("at", "pk").values_list("at", "celsius"))
    end = box.received_at or now
    minutes = 0.0
    for i, (at, value) in enumerate(rows):
        until = rows[i + 1][0] if i + 1 < len(rows) else end
        start = max(at, since) if since else at
        if not low <= value <= high and until > start:
            minutes += (until - start).total_seconds() / 60
    return minutes


def unfit(tube: Specimen, now: dt.datetime) -> tuple[str, Text]:
    """Why a tube may not be received now: ("too_late"|"temperature", words), or ("", ...) when it may."""
    kind = catalogue.kind(tube.kind)
    at = tube.received_at or now
    if tube.collected_at is not None and at - tube.collected_at > dt.timedelta(hours=kind.hours):
        return "too_late", T(
            "采集已超过 {h} 小时，{k}不稳定，请拒收。", "Collected more than {h} hours ago; refuse this {k}."
        ).format(h=str(kind.hours), k=kind.label)
    if tube.box is not None:
        most = float(policy.value("box.out_minutes", tube.centre_of_id))
        out = out_of_range(tube.box, kind.low, kind.high, tube.box.sealed_at, now)
        if out > most:
            return "temperature", T(
                "转运温度超出 {a}–{b} ℃ 共 {m} 分钟，请拒收。",
                "Outside {a}-{b} °C for {m} minutes on the way; refuse it.",
            ).format(a=str(kind.low), b=str(kind.high), m=str(round(out)))
    return "", T("", "")


@transaction.atomic
def arrive(by: Scope, number: str) -> Box:
    """The laboratory scans the box: it is here (its tubes are received one by one). Again: nothing changes."""
    by.demand("run_laboratory")
    box: Box | None = (
        Box.objects.within(by)
        .select_for_update(of=("self",), no_key=True)
        .filter(number=number.strip().upper())
        .first()
    )
    if box is None or box.destination_id not in by.institution_ids:
        raise errors.no_box(number)
    if box.state == "open":
        raise NotAllowed(
            T("转运箱 {n} 尚未封箱送出。", "Box {n} has not been sealed and sent.").format(n=box.number)
        )
    if box.state != "received":
        box.state, box.received_at, box.received_by = "received", clock.now(), by.account_id
        box.save(update_fields=["state", "received_at", "received_by"])
        audit.write(by, "update", what=f"box {box.number} received")
    return box


def missing(box: Box) -> list[Specimen]:
    """Tubes that should be in a box and were neither received nor refused."""
    rows = Specimen.objects.unscoped("the box was reached within the scope").filter(box=box, state="sent")
    return list(rows.select_related("reading__case", "person").order_by("number"))


def count(box: Box) -> int:
    """How many tubes a box has."""
    return int(Specimen.objects.unscoped("the box was reached within the scope").filter(box=box).count())


def going(by: Scope) -> list[Box]:
    """Boxes of the own institution that are not at their end yet."""
    rows = _boxes(by).filter(Q(sender_id__in=by.institution_ids), state__in=("open", "sealed", "taken"))
    return list(rows.order_by("-pk")[:50])


def coming(by: Scope) -> list[Box]:
    """Boxes on their way to the own institution."""
    rows = _boxes(by).filter(destination_id__in=by.institution_ids, state__in=("sealed", "taken"))
    return list(rows.order_by("sealed_at")[:50])
