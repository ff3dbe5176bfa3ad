"""The rules of the image quality gate: pure functions from what arrived and what was ordered to findings and a verdict.

Limits and what follows from a finding are data (``data/quality.yaml``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lianxin.standards.text import T, Text

WORDS: dict[str, Text] = {
    "no_images": T("没有可阅读的影像。", "There is no image to read."),
    "no_pixels": T("{n} 幅没有像素数据。", "{n} images have no pixel data."),
    "unreadable": T("{n} 幅无法解码。", "{n} images cannot be decoded."),
    "few_images": T("图像 {n} 幅，少于应有的 {least} 幅。", "{n} images, fewer than the {least} expected."),
    "empty": T("{n} 幅全黑或饱和。", "{n} images are all black or saturated."),
    "matrix": T("矩阵 {n} 像素，低于 {least}。", "The matrix has {n} pixels, below {least}."),
    "modality": T("影像类型 {found} 与申请的 {asked} 不符。", "Modality {found}, but {asked} was ordered."),
    "part": T("部位 {found} 与申请的 {asked} 不符。", "Body part {found}, but {asked} was ordered."),
    "side": T("侧别 {found} 与申请的 {asked} 不符。", "Side {found}, but {asked} was ordered."),
    "clock": T("设备时钟不准：检查时间 {found}。", "The device's clock is wrong: study time {found}."),
}
"""What the gate can find."""
SIDES: dict[str, Text] = {"L": T("左", "left"), "R": T("右", "right")}
_RANK = {"pass": 0, "flag": 1, "return": 2}
# Objects that carry no image of their own: structured reports, presentation states, waveforms, documents …
NO_IMAGE = ("1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.11.", "1.2.840.10008.5.1.4.1.1.9.")
DOCUMENTS = ("1.2.840.10008.5.1.4.1.1.104.",)


@dataclass(frozen=True)
class Image:
    """What the gate knows of one image: from its header, and of some the pixels (``empty`` None: not looked at)."""

    modality: str = ""
    rows: int = 0
    columns: int = 0
    frames: int = 1
    part: str = ""
    side: str = ""
    pixels: bool = True
    readable: bool = True
    empty: bool | None = None
    document: bool = False


@dataclass(frozen=True)
class Asked:
    """What was ordered."""

    items: tuple[str, ...]
    modality: str
    part: str = ""
    side: str = ""


@dataclass
class Verdict:
    """The findings and what follows from the worst of them; ``code`` is the code of the retake."""

    verdict: str = "pass"
    code: str = ""
    findings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def codes(self) -> list[str]:
        """The findings' codes, each once."""
        return list(dict.fromkeys(f["code"] for f in self.findings))


def judge(asked: Asked, images: list[Image], clock: str, values: Mapping[str, Any]) -> Verdict:
    """All rules in order. ``clock``: the study's time as it stands when it cannot be right, else ""."""
    verdict = Verdict()
    follows = values["imaging.follows"]
    for code, figures in _found(asked, images, clock, values):
        what, retake = follows.get(code, ["off", ""])
        if what == "off":
            continue
        verdict.findings.append({"code": code, **figures})
        if _RANK[what] > _RANK[verdict.verdict]:
            verdict.verdict, verdict.code = what, retake
    return verdict


def _found(
    asked: Asked, images: list[Image], clock: str, values: Mapping[str, Any]
) -> Iterable[tuple[str, dict[str, Any]]]:
    seen = [i for i in images if not i.document]
    if not images:
        yield "no_images", {}
    if bad := sum(1 for i in seen if not i.pixels):
        yield "no_pixels", {"n": bad}
    if bad := sum(1 for i in seen if not i.readable):
        yield "unreadable", {"n": bad}
    if seen:
        least = _most(values["imaging.images"], asked.items, asked.modality)
        if (count := sum(max(i.frames, 1) for i in seen)) < least:
            yield "few_images", {"n": count, "least": least}
    looked = [i for i in seen if i.empty is not None]
    if dark := sum(1 for i in looked if i.empty):
        yield "empty", {"n": dark}
    for modality in sorted({i.modality for i in seen}):
        least = int(values["imaging.matrix"].get(modality, values["imaging.matrix"]["*"]))
        smallest = min(
            (min(i.rows, i.columns) for i in seen if i.modality == modality and i.rows and i.columns),
            default=least,
        )
        if smallest < least and modality not in ("OT", "SC"):
            yield "matrix", {"n": smallest, "least": least}
    yield from _mismatches(asked, seen, values)
    if clock:
        yield "clock", {"found": clock}


def _mismatches(
    asked: Asked, seen: list[Image], values: Mapping[str, Any]
) -> Iterable[tuple[str, dict[str, Any]]]:
    fits = {*values["imaging.modalities"].get(asked.modality, [asked.modality]), "OT", "SC", ""}
    odd = {i.modality for i in seen} - fits
    if odd and not {i.modality for i in seen} & (fits - {"OT", "SC", ""}):
        yield "modality", {"found": "、".join(sorted(odd)), "asked": asked.modality}
    parts = {i.part.upper() for i in seen if i.part}
    if asked.part and parts and not parts & {asked.part, *values["imaging.parts"].get(asked.part, [])}:
        yield "part", {"found": "、".join(sorted(parts)), "asked": asked.part}
    sides = {i.side for i in seen if i.side in SIDES}
    if asked.side and sides and asked.side not in sides:
        yield "side", {"found": "、".join(sorted(sides)), "asked": asked.side}


def _most(table: Mapping[str, int], items: tuple[str, ...], modality: str) -> int:
    """The expectation of the most demanding item."""
    return max([int(table.get(item, table.get(modality, table["*"]))) for item in items] or [1])


def empty(pixels: np.ndarray, percent: float) -> bool:
    """Whether an image shows nothing: one value, or nearly all of it at one end of its own range."""
    values = np.asarray(pixels, dtype=np.float64).ravel()
    if values.size == 0:
        return True
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:
        return True
    edge = (high - low) / 100
    worst = max(np.count_nonzero(values <= low + edge), np.count_nonzero(values >= high - edge))
    return bool(100.0 * worst / values.size >= percent)


def words(finding: Mapping[str, Any]) -> Text:
    """A finding in words."""
    code = str(finding.get("code"))
    figures: dict[str, Any] = {name: str(value) for name, value in finding.items()}
    if code == "side":
        figures |= {name: SIDES.get(figures[name], figures[name]) for name in ("found", "asked")}
    return WORDS[code].format(**figures) if code in WORDS else T(code, code)
