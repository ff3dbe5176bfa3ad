"""Pure decisions of the channel: primary PCI or thrombolysis, what a set of times says, whether a time can be."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from lianxin.regional.emergency.models import MILESTONES
from lianxin.standards.text import T, Text

ORDER = tuple(MILESTONES)
Times = dict[str, dt.datetime]


@dataclass(frozen=True)
class Advice:
    """What the times say: ``strategy`` and the minutes from first contact to the wire that it expects."""

    strategy: str
    expected: int
    why: Text


def advise(times: Times, now: dt.datetime, *, travel: int, lab: int, within: int) -> Advice:
    """Primary PCI when the wire can be expected within ``within`` minutes of first medical contact, else thrombolysis (guideline 2019, 5.1).

    ``travel``: minutes on the road; ``lab``: from the door to the wire. Somebody at the door already travels no more.
    """
    since = times.get("fmc", now)
    gone = max(0, int((now - since).total_seconds() // 60))
    expected = gone + (0 if "door" in times else travel) + lab
    if expected <= within:
        return Advice("pci", expected, T("预计首次医疗接触到导丝通过 {n} 分钟，≤ {m} 分钟", "Wire expected {n} min after first contact, within {m}").format(n=str(expected), m=str(within)))  # fmt: skip
    return Advice("lysis", expected, T("预计 {n} 分钟才能导丝通过，超过 {m} 分钟", "The wire is expected only after {n} min, later than {m}").format(n=str(expected), m=str(within)))  # fmt: skip


def implausible(code: str, at: dt.datetime, times: Times, now: dt.datetime, hours: int) -> Text | None:
    """Why ``at`` cannot be when ``code`` happened; None when it can. Order between milestones is judged against those already recorded."""
    if at > now + dt.timedelta(seconds=59):
        return T("时间不能晚于现在。", "The time cannot lie in the future.")
    first = times.get("fmc")
    if code == "onset":
        if first is not None and at > first:
            return T("症状发作不能晚于首次医疗接触。", "Onset cannot be after first medical contact.")
        return None if at > now - dt.timedelta(days=14) else T("发作时间超过 14 天，请核对。", "Onset over 14 days ago; check it.")  # fmt: skip
    if at < (first or now) - dt.timedelta(hours=hours):
        return T("时间过早，请核对日期。", "Too long ago; check the date.")
    place = ORDER.index(code)
    for other in ("fmc", "departed", "door", "wire"):
        if other not in times or other == code:
            continue
        # thrombolysis and lab readiness run beside the road; only the great stations bind each other
        if ORDER.index(other) < place and at < times[other] and not _beside(code, other):
            return _order(code, other)
        if ORDER.index(other) > place and at > times[other] and not _beside(code, other):
            return _order(other, code)
    for start, end in PAIRS:
        if code == end and start in times and at < times[start]:
            return _order(end, start)
        if code == start and end in times and at > times[end]:
            return _order(end, start)
    return None


def _beside(code: str, other: str) -> bool:
    """Pairs that may happen in either order: an ECG before contact is still wrong, a lab ready before the door is usual."""
    free = {"ecg", "diagnosed", "decided", "activated", "needle", "assessed", "lab_ready"}
    return (code in free and other in ("departed", "door")) or (other in free)


def _order(later: str, earlier: str) -> Text:
    return T("「{b}」不能早于「{a}」。", "“{b}” cannot be before “{a}”.").format(a=MILESTONES[earlier], b=MILESTONES[later])  # fmt: skip


INTERVALS: dict[str, tuple[str, str, Text]] = {
    "fmc_ecg": ("fmc", "ecg", T("首次医疗接触到首份心电图", "First contact to ECG")),
    "ecg_diagnosed": ("ecg", "diagnosed", T("心电图到诊断", "ECG to diagnosis")),
    "diagnosed_needle": ("diagnosed", "needle", T("诊断到溶栓", "Diagnosis to needle")),
    "dido": ("fmc", "departed", T("首诊机构停留（进门到出门）", "Door in, door out")),
    "door_wire": ("door", "wire", T("进门到导丝通过（D2W）", "Door to wire (D2W)")),
    "fmc_wire": ("fmc", "wire", T("首次医疗接触到导丝通过", "First contact to wire")),
    "onset_wire": ("onset", "wire", T("发病到导丝通过（总缺血时间）", "Onset to wire (ischaemic time)")),
}
"""Intervals that chest-pain centres report."""
PAIRS = (
    *((start, end) for start, end, _ in INTERVALS.values()), ("onset", "fmc"), ("fmc", "diagnosed"), ("needle", "assessed"), ("wire", "outcome"),
)  # fmt: skip
"""Milestones of which the second never happened before the first: no interval that is reported can come out negative."""
LIMITS = {
    "fmc_ecg": "ecg", "ecg_diagnosed": "diagnose", "diagnosed_needle": "needle", "dido": "depart", "door_wire": "wire_direct",
    "fmc_wire": "wire",
}  # fmt: skip
"""Which target an interval is held against."""


def intervals(times: Times) -> dict[str, int]:
    """Minutes of every interval whose two ends are known (seconds are dropped, as clocks at the bedside show none)."""
    found = {}
    for name, (start, end, _) in INTERVALS.items():
        if start in times and end in times:
            found[name] = int((times[end] - times[start]).total_seconds() // 60)
    return found


def late(target_minutes: int, since: dt.datetime | None, until: dt.datetime) -> bool:
    """Has a target been missed at ``until``?"""
    return since is not None and until > since + dt.timedelta(minutes=target_minutes)
