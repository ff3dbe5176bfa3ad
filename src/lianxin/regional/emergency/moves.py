"""The transition table of the chest-pain green channel (胸痛绿色通道): first contact → ECG → diagnosis → way of reperfusion → cath lab → wire.

Who owes what to whom by when follows from the state: the first hospital an ECG and the departure, the centre diagnosis and decision, the
cath lab its activation, readiness and the wire. A late duty climbs at once, after 5, 10 and 15 minutes; nothing ends a case but people.
"""

from __future__ import annotations

from lianxin.duty.machine import Ctx, Machine, Move, Owes, State
from lianxin.network import roles
from lianxin.regional.emergency import effects as e
from lianxin.regional.emergency import forms as f
from lianxin.regional.emergency import publish
from lianxin.standards.text import T

KIND = "chest_pain"
CARE = tuple(sorted((roles.VILLAGE_DOCTOR, roles.GP, roles.FAMILY_DOCTOR, roles.CLINICIAN, roles.WARD)))
DOCTORS = tuple(sorted((roles.CLINICIAN, roles.READER)))
LAB = tuple(sorted((roles.CLINICIAN, roles.WARD, roles.REFERRAL_DESK)))
PARTS = {
    "first": T("首诊机构", "First contact"),
    "centre": T("胸痛中心", "Chest-pain centre"),
    "lab": T("导管室", "Cath lab"),
}
ALL = (
    "contact",
    "waiting",
    "confirmed",
    "activated",
    "leaving",
    "underway",
    "arrived",
    "lysing",
    "lysed",
    "treated",
)


def _owes(kind: str, zh: str, en: str, party: str, role: str, button: str) -> Owes:
    return Owes(kind, T(zh, en), party, role, kind, button)


STATES = (
    State("contact", T("已接触，待心电图", "First contact, ECG due"), owes=_owes("ecg", "完成首份心电图", "Record the first ECG", "first", roles.GP, "ecg"), fhir_status="in-progress"),
    State("waiting", T("待心电诊断", "ECG to be read"), owes=_owes("diagnose", "判读心电图", "Read the ECG", "centre", roles.READER, "diagnose"), fhir_status="in-progress"),
    State("confirmed", T("已确诊，待决策", "Confirmed, way to be decided"), owes=_owes("decide", "决定再灌注方式", "Decide on reperfusion", "centre", roles.CLINICIAN, "decide"), fhir_status="in-progress"),
    State("activated", T("待导管室启动", "Cath lab asked"), owes=_owes("activate", "启动导管室", "Activate the cath lab", "lab", roles.CLINICIAN, "accept"), fhir_status="in-progress"),
    State("leaving", T("待送出", "To be sent"), owes=_owes("depart", "送出患者", "Send the patient", "first", roles.GP, "depart"), fhir_status="in-progress"),
    State("underway", T("转运中", "On the road"), owes=_owes("arrive", "接到患者", "Receive the patient", "lab", roles.CLINICIAN, "arrive"), fhir_status="in-progress"),
    State("arrived", T("已到院，待导丝通过", "At the hospital, wire due"), owes=_owes("wire", "导丝通过", "Cross with the wire", "lab", roles.CLINICIAN, "wire"), fhir_status="in-progress"),
    State("lysing", T("待溶栓", "Thrombolysis due"), owes=_owes("needle", "开始溶栓", "Begin thrombolysis", "first", roles.GP, "lyse"), fhir_status="in-progress"),
    State("lysed", T("已溶栓，待评估", "Thrombolysed, to be judged"), owes=_owes("assess", "评估溶栓效果", "Judge thrombolysis", "centre", roles.CLINICIAN, "assess"), fhir_status="in-progress"),
    State("treated", T("已再灌注", "Reperfused"), owes=_owes("outcome", "填写结局", "Write the outcome", "lab", roles.CLINICIAN, "close"), fhir_status="in-progress"),
    State("closed", T("已完成", "Closed"), terminal=True, fhir_status="completed", access_days=30),
    State("stopped", T("已终止", "Stopped"), terminal=True, fhir_status="cancelled", access_days=30),
)  # fmt: skip
MOVES = (
    Move("open", T("启动胸痛绿色通道", "Open the chest-pain channel"), (), "contact", ("first",), CARE, f.OpenForm, effect=e.open_contact, choices=("waiting",), tone="primary"),
    Move("open_confirmed", T("心电确诊启动", "Open on a confirmed ECG"), (), "confirmed", ("centre",), DOCTORS, effect=e.open_confirmed),
    Move("ecg", T("首份心电图完成", "First ECG recorded"), ("contact",), "waiting", ("first",), CARE, f.EcgForm, effect=e.ecg, tone="primary"),
    Move("diagnose", T("确诊 STEMI", "It is a STEMI"), ("contact", "waiting"), "confirmed", ("centre",), DOCTORS, f.DiagnoseForm, effect=e.diagnose, tone="primary"),
    Move("decide", T("决定再灌注方式", "Decide on reperfusion"), ("confirmed",), "activated", ("centre",), (roles.CLINICIAN,), f.DecideForm, effect=e.decide, choices=("lysing",), tone="primary"),
    Move("accept", T("启动导管室", "Activate the cath lab"), ("activated",), "leaving", ("lab",), LAB, f.AcceptForm, effect=e.accept, choices=("arrived",), tone="primary"),
    Move("depart", T("已送出", "Departed"), ("leaving",), "underway", ("first", "centre"), CARE, f.DepartForm, effect=e.depart, tone="primary"),
    Move("arrive", T("已到达", "At the door"), ("leaving", "underway"), "arrived", ("lab",), LAB, f.ArriveForm, effect=e.arrive, tone="primary"),
    Move("lab_ready", T("导管室就绪", "Cath lab ready"), ("leaving", "underway", "arrived"), None, ("lab",), LAB, f.LabReadyForm, (e.lab_is_owed,), effect=e.lab_ready, discharges=("lab",)),
    Move("wire", T("导丝通过", "Wire crossing"), ("arrived",), "treated", ("lab",), (roles.CLINICIAN,), f.WireForm, effect=e.wire, tone="primary"),
    Move("lyse", T("开始溶栓", "Begin thrombolysis"), ("lysing",), "lysed", ("first", "centre"), CARE, f.LyseForm, effect=e.lyse, tone="primary"),
    Move("to_pci", T("改为直接 PCI", "Primary PCI after all"), ("lysing",), "activated", ("first", "centre"), CARE, effect=e.to_pci),
    Move("assess", T("评估溶栓", "Judge thrombolysis"), ("lysed",), "activated", ("centre", "first"), CARE, f.AssessForm, effect=e.assess, tone="primary"),
    Move("close", T("填写结局", "Write the outcome"), ("treated",), "closed", ("lab", "centre"), (roles.CLINICIAN, roles.WARD), f.CloseForm, effect=e.close, tone="primary"),
    Move("correct", T("更正时间", "Correct a time"), ALL, None, (), tuple(sorted({*CARE, *DOCTORS, *LAB})), f.CorrectForm, effect=e.correct),
    Move("stop", T("终止通道", "Stop the channel"), tuple(s for s in ALL if s != "treated"), "stopped", ("centre", "lab"), DOCTORS, f.StopForm, effect=e.stop, tone="danger"),
)  # fmt: skip


def _clocks(ctx: Ctx, name: str) -> str:
    """Due times are worked out from the milestones (``effects``); this is what holds where one is missing."""
    return "10m"


MACHINE = Machine(
    kind=KIND,
    label=T("胸痛绿色通道", "Chest-pain channel"),
    prefix="XT",
    states=STATES,
    moves=MOVES,
    parts=PARTS,
    clocks=_clocks,
    path=(
        "contact",
        "waiting",
        "confirmed",
        "activated",
        "leaving",
        "underway",
        "arrived",
        "treated",
        "closed",
    ),
    publish=publish.publish,
    load=e.load,
    load_many=e.load_many,
    summary=e.summary,
    escalation=("0m", "5m", "10m", "15m"),
)
