"""The transition table of laboratory work (检验单): a tube's way from the arm to the verified report.

ordered → collected → in transit → received → in analysis → resulted → (verified) → issued → acknowledged. A refused tube goes back to its
collector; a result that was issued may be taken back, and the corrected report goes out as a new version. The table differs from reading's:
there is no queue of readers, but a tube that travels, values from devices, and people who vouch for each value.
"""

from __future__ import annotations

from lianxin.access.policies import PERMISSIONS
from lianxin.duty.machine import Ctx, Machine, Move, Owes, State
from lianxin.network import roles
from lianxin.regional.laboratory import effects as e
from lianxin.regional.laboratory import forms as f
from lianxin.regional.laboratory import guards as g
from lianxin.regional.laboratory import publish
from lianxin.regional.reading import effects as reading
from lianxin.standards.text import T

KIND = "laboratory"
ORDERERS = tuple(sorted(PERMISSIONS["order_tests"].roles))
COLLECTORS = tuple(sorted(PERMISSIONS["acquire"].roles))
LAB = (roles.LABORATORY,)

PARTS = {
    "orderer": T("申请机构", "Ordered by"),
    "performer": T("采集机构", "Collected by"),
    "centre": T("检验中心", "Laboratory"),
}


def _owes(kind: str, zh: str, en: str, party: str, role: str, button: str) -> Owes:
    return Owes(kind, T(zh, en), party, role, kind, button)


STATES = (
    State("ordered", T("待采集", "To be collected"), owes=_owes("collect", "采集标本", "Collect the specimen", "performer", roles.TECHNICIAN, "collect"), fhir_status="active"),
    State("collected", T("已采集", "Collected"), owes=_owes("ship", "装箱送检", "Pack and send", "performer", roles.TECHNICIAN, "ship"), fhir_status="active"),
    State("in_transit", T("转运中", "On its way"), owes=_owes("receive", "接收标本", "Receive the specimen", "centre", roles.LABORATORY, "receive"), fhir_status="active"),
    State("recollect", T("待重新采集", "To be collected again"), owes=_owes("recollect", "重新采集标本", "Collect again", "performer", roles.TECHNICIAN, "collect"), fhir_status="active"),
    State("received", T("已接收", "Received"), owes=_owes("analyse", "上机检测", "Measure", "centre", roles.LABORATORY, "enter"), fhir_status="active"),
    State("in_analysis", T("检测中", "Being measured"), owes=_owes("result", "完成检测", "Complete the results", "centre", roles.LABORATORY, "enter"), fhir_status="active"),
    State("resulted", T("待审核", "To be verified"), owes=_owes("verify", "审核结果", "Verify the results", "centre", roles.LABORATORY, "verify"), fhir_status="active"),
    State("verified", T("待复审", "To be verified again"), owes=_owes("confirm", "第二人审核", "Verify a second time", "centre", roles.LABORATORY, "confirm"), fhir_status="active"),
    State("issued", T("已发布", "Issued"), owes=_owes("acknowledge", "查看报告并处理", "See the report and act on it", "orderer", roles.CLINICIAN, "acknowledge"), fhir_status="completed"),
    State("acknowledged", T("已阅", "Acknowledged"), terminal=True, fhir_status="completed", access_days=30),
    State("cancelled", T("已取消", "Cancelled"), terminal=True, fhir_status="revoked"),
)  # fmt: skip
MOVES = (
    Move("order", T("申请检验", "Order"), (), "ordered", ("orderer",), ORDERERS, f.OrderForm, effect=e.order, tone="primary"),
    Move("add_on", T("加做项目", "Add tests"), (), "received", ("orderer", "centre"), (*ORDERERS, *LAB), f.OrderForm, effect=e.add_on),
    Move("collect", T("确认采集", "Collected"), ("ordered", "recollect"), "collected", ("performer",), COLLECTORS, f.CollectForm, effect=e.collect, tone="primary"),
    Move("ship", T("装箱送出", "Sent"), ("collected",), "in_transit", ("performer",), COLLECTORS, f.ShipForm, effect=e.ship, tone="primary"),
    Move("receive", T("接收", "Receive"), ("collected", "in_transit"), "received", ("centre",), LAB, f.ReceiveForm, (g.fit,), effect=e.receive, tone="primary"),
    Move("refuse", T("拒收", "Refuse"), ("collected", "in_transit", "received", "in_analysis", "resulted"), "recollect", ("centre",), LAB, f.RefuseForm, (g.own_tube,), effect=e.refuse, tone="danger"),
    Move("enter", T("录入结果", "Enter results"), ("received", "in_analysis", "resulted"), None, ("centre",), LAB, f.EnterForm, effect=e.enter, choices=("in_analysis", "resulted"), tone="primary"),
    Move("measured", T("仪器结果", "Measured"), ("received", "in_analysis", "resulted"), None, form=f.EnterForm, effect=e.enter, choices=("in_analysis", "resulted"), system=True),
    Move("verify", T("审核", "Verify"), ("resulted",), None, ("centre",), LAB, f.VerifyForm, (g.may_verify,), effect=e.verify, choices=("verified", "issued"), tone="primary"),
    Move("by_rule", T("自动审核", "Verified by rule"), ("resulted",), "issued", guards=(g.rules_agree,), effect=e.by_rule, choices=("verified",), system=True),
    Move("confirm", T("复审并发布", "Verify again and issue"), ("verified",), None, ("centre",), LAB, f.VerifyForm, (g.may_verify,), effect=e.verify, choices=("issued",), tone="primary"),
    Move("rerun", T("退回复检", "Run again"), ("resulted", "verified"), "in_analysis", ("centre",), LAB, f.BackForm, effect=e.rerun),
    Move("retract", T("撤回更正", "Take back and correct"), ("issued",), "in_analysis", ("centre",), LAB, f.BackForm, effect=e.retract, tone="danger"),
    Move("acknowledge", T("已阅", "Acknowledge"), ("issued",), "acknowledged", ("orderer",), ORDERERS, f.AcknowledgeForm, effect=e.acknowledge, tone="primary"),
    Move("cancel", T("取消申请", "Cancel"), ("ordered", "collected", "recollect"), "cancelled", ("orderer", "performer"), tuple(sorted({*ORDERERS, *COLLECTORS})), f.ReasonForm, effect=e.cancel, tone="danger"),
    Move("withdraw", T("无法检测", "Cannot be done"), ("received", "in_analysis", "resulted"), "cancelled", ("centre",), LAB, f.ReasonForm, (g.never_issued,), effect=e.cancel, tone="danger"),
)  # fmt: skip
CLOCKS = {
    "collect": {"emergency": "15m", "urgent": "1h", "routine": "1d"},
    "ship": {"emergency": "15m", "urgent": "1h", "routine": "4h"},
    "receive": {"emergency": "30m", "urgent": "2h", "routine": "4h"},
    "recollect": {"emergency": "30m", "urgent": "2h", "routine": "1d"},
    "analyse": {"emergency": "15m", "urgent": "30m", "routine": "2h"},
    "result": {"emergency": "20m", "urgent": "45m", "routine": "2h"},
    "verify": {"emergency": "10m", "urgent": "20m", "routine": "1h"},
    "confirm": {"emergency": "10m", "urgent": "20m", "routine": "1h"},
    "acknowledge": {"emergency": "30m", "urgent": "4h", "routine": "2d"},
}


def _clocks(ctx: Ctx, name: str) -> str:
    """Each stage has its own span; the report's own due time is the centre's target (``reading.policy``)."""
    return CLOCKS[name][ctx.case.priority]


MACHINE = Machine(
    kind=KIND,
    label=T("检验", "Laboratory"),
    prefix="JY",
    states=STATES,
    moves=MOVES,
    parts=PARTS,
    clocks=_clocks,
    path=("ordered", "collected", "received", "resulted", "issued", "acknowledged"),
    publish=publish.publish,
    load=e.load,
    load_many=e.load_many,
    summary=reading.summary,
)
