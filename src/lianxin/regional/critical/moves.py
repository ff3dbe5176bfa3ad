"""The transition table of a critical value (危急值): found → told → read back → acted on → closed.

Nobody ends it without an action on record. What is owed when told is due in five minutes; late, it climbs by the duty's own clock to a second
person (5 min), everybody on duty there (10 min), the county's on-call and a telephone call of the centre (15 min); see ``chores``.
"""

from __future__ import annotations

from lianxin.access.policies import PERMISSIONS
from lianxin.duty.machine import Ctx, Machine, Move, Owes, State
from lianxin.network import roles
from lianxin.regional.critical import effects as e
from lianxin.regional.critical import forms as f
from lianxin.regional.critical import publish
from lianxin.standards.text import T

KIND = "critical"
FINDERS = (roles.CLINICIAN, roles.GP, roles.LABORATORY, roles.READER, roles.TECHNICIAN)
ANSWERERS = tuple(sorted({*PERMISSIONS["order_tests"].roles, roles.REFERRAL_DESK}))
CALLERS = tuple(sorted({*FINDERS, roles.REFERRAL_DESK}))
RECIPIENTS = ("orderer", "team", "county")
PARTS = {
    "orderer": T("申请机构", "Ordered by"),
    "centre": T("报告中心", "Found by"),
    "team": T("家庭医生团队", "Family doctors' team"),
    "county": T("县级值班", "County on-call"),
}


def _owes(kind: str, zh: str, en: str, party: str, role: str, button: str) -> Owes:
    return Owes(kind, T(zh, en), party, role, kind, button)


STATES = (
    State("detected", T("已发现", "Found"), owes=_owes("notify", "电话通知危急值", "Tell somebody (telephone)", "centre", roles.READER, "call"), fhir_status="preparation"),
    State("notified", T("已通知，待复述", "Told, not read back"), owes=_owes("acknowledge", "复述确认危急值", "Read back the critical value", "orderer", roles.CLINICIAN, "acknowledge"), fhir_status="in-progress"),
    State("acknowledged", T("已复述，待处置", "Read back, to be acted on"), owes=_owes("act", "处置危急值", "Act on the critical value", "orderer", roles.CLINICIAN, "act"), fhir_status="completed"),
    State("acted", T("已处置", "Acted on"), owes=_owes("close", "核对并结案", "Check and close", "centre", roles.READER, "close"), fhir_status="completed"),
    State("closed", T("已结案", "Closed"), terminal=True, fhir_status="completed", access_days=30),
)  # fmt: skip
OPEN = ("detected", "notified", "acknowledged", "acted")
MOVES = (
    Move("detect", T("报告危急值", "Report a critical value"), (), "detected", ("centre",), FINDERS, f.DetectForm, effect=e.detect, tone="danger"),
    Move("detect_auto", T("自动发现", "Found by a rule"), (), "detected", form=f.DetectForm, effect=e.detect, system=True),
    Move("notify", T("系统通知", "Told by the system"), ("detected",), None, effect=e.notify, choices=("notified",), system=True),
    Move("acknowledge", T("复述确认", "Read back"), ("notified",), "acknowledged", RECIPIENTS, ANSWERERS, f.ReadBackForm, effect=e.acknowledge, tone="primary"),
    Move("call", T("记录电话通知", "Record a telephone call"), ("detected", "notified"), None, ("centre", "county", "team"), CALLERS, f.CallForm, effect=e.call, choices=("notified", "acknowledged")),
    Move("escalate", T("升级", "Climb"), ("notified",), None, form=f.EscalateForm, effect=e.escalate, system=True),
    Move("correct", T("结果更正", "Result corrected"), OPEN, None, ("centre",), FINDERS, f.CorrectForm, effect=e.correct),
    Move("correct_auto", T("结果更正", "Result corrected"), OPEN, None, form=f.CorrectForm, effect=e.correct, system=True),
    Move("act", T("记录处置", "Record the action"), ("acknowledged",), "acted", RECIPIENTS, ANSWERERS, f.ActForm, effect=e.act, tone="primary"),
    Move("close", T("结案", "Close"), ("acted",), "closed", ("centre", *RECIPIENTS), tuple(sorted({*FINDERS, *ANSWERERS})), f.CloseForm, effect=e.close),
)  # fmt: skip
_CLOCKS = {"notify": "5m", "acknowledge": "5m", "phone": "5m", "act": "30m", "close": "1wd"}


def _clocks(ctx: Ctx, name: str) -> str:
    return _CLOCKS[name]


MACHINE = Machine(
    kind=KIND,
    label=T("危急值", "Critical value"),
    prefix="WJ",
    states=STATES,
    moves=MOVES,
    parts=PARTS,
    clocks=_clocks,
    path=("detected", "notified", "acknowledged", "acted", "closed"),
    publish=publish.publish,
    load=e.load,
    load_many=e.load_many,
    summary=e.summary,
    escalation=("0m", "5m", "10m"),
)
