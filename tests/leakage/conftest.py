"""A county with a canary: a patient whose every word is found nowhere else, with a record and a referral."""

from __future__ import annotations

import datetime as dt
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.conf import settings
from django.test import Client as Browser

from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.standards import clock, codes
from lianxin.standards.identifiers import resident_id_make
from tests.exchange.client import Client, Reply
from tests.factories import make_department, make_institution, make_post
from tests.referral import world as worlds

NAME, PHONE, ADDRESS = "司空测漏", "13987650123", "金丝雀巷九十九号"
DIAGNOSIS, NOTE, REASON = "金丝雀结节病甲", "金丝雀随笔乙", "金丝雀转诊事由丙"
ID_NUMBER = resident_id_make("331023", dt.date(1961, 7, 23), 888)
OUTSIDE_ROLES = sorted(set(roles.ROLES) - {roles.RESIDENT})


@dataclass
class Cage:
    """The world, the canary's identifiers, and who is outside."""

    world: worlds.World
    patient: str
    person: Person
    resources: dict[str, str]
    case: str
    outsiders: dict[str, Account] = field(default_factory=dict)

    @property
    def secrets(self) -> list[str]:
        """Nothing of this may be seen from outside."""
        return [
            NAME, PHONE, ADDRESS, DIAGNOSIS, NOTE, REASON, ID_NUMBER, self.patient, self.case, self.person.number,
            self.person.card_number, *self.resources.values(),
        ]  # fmt: skip

    def leaked(self, body: bytes | str, *sent: str) -> list[str]:
        """The secrets that occur in an answer, other than those the question itself contained."""
        text = body.decode(errors="replace") if isinstance(body, bytes) else body
        asked = " ".join(urllib.parse.unquote_plus(s) for s in sent)
        return [s for s in self.secrets if s and s in text and s not in asked]

    def browser(self, account: Account) -> Browser:
        """A signed-in browser of this account."""
        made = Browser(headers={"accept-language": "zh-hans"}, raise_request_exception=False)
        made.force_login(account, backend=settings.AUTHENTICATION_BACKENDS[0])
        return made

    def scope(self, name: str) -> Scope:
        """The scope of an outsider."""
        return scope_for_account(self.outsiders[name])


def ok(reply: Reply) -> Any:
    """A good answer's resource."""
    assert reply.status in (200, 201), reply.raw.decode()
    return reply.json


@pytest.fixture
def cage(transactional_db: None) -> Iterator[Cage]:
    """Everything committed, on a Monday morning."""
    with clock.at(worlds.START):
        codes.load_shipped()
        world = worlds.build()
        yield _cage(world)


def _cage(world: worlds.World) -> Cage:
    home = Client("home", world.county.townships[0].code)
    subject = ok(home("POST", "Patient", {
        "resourceType": "Patient", "name": [{"text": NAME}], "gender": "female", "birthDate": "1961-07-23",
        "telecom": [{"system": "phone", "value": PHONE}], "address": [{"text": ADDRESS}],
        "identifier": [{"system": "http://lianxin.example/id/resident-id-card", "value": ID_NUMBER}],
    }))["id"]  # fmt: skip
    about = {"reference": f"Patient/{subject}"}
    given: dict[str, dict[str, Any]] = {
        "Condition": {"subject": about, "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "E04.1"}], "text": DIAGNOSIS}},
        "Observation": {
            "subject": about, "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
            "valueString": NOTE, "effectiveDateTime": "2026-02-01",
        },
        "Encounter": {"subject": about, "status": "finished", "class": {"code": "AMB"}, "reasonCode": [{"text": NOTE}],
                      "serviceProvider": {"reference": f"Organization/{world.county.townships[0].code}"}},
        "AllergyIntolerance": {
            "clinicalStatus": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]},
            "patient": about, "code": {"text": NOTE},
        },
        "DocumentReference": {"subject": about, "status": "current", "description": NOTE,
                              "content": [{"attachment": {"contentType": "text/plain", "data": "6YeR5Lid6ZuA"}}]},
        "RelatedPerson": {"patient": about, "name": [{"text": "司空测漏之女"}]},
    }  # fmt: skip
    made = {
        rtype: ok(home("POST", rtype, {"resourceType": rtype} | body))["id"] for rtype, body in given.items()
    }
    person = Person.objects.unscoped("test").get(pk=registry.by_patient_id(subject))
    case = world.send(
        person=person,
        diagnosis_name=DIAGNOSIS,
        reason=REASON,
        pack=worlds.PACK | {"present": NOTE, "impression": DIAGNOSIS},
    )
    cage = Cage(world, subject, person, made, case)
    elsewhere = make_institution("OUT-1", "hospital", name="外县医院")
    ward = make_department(elsewhere, "NK")
    for role in OUTSIDE_ROLES:
        cage.outsiders[role] = worlds.account_for(make_post(elsewhere, role, department=ward))
    cage.outsiders["neighbour gp"] = Account.objects.get(pk=world["gp2"].account_id)
    cage.outsiders["neighbour desk"] = Account.objects.get(pk=world["township_desk2"].account_id)
    cage.outsiders["neighbour reception"] = Account.objects.get(pk=world["reception2"].account_id)
    for name in ("system_admin", "security_admin", "audit_admin"):
        cage.outsiders[f"own {name}"] = Account.objects.get(pk=world[name].account_id)
    return cage
