"""The golden story over FHIR alone: each institution's own system, with its own token, drives its part of it to the end."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db.models import Q

from lianxin.access.models import AuditEvent
from lianxin.access.models import Client as System
from lianxin.duty.models import Case, Duty
from lianxin.index.models import Person
from lianxin.standards import checks, clock
from tests.exchange.client import Client, Reply
from tests.golden import group as g

FORM = "http://lianxin.example/cs/referral-form"
PERSONAL = (
    "Patient", "Encounter", "Condition", "Observation", "Procedure", "MedicationRequest", "ServiceRequest", "Task",
    "Appointment", "Composition", "DocumentReference", "Communication",
)  # fmt: skip


def parameters(**values: Any) -> dict[str, Any]:
    """Values as a Parameters resource, each in its own type."""
    made: list[dict[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, bool):
            made.append({"name": name, "valueBoolean": value})
        elif isinstance(value, int):
            made.append({"name": name, "valueInteger": value})
        elif isinstance(value, dict):
            typed = [
                {"name": k} | ({"valueBoolean": v} if isinstance(v, bool) else {"valueString": str(v)})
                for k, v in value.items()
            ]
            made.append({"name": name, "part": typed})
        else:
            made.append({"name": name, "valueString": str(value)})
    return {"resourceType": "Parameters", "parameter": made}


def said(reply: Reply, name: str) -> Any:
    """The value of a parameter answered."""
    part = next(p for p in reply.json["parameter"] if p["name"] == name)
    return next(v for k, v in part.items() if k != "name")


class Hospital(Client):
    """An institution's own system."""

    def __init__(self, code: str) -> None:
        super().__init__(f"HIS {code}", code)
        self.code = code
        self.done = 0

    def ok(self, method: str, path: str, body: Any = None, status: int = 0, **headers: str) -> Reply:
        """A call that must succeed."""
        reply = self(method, path, body, **headers)
        assert reply.status == (status or 200), (path, reply.status, reply.raw.decode()[:2000])
        return reply

    def act(self, number: str, move: str, **form: Any) -> Reply:
        """Make a move on the referral's Task."""
        self.done += 1
        return self.ok(
            "POST", f"Task/{number}-1/$act", parameters(move=move, key=f"{self.code}-{self.done}", **form)
        )

    def worklist(self, status: str) -> list[str]:
        """Ids of the Tasks of that status that this institution owns."""
        found = self.ok("GET", f"Task?owner=Organization/{self.code}&status={status}").json
        return [e["resource"]["id"] for e in found.get("entry", [])]

    def put(self, number: str, status: str, **inputs: Any) -> dict[str, Any]:
        """Read the Task, write it back with another status and what the form asks for."""
        task = self.ok("GET", f"Task/{number}-1").json
        kinds = {bool: "valueBoolean", int: "valueInteger"}
        task["status"] = status
        if inputs:
            task["input"] = [
                {
                    "type": {"coding": [{"system": FORM, "code": name}]},
                    kinds.get(type(value), "valueString"): value,
                }
                for name, value in inputs.items()
            ]
        version = task["meta"]["versionId"]
        return self.ok("PUT", f"Task/{number}-1", task, if_match=f'W/"{version}"').json

    def sees_nothing(self, person: str, number: str = "") -> None:
        """Reading and searching bring nothing of the person, of any type."""
        for rtype in PERSONAL:
            key = "_id" if rtype == "Patient" else "patient"
            if rtype == "Task":
                found = self("GET", f"Task?owner=Organization/{self.code}")
            else:
                found = self("GET", f"{rtype}?{key}={'' if rtype == 'Patient' else 'Patient/'}{person}")
            assert found.status in (200, 403, 404), (rtype, found.raw)
            assert found.status != 200 or not found.json.get("entry"), (self.code, rtype, found.json)
        assert self("GET", f"Patient/{person}").status in (403, 404)
        assert self("GET", f"Patient/{person}/$everything").status in (403, 404)
        if number:
            for path in (
                f"Task/{number}-1",
                f"ServiceRequest/{number}",
                f"Composition/{number}-L1",
                f"Appointment/{number}-A",
            ):
                assert self("GET", path).status in (403, 404, 410), path
            tried = self("POST", f"Task/{number}-1/$act", parameters(move="receive", key="stranger"))
            assert tried.status in (403, 404), tried.raw


def register(centre: Hospital) -> str:
    """The township's system sends her registration, the visit, the diagnosis; returns her number in the index."""
    pid, visit = f"{centre.code}-1", f"{centre.code}-v1"
    subject = {"reference": f"Patient/{pid}"}
    centre.ok("POST", "", g.transaction([
        {"resourceType": "Patient", "id": pid, "name": [{"text": g.NAME}], "gender": "female", "birthDate": g.BORN.isoformat(),
         "identifier": [{"system": "http://lianxin.example/id/resident-id-card", "value": g.ID_NO}],
         "telecom": [{"system": "phone", "value": g.PHONE}],
         "generalPractitioner": [{"reference": f"Organization/{centre.code}"}]},
        {"resourceType": "Encounter", "id": visit, "status": "finished", "subject": subject,
         "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
         "period": {"start": clock.now().isoformat(timespec="seconds")},
         "serviceProvider": {"reference": f"Organization/{centre.code}"}},
        {"resourceType": "Condition", "id": f"{visit}-dx", "subject": subject, "encounter": {"reference": f"Encounter/{visit}"},
         "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "E04.1"}], "text": "甲状腺结节"}},
    ]))  # fmt: skip
    person = Person.objects.unscoped("the test asks the index for her number").get(name=g.NAME)
    assert centre.ok("GET", f"Patient/{person.number}").json["name"][0]["text"] == g.NAME
    return str(person.number)


def test_the_story_closes_over_fhir(group: g.Group) -> None:
    centre, head, tcm = Hospital(g.TOWNSHIP), Hospital(g.HEAD), Hospital(g.TCM)
    branch, elsewhere = Hospital(g.BRANCH), Hospital(g.ELSEWHERE)
    who = register(centre)
    for stranger in (head, tcm, branch, elsewhere):
        stranger.sees_nothing(who)

    # Up: the township refers; the head hospital finds it on its worklist, asks, is answered, accepts and books.
    body = parameters(
        patient=f"Patient/{who}", direction="up", toInstitution=g.HEAD, toDepartment="PWK", specialty="04.01",
        diagnosisCode="E04.1", diagnosisName="甲状腺结节", reasonCode="catalogue", reason="怀疑需手术",
        facts={k: str(v) for k, v in g.FACTS_UP.items()}, pack=g.UP_PACK, consent=True, consentEvidence="signed",
    )  # fmt: skip
    up = str(said(centre.ok("POST", "ServiceRequest/$refer", body, 201, idempotency_key="up"), "number"))
    assert head.worklist("requested") == [f"{up}-1"]
    for stranger in (tcm, branch, elsewhere):
        stranger.sees_nothing(who, up)
    request = head.ok("GET", f"ServiceRequest/{up}").json
    assert (request["status"], request["subject"]["reference"]) == ("active", f"Patient/{who}")
    assert head.ok("GET", f"Condition?patient=Patient/{who}").json["total"] == 1, "the duty opens her record"
    assert head.put(up, "received")["status"] == "received"
    assert said(head.act(up, "ask_info", reasonCode="missing_result", question=g.QUESTION), "task")[
        "businessStatus"
    ]["coding"][0]["code"] == ("awaiting-information")
    asked = centre.ok("GET", f"Communication?patient=Patient/{who}").json["entry"]
    assert [e["resource"]["payload"][0]["contentString"] for e in asked] == [g.QUESTION]
    centre.act(up, "answer_info", text=g.ANSWER)
    assert head.put(up, "accepted")["status"] == "accepted"
    at = (clock.now() + dt.timedelta(days=2)).isoformat(timespec="seconds")
    head.put(up, "in-progress", appointmentAt=at, appointmentNote="普通外科门诊 3 诊室")
    assert centre.ok("GET", f"Appointment/{up}-A").json["status"] == "booked"
    assert centre.ok("GET", f"Appointment?patient=Patient/{who}&status=booked").json["total"] == 1

    # She arrives, is operated; the hospital's own system sends its papers, and the township reads them.
    g.later(days=2, minutes=5)
    head.act(up, "arrive", identity=g.ID_NO)
    head.act(up, "start_care", visitKind="inpatient", visitNumber="ZY260304")
    head.ok("POST", "", g.transaction(g.hospital_papers("XN-SYY-260304", "XN-SYY-ZY260304", clock.now())))
    for rtype, many in (("Procedure", 1), ("Observation", 2), ("MedicationRequest", 2)):
        assert centre.ok("GET", f"{rtype}?patient=Patient/{who}").json["total"] == many, rtype
        assert branch("GET", f"{rtype}?patient=Patient/{who}").json.get("total", 0) == 0
    g.later(days=1)
    head.act(up, "interim_note", text=g.INTERIM)
    g.later(days=4)
    head.act(up, "discharge", diagnosisCode="D34", diagnosisName="甲状腺良性肿瘤", facts=g.FACTS_DOWN)
    proposed = head.act(up, "propose_down", toInstitution=g.TCM, specialty="21", pack=g.DOWN_PACK)
    down = str(said(proposed, "child"))
    tcm.sees_nothing(who, down)
    head.ok(
        "POST",
        f"ServiceRequest/{down}/$act",
        parameters(move="submit", key="down", consent=True, consentEvidence="signed"),
    )
    follow = (clock.today() + dt.timedelta(days=21)).isoformat()
    assert head.put(up, "completed", **g.LETTER, followWhen=follow)["status"] == "completed"
    letter = centre.ok(
        "GET",
        f"Composition/{centre.ok('GET', f'Task/{up}-1').json['output'][-1]['valueReference']['reference'].split('/')[1]}",
    )
    assert letter.json["title"] == "转诊回转单"
    unticked = centre("POST", f"Task/{up}-1/$act", parameters(move="acknowledge", key="unticked"))
    assert (unticked.status, "medication_reconciled" in unticked.issues[0]["expression"][0]) == (422, True)
    assert said(centre.act(up, "acknowledge", medicationReconciled=True), "state") == "closed"
    branch.sees_nothing(who, up)

    # Down: the TCM hospital may read what its duty is about, accepts, rehabilitates; the surgeon makes a round.
    assert tcm.worklist("requested") == [f"{down}-1"]
    paper = tcm.ok("GET", f"ServiceRequest/{down}").json
    assert paper["basedOn"][0]["reference"] == f"ServiceRequest/{up}"
    tcm.put(down, "received")
    tcm.put(down, "accepted")
    tcm.put(
        down, "in-progress", appointmentAt=(clock.now() + dt.timedelta(days=1)).isoformat(timespec="seconds")
    )
    g.later(days=1, minutes=5)
    tcm.act(down, "arrive", identity=who)
    tcm.act(down, "start_care", visitKind="inpatient")
    g.later(days=5)
    head.act(down, "ward_round", **g.ROUND)
    g.later(days=7)
    tcm.act(down, "discharge", facts=g.FACTS_DOWN)
    home = str(
        said(
            tcm.act(down, "propose_down", toInstitution=g.TOWNSHIP, specialty="21", pack=g.HOME_PACK), "child"
        )
    )
    tcm.ok(
        "POST",
        f"ServiceRequest/{home}/$act",
        parameters(move="submit", key="home", consent=True, consentEvidence="family"),
    )
    tcm.act(down, "send_outcome", **g.REHABILITATED, followWhen=follow)
    assert said(head.act(down, "acknowledge", medicationReconciled=True), "state") == "closed"

    # Home: the township takes her back and writes to the TCM hospital; nothing is left open but the follow-up.
    assert centre.worklist("requested") == [f"{home}-1"]
    centre.put(home, "received")
    centre.put(home, "accepted")
    centre.put(
        home, "in-progress", appointmentAt=(clock.now() + dt.timedelta(hours=3)).isoformat(timespec="seconds")
    )
    g.later(hours=3)
    centre.act(home, "arrive", identity=g.ID_NO)
    centre.act(home, "start_care", visitKind="clinic")
    centre.act(home, "send_outcome", **g.REHABILITATED, followWhen=follow)
    assert said(tcm.act(home, "acknowledge", medicationReconciled=True), "state") == "closed"
    referrals = Case.objects.unscoped("test").filter(kind="referral")
    assert [c.state for c in referrals.order_by("pk")] == ["closed"] * 3
    assert not Duty.objects.unscoped("test").filter(case__kind="referral", ended="").exists()
    for number in (up, down, home):
        assert centre.ok("GET", f"ServiceRequest/{number}").json["status"] == "completed"

    # After the grace that the policy allows, the hospitals that are done with her see nothing of her any more but their own.
    g.later(days=40)
    assert tcm("GET", f"Condition?patient=Patient/{who}").json.get("total", 0) == 0
    assert tcm("GET", f"Patient/{who}").status in (403, 404)
    assert centre.ok("GET", f"Procedure?patient=Patient/{who}").json["total"] == 1, (
        "her own township goes on seeing her"
    )

    wrong = {name: problems for name, problems in checks.run() if problems}
    assert wrong == {}
    systems = {s.name: s.pk for s in System.objects.all()}
    events = AuditEvent.objects.filter(person_id=Person.objects.unscoped("test").get(number=who).pk)
    for system in (centre, head, tcm):
        actions = set(
            events.filter(client_id=systems[f"HIS {system.code}"], outcome="ok").values_list(
                "action", flat=True
            )
        )
        assert {"read", "update"} <= actions, (system.code, actions)
    assert not events.filter(
        client_id=systems[f"HIS {g.BRANCH}"], outcome="ok", action__in=("read", "update", "create")
    ).exists()
    for rtype in ("Procedure", "Observation", "MedicationRequest", "Encounter", "Patient"):
        assert events.filter(Q(what__contains=rtype) | Q(detail__contains=f'"{rtype}"')).exists(), rtype
