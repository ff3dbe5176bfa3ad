"""HL7 v2 messages as hospitals' systems send them, from residents of a scenario: visits, admissions, laboratory results.

Pure: bytes out, nothing written.  A message is a list of segments that can still be changed field by field (:mod:`.feeds_spoilt`
does) before it is written.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from random import Random

from lianxin.scenarios.population import Resident

_HEAD = "MSH"
DOCTORS = ("1001^石远山", "1002^尤静姝", "1003^楚云帆", "1004^沐清和")
WARDS = ("内科", "外科", "骨科", "呼吸内科", "心血管内科")
CLINICS = ("全科门诊", "内科门诊", "慢病门诊", "中医门诊")
DIAGNOSES = (
    ("I10.x00", "原发性高血压"), ("E11.900", "2型糖尿病"), ("J06.900", "急性上呼吸道感染"), ("J18.900", "肺炎"),
    ("M54.500", "腰痛"), ("K29.500", "慢性胃炎"), ("I63.900", "脑梗死"), ("I25.100", "冠状动脉粥样硬化性心脏病"),
)  # fmt: skip


@dataclass(frozen=True)
class Test:
    """A laboratory test: LOINC code, local code, name, unit, limits of reference, mean and spread, decimals."""

    loinc: str
    local: str
    name: str
    unit: str
    low: float
    high: float
    mean: float
    spread: float
    places: int = 1


PANELS: dict[str, tuple[str, str, tuple[Test, ...]]] = {
    "blood": ("58410-2", "血常规", (
        Test("6690-2", "WBC", "白细胞计数", "10*9/L", 3.5, 9.5, 6.6, 1.8), Test("789-8", "RBC", "红细胞计数", "10*12/L", 3.8, 5.8, 4.6, 0.5, 2),
        Test("718-7", "HGB", "血红蛋白", "g/L", 115, 175, 138, 15, 0), Test("777-3", "PLT", "血小板计数", "10*9/L", 125, 350, 220, 55, 0),
    )),
    "sugar": ("14749-6", "血糖", (Test("14749-6", "GLU", "葡萄糖", "mmol/L", 3.9, 6.1, 6.2, 1.5),)),
    "kidney": ("24362-6", "肾功能", (
        Test("14682-9", "CREA", "肌酐", "umol/L", 41, 111, 78, 20, 0), Test("22664-7", "UREA", "尿素", "mmol/L", 2.6, 8.8, 5.6, 1.4),
        Test("14933-6", "UA", "尿酸", "umol/L", 155, 428, 330, 80, 0),
    )),
    "lipids": ("24331-1", "血脂", (
        Test("14647-2", "TC", "总胆固醇", "mmol/L", 2.8, 5.2, 4.9, 0.9, 2), Test("14927-8", "TG", "甘油三酯", "mmol/L", 0.4, 1.7, 1.6, 0.7, 2),
    )),
}  # fmt: skip


@dataclass
class Segment:
    """A segment by HL7's own field numbers (of MSH: 2 is the encoding characters)."""

    name: str
    fields: dict[int, str] = field(default_factory=dict)

    def text(self) -> str:
        """As it stands in the message."""
        first = 2 if self.name == _HEAD else 1
        last = max(self.fields, default=0)
        return "|".join([self.name, *(self.fields.get(n, "") for n in range(first, last + 1))])


@dataclass
class Message:
    """A message with the instant it is about, when it was sent and when it arrives."""

    segments: list[Segment]
    about: dt.datetime
    at: dt.datetime

    def the(self, name: str) -> Segment:
        """The first segment of that name; KeyError when there is none."""
        for one in self.segments:
            if one.name == name:
                return one
        raise KeyError(name)

    def all(self, name: str) -> list[Segment]:
        """Every segment of that name."""
        return [one for one in self.segments if one.name == name]

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.the(_HEAD).fields.get(10, "")

    def data(self) -> bytes:
        """As it goes over the wire, in the character set it names."""
        text = "\r".join(one.text() for one in self.segments) + "\r"
        charset = self.the(_HEAD).fields.get(18, "")
        return text.encode("gb18030" if "GB" in charset else "utf-8", "replace")


@dataclass(frozen=True)
class Writer:
    """How a system writes its messages."""

    application: str
    facility: str
    version: str = "2.5"
    charset: str = "UNICODE UTF-8"
    local_codes: bool = False
    prefix: str = ""

    def head(self, kind: str, number: str, sent: dt.datetime) -> Segment:
        """MSH."""
        return Segment(
            _HEAD,
            {2: "^~\\&", 3: self.application, 4: self.facility, 5: "LIANXIN", 6: "PT", 7: stamp(sent), 9: kind, 10: number, 11: "P",
             12: self.version, 18: self.charset},
        )  # fmt: skip

    def person(self, who: Resident) -> Segment:
        """PID, with the hospital's own number and the identity number."""
        return Segment(
            "PID",
            {1: "1", 3: f"{self.prefix}{who.local_id}^^^{self.application}^MR", 5: who.name, 7: f"{who.birth_date:%Y%m%d}",
             8: "M" if who.sex == "male" else "F", 11: who.address, 13: who.phone, 19: who.id_no},
        )  # fmt: skip

    def visit(self, kind: str, who: Resident, rng: Random, began: dt.datetime, visit_class: str, ended: dt.datetime | None = None) -> list[Segment]:  # fmt: skip
        """EVN, PID, PV1 and DG1 of an ADT message."""
        place = rng.choice(WARDS if visit_class == "I" else CLINICS)
        pv1 = {1: "1", 2: visit_class, 3: f"{place}^^^{self.facility}", 7: rng.choice(DOCTORS), 19: f"{self.prefix}V{who.local_id}{began:%m%d}", 44: stamp(began)}  # fmt: skip
        if ended:
            pv1[45] = stamp(ended)
        code, name = rng.choice(DIAGNOSES)
        return [
            Segment("EVN", {1: kind, 2: stamp(ended or began)}), self.person(who), Segment("PV1", pv1),
            Segment("DG1", {1: "1", 3: f"{code}^{name}^I10", 5: stamp(began), 6: "A"}),
        ]  # fmt: skip

    def report(self, who: Resident, rng: Random, panel: str, number: str, taken: dt.datetime, reported: dt.datetime) -> list[Segment]:  # fmt: skip
        """PID, ORC, OBR and OBX of a laboratory report."""
        code, name, tests = PANELS[panel]
        head = Segment(
            "OBR",
            {1: "1", 2: f"R{number}", 3: f"L{number}", 4: f"{code}^{name}^LN", 7: stamp(taken), 16: rng.choice(DOCTORS), 22: stamp(reported),
             24: "LAB", 25: "F"},
        )  # fmt: skip
        out = [self.person(who), Segment("ORC", {1: "RE", 2: f"R{number}", 3: f"L{number}"}), head]
        for place, test in enumerate(tests, 1):
            value = max(0.1, rng.gauss(test.mean, test.spread))
            flag = "L" if value < test.low else "H" if value > test.high else "N"
            coded = (
                f"{test.local}^{test.name}^L"
                if self.local_codes
                else f"{test.loinc}^{test.name}^LN^{test.local}^{test.name}^L"
            )
            out.append(
                Segment("OBX", {1: str(place), 2: "NM", 3: coded, 5: f"{value:.{test.places}f}", 6: test.unit,
                                7: f"{test.low:g}-{test.high:g}", 8: flag, 11: "F", 14: stamp(taken)})
            )  # fmt: skip
        return out


def stamp(moment: dt.datetime) -> str:
    """An HL7 time in the house's zone."""
    return f"{moment:%Y%m%d%H%M%S}"
