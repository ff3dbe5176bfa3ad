"""A small machine that uses everything the kernel offers: asking a hospital to read a picture."""

from __future__ import annotations

import datetime as dt

from django import forms

from lianxin.access.scope import Scope
from lianxin.duty import kernel, machine
from lianxin.duty.forms import MoveForm
from lianxin.duty.machine import Ctx, Effect, Machine, Move, Owes, State, Tell
from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T

PARTS = {"asker": T("申请方", "asker"), "reader": T("阅片方", "reader"), "hub": T("牵头医院", "hub")}
REASONS = (("quality", "质量"), ("scope", "范围"))


class Ask(MoveForm):
    note = forms.CharField(label=T("说明", "Note"), max_length=40)
    urgent = forms.BooleanField(required=False)


class Refuse(MoveForm):
    reason = forms.ChoiceField(label=T("原因", "Reason"), choices=REASONS)


class Pass(MoveForm):
    to = forms.IntegerField()


def _no_third_dispute(ctx: Ctx) -> T | None:
    return (
        T("已提出异议，请等待复核。", "A dispute has been raised; wait.")
        if ctx.facts["disputed"] == "yes"
        else None
    )


def _opened(ctx: Ctx) -> Effect:
    return Effect(priority="urgent" if ctx.data["urgent"] else None, outcome={"note": ctx.data["note"]})


def _asked(ctx: Ctx) -> Effect:
    return Effect(
        facts={"info": "asked"},
        pauses=["read"],
        opens=[
            Owes("answer", T("补充资料", "Answer the question"), "asker", "gp", "answer", button="answer")
        ],
        notices=[Tell("asker", "gp", T("请补充资料", "Please answer"))],
    )


def _answered(ctx: Ctx) -> Effect:
    return Effect(facts={"info": "none"}, resumes=["read"])


def _passed(ctx: Ctx) -> Effect:
    return Effect(parties={"reader": ctx.data["to"]})


def _judged(ctx: Ctx) -> Effect:
    return Effect(to="reading" if ctx.facts["info"] == "none" else "asked", facts={"disputed": "yes"})


PUBLISHED: list[tuple[str, int]] = []

MACHINE = Machine(
    kind="toy",
    label=T("远程阅片", "Remote reading"),
    prefix="YP",
    parts=PARTS,
    states=(
        State("asked", T("待接收", "Asked"), owes=Owes("ack", T("接收申请", "Acknowledge"), "reader", "referral_desk", "ack", "take", since="pathway")),
        State("reading", T("阅片中", "Reading"), owes=Owes("read", T("出具报告", "Report"), "reader", "clinician", "read", "report", since="pathway")),
        State("reported", T("已报告", "Reported"), owes=Owes("confirm", T("确认报告", "Confirm"), "asker", "gp", "confirm", "confirm")),
        State("returned", T("已退回", "Returned"), owes=Owes("plan", T("另行安排", "Plan on"), "asker", "gp", "confirm", "give_up")),
        State("done", T("已完成", "Done"), terminal=True, access_days=7),
        State("dropped", T("已终止", "Dropped"), terminal=True),
    ),
    moves=(
        Move("ask", T("申请", "Ask"), (), "asked", parties=("asker",), roles=("gp",), form=Ask, effect=_opened, tone="primary"),
        Move("take", T("接收", "Take"), ("asked",), "reading", parties=("reader",), roles=("referral_desk", "clinician"), tone="primary"),
        Move("question", T("询问", "Question"), ("reading",), parties=("reader",), roles=("clinician",), effect=_asked, when={"info": "none"}),
        Move("answer", T("答复", "Answer"), ("reading",), parties=("asker",), roles=("gp",), effect=_answered, when={"info": "asked"}),
        Move("hasten", T("改为紧急", "Hasten"), ("asked", "reading"), parties=("reader", "hub"), effect=lambda ctx: Effect(priority="urgent")),
        Move("pass_on", T("转交", "Pass on"), ("asked", "reading"), "asked", parties=("reader", "hub"), form=Pass, effect=_passed),
        Move("report", T("报告", "Report"), ("reading",), "reported", parties=("reader",), roles=("clinician",), withdraws=("answer",), effect=lambda ctx: Effect(facts={"info": "none"}), tone="primary"),
        Move("confirm", T("确认", "Confirm"), ("reported",), "done", parties=("asker",), roles=("gp",), tone="primary"),
        Move("dispute", T("异议", "Dispute"), ("reported",), parties=("asker",), roles=("gp",), guards=(_no_third_dispute,), choices=("reading", "asked"), effect=_judged),
        Move("refuse", T("退回", "Refuse"), ("asked", "reading"), "returned", parties=("reader",), form=Refuse, effect=lambda ctx: Effect(facts={"info": "none"}), tone="danger"),
        Move("give_up", T("终止", "Give up"), ("returned", "asked"), "dropped", parties=("asker",), roles=("gp",), tone="danger"),
        Move("remind", T("提醒", "Remind"), ("asked", "reading", "reported"), system=True, effect=lambda ctx: Effect(outcome={"reminded": 1})),
    ),
    side_facts={"info": ("none", "asked"), "disputed": ("no", "yes")},
    clocks={"ack": {"routine": "1wd", "urgent": "4h"}, "read": {"routine": "3wd", "urgent": "1wd"}, "answer": "2wd", "confirm": "3wd"},
    path=("asked", "reading", "reported", "done"),
    publish=lambda ctx: PUBLISHED.append((ctx.case.number, ctx.act.seq)),
    pause_max="2wd",
)  # fmt: skip


class World:
    """Four institutions, a few people of theirs, one patient."""

    def __init__(self, tag: str = "") -> None:
        machine.register(MACHINE)
        self.township = self._institution(f"TOWN{tag}", "township", "township")
        self.hospital = self._institution(f"HOSP{tag}", "hospital", "county")
        self.second = self._institution(f"SECO{tag}", "hospital", "county")
        self.hub = self._institution(f"HUBB{tag}", "hospital", "city")
        number = f"{abs(hash(tag)) % 10**10:010d}"
        self.person = Person.objects.create(
            number=number, card_number=f"C{number}", name="测试甲", sex="female", birth_date=dt.date(1960, 5, 1),
            pinyin="ceshijia", initials="csj",
        )  # fmt: skip
        self.gp = self.scope(self.township, "gp", 101)
        self.desk = self.scope(self.hospital, "referral_desk", 102)
        self.reader = self.scope(self.hospital, "clinician", 103)
        self.second_reader = self.scope(self.second, "clinician", 104)
        self.office = self.scope(self.hub, "manager", 105)
        self.stranger = self.scope(self.second, "gp", 106)
        self.count = 0

    @staticmethod
    def _institution(code: str, kind: str, tier: str) -> Institution:
        return Institution.objects.create(code=code, name=code, kind=kind, tier=tier)

    @staticmethod
    def scope(institution: Institution, role: str, account: int | None = None) -> Scope:
        return Scope(
            account_id=account, institution_id=institution.pk, institution_ids=frozenset({institution.pk}),
            roles=frozenset({role}), name=f"{role}@{institution.code}",
        )  # fmt: skip

    def people(self) -> list[Scope]:
        return [self.gp, self.desk, self.reader, self.second_reader, self.office, self.stranger]

    def key(self) -> str:
        self.count += 1
        return f"k{self.township.pk}-{self.count}"

    def parties(self) -> dict[str, int]:
        return {"asker": self.township.pk, "reader": self.hospital.pk, "hub": self.hub.pk}

    def open(self, key: str | None = None, **form: object) -> kernel.Done:
        return kernel.open_case(
            "toy",
            self.person.pk,
            self.gp,
            {"note": "请阅片", **form},
            key or self.key(),
            parties=self.parties(),
        )

    def do(self, move: str, case: object, by: Scope, **form: object) -> kernel.Done:
        number = case if isinstance(case, str) else case.number  # type: ignore[attr-defined]
        return kernel.execute(move, number, by, form, None, self.key())


def monday(hour: int = 9, minute: int = 0) -> dt.datetime:
    """Monday 2 November 2026, an ordinary working week."""
    return dt.datetime(2026, 11, 2, hour, minute, tzinfo=clock.ZONE)
