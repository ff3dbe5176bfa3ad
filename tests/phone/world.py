"""A small made-up county for the tests of the phone pages: a hospital, sessions from tomorrow on, residents with accounts and a record."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import count
from typing import Any

from django.test import Client

from lianxin.access import relationships
from lianxin.access.models import Account, ActsFor
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index.models import Person
from lianxin.network import roles
from lianxin.network.models import Department, Institution
from lianxin.pool.models import Session
from lianxin.record import publish
from lianxin.resident.phone import finding, pages_find
from lianxin.standards import clock
from tests.factories import make_department, make_institution, make_post, make_practitioner

_serial = count(1)


def tomorrow(hour: int, minute: int = 0, days: int = 1) -> dt.datetime:
    """A time of tomorrow (or later), whenever the test runs."""
    return dt.datetime.combine(clock.today() + dt.timedelta(days=days), dt.time(hour, minute), clock.ZONE)


def make_person(name: str = "测试", home: Institution | None = None) -> Person:
    """Somebody of the index."""
    number = f"{next(_serial):010d}"
    return Person.objects.create(
        number=number, card_number=number, name=name, pinyin="ceshi", initials="cs", sex="female",
        birth_date=dt.date(1960, 5, 1), home_institution=home,
    )  # fmt: skip


def make_resident(*people: Person) -> Account:
    """An account that acts for ``people``, the first of them being its owner."""
    account = Account.objects.create(username=f"sj{next(_serial)}", name=people[0].name, resident=True)
    for n, person in enumerate(people):
        ActsFor.objects.create(
            account=account, person_id=person.pk, relation="guardian" if n else "self",
            since=clock.now() - dt.timedelta(days=1),
        )  # fmt: skip
    return account


def signed_in(account: Account, language: str = "zh-hans") -> Client:
    """A browser of this account."""
    client = Client(headers={"accept-language": language})
    client.force_login(account)
    return client


def make_session(department: Department, **fields: Any) -> Session:
    """Five numbers tomorrow morning."""
    now = clock.now() - dt.timedelta(days=1)
    defaults = {
        "institution_id": department.institution_id, "department": department, "specialty": department.specialty,
        "starts_at": tomorrow(8), "ends_at": tomorrow(11), "capacity": 5, "opens_at": now, "fee_fen": 1200,
        "release_county": now, "release_township": now, "release_village": now,
    }  # fmt: skip
    return Session.objects.create(**defaults | fields)


@dataclass
class County:
    """What the tests start from."""

    hospital: Institution
    clinic: Institution
    cardiology: Department
    session: Session
    full: Session
    me: Person
    child: Person
    account: Account

    @property
    def scope(self) -> Scope:
        """What the resident may see."""
        return scope_for_account(self.account)

    def client(self, language: str = "zh-hans") -> Client:
        """The resident's browser."""
        return signed_in(self.account, language)


def build() -> County:
    """A hospital and a township centre, cardiology with a doctor, a session with numbers and one without, a mother and her child."""
    finding.forget()
    pages_find.forget()
    hospital = make_institution(
        kind="hospital",
        name="试验县人民医院",
        name_en="Trial County Hospital",
        lon=121.02,
        lat=29.14,
        phone="0576-00000000",
    )
    clinic = make_institution(name="试验镇卫生院", name_en="Trial Township Centre", lon=120.90, lat=29.17)
    cardiology = make_department(hospital, "XN", name="心血管内科", name_en="Cardiology", specialty="03.04")
    doctor = make_practitioner("甄心", name_en="Zhen Xin", title="")
    make_post(hospital, roles.CLINICIAN, doctor, cardiology)
    session = make_session(cardiology, practitioner=doctor)
    full = make_session(cardiology, starts_at=tomorrow(14), ends_at=tomorrow(17), capacity=1, taken_public=0)
    me, child = make_person("居试娘", clinic), make_person("居试儿", clinic)
    return County(hospital, clinic, cardiology, session, full, me, child, make_resident(me, child))


def fill(county: County) -> None:
    """Take the only number of the full session."""
    from lianxin.pool import booking

    booking.book(county.full.pk, make_person("旁人").pk, "public", f"fill-{next(_serial)}")


def record(county: County) -> None:
    """A record: a problem, a medicine, an allergy, four blood sugars, a report; the hospital sent it."""
    subject = {"reference": f"Patient/{county.me.number}"}
    found: list[dict[str, Any]] = [
        {"resourceType": "Condition", "id": "ph-c", "subject": subject, "code": {"text": "高血压"}, "recordedDate": "2026-05-02"},
        {"resourceType": "MedicationRequest", "id": "ph-m", "status": "active", "intent": "order", "subject": subject,
         "medicationCodeableConcept": {"text": "氨氯地平片"}, "authoredOn": "2026-05-02", "dosageInstruction": [{"text": "每日一次，一次 5 mg"}]},
        {"resourceType": "AllergyIntolerance", "id": "ph-a", "patient": subject, "code": {"text": "青霉素"}, "recordedDate": "2020-01-02"},
        {"resourceType": "DiagnosticReport", "id": "ph-r", "status": "final", "subject": subject, "code": {"text": "心电图报告"},
         "effectiveDateTime": "2026-05-02T09:00:00+08:00", "conclusion": "窦性心律"},
    ]  # fmt: skip
    for n, value in enumerate((5.2, 6.0, 7.4, 8.8)):
        found.append(
            {
                "resourceType": "Observation", "id": f"ph-o{n}", "status": "final", "subject": subject,
                "code": {"coding": [{"system": "http://loinc.org", "code": "14771-0"}], "text": "空腹血糖"},
                "effectiveDateTime": f"2026-0{n + 1}-03T08:00:00+08:00", "valueQuantity": {"value": value, "unit": "mmol/L"},
                "referenceRange": [{"low": {"value": 3.9}, "high": {"value": 6.1}}],
            }
        )  # fmt: skip
    publish.publish(found, person_id=county.me.pk, institution_id=county.hospital.pk)
    relationships.grant(county.me.pk, county.hospital.pk, "encounter", "test")


def staff(institution: Institution, role: str) -> Account:
    """Somebody with a post there."""
    post = make_post(institution, role)
    return Account.objects.create(
        username=f"zy{next(_serial)}", name=post.practitioner.name, practitioner=post.practitioner
    )
