"""Decisions about a result. Pure: no database, no clock."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from lianxin.regional.laboratory.catalogue import Analyte, Range, number, plain
from lianxin.standards.text import T, Text

FLAGS: dict[str, Text] = {
    "N": T("正常", "Normal"),
    "L": T("低", "Low"),
    "H": T("高", "High"),
    "LL": T("危急低", "Critically low"),
    "HH": T("危急高", "Critically high"),
    "A": T("异常", "Abnormal"),
    "AA": T("危急", "Critical"),
}
ARROWS = {"L": "↓", "H": "↑", "LL": "↓↓", "HH": "↑↑", "A": "*", "AA": "**"}
COMPARATORS = ("<=", ">=", "<", ">")


@dataclass(frozen=True)
class Said:
    """A value as it was understood."""

    comparator: str = ""
    value: Decimal | None = None
    text: str = ""


def read(analyte: Analyte, raw: str) -> Said | Text:
    """What was written or sent for an analyte; words of what is wrong otherwise."""
    text = (
        raw.strip()
        .replace("＜", "<")
        .replace("＞", ">")
        .replace("≤", "<=")
        .replace("≥", ">=")
        .replace("−", "-")
    )
    if not text:
        return T("没有填写结果。", "Nothing was entered.")
    if analyte.qualitative:
        given = _WORDS.get(text.upper(), text)
        word = next((w for w in (given, *_SAME.get(given, ())) if w in analyte.values), given)
        if word in analyte.values:
            return Said(text=word)
        return T(
            "“{v}”不是该项目的结果，可选：{all}。", "“{v}” is no result of this test; one of: {all}."
        ).format(v=text[:20], all="、".join(analyte.values))
    comparator = next((c for c in COMPARATORS if text.startswith(c)), "")
    value = number(text[len(comparator) :])
    if value is None or abs(value) >= Decimal(10) ** 9:
        return T("“{v}”不是数值。", "“{v}” is no number.").format(v=text[:20])
    if value < 0:
        return T("结果不能为负数。", "A result is not negative.")
    return Said(comparator, analyte.rounded(value))


_WORDS = {
    "NEG": "阴性", "NEGATIVE": "阴性", "阴性(-)": "阴性", "POS": "阳性", "POSITIVE": "阳性", "REACTIVE": "阳性", "NONREACTIVE": "阴性",
    "WEAK": "弱阳性", "NORM": "-", "NORMAL": "-", "TRACE": "±", "+-": "±", "+/-": "±", "++": "2+", "+++": "3+", "++++": "4+",
}  # fmt: skip
_SAME = {"阴性": ("-",), "阳性": ("+",), "-": ("阴性",), "+": ("1+", "阳性"), "1+": ("+",)}
"""A word that another test has for the same; a graded test is not told "positive" only."""


def flag(analyte: Analyte, said: Said, fits: Range | None) -> str:
    """The interpretation against the reference range: N L H A, or "" when there is no range for this person."""
    if fits is None:
        return ""
    if analyte.qualitative:
        return "N" if said.text in fits.expected else "A"
    if said.value is None:
        return ""
    if fits.low is not None and (
        said.value < fits.low or (said.comparator == "<" and said.value <= fits.low)
    ):
        return "L"
    if fits.high is not None and (
        said.value > fits.high or (said.comparator == ">" and said.value >= fits.high)
    ):
        return "H"
    return "N"


def delta(
    analyte: Analyte, now: Decimal | None, before: Decimal | None, since: dt.timedelta | None
) -> dict[str, Any]:
    """Change against the previous result: {} when there is nothing to compare, else previous value, per cent, and whether it is beyond
    the analyte's limit within its days."""
    if now is None or before is None or since is None or analyte.delta is None:
        return {}
    if since > dt.timedelta(days=analyte.delta_days):
        return {}
    percent = (
        Decimal(0) if now == before else Decimal(999) if not before else abs(now - before) / before * 100
    )
    return {
        "before": plain(before),
        "percent": round(float(min(percent, Decimal(999))), 1),
        "hours": round(since.total_seconds() / 3600, 1),
        "beyond": percent > analyte.delta,
    }


def beyond_method(analyte: Analyte, said: Said) -> bool:
    """Whether a value lies outside what the method measures (or was given as "<" or ">")."""
    if analyte.qualitative or said.value is None:
        return False
    if said.comparator:
        return True
    low, high = analyte.report_low, analyte.report_high
    return (low is not None and said.value < low) or (high is not None and said.value > high)


@dataclass(frozen=True)
class Rule:
    """An automatic verification rule in force for an analyte."""

    on: bool
    low: Decimal | None = None
    high: Decimal | None = None


def why_not_auto(
    analyte: Analyte, said: Said, *, rule: Rule | None, flag: str, delta: Mapping[str, Any], device_flags: str, source: str,
    qc: str, critical: bool, refused_before: bool = False,
) -> list[str]:  # fmt: skip
    """Why a result may not be verified by rule: codes of ``REASONS``; empty when it may. WS/T 616-2018, 4.2: within limits, no delta,
    controls in order, no flag of the device, within the reportable range, never a critical value."""
    found = []
    if rule is None or not rule.on or not analyte.auto:
        found.append("off")
    if source == "hand":
        found.append("by_hand")
    if critical:
        found.append("critical")
    if rule is not None and (rule.low is not None or rule.high is not None):
        if said.value is None or (rule.low is not None and said.value < rule.low) or (
            rule.high is not None and said.value > rule.high
        ):  # fmt: skip
            found.append("range")
    elif flag != "N":
        found.append("range" if flag else "no_range")
    if delta.get("beyond"):
        found.append("delta")
    if qc:
        found.append(qc)
    if device_flags:
        found.append("device")
    if beyond_method(analyte, said):
        found.append("method")
    if refused_before:
        found.append("rerun")
    return found


REASONS: dict[str, Text] = {
    "off": T("未启用自动审核", "Automatic verification is off"),
    "by_hand": T("手工录入", "Entered by hand"),
    "critical": T("危急值", "Critical value"),
    "range": T("超出自动审核范围", "Outside the limits"),
    "no_range": T("无适用参考区间", "No reference range fits"),
    "delta": T("与历史结果差异大", "Differs from the previous result"),
    "qc": T("质控失控", "Controls rejected"),
    "qc_old": T("质控未做或已过时", "No recent control"),
    "device": T("仪器报警", "Flagged by the device"),
    "method": T("超出可报告范围", "Outside the reportable range"),
    "rerun": T("曾复检或更正", "Was run again or corrected"),
}

# --------------------------------------------------------------------------------------------------- who may verify what


@dataclass(frozen=True)
class Standing:
    """Where one result stands: who entered it (None: a device), who has vouched for it, whether it is computed and from what."""

    analyte: str
    entered_by: int | None
    verifiers: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()
    qc: str = ""


def may_verify(
    one: Standing, by: int, *, required: int, own_allowed: bool, all_of: Mapping[str, Standing], with_it: Collection[str] = ()
) -> Text | None:  # fmt: skip
    """None when ``by`` may verify ``one`` now, else why not. ``with_it``: what they verify in the same act (inputs of a computed value)."""
    if len(one.verifiers) >= required:
        return T("该结果已审核完成。", "This result is verified.")
    if by in one.verifiers:
        return T("同一人不能对同一结果审核两次。", "Nobody verifies the same result twice.")
    if one.entered_by == by and not own_allowed:
        return T("不能审核自己录入的结果。", "Nobody verifies a result they entered.")
    if one.qc == "qc":
        return T(
            "该项目质控失控，记录纠正措施后方可审核。",
            "Controls of this test were rejected; record what was done first.",
        )
    level = len(one.verifiers) + 1
    for need in one.needs:
        base = all_of.get(need)
        if base is not None and len(base.verifiers) < level and need not in with_it:
            return T("请先审核 {code}。", "Verify {code} first.").format(code=need)
    return None


def closed(wanted: Sequence[str], all_of: Mapping[str, Standing], by: int, *, required: int, own_allowed: bool) -> tuple[list[str], dict[str, Text]]:  # fmt: skip
    """Of ``wanted``, what ``by`` may verify in one act (inputs before what is computed from them), and why not the rest."""
    order = sorted(wanted, key=lambda code: (bool(all_of[code].needs), code)) if wanted else []
    done: list[str] = []
    why: dict[str, Text] = {}
    for code in order:
        said = may_verify(
            all_of[code], by, required=required, own_allowed=own_allowed, all_of=all_of, with_it=done
        )
        if said is None:
            done.append(code)
        else:
            why[code] = said
    return done, why
