"""The FHIR door as a client of an institution that has nothing to do with the patient: it answers as if there were none."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.access import tokens
from lianxin.access.models import AuditEvent, Relationship
from lianxin.access.scope import Scope
from lianxin.duty.models import Case
from lianxin.record import definitions
from lianxin.standards import clock
from tests.exchange.client import Client, Reply
from tests.leakage.conftest import DIAGNOSIS, ID_NUMBER, NAME, NOTE, PHONE, Cage

pytestmark = [pytest.mark.concurrency]


def strangers() -> list[Client]:
    return [Client("outside", "OUT-1"), Client("neighbour", "SC-T3")]


def hits(reply: Reply) -> int:
    """Matches and includes of a searchset (not its own advice)."""
    entries = reply.json.get("entry", [])
    return max(
        reply.json.get("total", 0), sum(1 for e in entries if e.get("search", {}).get("mode") != "outcome")
    )


def test_every_type_and_every_way_of_asking(cage: Cage) -> None:
    pid, number = cage.patient, cage.person.number
    compartment = [t for t in definitions.types() if t not in definitions.OPEN_TYPES]
    every = sorted(definitions.types())
    task = f"{cage.case}-1"
    known = {
        **cage.resources,
        "Patient": pid,
        "Task": task,
        "ServiceRequest": cage.case,
        "DocumentReference": f"{cage.case}-P",
    }
    wrong = []
    for stranger in strangers():
        for rtype in every:
            rid = known.get(rtype, cage.case)
            asked = [
                rtype,
                f"{rtype}?_summary=count",
                f"{rtype}?_total=accurate&_count=0",
                f"{rtype}?_id={rid}",
            ]
            params = definitions.params(rtype)
            for name in ("patient", "subject"):
                if name in params and rtype in compartment:
                    asked += [
                        f"{rtype}?{name}={pid}", f"{rtype}?{name}=Patient/{number}", f"{rtype}?{name}:Patient.name={NAME}",
                        f"{rtype}?{name}:Patient.identifier={ID_NUMBER}", f"{rtype}?_include={rtype}:{name}",
                    ]  # fmt: skip
            for path in asked:
                reply = stranger("GET", path)
                if reply.status >= 500:
                    wrong.append((path, reply.status))
                if leaks := cage.leaked(reply.raw, path):
                    wrong.append((path, leaks))
                if rtype in compartment and reply.status == 200 and hits(reply):
                    wrong.append((path, f"{hits(reply)} hits"))
            for path in (f"{rtype}/{rid}", f"{rtype}/{rid}/_history/1", f"{rtype}/{rid}/_history"):
                reply = stranger("GET", path)
                if reply.status not in (401, 403, 404, 405) or cage.leaked(reply.raw, path):
                    wrong.append((path, reply.status, cage.leaked(reply.raw, path)))
            reply = stranger("GET", f"{rtype}/_history")
            if cage.leaked(reply.raw):
                wrong.append((f"{rtype}/_history", cage.leaked(reply.raw)))
    assert not wrong, "\n".join(map(str, wrong[:20]))


PATHS = [

        "Patient/{pid}/$everything", "Patient/{number}/$everything", "Patient/{number}", "Patient/{number}/_history", "_history",
        "Patient/{pid}/Condition", "Patient/{number}/Observation", "Patient?name={name}", "Patient?identifier={idno}", "Patient?phone={phone}",
        "Patient?telecom={phone}", "Patient?_has:Condition:patient:code=E04.1", "Patient?_has:Observation:patient:code=8480-6",
        "Organization?_revinclude=Encounter:service-provider", "Organization?_has:Encounter:service-provider:subject={pid}",
        "Practitioner?_revinclude=ServiceRequest:requester", "Organization?_id=SC-T1&_revinclude=Patient:organization",
        "Organization?_has:Patient:organization:name={name}", "Task/{case}-1/$allowed", "ServiceRequest/{case}/$allowed",
        "Condition?code=E04.1", "Condition?code:text={diagnosis}", "Patient?_sort=name&_count=1", "Patient?birthdate=1961-07-23",
        "Patient?address=金丝雀", "RelatedPerson?patient={pid}", "Task?owner=Organization/SC-RMYY", "ServiceRequest?_include=*",
        "Appointment?patient={pid}", "Composition?subject={pid}&_include=Composition:subject",
]  # fmt: skip


def test_operations_chains_and_the_golden_patient(cage: Cage) -> None:
    for pattern in PATHS:
        path = pattern.format(
            pid=cage.patient,
            number=cage.person.number,
            name=NAME,
            idno=ID_NUMBER,
            phone=PHONE,
            case=cage.case,
            diagnosis=DIAGNOSIS,
        )
        for stranger in strangers():
            reply = stranger("GET", path)
            assert reply.status < 500, (path, reply.raw)
            assert cage.leaked(reply.raw, path) == [], (path, reply.raw.decode()[:500])
            if reply.status == 200 and not path.startswith(
                ("Organization?_rev", "Organization?_id", "Practitioner", "_history")
            ):
                assert hits(reply) == 0, (path, reply.raw.decode()[:500])


def test_posting_the_same_searches(cage: Cage) -> None:
    for stranger in strangers():
        for body in (f"name={NAME}", f"identifier={ID_NUMBER}", f"_id={cage.patient}", ""):
            reply = stranger(
                "POST", "Patient/_search", body.encode(), content_type="application/x-www-form-urlencoded"
            )
            assert (reply.status, hits(reply)) == (200, 0), body
            assert cage.leaked(reply.raw, body) == []


def test_writing_about_the_patient_is_refused_and_tells_nothing(cage: Cage) -> None:
    version = Case.objects.unscoped("test").get(number=cage.case).version
    relationships = Relationship.objects.filter(person_id=cage.person.pk).count()
    about = [{"reference": f"Patient/{cage.patient}"}, {"reference": f"Patient/{cage.person.number}"}]
    absent = {"reference": "Patient/there-is-no-such-patient"}
    for stranger in strangers():
        for subject in about:
            made = {"resourceType": "Condition", "code": {"text": "x"}, "subject": subject}
            reply = stranger("POST", "Condition", made)
            assert reply.status in (403, 404, 422), reply.raw
            assert cage.leaked(reply.raw, str(subject)) == []
            entry = {"resource": made, "request": {"method": "POST", "url": "Condition"}}
            for kind in ("transaction", "batch"):
                reply = stranger("POST", "", {"resourceType": "Bundle", "type": kind, "entry": [entry]})
                status = (
                    reply.json["entry"][0]["response"]["status"] if kind == "batch" else str(reply.status)
                )
                assert status in ("403", "404", "422"), reply.raw
                assert cage.leaked(reply.raw, str(subject)) == []
        condition = {"resourceType": "Condition", "code": {"text": "x"}, "subject": absent}
        for reference in (f"Patient?identifier={ID_NUMBER}", f"Patient?name={NAME}"):
            entry = {
                "resource": condition | {"subject": {"reference": reference}},
                "request": {"method": "POST", "url": "Condition"},
            }
            reply = stranger("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
            assert reply.status >= 400, reply.raw
            assert cage.leaked(reply.raw, reference) == []
        for rtype, rid in [
            *cage.resources.items(),
            ("Patient", cage.patient),
            ("ServiceRequest", cage.case),
            ("Task", f"{cage.case}-1"),
        ]:
            for method, body in (("PUT", {"resourceType": rtype, "id": rid}), ("DELETE", None)):
                reply = stranger(method, f"{rtype}/{rid}", body)
                assert 400 <= reply.status < 500, (method, rtype, reply.status)
                assert cage.leaked(reply.raw, rid) == []
        reply = stranger(
            "POST", "Encounter", {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}},
            if_none_exist=f"subject=Patient/{cage.patient}",
        )  # fmt: skip
        assert cage.leaked(reply.raw, cage.patient) == [], "a conditional create found somebody else's"
        for move in ("receive", "accept", "reject", "cancel", "nonsense"):
            body = {
                "resourceType": "Parameters",
                "parameter": [
                    {"name": "move", "valueCode": move},
                    {"name": "key", "valueString": f"x{move}"},
                ],
            }
            for place in (f"Task/{cage.case}-1", f"ServiceRequest/{cage.case}"):
                reply = stranger("POST", f"{place}/$act", body)
                assert reply.status in (403, 404), reply.raw
                assert cage.leaked(reply.raw, cage.case) == []
    assert Case.objects.unscoped("test").get(number=cage.case).version == version
    assert Relationship.objects.filter(person_id=cage.person.pk).count() == relationships


def test_referring_somebody_elses_patient_says_no_more_than_that_it_may_not(cage: Cage) -> None:
    def refer(client: Client, patient: str, key: str) -> Reply:
        values = {
            "key": key, "patient": patient, "direction": "up", "toInstitution": "SC-RMYY", "specialty": "04.01", "diagnosisCode": "E04.1",
            "diagnosisName": "甲状腺结节", "overrideReason": "x", "consentEvidence": "signed",
        }  # fmt: skip
        body = [{"name": n, "valueString": v} for n, v in values.items()]
        return client("POST", "ServiceRequest/$refer", {"resourceType": "Parameters", "parameter": body})

    for n, stranger in enumerate(strangers()):
        for k, patient in enumerate((f"Patient/{cage.patient}", f"Patient/{cage.person.number}")):
            reply = refer(stranger, patient, f"r{n}{k}")
            assert reply.status in (403, 404, 409, 422), reply.raw
            assert cage.leaked(reply.raw, patient) == []
    assert Case.objects.unscoped("test").filter(person_id=cage.person.pk).count() == 1


def test_tokens_expired_revoked_narrow_or_none(cage: Cage) -> None:
    paths = [
        f"Patient/{cage.patient}",
        f"Patient?name={NAME}",
        f"Patient/{cage.person.number}/$everything",
        "_history",
    ]
    home = cage.world.county.townships[0].code
    expired = Client("expired", home)
    revoked = Client("revoked", home)
    assert expired("GET", paths[0]).status == 200
    tokens.revoke(Scope.system("test"), "revoked")
    with clock.at(clock.now() + dt.timedelta(days=366)):
        tokens.forget()
        for path in paths:
            reply = expired("GET", path)
            assert (reply.status, cage.leaked(reply.raw, path)) == (401, [])
    tokens.forget()
    for path in paths:
        for reply in (
            revoked("GET", path),
            Client("none", home)("GET", path, authorization=""),
            expired("GET", path, authorization="Bearer x"),
        ):
            assert (reply.status, cage.leaked(reply.raw, path)) == (401, [])
    reader = Client("reader", home, "system/*.rs")
    assert reader("GET", paths[0]).status == 200
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{cage.patient}"},
    }
    entry = {"resource": observation, "request": {"method": "POST", "url": "Observation"}}
    act = {
        "resourceType": "Parameters",
        "parameter": [{"name": "move", "valueCode": "cancel"}, {"name": "key", "valueString": "k"}],
    }
    assert reader("POST", "Observation", observation).status == 403
    assert (
        reader("PUT", f"Patient/{cage.patient}", {"resourceType": "Patient", "id": cage.patient}).status
        == 403
    )
    assert reader("DELETE", f"Observation/{cage.resources['Observation']}").status == 403
    assert (
        reader("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}).status == 403
    )
    batch = reader("POST", "", {"resourceType": "Bundle", "type": "batch", "entry": [entry]})
    assert batch.json["entry"][0]["response"]["status"] == "403"
    assert reader("POST", f"ServiceRequest/{cage.case}/$act", act).status == 403
    assert reader("POST", "ServiceRequest/$refer", act).status == 403
    operation = {"resource": act, "request": {"method": "POST", "url": f"ServiceRequest/{cage.case}/$act"}}
    batch = reader("POST", "", {"resourceType": "Bundle", "type": "batch", "entry": [operation]})
    assert batch.json["entry"][0]["response"]["status"] == "403"
    narrow = Client("narrow", home, "system/Condition.rs")
    reply = narrow(
        "GET", f"Condition?patient={cage.patient}&_include=Condition:subject&_revinclude=Encounter:diagnosis"
    )
    assert reply.status == 200
    assert {e["resource"]["resourceType"] for e in reply.json["entry"]} <= {"Condition", "OperationOutcome"}
    for path in (
        f"Patient/{cage.patient}",
        f"Patient/{cage.patient}/$everything",
        "_history",
        f"Observation?patient={cage.patient}",
    ):
        assert narrow("GET", path).status == 403, path


def test_an_institution_sees_as_long_as_it_owes_and_no_longer(cage: Cage) -> None:
    world, lead = cage.world, Client("lead", "SC-RMYY")
    path = f"Observation/{cage.resources['Observation']}"
    assert lead("GET", path).status == 200, "the receiver of an open referral reads what it is about"
    assert lead("GET", f"Patient/{cage.person.number}").status == 200
    world.act("desk", "receive", cage.case)
    world.act("desk", "redirect", cage.case, {"to_institution": "SC-ZYY", "reason_code": "capacity"})
    second = Client("second", "SC-ZYY")
    gone = (
        path,
        f"Patient/{cage.person.number}",
        f"Patient/{cage.patient}",
        f"Patient/{cage.patient}/$everything",
    )
    for late in gone:
        assert lead("GET", late).status == 404, late
        assert second("GET", late).status == 200, late
    reply = lead("GET", f"Observation?patient=Patient/{cage.person.number}")
    assert (reply.json["total"], NOTE.encode() in reply.raw) == (0, False)
    world.act("gp0", "cancel", cage.case, {"reason_code": "improved", "comment": "好转"})
    with clock.at(clock.now() + dt.timedelta(days=31)):
        for late in gone:
            assert second("GET", late).status == 404, late


def test_what_was_refused_is_in_the_audit_trail_without_its_words(cage: Cage) -> None:
    for stranger in strangers():
        stranger("GET", f"Patient?name={NAME}&identifier={ID_NUMBER}")
    rows = AuditEvent.objects.order_by("-id").values_list("what", "detail")[:60]
    text = str(list(rows))
    assert NAME not in text
    assert ID_NUMBER not in text
    assert PHONE not in text
