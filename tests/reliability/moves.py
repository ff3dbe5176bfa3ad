"""Referrals driven over FHIR: the bodies of each step, every one with its idempotency key."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from lianxin.standards import clock
from tests.reliability.conftest import Town
from tests.reliability.installation import HEAD, Answer

PACK = {
    "impression": "甲状腺结节",
    "present": "颈前肿物半年",
    "past": "无特殊",
    "treatment": "未治疗",
    "imaging": "TI-RADS 4",
}


def parameters(**values: Any) -> dict[str, Any]:
    """A Parameters resource."""
    made: list[dict[str, Any]] = []
    for name, value in values.items():
        match value:
            case bool():
                made.append({"name": name, "valueBoolean": value})
            case int():
                made.append({"name": name, "valueInteger": value})
            case dict():
                made.append({"name": name, "part": [{"name": k, "valueString": v} for k, v in value.items()]})
            case _:
                made.append({"name": name, "valueString": str(value)})
    return {"resourceType": "Parameters", "parameter": made}


def referral(number: str, key: str) -> dict[str, Any]:
    """The township refers this person up for a thyroid nodule."""
    return parameters(
        key=key, patient=f"Patient/{number}", toInstitution=HEAD, direction="up", specialty="04.01", diagnosisCode="E04.1",
        diagnosisName="甲状腺结节", priority="routine", reasonCode="catalogue", reason="需专科评估", pack=PACK, consent=True,
        consentEvidence="signed", overrideReason="基层无法评估",
    )  # fmt: skip


@dataclass
class Client:
    """One township system's clerk and one hospital system's clerk, going through referrals; notes every answer it was given."""

    town: Town
    name: str
    acknowledged: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    sent: dict[str, tuple[str, str, dict[str, Any]]] = field(default_factory=dict)
    repeats: list[int] = field(default_factory=list)

    def step(self, token: str, path: str, body: dict[str, Any], key: str) -> Answer:
        """One move, insisted upon; acknowledged when it says 200 or 201."""
        self.sent[key] = (token, path, body)
        answer = self.town.site.insist(token, "POST", path, body, self.repeats)
        assert answer.status in (200, 201), (key, answer.status, answer.raw.decode()[:600])
        self.acknowledged[key] = (answer.value("number"), answer.value("state"), answer.value("version"))
        return answer

    def refer(self, person: str) -> str:
        """Open and send; the case's number."""
        key = f"{self.name}-{person}-refer"
        return str(
            self.step(self.town.township, "ServiceRequest/$refer", referral(person, key), key).value("number")
        )

    def act(self, token: str, number: str, move: str, **form: Any) -> Answer:
        """A move on the case."""
        key = f"{self.name}-{number}-{move}"
        return self.step(token, f"ServiceRequest/{number}/$act", parameters(move=move, key=key, **form), key)

    def accepted(self, person: str) -> str:
        """Referred, received and accepted; the case's number."""
        number = self.refer(person)
        for move in ("receive", "accept"):
            self.act(self.town.head, number, move)
        return number

    def whole(self, person: str, session: int) -> str:
        """From the township to a booked number, answered questions included."""
        number = self.refer(person)
        self.act(self.town.head, number, "receive")
        self.act(self.town.head, number, "ask_info", reasonCode="missing_result", question="请补充甲功")
        self.act(self.town.township, number, "answer_info", text="甲功正常")
        self.act(self.town.head, number, "accept")
        self.act(self.town.head, number, "book", session=session)
        return number


def tomorrow() -> dt.datetime:
    """Tomorrow at eight."""
    return (clock.now() + dt.timedelta(days=1)).replace(hour=8, minute=0, second=0, microsecond=0)
