"""The limits in force with where they come from, and how a consortium's office sets its own from a day on."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.network.models import Consortium
from lianxin.regional.critical import limits
from lianxin.regional.critical.models import SOURCES, Limit
from lianxin.standards import clock
from lianxin.standards.text import T, Text

_MOST = Decimal(10**7)


def _consortium(scope: Scope) -> Consortium | None:
    """The consortium whose limits an office sets: the one its institution leads."""
    if not scope.may("run_recognition"):
        return None
    return Consortium.objects.filter(lead_id=scope.institution_id).order_by("form", "pk").first()


def _words(rule: dict[str, Any]) -> Text:
    if "zh" in rule:
        return T(rule["zh"], rule["en"])
    return T("其他患者", "everybody else")


def _lines(institution_id: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    numbers, findings = [], []
    for code, row in sorted(limits.table(institution_id).items()):
        name = T(row["zh"], row["en"])
        own = "source_document" in row
        if "rank" in row:
            findings.append(
                {
                    "code": code,
                    "name": name,
                    "rank": row["rank"],
                    "centre": SOURCES[row["source"]],
                    "source": row["source"],
                }
            )
        else:
            numbers.append({"code": code, "name": name, "unit": row["unit"], "own": own, "version": row.get("version") or limits.SETTINGS.version,
                            "source": row.get("source_document") or limits.SETTINGS.source, "rules": [r | {"who": _words(r)} for r in row["rules"]]})  # fmt: skip
    findings.sort(key=lambda f: (f["source"], -f["rank"]))
    return numbers, findings


@page()
def listing(request: HttpRequest) -> HttpResponse:
    """Every code with its limits, whom each is for and the document it comes from."""
    scope: Scope = request.scope
    if not scope.may("run_centres"):
        scope.demand("handle_critical")
    numbers, findings = _lines(scope.institution_id or 0)
    coming = Limit.objects.filter(consortium=_consortium(scope)).order_by("-effective_from", "name")[:20] if _consortium(scope) else []  # fmt: skip
    return render(
        request, "critical/limits.html",
        {"numbers": numbers, "findings": findings, "version": limits.SETTINGS.version, "source": limits.SETTINGS.source,
         "may_set": _consortium(scope) is not None, "coming": coming},
    )  # fmt: skip


def _number(text: str) -> float | int | None:
    """A limit as typed; None for none; ValueError otherwise."""
    said = limits.plain(text)
    if not said:
        return None
    try:
        value = Decimal(said)
    except InvalidOperation:
        raise ValueError(said) from None
    if not value.is_finite() or not 0 <= value < _MOST:
        raise ValueError(said)
    return int(value) if value == value.to_integral_value() else float(value)


def _typed(row: dict[str, Any], data: Any, today: dt.date) -> tuple[dict[str, Any], dt.date, dict[str, Text]]:
    """The row as it would be set, from when, and what is wrong with it."""
    faults: dict[str, Text] = {}
    rules = []
    for place, rule in enumerate(row["rules"]):
        changed = {k: v for k, v in rule.items() if k not in ("below", "above")}
        for side in ("below", "above"):
            try:
                value = _number(data.get(f"{side}{place}", ""))
            except ValueError:
                faults[f"{side}{place}"] = T("请填写数字（可留空）。", "Give a number, or nothing.")
                continue
            if value is not None:
                changed[side] = value
        if not faults and not {"below", "above"} & changed.keys():
            faults[f"below{place}"] = T("上下限至少填一个。", "Give at least one of the two limits.")
        if (
            "below" in changed
            and "above" in changed
            and Decimal(str(changed["below"])) >= Decimal(str(changed["above"]))
        ):
            faults[f"above{place}"] = T("上限应大于下限。", "The upper limit lies above the lower.")
        rules.append(changed)
    try:
        start = dt.date.fromisoformat(data.get("from", ""))
    except ValueError:
        start = today
        faults["from"] = T("请填写生效日期。", "Give the day it takes force.")
    if start < today:
        faults["from"] = T(
            "生效日期不能早于今天；已发生的危急值按当时的限值判定。",
            "Not before today: what was found already was judged by the limits of its day.",
        )
    if not data.get("source", "").strip():
        faults["source"] = T("请填写依据文件。", "Name the document it follows.")
    return {**row, "rules": rules}, start, faults


@page(may="run_recognition")
def edit(request: HttpRequest, code: str) -> HttpResponse:
    """Set the limits of one code for the own consortium from a day on."""
    scope: Scope = request.scope
    consortium = _consortium(scope)
    row = limits.table(scope.institution_id or 0).get(code)
    if consortium is None or row is None or "rules" not in row:
        raise Http404
    today = clock.today()
    data = request.POST if request.method == "POST" else {}
    faults: dict[str, Text] = {}
    if request.method == "POST":
        value, start, faults = _typed(dict(row), data, today)
        source = data.get("source", "").strip()[:300]
        if not faults:
            value |= {"version": f"{start:%Y-%m-%d}", "source_document": source}
            Limit.objects.update_or_create(
                name=code, consortium=consortium, effective_from=start,
                defaults={"value": value, "source": source, "set_by": scope.name[:80], "set_at": clock.now()},
            )  # fmt: skip
            audit.write(scope, "update", what=f"critical limits {code}", detail={"from": str(start), "rules": value["rules"]})  # fmt: skip
            said = T("{n} 的危急值限值自 {d} 起生效。", "Limits of {n} in force from {d}.")
            messages.success(request, str(said.format(n=T(row["zh"], row["en"]), d=f"{start:%Y-%m-%d}")))
            return redirect("critical:limits")
    rules = [
        {
            "who": _words(rule), "place": place,
            "sides": [
                {"name": f"{side}{place}", "label": label, "value": data.get(f"{side}{place}", rule.get(side, "")), "fault": faults.get(f"{side}{place}")}
                for side, label in (("below", T("低于即危急", "Critical below")), ("above", T("高于即危急", "Critical above")))
            ],
        }
        for place, rule in enumerate(row["rules"])
    ]  # fmt: skip
    return render(
        request, "critical/limit.html",
        {"code": code, "name": T(row["zh"], row["en"]), "unit": row["unit"], "rules": rules, "faults": faults, "consortium": consortium,
         "start": data.get("from") or today.isoformat(), "source": data.get("source", "")},
        status=422 if faults else 200,
    )  # fmt: skip
