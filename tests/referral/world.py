"""A small county with people, scopes for every role, and short hands to move a referral along."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from lianxin.access import relationships
from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.clinical.referral import followup, moves, service
from lianxin.clinical.referral.models import Referral
from lianxin.duty import kernel
from lianxin.duty.models import Case
from lianxin.index.models import Person
from lianxin.index.registry import Registration, register
from lianxin.network.models import Post
from lianxin.pool.models import Session
from lianxin.standards import clock
from tests.factories import SmallCounty, make_department, make_post, make_resident_id, small_county

START = dt.datetime(2026, 3, 2, 9, 0, tzinfo=clock.ZONE)  # a Monday
_keys = count(1)

PACK = {
    "impression": "甲状腺结节",
    "present": "颈前肿物半年",
    "past": "无特殊",
    "treatment": "未治疗",
    "imaging": "TI-RADS 4",
}
DOWN_PACK = {
    "diagnosis": "甲状腺良性肿瘤术后", "summary": "甲状腺腺叶切除术,术后平稳", "drugs": "左甲状腺素钠 50μg 每日一次",
    "rehabilitation": "颈部功能锻炼,两周复查甲功", "danger_signs": "颈部肿胀、呼吸困难、手足抽搐",
}  # fmt: skip
LETTER = {
    "diagnosis": "甲状腺良性肿瘤", "done": "腺叶切除", "drugs_changed": "加用左甲状腺素", "watch_for": "呼吸困难立即就医",
    "who_follows": "家庭医生", "follow_when": "2026-05-01",
}  # fmt: skip


def key() -> str:
    """A fresh idempotency key."""
    return f"k{next(_keys)}"


@dataclass
class World:
    """The county, a patient, and a scope per role."""

    county: SmallCounty
    person: Person
    scopes: dict[str, Scope]
    sessions: list[Session] = field(default_factory=list)

    def __getitem__(self, name: str) -> Scope:
        return self.scopes[name]

    def draft_data(self, **more: Any) -> dict[str, Any]:
        """A complete up-referral for a thyroid nodule."""
        data = {
            "direction": "up", "to_institution": self.county.lead.code, "specialty": "04.01", "diagnosis_code": "E04.1",
            "diagnosis_name": "甲状腺结节", "priority": "routine", "reason_code": "catalogue", "reason": "需专科评估",
            "facts": {"tirads": 4}, "pack": dict(PACK), "consent": True, "consent_evidence": "signed",
        }  # fmt: skip
        return data | more

    def open(self, by: str = "gp0", person: Person | None = None, **more: Any) -> str:
        """A draft; its number."""
        done = service.open_referral(self[by], person or self.person, self.draft_data(**more), key())
        return done.case.number

    def send(self, by: str = "gp0", person: Person | None = None, **more: Any) -> str:
        """A referral sent; its number."""
        return service.refer(self[by], person or self.person, self.draft_data(**more), key()).case.number

    def act(
        self, by: str, move: str, number: str, form: dict[str, Any] | None = None, version: int | None = None
    ) -> kernel.Done:
        """Make a move."""
        return kernel.execute(move, number, self[by], form or {}, version, key())

    def case(self, number: str) -> Case:
        """The case as it stands."""
        return Case.objects.unscoped("test").get(number=number)

    def referral(self, number: str) -> Referral:
        """The referral as it stands."""
        row = moves.load(self.case(number))
        assert row is not None
        return row

    def state(self, number: str) -> str:
        """Main state."""
        return self.case(number).state

    def until(self, state: str, by: str = "gp0", **more: Any) -> str:
        """A referral walked along the main path to ``state``; its number."""
        number = self.open(by, **more) if state == "draft" else self.send(by, **more)
        steps = [
            ("received", "desk", "receive", {}), ("accepted", "desk", "accept", {}),
            ("booked", "desk", "book", {"appointment_at": clock.now() + dt.timedelta(days=2)}),
            ("arrived", "lead_reception", "arrive", {"identity": (more.get("person") or self.person).number}),
            ("in_care", "surgeon", "start_care", {"visit_kind": "inpatient"}),
            ("discharged", "surgeon", "discharge", {}), ("outcome_sent", "surgeon", "send_outcome", LETTER),
            ("closed", "gp0", "acknowledge", {"medication_reconciled": True}),
        ]  # fmt: skip
        if state in ("draft", "submitted"):
            return number
        for reached, who, move, form in steps:
            self.act(who, move, number, form)
            if reached == state:
                return number
        raise AssertionError(state)

    def session(self, capacity: int = 10, days: int = 2, department: str = "surgery") -> Session:
        """A clinic session of the lead hospital."""
        chosen = self.county.departments[department]
        start = (clock.now() + dt.timedelta(days=days)).replace(
            hour=8, minute=next(_keys) % 60, second=0, microsecond=0
        )
        return Session.objects.create(
            institution=chosen.institution, department=chosen, specialty=chosen.specialty, starts_at=start,
            ends_at=start + dt.timedelta(hours=4), capacity=capacity,
        )  # fmt: skip


def account_for(post: Post) -> Account:
    """An account of the person in the post."""
    number = next(_keys)
    return Account.objects.create(
        username=f"u{number}", name=post.practitioner.name, practitioner=post.practitioner
    )


def person_at(institution: Any, name: str = "单雄信", seq: int | None = None) -> Person:
    """A resident of the township, known to it."""
    number = make_resident_id(seq=seq)
    reg = Registration(
        institution_id=institution.pk, system="HIS", local_id=f"L{next(_keys)}", name=f"{name}", sex="female",
        birth_date=dt.date(1969, 5, 17), id_type="01", id_no=number, home_institution_id=institution.pk,
    )  # fmt: skip
    done = register(Scope.system("test"), reg)
    relationships.grant(done.person.pk, institution.pk, "home", f"test-home:{done.person.pk}")
    return done.person


def build(prefix: str = "SC") -> World:
    """The world (inside the caller's transaction or committed)."""
    from lianxin.clinical.referral import catalogue, reasons

    reasons.load_shipped()
    catalogue.load_shipped()
    county = small_county(prefix)
    county.posts["lead_reception"] = make_post(county.lead, "reception")
    county.posts["tcm_reception"] = make_post(county.tcm, "reception")
    county.departments["tcm_surgery"] = make_department(county.tcm, "WK", specialty="04", name="外科")
    scopes = {name: scope_for_account(account_for(post), post) for name, post in county.posts.items()}
    return World(county, person_at(county.townships[0]), scopes)


__all__ = ["DOWN_PACK", "LETTER", "PACK", "START", "World", "build", "followup", "key", "person_at"]
