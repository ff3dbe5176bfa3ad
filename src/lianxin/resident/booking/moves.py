"""The transition table of an appointment (预约单): who may do what from where, and who owes what meanwhile.

A session of the platform's own books at once; one of a hospital's own system stands at *requested*, the number held, until the hospital
(its desk, or its system through the door) says yes. A stopped session never ends an appointment: it stands at *to_rebook*, owed by the
provider's desk, until the patient has another or gives it up. The system says only "missed"; a person says "no-show".
"""

from __future__ import annotations

from lianxin.access.policies import PERMISSIONS
from lianxin.duty.machine import Machine, Move, Owes, State
from lianxin.network import roles
from lianxin.resident.booking import effects as e
from lianxin.resident.booking import forms as f
from lianxin.resident.booking import guards as g
from lianxin.standards.text import T

KIND = "appointment"
BOOKERS = tuple(sorted(PERMISSIONS["book"].roles))
DESK = tuple(sorted(PERMISSIONS["serve_desk"].roles))
EITHER = tuple(sorted({*BOOKERS, *DESK}))
COMING = ("requested", "booked")

PARTS = {
    "provider": T("就诊机构", "Provider"),
    "booker": T("预约机构", "Booked by"),
}
STATES = (
    State("requested", T("待医院确认", "Waiting for the hospital"), owes=Owes("decide", T("确认或婉拒预约", "Accept or refuse the booking"), "provider", roles.RECEPTION, "decide", "confirm"), fhir_status="requested"),
    State("booked", T("已预约", "Booked"), owes=Owes("attend", T("登记到诊", "Register the arrival"), "provider", roles.RECEPTION, "attend", "arrive"), fhir_status="accepted"),
    State("arrived", T("已到诊", "Arrived"), owes=Owes("see", T("接诊", "See the patient"), "provider", roles.RECEPTION, "see", "fulfil"), fhir_status="in-progress"),
    State("to_rebook", T("待改约", "To be rebooked"), owes=Owes("rebook", T("为患者改约", "Find the patient another time"), "provider", roles.RECEPTION, "rebook", "rebook"), fhir_status="on-hold"),
    State("missed", T("未到诊（待核实）", "Not seen (to be confirmed)"), owes=Owes("judge_missed", T("核实是否爽约", "Confirm or excuse the missed visit"), "provider", roles.RECEPTION, "judge_missed", "confirm_missed"), fhir_status="in-progress"),
    State("fulfilled", T("已就诊", "Seen"), terminal=True, fhir_status="completed", access_days=30),
    State("no_show", T("爽约", "No-show"), terminal=True, fhir_status="failed"),
    State("cancelled", T("已取消", "Cancelled"), terminal=True, fhir_status="cancelled"),
)  # fmt: skip
MOVES = (
    Move("book", T("预约", "Book"), (), "booked", ("booker",), BOOKERS, effect=e.book, choices=("requested",), resident=True, tone="primary"),
    Move("book_auto", T("系统登记预约", "Booked by a system"), (), "booked", effect=e.book, choices=("requested",), system=True),
    Move("confirm", T("确认预约", "Accept"), ("requested",), "booked", ("provider",), DESK, f.ConfirmForm, effect=e.confirm, tone="primary"),
    Move("confirmed", T("医院系统已确认", "Accepted by the hospital's system"), ("requested",), "booked", form=f.ConfirmForm, effect=e.confirm, system=True),
    Move("refuse", T("婉拒并改约", "Refuse and rebook"), ("requested",), "to_rebook", ("provider",), DESK, f.ReasonForm, effect=e.refuse),
    Move("refused", T("医院系统未接受", "Refused by the hospital's system"), ("requested",), "to_rebook", form=f.ReasonForm, effect=e.refuse, system=True),
    Move("arrive", T("登记到诊", "Register the arrival"), ("booked", "missed"), "arrived", ("provider",), DESK, guards=(g.on_the_day,), effect=e.arrive, tone="primary"),
    Move("arrived_auto", T("医院系统报告到诊", "Arrival told by the hospital's system"), ("booked", "missed"), "arrived", effect=e.arrive, system=True),
    Move("fulfil", T("已就诊", "Seen"), ("arrived",), "fulfilled", ("provider",), DESK, effect=e.fulfil, tone="primary"),
    Move("miss", T("未到诊", "Not seen"), ("booked",), "missed", guards=(g.over,), effect=e.miss, system=True),
    Move("confirm_missed", T("确认爽约", "Confirm the no-show"), ("missed",), "no_show", ("provider",), DESK, effect=e.confirm_missed, tone="primary"),
    Move("excuse", T("免责", "Excuse"), ("missed",), "cancelled", ("provider",), DESK, f.ReasonForm, effect=e.excuse),
    Move("reschedule", T("改约", "Reschedule"), COMING, "booked", ("provider", "booker"), EITHER, f.SessionForm, (g.may_change, g.moves_left), effect=e.reschedule, choices=("requested",), resident=True),
    Move("moved", T("医院系统改约", "Moved by the hospital's system"), COMING, "booked", form=f.SessionForm, effect=e.reschedule, choices=("requested",), system=True),
    Move("displaced", T("停诊待改约", "Displaced"), COMING, "to_rebook", form=f.ReasonForm, effect=e.displace, system=True),
    Move("offer", T("向患者推荐其他时间", "Offer other times"), ("to_rebook",), None, ("provider", "booker"), EITHER, f.OfferForm, effect=e.offer),
    Move("rebook", T("改约", "Rebook"), ("to_rebook",), "booked", ("provider", "booker"), EITHER, f.SessionForm, effect=e.rebook, choices=("requested",), resident=True, tone="primary"),
    Move("cancel", T("取消预约", "Cancel"), (*COMING, "to_rebook"), "cancelled", ("provider", "booker"), EITHER, f.MaybeReasonForm, (g.may_change,), effect=e.cancel, resident=True, tone="danger"),
)  # fmt: skip
MACHINE = Machine(
    kind=KIND,
    label=T("预约单", "Appointment"),
    prefix="YY",
    states=STATES,
    moves=MOVES,
    parts=PARTS,
    clocks={
        "decide": "4wh",
        "attend": "1d",
        "see": "8h",
        "rebook": "1wd",
        "judge_missed": "2wd",
    },
    path=("requested", "booked", "arrived", "fulfilled"),
    publish=e.publish,
    load=e.load,
    load_many=e.load_many,
    summary=e.summary,
)
