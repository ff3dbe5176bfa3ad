"""The transition table of reading work (诊断申请单): examine at the grassroots, read above.

ordered → checked in → acquired → queued → (proposed → approved) → (second reading → arbitration) → issued → acknowledged. Claims are leases
of seats beside the case (``queue``): who writes may change without the case moving. Emergencies are never held up by a second reading.
"""

from __future__ import annotations

from lianxin.access.policies import PERMISSIONS
from lianxin.duty.machine import Ctx, Machine, Move, Owes, State
from lianxin.network import roles
from lianxin.regional.reading import effects as e
from lianxin.regional.reading import forms as f
from lianxin.regional.reading import guards as g
from lianxin.regional.reading import publish
from lianxin.standards.text import T

KIND = "reading"
ORDERERS = tuple(sorted(PERMISSIONS["order_tests"].roles))
ACQUIRERS = tuple(sorted(PERMISSIONS["acquire"].roles))
BEFORE = ("ordered", "checked_in", "acquired", "retake")

PARTS = {
    "orderer": T("申请机构", "Ordered by"),
    "performer": T("检查机构", "Performed by"),
    "centre": T("诊断中心", "Reading centre"),
}


def _owes(kind: str, zh: str, en: str, party: str, role: str, clock: str, button: str) -> Owes:
    return Owes(kind, T(zh, en), party, role, clock, button)


STATES = (
    State("ordered", T("已申请", "Ordered"), owes=_owes("examine", "登记并检查", "Check in and examine", "performer", roles.TECHNICIAN, "examine", "acquire"), fhir_status="active"),
    State("checked_in", T("已登记", "Checked in"), owes=_owes("take", "采集", "Acquire", "performer", roles.TECHNICIAN, "take", "acquire"), fhir_status="active"),
    State("acquired", T("已采集", "Acquired"), owes=_owes("send", "上传", "Upload", "performer", roles.TECHNICIAN, "send", "send"), fhir_status="active"),
    State("retake", T("待重新采集", "To be taken again"), owes=_owes("retake", "重新采集", "Take it again", "performer", roles.TECHNICIAN, "retake", "acquire"), fhir_status="active"),
    State("queued", T("待诊断", "Waiting to be read"), owes=_owes("report", "书写并签发报告", "Read and report", "centre", roles.READER, "report", "sign"), fhir_status="active"),
    State("proposed", T("待审核", "Waiting for approval"), owes=_owes("approve", "审核报告", "Approve the report", "centre", roles.READER, "report", "approve"), fhir_status="active"),
    State("second_read", T("待双读", "Second reading"), owes=_owes("second", "第二人阅片", "Read a second time", "centre", roles.READER, "report", "second"), fhir_status="active"),
    State("arbitration", T("待仲裁", "Arbitration"), owes=_owes("arbitrate", "仲裁不一致的报告", "Decide between two readings", "centre", roles.READER, "report", "arbitrate"), fhir_status="active"),
    State("issued", T("已签发", "Issued"), owes=_owes("acknowledge", "查看报告并处理", "See the report and act on it", "orderer", roles.CLINICIAN, "acknowledge", "acknowledge"), fhir_status="completed"),
    State("acknowledged", T("已阅", "Acknowledged"), terminal=True, fhir_status="completed", access_days=30),
    State("cancelled", T("已取消", "Cancelled"), terminal=True, fhir_status="revoked"),
)  # fmt: skip
MOVES = (
    Move("order", T("申请检查", "Order"), (), "ordered", ("orderer",), ORDERERS, f.OrderForm, effect=e.order, tone="primary"),
    Move("check_in", T("登记", "Check in"), ("ordered",), "checked_in", ("performer",), ACQUIRERS, effect=e.check_in, tone="primary"),
    Move("acquire", T("采集完成", "Acquired"), ("ordered", "checked_in", "retake"), "acquired", ("performer",), ACQUIRERS, f.AcquireForm, effect=e.acquire, tone="primary"),
    Move("send", T("上传送诊", "Send to be read"), BEFORE, "queued", ("performer",), ACQUIRERS, f.AcquireForm, (g.something_to_read,), effect=e.send, tone="primary"),
    Move("arrived", T("影像已到达", "Arrived at the archive"), BEFORE, "queued", form=f.AcquireForm, effect=e.send, system=True),
    Move("return_retake", T("退回重做", "Return to be taken again"), ("queued", "proposed"), "retake", ("centre",), (roles.READER,), f.RetakeForm, (g.is_reader,), effect=e.return_retake),
    Move("propose", T("提交审核", "Send for approval"), ("queued",), "proposed", ("centre",), (roles.READER,), f.SignForm, (g.holds_first,), effect=e.propose, tone="primary"),
    Move("sign", T("签发", "Sign and issue"), ("queued",), "issued", ("centre",), (roles.READER,), f.SignForm, (g.may_sign, g.holds_first), effect=e.sign, choices=("second_read",), tone="primary"),
    Move("approve", T("审核通过", "Approve"), ("proposed",), "issued", ("centre",), (roles.READER,), f.SignForm, (g.holds_approval,), effect=e.approve, choices=("second_read",), tone="primary"),
    Move("send_back", T("退回修改", "Send back to the author"), ("proposed",), "queued", ("centre",), (roles.READER,), f.SendBackForm, (g.holds_approval,), effect=e.send_back),
    Move("second", T("提交双读", "Give the second reading"), ("second_read",), "issued", ("centre",), (roles.READER,), f.SecondForm, (g.holds_second,), effect=e.second, choices=("arbitration",), tone="primary"),
    Move("arbitrate", T("仲裁", "Decide"), ("arbitration",), "issued", ("centre",), (roles.READER,), f.ArbitrateForm, (g.holds_arbitration,), effect=e.arbitrate, tone="primary"),
    Move("acknowledge", T("已阅", "Acknowledge"), ("issued",), "acknowledged", ("orderer",), ORDERERS, f.AcknowledgeForm, effect=e.acknowledge, tone="primary"),
    Move("amend", T("更正报告", "Amend"), ("issued",), None, ("centre",), (roles.READER,), f.AmendForm, (g.may_amend,), effect=e.amend),
    Move("cancel", T("取消申请", "Cancel"), ("ordered", "checked_in", "retake"), "cancelled", ("orderer", "performer"), tuple(sorted({*ORDERERS, *ACQUIRERS})), f.ReasonForm, effect=e.cancel, tone="danger"),
    Move("withdraw", T("撤出队列", "Take out of the queue"), ("acquired", "queued"), "cancelled", ("centre",), (roles.READER,), f.ReasonForm, (g.is_reader,), effect=e.cancel, tone="danger"),
)  # fmt: skip


def _clocks(ctx: Ctx, name: str) -> str:
    """Examining is owed in the time the patient is expected; what the centre owes runs on its own due time (``effects``)."""
    by_name = {
        "examine": {"emergency": "30m", "urgent": "4h", "routine": "3d"},
        "take": {"emergency": "30m", "urgent": "2h", "routine": "1d"},
        "send": {"emergency": "10m", "urgent": "30m", "routine": "2h"},
        "retake": {"emergency": "30m", "urgent": "4h", "routine": "1d"},
        "report": {"emergency": "30m", "urgent": "1h", "routine": "2h"},
        "acknowledge": {"emergency": "30m", "urgent": "4h", "routine": "2d"},
    }
    return by_name[name][ctx.case.priority]


MACHINE = Machine(
    kind=KIND,
    label=T("检查诊断", "Examination and reading"),
    prefix="JC",
    states=STATES,
    moves=MOVES,
    parts=PARTS,
    clocks=_clocks,
    path=("ordered", "acquired", "queued", "issued", "acknowledged"),
    publish=publish.publish,
    load=e.load,
    load_many=e.load_many,
    summary=e.summary,
)
