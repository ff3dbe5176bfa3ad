"""The transition table of consultations (远程会诊单).

requested (the desk assigns) → assigned (the host accepts or declines) → scheduled (booked) → consulting → concluded → done; more may be asked
for on the way. Invited experts owe opinions of their own beside the case's main duty. The system moves a case back to the desk, and ends none.
"""

from __future__ import annotations

from lianxin.access.policies import PERMISSIONS
from lianxin.duty.machine import Machine, Move, Owes, State
from lianxin.network import roles
from lianxin.regional.consult import effects as e
from lianxin.regional.consult import forms as f
from lianxin.regional.consult import guards as g
from lianxin.regional.consult import policy, pool, publish
from lianxin.regional.consult.models import MOST_SEATS
from lianxin.standards.text import T

KIND = "consult"
ASKERS = tuple(sorted(PERMISSIONS["consult"].roles))
DESK = tuple(sorted(PERMISSIONS["run_consults"].roles))
EXPERTS = tuple(sorted(pool.ROLES))
TABLE = ("host", *(f"seat{n}" for n in range(1, MOST_SEATS + 1)))
BEFORE = ("requested", "assigned", "scheduled", "asked")

PARTS = {
    "requester": T("申请机构", "Requester"),
    "desk": T("会诊中心", "Consultation desk"),
    "host": T("主持专家机构", "Host's institution"),
    **{f"seat{n}": T(f"第 {n} 席专家机构", f"Institution of seat {n}") for n in range(1, MOST_SEATS + 1)},
}


def _owes(kind: str, zh: str, en: str, party: str, role: str, clock: str, button: str) -> Owes:
    return Owes(kind, T(zh, en), party, role, clock, button)


STATES = (
    State("requested", T("待分派", "To be assigned"), owes=_owes("assign", "分派会诊专家", "Assign experts", "desk", roles.REFERRAL_DESK, "assign", "assign"), fhir_status="active", business="requested"),
    State("assigned", T("待专家应答", "Waiting for the expert"), owes=_owes("accept", "应答会诊邀请", "Answer the invitation", "host", roles.CLINICIAN, "accept", "accept"), fhir_status="active", business="received"),
    State("scheduled", T("已约定", "Agreed for a time"), owes=_owes("begin", "按时开始会诊", "Begin in time", "host", roles.CLINICIAN, "begin", "begin"), fhir_status="active", business="accepted"),
    State("consulting", T("会诊中", "Under way"), owes=_owes("summary", "出具会诊意见书", "Give the summary opinion", "host", roles.CLINICIAN, "summary", "conclude"), fhir_status="active", business="in-progress"),
    State("asked", T("待补充资料", "More is asked for"), owes=_owes("answer", "补充会诊资料", "Add what is missing", "requester", roles.GP, "answer", "answer"), fhir_status="on-hold", business="on-hold"),
    State("concluded", T("意见已出", "Opinion given"), owes=_owes("acknowledge", "查看会诊意见并处理", "See the opinion and act", "requester", roles.GP, "acknowledge", "acknowledge"), fhir_status="completed", business="completed"),
    State("done", T("已办结", "Done"), terminal=True, fhir_status="completed", business="completed", access_days=7),
    State("refused", T("不予会诊", "Refused"), terminal=True, fhir_status="revoked", business="rejected"),
    State("cancelled", T("已取消", "Cancelled"), terminal=True, fhir_status="revoked", business="cancelled"),
)  # fmt: skip
MOVES = (
    Move("request", T("申请会诊", "Ask for a consultation"), (), "requested", ("requester",), ASKERS, f.RequestForm, effect=e.request, choices=("assigned",), tone="primary"),
    Move("assign", T("分派专家", "Assign experts"), ("requested",), "assigned", ("desk",), DESK, f.AssignForm, (g.room_at_table,), effect=e.assign, tone="primary"),
    Move("accept", T("接受会诊", "Accept"), ("assigned",), "consulting", TABLE, EXPERTS, f.AcceptForm, (g.is_host,), effect=e.accept, choices=("scheduled",), tone="primary"),
    Move("decline", T("婉拒", "Decline"), ("assigned",), "requested", TABLE, EXPERTS, f.DeclineForm, (g.is_host,), effect=e.decline),
    Move("timeout", T("超时未应答", "Not answered in time"), ("assigned",), "requested", effect=e.timeout, system=True),
    Move("begin", T("开始会诊", "Begin"), ("scheduled",), "consulting", ("requester", *TABLE), tuple(sorted({*ASKERS, *EXPERTS})), effect=e.begin, tone="primary"),
    Move("conclude", T("签发会诊意见书", "Sign the summary"), ("consulting",), "concluded", TABLE, EXPERTS, f.OpinionForm, (g.is_host, g.everybody_spoke), effect=e.conclude, tone="primary"),
    Move("opine", T("签署个人意见", "Sign an opinion"), ("consulting", "scheduled"), None, TABLE, EXPERTS, f.OpinionForm, (g.at_the_table,), effect=e.opine),
    Move("answer", T("补充资料", "Answer"), ("asked",), "requested", ("requester",), ASKERS, f.AnswerForm, effect=e.answer, choices=("assigned", "scheduled", "consulting"), tone="primary"),
    Move("acknowledge", T("确认并登记处理", "Acknowledge"), ("concluded",), "done", ("requester",), ASKERS, f.AcknowledgeForm, effect=e.acknowledge, tone="primary"),
    Move("ask", T("要求补充资料", "Ask for more"), ("requested", "assigned", "scheduled", "consulting"), "asked", ("desk", *TABLE), tuple(sorted({*DESK, *EXPERTS})), f.QuestionForm, effect=e.ask),
    Move("invite", T("增请专家", "Invite another"), ("assigned", "scheduled", "consulting"), None, ("desk", *TABLE), tuple(sorted({*DESK, *EXPERTS})), f.InviteForm, (g.room_at_table,), effect=e.invite),
    Move("leave", T("不参加", "Not taking part"), ("assigned", "scheduled", "consulting"), None, TABLE, EXPERTS, f.ReasonForm, (g.not_host,), effect=e.leave),
    Move("reassign", T("改派专家", "Assign others"), ("assigned", "scheduled", "consulting"), "assigned", ("desk",), DESK, f.AssignForm, (g.room_at_table,), effect=e.assign),
    Move("reschedule", T("改期", "Another time"), ("scheduled",), None, ("requester", "desk", *TABLE), tuple(sorted({*ASKERS, *DESK, *EXPERTS})), f.TimeForm, effect=e.reschedule),
    Move("missed", T("未按时进行", "Did not take place"), ("scheduled",), "requested", ("requester", "desk", *TABLE), tuple(sorted({*ASKERS, *DESK, *EXPERTS})), f.MissedForm, effect=e.missed),
    Move("amend", T("更正意见书", "Correct the summary"), ("concluded",), None, TABLE, EXPERTS, f.AmendForm, (g.is_host,), effect=e.amend),
    Move("refuse", T("不予会诊", "Refuse"), ("requested",), "refused", ("desk",), DESK, f.ReasonForm, effect=e.close, tone="danger"),
    Move("cancel", T("取消申请", "Cancel"), BEFORE, "cancelled", ("requester",), ASKERS, f.ReasonForm, effect=e.close, tone="danger"),
)  # fmt: skip

MACHINE = Machine(
    kind=KIND,
    label=T("远程会诊", "Teleconsultation"),
    prefix="HZ",
    states=STATES,
    moves=MOVES,
    parts=PARTS,
    clocks=policy.clock,
    path=("requested", "assigned", "consulting", "concluded", "done"),
    publish=publish.publish,
    load=e.load,
    load_many=e.load_many,
    summary=e.summary,
    escalation=("0m", "15m", "1h", "4wh"),
)
