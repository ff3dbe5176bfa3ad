"""Who looked at a person's record, told to the person: institution, role, when, what kind, and by what right.

Staff are named by surname alone ("张**"): the person may ask the institution for more, and an emergency opening names its reason.
One's own looks (and the family's) are left out unless asked for; repeated looks of one sitting stand once.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from lianxin.access.models import Account, ActsFor, AuditEvent, BreakGlass, Client, Relationship
from lianxin.network.models import Institution, Post
from lianxin.standards.text import T, Text

MOST = 600
SITTING = dt.timedelta(minutes=30)
ACTIONS: dict[str, Text] = {
    "read": T("查看", "looked at"), "search": T("查找", "searched for"), "create": T("写入", "added to"), "update": T("修改", "changed"),
    "delete": T("删除", "deleted"), "export": T("导出", "exported"), "print": T("打印", "printed"),
    "break_glass": T("紧急查阅", "opened in an emergency"), "deny": T("想看但被拒绝", "was refused"),
}  # fmt: skip
KINDS: tuple[tuple[str, Text], ...] = (
    ("summary", T("健康概况", "your overview")), ("timeline", T("就诊时间线", "your timeline")), ("series", T("检验结果", "your results")),
    ("referral", T("转诊", "a referral")), ("followup", T("随访", "a follow-up")), ("visit", T("预约", "a visit")), ("appointment", T("预约", "a visit")),
    ("phone", T("手机页面", "the phone pages")), ("registration", T("身份登记", "your registration")), ("consent", T("授权", "a consent")),
    ("check-in", T("就诊登记", "a check-in")), ("Observation", T("检验结果", "a result")), ("DiagnosticReport", T("检查报告", "a report")),
    ("Composition", T("病历文书", "a document")), ("DocumentReference", T("病历文书", "a document")), ("Condition", T("诊断", "a diagnosis")),
    ("Medication", T("用药", "medicines")), ("Appointment", T("预约", "a visit")), ("identity", T("身份信息", "your identity")),
    ("break-glass", T("紧急查阅", "an emergency opening")),
)  # fmt: skip
WHY: dict[str, Text] = {
    "home": T("您的建档机构", "your home institution"), "contract": T("签约家庭医生", "your family-doctor contract"),
    "encounter": T("您在那里就诊", "you were treated there"), "duty": T("为您办理转诊等事项", "it handles a referral or the like for you"),
    "registration": T("您在那里登记过", "you are registered there"), "break_glass": T("紧急情况", "an emergency"),
}  # fmt: skip
_RANK = tuple(WHY)


@dataclass
class Look:
    """One sitting of one reader."""

    at: dt.datetime
    where: Any
    who: Text
    action: Text
    kinds: list[Text]
    why: Text
    refused: bool
    own: bool
    emergency: str = ""
    _same: tuple[Any, ...] = field(default=(), repr=False)

    @property
    def words(self) -> Text:
        """What was done, in a line."""
        return Text(
            f"{self.action.zh} {'、'.join(k.zh for k in self.kinds[:4])}",
            f"{self.action.en} {', '.join(k.en for k in self.kinds[:4])}",
        )


def of_person(person_id: int, *, own: bool = False) -> list[Look]:
    """Looks at a person's record, newest first; with ``own`` those of the person and the family too."""
    events = list(AuditEvent.objects.filter(person_id=person_id).order_by("-at", "-id")[:MOST])
    family = set(ActsFor.objects.filter(person_id=person_id).values_list("account_id", flat=True))
    accounts = {
        a.pk: a for a in Account.objects.filter(pk__in={e.account_id for e in events if e.account_id})
    }
    systems = dict(
        Client.objects.filter(pk__in={e.client_id for e in events if e.client_id}).values_list("pk", "name")
    )
    places = {
        i.pk: i
        for i in Institution.objects.filter(pk__in={e.institution_id for e in events if e.institution_id})
    }
    roles = _roles({a.practitioner_id for a in accounts.values() if a.practitioner_id})
    rights = relationships_of(person_id)
    glasses = list(BreakGlass.objects.filter(person_id=person_id))
    out: list[Look] = []
    for e in events:
        mine = e.account_id in family
        account = accounts.get(e.account_id or 0)
        if (mine and not own) or (e.account_id is None and e.client_id is None):
            continue
        look = Look(
            at=e.at, where=places.get(e.institution_id or 0), who=_who(account, mine, systems.get(e.client_id or 0), roles, e.institution_id),
            action=ACTIONS.get(e.action, Text(e.action, e.action)), kinds=[_kind(e.what)], why=T("本人或家人", "yourself or family") if mine else _why(rights, e),
            refused=e.outcome == "refused", own=mine, emergency=_emergency(glasses, e),
        )  # fmt: skip
        look._same = (e.account_id, e.client_id, e.institution_id, e.action, e.outcome)
        last = out[-1] if out else None
        if last is not None and last._same == look._same and last.at - e.at < SITTING:
            if look.kinds[0] not in last.kinds:
                last.kinds.append(look.kinds[0])
            continue
        out.append(look)
    return out


def relationships_of(person_id: int) -> list[Relationship]:
    """Every relationship there was, ended ones too."""
    return list(Relationship.objects.filter(person_id=person_id))


def _roles(practitioners: set[int]) -> dict[tuple[int, int], Text]:
    rows = Post.objects.filter(practitioner_id__in=practitioners).order_by("pk")
    return {(p.practitioner_id, p.institution_id): p.role_label for p in rows}


def masked(name: str) -> str:
    """张三丰 → 张**: the surname alone."""
    return name[:1] + "*" * min(max(len(name) - 1, 1), 2)


def _who(
    account: Account | None,
    mine: bool,
    system: str | None,
    roles: dict[tuple[int, int], Text],
    institution_id: int | None,
) -> Text:
    if account is None:
        return Text(system, system) if system else T("系统", "the platform")
    if mine:
        return Text(account.name, account.name)
    role = roles.get((account.practitioner_id or 0, institution_id or 0))
    name = masked(account.name)
    return Text(f"{role.zh} {name}", f"{role.en} {name}") if role else Text(name, name)


def _kind(what: str) -> Text:
    return next((label for start, label in KINDS if what.startswith(start)), T("健康档案", "your record"))


def _why(rights: list[Relationship], event: AuditEvent) -> Text:
    held = {
        r.kind
        for r in rights
        if r.institution_id == event.institution_id
        and r.since <= event.at
        and (r.until is None or event.at < r.until)
    }
    return next(
        (WHY[kind] for kind in _RANK if kind in held),
        T("记录来源或当时无诊疗关系", "it sent the entry, or had no care relationship"),
    )


def _emergency(glasses: list[BreakGlass], event: AuditEvent) -> str:
    if event.action != "break_glass":
        return ""
    found = (
        g.reason
        for g in glasses
        if g.account_id == event.account_id and abs(g.opened_at - event.at) < SITTING
    )
    return next(found, "")
