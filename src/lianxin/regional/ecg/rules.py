"""What the measurements propose: rhythm, intervals, STEMI by territory. Pure; limits and words are data (``data/rules.yaml``).

A proposal is a machine's and says its version. It stands beside the physician's report and is never part of it.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lianxin.regional.ecg.measure import Measured
from lianxin.standards.text import T, Text

_FILE = Path(__file__).parent / "data" / "rules.yaml"
LEVELS = {"normal": T("正常", "Normal"), "abnormal": T("异常", "Abnormal"), "critical": T("危急", "Critical")}


@functools.cache
def document() -> dict[str, Any]:
    """The rules as shipped."""
    return dict(yaml.load(_FILE.read_text("utf-8"), Loader=yaml.CSafeLoader))


def version() -> str:
    """Version of engine and rules, kept with every proposal."""
    return f"lianxin-ecg {document()['version']}"


def label(code: str) -> Text:
    """A statement in words."""
    found = document()["statements"].get(code)
    return T(found["zh"], found["en"]) if found else T(code, code)


def level(code: str) -> str:
    """normal, abnormal or critical."""
    found = document()["statements"].get(code)
    return str(found["level"]) if found else "abnormal"


@dataclass(frozen=True)
class Critical:
    """Something a person confirms as critical; ``channel`` opens the chest-pain channel."""

    code: str
    label: Text
    channel: bool
    statements: tuple[str, ...]


@functools.cache
def criticals() -> dict[str, Critical]:
    """The list to choose from."""
    rows = document()["critical"]
    return {r["code"]: Critical(r["code"], T(r["zh"], r["en"]), r["channel"], tuple(r["from"])) for r in rows}


@dataclass(frozen=True)
class Statement:
    """One line of the proposal and the leads or numbers it rests on."""

    code: str
    why: str = ""

    @property
    def label(self) -> Text:
        """In words."""
        return label(self.code)

    @property
    def level(self) -> str:
        """normal, abnormal or critical."""
        return level(self.code)


def propose(m: Measured, *, age: int | None, sex: str) -> list[Statement]:
    """The statements for a recording, most pressing first. ``sex``: male, female or anything else for unknown; ``age`` in years."""
    limits = document()["limits"]
    said: list[Statement] = []
    if m.flat:
        said.append(Statement("flat", " ".join(m.flat)))
    if m.rate is None or m.qrs is None:
        return [*said, Statement("none")]
    said += _rhythm(m, limits)
    said += _intervals(m, limits, sex)
    said += _st(m, age, sex)
    if _swapped(m):
        said.append(Statement("swapped"))
    if m.noise is not None and m.noise > 60:
        said.append(Statement("noisy", f"{m.noise:.0f} µV"))
    order = {"critical": 0, "abnormal": 1, "normal": 2}
    return sorted(said, key=lambda s: order[s.level])


def _rhythm(m: Measured, limits: dict[str, Any]) -> list[Statement]:
    assert m.rate is not None
    said = []
    has_p = (m.p_amplitude or 0) >= limits["p_amplitude"] and (m.p_steady or 0) >= limits["p_steady"] and m.pr is not None  # fmt: skip
    irregular = (m.rr_irregularity or 0) >= limits["rr_irregular"] and len(m.rr_all) >= 5
    words = f"{m.rate:.0f} /min"
    if irregular and not has_p and m.ectopic <= len(m.rr_all) // 3:
        said.append(Statement("af", words))
    elif not has_p:
        code = (
            "brady" if m.rate < limits["brady"] else "tachy" if m.rate > limits["tachy"] else "undetermined"
        )
        said.append(Statement(code, words))
    else:
        code = "sinus_brady" if m.rate < limits["brady"] else "sinus_tachy" if m.rate > limits["tachy"] else "sinus"  # fmt: skip
        said.append(Statement(code, words))
        if irregular:
            said.append(Statement("irregular"))
    if m.ectopic:
        said.append(Statement("ectopic", f"{m.ectopic}"))
    if m.rate < limits["critical_brady"]:
        said.append(Statement("critical_brady", words))
    elif m.rate > limits["critical_tachy"]:
        said.append(Statement("critical_tachy", words))
    if m.rr_all and max(m.rr_all) >= limits["pause"]:
        said.append(Statement("pause", f"{max(m.rr_all) / 1000:.1f} s"))
    return said


def _intervals(m: Measured, limits: dict[str, Any], sex: str) -> list[Statement]:
    said = []
    sinus = (m.p_amplitude or 0) >= limits["p_amplitude"] and (m.p_steady or 0) >= limits["p_steady"]
    if m.pr is not None and sinus:
        if m.pr > limits["pr_long"]:
            said.append(Statement("pr_long", f"{m.pr:.0f} ms"))
        elif m.pr < limits["pr_short"]:
            said.append(Statement("pr_short", f"{m.pr:.0f} ms"))
    if m.qrs is not None and m.qrs >= limits["qrs_wide"]:
        said.append(Statement("qrs_wide", f"{m.qrs:.0f} ms"))
    if m.qtc_bazett is not None and m.qtc_fridericia is not None:
        # Bazett over-corrects at fast rates: there Fridericia decides
        qtc = m.qtc_fridericia if (m.rate or 0) > 90 else m.qtc_bazett
        if qtc >= limits["qtc_very_long"]:
            said.append(Statement("qtc_very_long", f"{qtc:.0f} ms"))
        elif qtc > limits["qtc_long"].get(sex, limits["qtc_long"]["unknown"]):
            said.append(Statement("qtc_long", f"{qtc:.0f} ms"))
    if m.axis is not None:
        if m.axis < limits["axis_left"] and m.axis > -90:
            said.append(Statement("axis_left", f"{m.axis:.0f}°"))
        elif m.axis > limits["axis_right"] or m.axis <= -90:
            said.append(Statement("axis_right", f"{m.axis:.0f}°"))
    if m.limb_voltage is not None and m.limb_voltage < limits["low_voltage"]:
        said.append(Statement("low_voltage", f"{m.limb_voltage / 1000:.2f} mV"))
    return said


def limit_of(lead: str, age: int | None, sex: str) -> float:
    """ST elevation at J (µV) from which a lead counts, by lead, age and sex."""
    table = document()["stemi"]
    if lead not in ("V2", "V3"):
        return float(table["other"])
    by = table["v2v3"]
    if sex == "female":
        return float(by["female"])
    if sex != "male" or age is None:
        return float(by["unknown"])
    return float(by["male_40"] if age >= 40 else by["male_young"])


def _st(m: Measured, age: int | None, sex: str) -> list[Statement]:
    table, limits = document()["stemi"], document()["limits"]
    j = {lead: values["j"] for lead, values in m.st.items() if "j" in values}
    raised = {lead for lead, value in j.items() if value >= limit_of(lead, age, sex) and lead != "aVR"}
    pairs = [(a, b) for chain in table["chains"] for a, b in itertools.pairwise(chain)]
    neighbours = {lead for a, b in pairs if a in raised and b in raised for lead in (a, b)}
    if m.qrs is not None and m.qrs >= limits["qrs_wide"]:
        return [Statement("st_wide", _leads(j, neighbours))] if neighbours else []
    said = []
    for territory in table["territories"]:
        here = [lead for lead in territory["leads"] if lead in neighbours]
        if len(here) >= 2:
            said.append(Statement(territory["code"], _leads(j, here)))
    if (
        neighbours and not said
    ):  # two neighbours across two territories: the one that holds the higher of them
        top = max(neighbours, key=lambda lead: j[lead])
        code = next(t["code"] for t in table["territories"] if top in t["leads"])
        said.append(Statement(code, _leads(j, neighbours)))
    low = {lead for lead, value in j.items() if value <= table["depression"] and m.st[lead].get("j60", 0) <= table["depression"] and lead != "aVR"}  # fmt: skip
    lowered = {lead for a, b in pairs if a in low and b in low for lead in (a, b)}
    if lowered:
        said.append(Statement("st_depression", _leads(j, lowered)))
    return said


def _leads(j: dict[str, float], leads: Any) -> str:
    from lianxin.regional.ecg.wave import STANDARD

    return ", ".join(f"{lead} {j[lead] / 1000:+.2f} mV" for lead in STANDARD if lead in leads)


def _swapped(m: Measured) -> bool:
    """P and QRS upside down in I while the chest leads run as usual: the arm leads are probably reversed."""
    i, v6 = m.qrs_area.get("I"), m.qrs_area.get("V6")
    return i is not None and v6 is not None and i < -2000 and v6 > 2000 and m.p_area.get("I", 0) < -10
