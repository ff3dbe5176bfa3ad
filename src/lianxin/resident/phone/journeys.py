"""A resident's referrals in plain words: where it stands, who does what next, and by when."""

from __future__ import annotations

from dataclasses import dataclass

from lianxin.access.scope import Scope
from lianxin.clinical.referral import pages_view, service
from lianxin.clinical.referral.models import Referral
from lianxin.resident.phone import words
from lianxin.standards.text import T, Text

NEXT: dict[str, Text] = {
    "submitted": T("{from}已把您转往{to}，{to}{due}签收并答复。", "{from} has referred you to {to}; {to} answers {due}."),
    "received": T("{to}已收到您的转诊，{due}决定是否接收。", "{to} has your referral and decides {due}."),
    "accepted": T("{to}已接收您的转诊，{due}给您安排时间。", "{to} has accepted your referral and gives you a time {due}."),
    "booked": T("{to}已为您约好{visit}，请按时前往。", "{to} expects you{visit}; please be there in time."),
    "arrived": T("您已到{to}登记，请等候接诊。", "You are registered at {to}; please wait to be seen."),
    "in_care": T("您正在{to}诊治，结束后{to}会把结果告诉{from}。", "{to} is treating you and then tells {from} the outcome."),
    "outcome_sent": T(
        "{to}已把诊治结果告诉{from}，{from}{due}接手后续照护。", "{to} has told {from} the outcome; {from} takes over your care {due}."
    ),
    "returned": T("{to}把转诊退回{from}，{from}{due}与您商量下一步。", "{to} sent the referral back; {from} talks with you about it {due}."),
    "no_show": T("您没有按约到{to}，机构{due}与您联系。", "You did not come to {to} as booked; you are called {due}."),
    "closed": T("已办结：{to}的诊治结果已由{from}接手。", "Finished: {from} has taken over from {to}."),
    "cancelled": T("这次转诊已取消。", "This referral was cancelled."),
    "closed_no_return": T("已结案。", "Closed."),
}  # fmt: skip
"""State → what happens next; 最晚…前 comes from the case's due time."""


@dataclass
class Journey:
    """A referral as its person reads it."""

    row: Referral
    title: Text
    next: Text
    label: Text
    open: bool

    @property
    def number(self) -> str:
        """The case's number."""
        return self.row.case.number


def plain(referral: Referral) -> Journey:
    """A referral in plain words."""
    case = referral.case
    due = (
        T("最晚{at}前", "by {at} at the latest").format(at=words.when_words(case.due_at))
        if case.due_at
        else T("将", "soon")
    )
    visit = ""
    if referral.appointment_at is not None and case.state == "booked":
        at = words.when_words(referral.appointment_at)
        said = Text(f" {at.zh} ", f" {at.en}")
    else:
        said = Text(visit, visit)
    sentence = NEXT.get(case.state, T("正在办理。", "Under way.")).format(
        **{
            "from": pages_view.named(referral.from_institution, True), "to": pages_view.named(referral.to_institution, True),
            "due": due, "visit": said,
        }
    )  # fmt: skip
    about = referral.diagnosis_name
    title = Text(
        f"{pages_view.DIRECTIONS[referral.direction].zh} · {about}"
        if about
        else pages_view.DIRECTIONS[referral.direction].zh,
        f"{pages_view.DIRECTIONS[referral.direction].en} · {about}"
        if about
        else pages_view.DIRECTIONS[referral.direction].en,
    )
    return Journey(referral, title, sentence, pages_view.state_label(case), not case.terminal)


def all_of(scope: Scope, person_id: int) -> list[Journey]:
    """A person's referrals, newest first; what a doctor has not sent yet is not told."""
    return [
        plain(r) for r in service.referrals_of(scope, person_id) if r.case.state != "draft" and r.submitted_at
    ]


def open_ones(scope: Scope, person_id: int) -> list[Journey]:
    """Those that are not finished."""
    return [j for j in all_of(scope, person_id) if j.open]
