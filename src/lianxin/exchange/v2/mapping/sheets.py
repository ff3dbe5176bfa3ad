"""Sheets of mappings: the built-in ones, and laying a sender's lines over them."""

from __future__ import annotations

from functools import cache
from typing import Any

from lianxin.exchange.v2.mapping import reading
from lianxin.exchange.v2.mapping.groups import Group
from lianxin.exchange.v2.mapping.reading import Fault, Faulty, Sheet
from lianxin.exchange.v2.mapping.tables import DATA
from lianxin.standards.text import T

FOLDER = DATA / "mappings"
KEYS = frozenset(
    {
        "name",
        "title",
        "version",
        "uses",
        "events",
        "groups",
        "settings",
        "tables",
        "moved",
        "ignore",
        "resources",
        "structures",
    }
)
LAID = frozenset({"settings", "tables", "moved", "ignore", "resources", "events"})
"""What a stored mapping may lay over a built-in one."""
SETTINGS = {
    "zone": T(
        "发送方时区（如 Asia/Shanghai 或 +0800）", "Time zone of the sender, such as Asia/Shanghai or +0800"
    ),
    "patient_number": T(
        "患者院内号所在字段（PID-2、PID-3、PID-4）",
        "Field of the patient's local number: PID-2, PID-3 or PID-4",
    ),
    "impression": T(
        "作为诊断结论的观察项代码（空格分隔）",
        "Codes of observations that are the conclusion, with blanks between",
    ),
    "result_status": T("未给结果状态时采用", "Status of results that say none"),
    "report_status": T("未给报告状态时采用", "Status of reports that say none"),
}
"""Settings a mapping may hold, and what they are for."""


@cache
def built_in() -> dict[str, Sheet]:
    """Every built-in mapping by its name (ORU, ADT …), its parts put in."""
    parts = reading.read((DATA / "parts.yaml").read_text(encoding="utf-8"))
    out = {}
    for file in sorted(FOLDER.glob("*.yaml")):
        sheet = reading.read(file.read_text(encoding="utf-8"))
        data = dict(sheet.data)
        resources: dict[str, Any] = {}
        for name in data.get("uses") or []:
            resources.update(parts.data["resources"][name])
        data["resources"] = {**resources, **data["resources"]}
        data["settings"] = {**(parts.data.get("settings") or {}), **(data.get("settings") or {})}
        data["ignore"] = _joined(parts.data.get("ignore") or {}, data.get("ignore") or {})
        out[str(data["name"])] = Sheet(data, sheet.lines)
    return out


def _joined(base: dict[str, Any], over: dict[str, Any]) -> dict[str, str]:
    """Fields that are left out on purpose: what both say."""
    names = dict.fromkeys((*base, *over))
    return {n: f"{base.get(n) or ''} {over.get(n) or ''}".strip() for n in names}


def by_event() -> dict[tuple[str, str], str]:
    """Which built-in mapping takes which message."""
    return {(code, event): name for name, sheet in built_in().items() for code, event in events_of(sheet)}


def events_of(sheet: Sheet) -> list[tuple[str, str]]:
    """The messages a sheet is for: ``events`` are keyed ``ADT^A01``."""
    return [(k.partition("^")[0], k.partition("^")[2]) for k in sheet.data["events"]]


def top_group(sheet: Sheet) -> Group:
    """The groups of a sheet, as :mod:`.groups` splits by."""
    return _group("", {"opens": [], "groups": sheet.data.get("groups") or {}})


def _group(name: str, body: dict[str, Any]) -> Group:
    made = Group(name, {s: n for n, s in enumerate(body.get("opens") or [])}, joins=bool(body.get("joins")))
    made.holds = frozenset(body.get("holds") or [])
    for inner_name, inner in (body.get("groups") or {}).items():
        inside = _group(inner_name, inner or {})
        made.inside.append(inside)
        for segment in inside.opens:
            made.children[segment] = inside
    return made


def check(sheet: Sheet) -> list[Fault]:
    """What is wrong with the outline of a stored mapping."""
    faults = []
    for key, value in sheet.data.items():
        if key not in LAID:
            said = T("不认识的键“{k}”；可用：{o}。", "Unknown key “{k}”; there are: {o}.")
            faults.append(sheet.fault((key,), said.format(k=key[:40], o=", ".join(sorted(LAID)))))
        elif value is not None and not isinstance(value, dict):
            faults.append(sheet.fault((key,), T("应为“键: 值”。", "“key: value” is expected here.")))
    for key in sheet.data.get("settings") or {} if isinstance(sheet.data.get("settings") or {}, dict) else {}:
        if key not in SETTINGS:
            said = T("没有设置项“{k}”；可用：{o}。", "There is no setting “{k}”; there are: {o}.")
            faults.append(sheet.fault(("settings", key), said.format(k=key[:40], o=", ".join(SETTINGS))))
    return faults


def laid(base: Sheet, over: Sheet) -> Sheet:
    """``over`` laid on ``base``; :class:`Faulty` when its outline is wrong. Lines are those of ``over``."""
    faults = check(over)
    if faults:
        raise Faulty(faults)
    data = dict(base.data)
    for key in ("settings", "moved", "events"):
        if over.data.get(key):
            data[key] = {**(base.data.get(key) or {}), **over.data[key]}
    data["ignore"] = _joined(base.data.get("ignore") or {}, over.data.get("ignore") or {})
    if over.data.get("resources"):
        data["resources"] = _resources(base.data["resources"], over)
    return Sheet(data, over.lines)


def _resources(base: dict[str, Any], over: Sheet) -> dict[str, Any]:
    made = dict(base)
    for name, body in over.data["resources"].items():
        before = base.get(name)
        if body is None or not isinstance(before, dict):
            made[name] = body
            continue
        if not isinstance(body, dict) or not isinstance(body.get("set") or {}, dict):
            raise Faulty(
                [over.fault(("resources", name), T("应为“键: 值”。", "“key: value” is expected here."))]
            )
        elements = dict(before.get("set") or {})
        for element, value in (body.get("set") or {}).items():
            kept = next((k for k in elements if k.rstrip("!") == element.rstrip("!")), element)
            elements[kept] = value
        made[name] = {**before, **{k: v for k, v in body.items() if k != "set"}, "set": elements}
    return made
