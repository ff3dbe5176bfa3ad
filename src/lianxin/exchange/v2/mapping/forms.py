"""What most people change in a mapping, without YAML: a sender's codes, fields that stand elsewhere, settings."""

from __future__ import annotations

from typing import Any

import yaml

from lianxin.access.errors import Invalid
from lianxin.exchange.v2.mapping import language, reading, sheets, tables
from lianxin.exchange.v2.mapping.language import Unreadable
from lianxin.exchange.v2.mapping.reading import Faulty
from lianxin.standards.text import T, Text

TABLES = (
    "tests", "units", "sex", "patient-class", "interpretation", "observation-status", "report-status", "order-status", "priority",
    "section", "diagnoses", "drugs", "vaccines", "allergens", "specimens", "routes", "documents", "departments", "answers",
    "appointment-status", "referral-status", "systems", "media", "allergy-category", "allergy-severity", "admit-source", "discharge",
)  # fmt: skip
"""The tables that are offered, the most wanted first."""


def choices() -> list[tuple[str, Text]]:
    """Tables to choose from, with what they are for."""
    return [(name, tables.describe(name)) for name in TABLES]


def outline(body: str) -> dict[str, Any]:
    """What a text says about tables, moved fields and settings, as rows; empty where it cannot be read."""
    try:
        data = reading.read(body).data
    except Faulty:
        data = {}
    rows = []
    for name, table in _dict(data.get("tables")).items():
        given = _dict(table)
        codes = given["codes"] if isinstance(given.get("codes"), dict) else given
        rows += [
            (name, tables.describe(name), code, target) for code, target in codes.items() if code != "system"
        ]
    return {
        "codes": rows,
        "moved": list(_dict(data.get("moved")).items()),
        "settings": [
            (k, sheets.SETTINGS[k], v) for k, v in _dict(data.get("settings")).items() if k in sheets.SETTINGS
        ],
        "other": [k for k in data if k not in ("tables", "moved", "settings")],
    }


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def changed(body: str, what: str, asked: dict[str, str]) -> str:
    """A text with one line entered or taken out. ``what``: code, moved or setting; an empty right-hand side takes the line out.

    :class:`Invalid` when the line is not usable, or the text itself cannot be read.
    """
    try:
        data = dict(reading.read(body).data)
    except Faulty as fault:
        raise Invalid({"body": fault.faults[0].text}) from None
    left, right = asked.get("left", "").strip(), asked.get("right", "").strip()
    if not left:
        raise Invalid({"left": T("请填写左边一栏。", "Fill in the left side.")})
    if what == "code":
        name = asked.get("table", "")
        if name not in TABLES:
            raise Invalid({"table": T("请选择代码表。", "Choose a table.")})
        data["tables"] = _line(data.get("tables"), name, left, right)
    elif what == "moved":
        data["moved"] = _with(data.get("moved"), _path(left, "left"), right and _paths(right))
    elif what == "setting":
        if left not in sheets.SETTINGS:
            raise Invalid({"left": T("没有这个设置项。", "There is no such setting.")})
        data["settings"] = _with(data.get("settings"), left, right)
    else:
        raise Invalid({"left": T("不认识的修改。", "An unknown change.")})
    return written({k: v for k, v in data.items() if v != {}})


def _line(given: Any, name: str, left: str, right: str) -> dict[str, Any]:
    before = dict(_dict(given))
    table = dict(_dict(before.get(name)))
    if isinstance(table.get("codes"), dict):
        table["codes"] = _with(table["codes"], left, right)
    else:
        table = _with(table, left, right)
    return _with(before, name, table)


def _with(given: Any, key: str, value: Any) -> dict[str, Any]:
    made = dict(_dict(given))
    if value:
        made[key] = value
    else:
        made.pop(key, None)
    return made


def _path(text: str, field: str) -> str:
    try:
        return str(language.path_of(text.upper()))
    except Unreadable as fault:
        raise Invalid({field: fault.text}) from None


def _paths(text: str) -> str:
    return " | ".join(_path(part, "right") for part in text.split("|"))


def written(data: dict[str, Any]) -> str:
    """A sheet as YAML that people read: keys in their order, Chinese as it is."""
    return yaml.dump(
        data, Dumper=yaml.SafeDumper, allow_unicode=True, sort_keys=False, default_flow_style=False, width=110
    )


__all__ = ["TABLES", "changed", "choices", "outline", "written"]
