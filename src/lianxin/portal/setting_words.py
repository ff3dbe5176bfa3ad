"""Names of the referral settings (``clinical.referral.policy``) in words, and the groups they are shown in."""

from __future__ import annotations

from lianxin.duty import machine
from lianxin.standards.text import T, Text

GROUPS = {
    "send": T("签收与接诊", "Acknowledging and accepting"),
    "care": T("到诊与诊治", "Arrival and care"),
    "down": T("下转", "Sending down"),
    "follow": T("随访", "Follow-up"),
    "count": T("次数与宽限", "Counts and graces"),
}
_CLOCKS: dict[str, tuple[str, Text]] = {
    "ack": ("send", T("签收转诊", "Acknowledge the referral")),
    "decide": ("send", T("审核并决定是否接收", "Decide on the referral")),
    "book": ("send", T("安排就诊或床位", "Arrange a visit or bed")),
    "waitlist": ("send", T("候诊后复核", "Look at the waiting list again")),
    "info": ("send", T("答复接诊机构的问题", "Answer the receiver's question")),
    "plan": ("send", T("处置退回的转诊", "Decide what to do now it came back")),
    "call": ("send", T("联系患者", "Call the patient")),
    "cancel_answer": ("send", T("答复撤销申请", "Answer a request to cancel")),
    "draft": ("send", T("完善并提交草稿", "Complete and send a draft")),
    "attend_grace": ("care", T("预约时间过后登记到诊", "Register the arrival after the appointed time")),
    "start_care": ("care", T("到诊后开始诊治", "Start care after arrival")),
    "care_clinic": ("care", T("门诊诊治", "Care in the clinic")),
    "care_inpatient": ("care", T("住院诊治", "Care on the ward")),
    "outcome": ("care", T("出院后发回转单", "Outcome letter after discharge")),
    "outcome_clinic": ("care", T("门诊后发回转单", "Outcome letter after the clinic")),
    "propose_down": ("care", T("发起下转", "Propose sending down")),
    "letter_ack": ("care", T("确认回转单", "Acknowledge the outcome letter")),
    "rebook": ("care", T("爽约后重新预约", "Book again after a no-show")),
    "backfill": ("care", T("绿色通道补记手续", "Write up a green-channel arrival")),
    "followup_first": ("follow", T("首次随访", "First contact")),
    "followup_next": ("follow", T("下一次随访", "Next contact")),
    "followup_hand_over": ("follow", T("移交后联系", "Contact after handing over")),
    "followup_retry": ("follow", T("未联系到后再联系", "Try again when not reached")),
}
_OTHERS = {
    "count.no_show": T("可重新预约的爽约次数", "No-shows after which one may book again"),
    "count.reschedule": T("改期次数上限", "Reschedules at most"),
    "count.followup_reschedule": T("随访改期次数上限", "Follow-up reschedules at most"),
    "count.followup_attempts": T("判失访前的联系次数", "Attempts before one is lost"),
    "pause.info_max": T("等待补充资料最长暂停", "Longest pause while waiting for an answer"),
    "grace.no_show": T("爽约宽限", "Grace before a no-show"),
    "limit.hold_minutes": T("暂留号源的分钟数", "Minutes a number is held"),
    "limit.follow_up_days": T("随访可约到多少天以内", "Follow-up at most so many days ahead"),
}


def _parts(name: str) -> tuple[str, str, str]:
    """``clock.down.ack.urgent`` -> (down, ack, urgent); empty where not said."""
    words = name.split(".")[1:]
    direction = words.pop(0) if words[0] == "down" else ""
    return direction, words[0], words[1] if len(words) > 1 else ""


def group(name: str) -> str:
    """The group a setting is shown in."""
    if not name.startswith("clock."):
        return "count"
    direction, base, _ = _parts(name)
    return "down" if direction or base == "propose_down" else _CLOCKS.get(base, ("care", None))[0]


def label(name: str) -> Text:
    """A setting in words; one without words stands by its name."""
    if not name.startswith("clock."):
        return _OTHERS.get(name, Text(name, name))
    _, base, priority = _parts(name)
    words = _CLOCKS.get(base, ("", Text(base, base)))[1]
    return T("{w}（{p}）", "{w} ({p})").format(w=words, p=machine.PRIORITIES[priority]) if priority else words
