"""HL7 v2 results of devices and their middleware: ORU^R01 and OUL^R22 about tubes of this laboratory.

A message is ours when its bar code (SPM-2, OBR-3 or OBR-2) is a tube measured at the sender's institution, or its sending application is a
registered device of it; other ORU feed the record as they always did. A bar code nobody knows is kept apart and answered AE, so that the
device shows it; what was taken is answered AA, again as often as it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lianxin.access.scope import Scope
from lianxin.exchange.v2 import errors, kinds
from lianxin.exchange.v2.errors import Place, Refused
from lianxin.exchange.v2.kinds import Outcome, Taken
from lianxin.exchange.v2.message import Message, Segment
from lianxin.regional.laboratory import devices
from lianxin.regional.laboratory.models import Analyser, Specimen
from lianxin.standards.text import T


def register() -> None:
    """Take these messages."""
    kinds.register_claim("ORU", ("R01",), ours, told)
    kinds.register("OUL", ("R22",), told)


@dataclass
class _Sample:
    number: str
    rows: list[dict[str, Any]] = field(default_factory=list)


def _samples(asked: Message) -> list[_Sample]:
    """Results by bar code, in order: SPM before its observations (OUL), else the filler or placer number of their OBR."""
    out: list[_Sample] = []
    spm = obr = ""
    for segment in asked.segments:
        if segment.name == "SPM":
            spm = (segment.text(2, 1, 1) or segment.text(2, 2, 1)).strip()
            if obr and out and not out[-1].rows:
                out[-1].number = spm  # an SPM after its OBR (ORU)
            obr = ""
        elif segment.name == "OBR":
            obr = (segment.text(3) or segment.text(2)).strip()
            number = spm or obr
            if not out or out[-1].number != number:
                out.append(_Sample(number))
        elif segment.name == "OBX" and out:
            row = _row(segment)
            if row is not None:
                out[-1].rows.append(row)
    return out


def _row(segment: Segment) -> dict[str, Any] | None:
    if segment.text(11).upper() in ("X", "D", "W"):
        return None  # cannot be done, deleted, wrong
    raw = segment.text(5)
    if segment.text(2).upper() == "SN":  # ^5.2 or <^0.05
        raw = f"{segment.text(5, 1)}{segment.text(5, 2)}"
    codes = [segment.text(3), segment.text(3, 4)]
    at = segment.text(19) or segment.text(14)
    stamp = (
        f"{at[:4]}-{at[4:6]}-{at[6:8]}T{at[8:10] or '00'}:{at[10:12] or '00'}"
        if len(at) >= 8 and at[:8].isdigit()
        else ""
    )
    unit = (
        segment.raw(6).split(segment.message.separators.component)[0]
        if "10^" not in segment.raw(6)
        else segment.raw(6)
    )
    return {
        "test": next((c for c in codes if c), ""),
        "other": codes[1],
        "raw": raw,
        "unit": unit,
        "flags": segment.raw(8),
        "at": stamp,
    }


def _analyser(asked: Message, institution_id: int) -> Analyser | None:
    names = {asked.text("MSH", 3).strip(), asked.text("OBX", 18).strip(), asked.text("MSH", 3, 2).strip()} - {
        ""
    }
    rows = Analyser.objects.filter(
        institution_id=institution_id, active=True, protocol="v2", v2_name__in=names
    )
    return rows.order_by("pk").first() if names else None


def ours(asked: Message, scope: Scope) -> bool:
    """Whether an ORU is about this laboratory's tubes."""
    if scope.institution_id is None:
        return False
    if _analyser(asked, scope.institution_id) is not None:
        return True
    numbers = [s.number for s in _samples(asked) if s.number]
    rows = Specimen.objects.unscoped("a device names its tube by the bar code alone")
    return bool(numbers) and rows.filter(number__in=numbers, centre_of_id=scope.institution_id).exists()


def told(cur: Any, taken: Taken) -> Outcome:
    """Take the results of a message."""
    asked = taken.message
    analyser = _analyser(asked, taken.institution_id)
    samples = _samples(asked)
    if not samples or not any(s.rows for s in samples):
        raise Refused(
            errors.SEQUENCE, T("没有结果（OBR/OBX）。", "There are no results (OBR, OBX)."), Place("OBX")
        )
    outcome = Outcome(mapping="laboratory")
    for sample in samples:
        if not sample.rows:
            continue
        rows = [_known(analyser, row) for row in sample.rows]
        done = devices.take(taken.institution_id, analyser, sample.number, rows, "v2")
        for reason in dict.fromkeys(done["stray"]):
            text = T("{n}：{why}，已隔离待核实。", "{n}: {why}; kept apart to be looked into.").format(
                n=sample.number or "—", why=devices.WHY[reason]
            )
            outcome.errors.append(Refused(errors.UNKNOWN_KEY, text, Place("OBR", 1, 3)))
        tube = (
            Specimen.objects.unscoped("just taken")
            .filter(number=sample.number.upper(), centre_of_id=taken.institution_id)
            .first()
        )
        if tube is not None and (done["taken"] or done["late"] or done["again"]):
            outcome.person_id = tube.person_id
    if outcome.errors:
        outcome.code = "AE"
    return outcome


def _known(analyser: Analyser | None, row: dict[str, Any]) -> dict[str, Any]:
    """A row whose test is known by its second code when the first is not."""
    if not devices.analyte_of(analyser, row["test"]) and devices.analyte_of(analyser, row["other"]):
        return {**row, "test": row["other"]}
    return row
