"""What is told by HL7 v2 of the record: by whom it may be heard, in which words, and what becomes of it on bad days."""

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from django.db import connection, transaction
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hl7apy.validation import Validator

from lianxin.access import connections, consent, seal
from lianxin.access.models import AuditEvent, Token
from lianxin.access.models import Client as System
from lianxin.access.scope import Scope
from lianxin.exchange.ihe import domains
from lianxin.exchange.v2 import (
    answers,
    errors,
    message,
    outbound,
    outbound_changes,
    outbound_frame,
    outbound_mapping,
    outbound_values,
)
from lianxin.exchange.v2.errors import Refused
from lianxin.exchange.v2.models import REFUSED, SENT, WAITING, Peer, V2Message
from lianxin.index.models import Person
from lianxin.record import feed
from lianxin.standards import clock, codes
from lianxin.standards.identifiers import resident_id_make
from lianxin.standards.text import T
from tests.exchange.client import Client
from tests.exchange.test_v2_pix import make_peer
from tests.exchange.test_v2_wire import Receiver, listening
from tests.factories import make_consortium, make_institution
from tests.referral import world as worlds

# ------------------------------------------------------------------------------------------------------------ mapping

PATIENT = {
    "name": [{"text": "李二丫", "family": "李", "given": ["二丫"]}], "gender": "female", "birthDate": "1955-01-30",
    "address": [{"text": "天台县|赤城街道", "city": "台州"}], "telecom": [{"system": "phone", "value": "13900000000"}],
}  # fmt: skip
ICD = {"system": "http://hl7.org/fhir/sid/icd-10", "code": "E11.9", "display": "2型糖尿病"}
REQUEST = {
    "id": "ZZ1", "priority": "urgent", "authoredOn": "2026-03-01T10:00:00+08:00", "requester": {"reference": "Practitioner/P1", "display": "王医生"},
    "reasonCode": [{"coding": [ICD], "text": "2型糖尿病"}], "note": [{"text": "请会诊"}],
}  # fmt: skip
CONTEXT = {
    "patient": PATIENT, "numbers": [("A1", "", "", ("HIS", "2.999.1", "ISO"), "PI")], "event": "A08", "now": "20260301100000+0800",
    "report": {
        "id": "r1", "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "58410-2", "display": "CBC"}], "text": "血常规"},
        "issued": "2026-03-01T10:00:00+08:00", "effectiveDateTime": "2026-03-01T09:00:00.123+08:00", "conclusion": "正常\n第二行",
    },
    "results": [
        {"code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}], "text": "血红蛋白"}, "status": "final",
         "valueQuantity": {"value": 135.5, "unit": "g/L"}, "referenceRange": [{"low": {"value": 115}, "high": {"value": 150}}]},
        {"code": {"text": "颜色"}, "status": "final", "valueString": "淡黄^色"},
        {"code": {"text": "定性"}, "status": "final", "valueCodeableConcept": {"text": "阴性"}},
        {"code": {"text": "滴度"}, "status": "final", "valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 40}}},
    ],
    "order": REQUEST, "request": REQUEST, "task": {"statusReason": {"text": "床满"}, "lastModified": "2026-03-02T10:00:00+08:00"},
    "appointment": {"id": "A1", "status": "booked", "start": "2026-03-03T08:00:00+08:00", "comment": "带病历"},
    "status": ("A", "Accepted", "HL70283", "accepted", "已接受", "L"), "reason": ("BOOKED", "预约"), "diagnoses": REQUEST["reasonCode"],
    "notes": REQUEST["note"], "times": ("", "", "", "20260303080000+0800", ""),
    "owner": {"reference": "Organization/H1", "display": "县医院"}, "requester": {"reference": "Organization/T1", "display": "赤城卫生院"},
}  # fmt: skip
TOLD = [
    ("patient", "ADT^A04"), ("patient", "ADT^A08"), ("patient", "ADT^A31"), ("result", "ORU^R01"), ("referral", "REF^I12"),
    ("referral", "RRI^I15"), ("booking", "SIU^S15"),
]  # fmt: skip
CRASHES = {("2.7", "SIU^S15"), ("2.8", "ORU^R01")}  # hl7apy's own tables of these are broken
UNNAMED = {
    ("2.3", k) for k in ("ADT^A04", "ADT^A08", "ADT^A31", "RRI^I15", "SIU^S15")
}  # 2.3 has no MSH-9.3 to find them by


def written(name, kind, version, codec="utf-8"):
    mapping = outbound_mapping.load(name, version, kind)
    peer = Peer(application="HIS", facility="H", version=version, codec=codec)
    shape = (*kind.split("^"), mapping.structure)[: 2 if version == "2.3" else 3]
    return outbound_frame.packed(peer, shape, "X1", mapping.segments(CONTEXT))


@pytest.mark.parametrize("version", outbound_mapping.VERSIONS)
def test_every_kind_in_every_version_is_what_hl7_says(version):
    for name, kind in TOLD:
        raw = written(name, kind, version, "gb18030")
        said = raw.decode("gb18030")
        if version < "2.4":
            said = said.replace("ADT_A05", "ADT_A01")
        if (version, kind) not in CRASHES | UNNAMED:
            parsed = parse_message(said, validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=True)
            assert Validator.validate(parsed, None), (version, kind)
        own = message.parse(raw)
        assert own.codec == "gb18030"
        assert own.text("PID", 5) == "李二丫"
        assert own.version == version


def test_values_are_written_as_their_types():
    own = message.parse(written("result", "ORU^R01", "2.5"))
    rows = [(s.text(2), s.raw(5)) for s in own.every("OBX")]
    assert rows == [("NM", "135.5"), ("ST", "淡黄\\S\\色"), ("CE", "^阴性"), ("SN", "^1^:^40")]
    assert next(own.every("OBX")).text(7) == "115-150"
    assert own.text("NTE", 3) == "正常\n第二行"
    assert message.parse(written("result", "ORU^R01", "2.6")).text("OBX", 2) == "NM"


def test_what_a_character_set_does_not_have_is_escaped_not_lost():
    raw = written("patient", "ADT^A08", "2.5", "ascii")
    assert raw.isascii()
    own = message.parse(raw)
    assert own.header.raw(18) == "ASCII~UNICODE UTF-8"
    assert b"\\XE69D8E\\\\XE4BA8C\\" in raw
    assert b"?" not in raw
    assert message.parse(written("patient", "ADT^A08", "2.5", "gb18030")).header.raw(18) == "GB 18030-2000"
    assert outbound_values.encode(["𠮷"], "gb18030").decode("gb18030") == "𠮷\r"


def test_mappings_and_rules_that_make_no_sense_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(outbound_mapping, "FOLDER", tmp_path)
    for number, text in enumerate(
        ("[]", "structures: {A: [X^Y]}", "structures: {A: [X^Y]}\nsegments: [{PID: {1: 'a | nothing'}}]",
         "structures: {A: [X^Y]}\nsegments: [{PID: {1: 'a..b'}}]", "structures: {A: [X^Y]}\nsegments: [{PID: {}, PV1: {}}]",
         "structures: {A: [X^Y]}\nsegments: [{PID: {1: 'a | table(t)'}}]", "structures: {A: [X^Z]}\nsegments: []")
    ):  # fmt: skip
        (tmp_path / f"m{number}.yaml").write_text(text)
        with pytest.raises(outbound_mapping.BadMapping):
            outbound_mapping.load(f"m{number}", "2.5", "X^Y")


# ------------------------------------------------------------------------------------------------------ what is told

WANTS = ["A04", "ORU", "REF", "SIU"]


def settle(record=None):
    watch, senders = feed.Watch(sequence=outbound.SEQUENCE), outbound.Senders()
    for _ in range(4):
        outbound.step(watch, senders, record)
        senders.wait(20)


@contextmanager
def hospital(peer, wants=WANTS, **more):
    receiver = Receiver()
    with listening(receiver.take) as port:
        Peer.objects.filter(pk=peer.pk).update(
            host="127.0.0.1", port=port, wants=wants, told_event=outbound.begin_now(), told_rid=outbound.begin_record(), **more
        )  # fmt: skip
        yield receiver


@pytest.fixture
def two(transactional_db):
    """Two hospitals of a consortium and one of another, each with a system, and one patient whom the first two have registered."""
    a, b, out = (make_institution(f"OU-{x}", "hospital") for x in "ABX")
    make_consortium(a, [b])
    make_consortium(out, [make_institution("OU-Y", "township")])
    for one in (a, b, out):
        domains.enter(f"urn:oid:2.999.{one.pk}", one.pk, namespace=one.code, oid=f"2.999.{one.pk}")
    peers = {i.code: make_peer(f"P-{i.code}", i, "system/*.cruds") for i in (a, b, out)}
    yield peers
    connections.close()


def patient(code, name="程咬金", **more):
    client = Client(f"c-{code}", code)
    body = {
        "resourceType": "Patient", "name": [{"text": name}], "gender": "male", "birthDate": "1961-07-23",
        "identifier": [{"system": "http://lianxin.example/id/resident-id-card", "value": resident_id_make("331023", dt.date(1961, 7, 23), 887)}], **more,
    }  # fmt: skip
    reply = client("POST", "Patient", body)
    assert reply.status == 201, reply.raw
    return client, reply.json


def report(client, patient_id, value=5, status="final"):
    about = {"reference": f"Patient/{patient_id}"}
    code = {
        "coding": [{"system": "http://loinc.org", "code": "15074-8", "display": "Glucose"}],
        "text": "葡萄糖",
    }
    seen = client("POST", "Observation", {
        "resourceType": "Observation", "status": "final", "code": code, "subject": about, "valueQuantity": {"value": value, "unit": "mmol/L"},
    })  # fmt: skip
    assert seen.status == 201, seen.raw
    reply = client("POST", "DiagnosticReport", {
        "resourceType": "DiagnosticReport", "status": status, "code": {"text": "生化"}, "subject": about, "conclusion": "血糖正常",
        "issued": "2026-03-01T10:00:00+08:00", "result": [{"reference": f"Observation/{seen.json['id']}"}],
    })  # fmt: skip
    assert reply.status == 201, reply.raw
    return reply.json["id"]


def test_data_and_reports_of_a_shared_patient_go_to_the_other_hospital_only(two):
    with hospital(two["OU-B"]) as b, hospital(two["OU-X"]) as x, hospital(two["OU-A"]) as a:
        patient("OU-B")
        at_a, mine = patient("OU-A", telecom=[{"system": "phone", "value": "13811112222"}])
        rid = report(at_a, mine["id"])
        settle()
        kinds = ["^".join(m.kind) for m in b.got]
        assert kinds == ["ADT^A04", "ORU^R01"]
        assert b.got[0].text("PID", 5) == "程咬金"
        assert b.got[1].text("OBX", 5) == "5"
        assert b.got[1].text("OBR", 3) == rid
        assert b.got[1].text("OBX", 3) == "15074-8"
        assert x.got == []
        assert ["^".join(m.kind) for m in a.got] == [
            "ADT^A04"
        ]  # what the other sent; nothing of what it sent itself
        # the same again says nothing new; a change does
        settle()
        at_a("PUT", f"Patient/{mine['id']}", {**mine, "address": [{"text": "始丰街道 1 号"}]})
        settle()
        assert ["^".join(m.kind) for m in b.got[2:]] == ["ADT^A08"]
        assert b.got[2].text("PID", 11) == "始丰街道 1 号"
        told = V2Message.objects.filter(peer=two["OU-B"])
        assert {m.state for m in told} == {SENT}
        assert AuditEvent.objects.filter(action="export", what="HL7 v2 ORU^R01").count() == 1


def test_what_a_client_may_not_read_its_system_is_not_told(two):
    System.objects.filter(name="v2-P-OU-B").update(scope="system/Patient.rs")
    Token.objects.filter(client__name="v2-P-OU-B").update(scope="system/Patient.rs")
    with hospital(two["OU-B"]) as b:
        patient("OU-B")
        at_a, mine = patient("OU-A")
        report(at_a, mine["id"])
        settle()
        assert {m.kind[0] for m in b.got} <= {"ADT"}


def test_a_consent_that_was_refused_closes_the_door(two):
    with hospital(two["OU-B"], ["ORU"]) as b:
        patient("OU-B")
        at_a, mine = patient("OU-A")
        person = Person.objects.unscoped("test").get()
        consent.refuse(Scope.system("test"), person.pk, evidence="本人书面要求")
        report(at_a, mine["id"])
        settle()
        assert b.got == []


@pytest.fixture
def county(transactional_db):
    with clock.at(worlds.START):
        codes.load_shipped()
        world = worlds.build()
        yield world
    connections.close()


def test_the_steps_of_a_referral_reach_its_parties(county):
    lead, home = county.county.lead, county.county.townships[0]
    top, low = make_peer("P-LEAD", lead, "system/*.cruds"), make_peer("P-HOME", home, "system/*.cruds")
    other = make_peer("P-OTHER", county.county.townships[1], "system/*.cruds")
    with hospital(top) as at_lead, hospital(low) as at_home, hospital(other) as elsewhere:
        number = county.until("arrived")
        settle()
        told = {
            name: ["^".join(m.kind) for m in one.got] for name, one in (("lead", at_lead), ("home", at_home))
        }
        assert told["lead"][0] == "REF^I12", told
        assert "SIU^S12" in told["lead"], told
        assert told["home"][0] == "RRI^I12", told
        assert "RRI^I13" in told["home"], told
        first = at_lead.got[0]
        assert first.text("RF1", 6) == number
        assert first.text("RF1", 1, 4) == "sent"
        assert first.text("DG1", 3) == "E04.1"
        assert first.text("PRD", 4, 4) == home.code
        assert next(m for m in at_home.got if m.kind == ("RRI", "I12")).text("RF1", 1) == "A"
        assert elsewhere.got == []


# ----------------------------------------------------------------------------------------------------------- bad days


def waiting(peer, count, person=None):
    kind = ("ADT", "A08", "ADT_A01")
    made = []
    for n in range(count):
        own = answers.control_id()
        body = outbound_frame.packed(peer, kind, own, [f"EVN|A08|{n}", f"PID|1||{n}"])
        made.append(V2Message(
            peer=peer, kind="ADT^A08", control_id=own, body=seal.seal_bytes(body), state=WAITING, at=clock.now(), rid=10_000 + n,
            person_id=person[n] if person else n,
        ))  # fmt: skip
    return V2Message.objects.bulk_create(made)


def answered(receiver, asked, code, said=None):
    refused = [Refused(said, T("稍后", "later"))] if said else []
    return answers.acknowledge(asked, code, refused)


def test_a_refusal_stops_nobody_and_a_temporary_one_only_its_patient(two, monkeypatch):
    monkeypatch.setattr(outbound, "back_off", lambda n: dt.timedelta(seconds=60))
    peer = two["OU-B"]
    codes_of = {"0": ("AE", errors.DATA_TYPE), "1": ("AR", errors.LOCKED)}

    class Picky(Receiver):
        def take(self, data, origin):
            asked = message.parse(data)
            self.got.append(asked)
            number = asked.text("PID", 3)
            return answered(self, asked, *codes_of.get(number, ("AA", None)))

    receiver = Picky()
    with listening(receiver.take) as port:
        Peer.objects.filter(pk=peer.pk).update(host="127.0.0.1", port=port)
        rows = waiting(peer, 4, [7, 8, 8, 9])
        outbound.send_waiting(peer.pk)
        states = [V2Message.objects.get(pk=r.pk) for r in rows]
        assert [s.state for s in states] == [REFUSED, WAITING, WAITING, SENT]
        assert states[1].again_at is not None
        assert states[2].attempts == 0
        assert [m.text("PID", 3) for m in receiver.got] == ["0", "1", "3"]
        codes_of.clear()
        V2Message.objects.filter(pk=rows[1].pk).update(again_at=clock.now())
        outbound.send_waiting(peer.pk)
        assert [m.text("PID", 3) for m in receiver.got] == ["0", "1", "3", "1", "2"]


def test_a_temporary_refusal_is_given_up_after_some_tries(two, monkeypatch):
    monkeypatch.setattr(outbound, "back_off", lambda n: dt.timedelta(seconds=-1))
    peer = two["OU-B"]

    class Never(Receiver):
        def take(self, data, origin):
            asked = message.parse(data)
            self.got.append(asked)
            return answered(self, asked, "AE", errors.INTERNAL)

    receiver = Never()
    with listening(receiver.take) as port:
        Peer.objects.filter(pk=peer.pk).update(host="127.0.0.1", port=port)
        one = waiting(peer, 1)[0]
        for _ in range(outbound.MOST_TRIES + 2):
            outbound.send_waiting(peer.pk)
        one.refresh_from_db()
        assert (one.state, one.attempts, len(receiver.got)) == (
            REFUSED,
            outbound.MOST_TRIES,
            outbound.MOST_TRIES,
        )
        assert len({m.control_id for m in receiver.got}) == 1


def test_enhanced_mode_waits_for_the_applications_word(two, monkeypatch):
    monkeypatch.setattr(outbound, "TIMEOUT", 1.0)
    peer = two["OU-B"]
    Peer.objects.filter(pk=peer.pk).update(enhanced=True)
    peer.refresh_from_db()
    said = {"0": ["CA", "AA"], "1": ["CA", "AE"], "2": ["CR"], "3": ["CA"]}

    class Twice(Receiver):
        def take(self, data, origin):
            asked = message.parse(data)
            self.got.append(asked)
            whole = [answers.acknowledge(asked, c) for c in said[asked.text("PID", 3)]]
            return b"\x1c\r\x0b".join(whole)

    receiver = Twice()
    with listening(receiver.take) as port:
        Peer.objects.filter(pk=peer.pk).update(host="127.0.0.1", port=port)
        rows = waiting(peer, 4)
        outbound.send_waiting(peer.pk)
        got = [
            (m.state, m.code) for m in V2Message.objects.filter(pk__in=[r.pk for r in rows]).order_by("pk")
        ]
        assert got == [(SENT, "AA"), (REFUSED, "AE"), (REFUSED, "CR"), (SENT, "CA")]
        assert receiver.got[0].header.text(16) == "AL"


def test_composing_stops_when_too_many_wait_and_nothing_is_lost(two, monkeypatch):
    monkeypatch.setattr(outbound_frame, "MOST_WAITING", 2)
    monkeypatch.setattr(outbound_changes, "SLICE", 3)
    with hospital(two["OU-B"], ["ORU"]) as b:
        Peer.objects.filter(pk=two["OU-B"].pk).update(paused=True)
        patient("OU-B")
        at_a, mine = patient("OU-A")
        sent = [report(at_a, mine["id"], n) for n in range(8)]
        watch = feed.Watch()
        for _ in range(10):
            outbound_changes.compose(watch)
        assert V2Message.objects.filter(state=WAITING).count() == 3
        Peer.objects.filter(pk=two["OU-B"].pk).update(paused=False)
        for _ in range(4):
            settle(watch)
        assert [m.text("OBR", 3) for m in b.got] == sent


def test_a_change_that_is_committed_late_is_told_too(two):
    with hospital(two["OU-B"], ["ORU"]) as b:
        patient("OU-B")
        at_a, mine = patient("OU-A")
        watch = feed.Watch()
        numbered, go_on = threading.Event(), threading.Event()

        def late():
            try:
                with transaction.atomic(), connection.cursor() as cur:
                    cur.execute("SELECT nextval('record_rid')")
                    numbered.set()
                    go_on.wait(20)
            finally:
                connection.close()

        thread = threading.Thread(target=late)
        thread.start()
        assert numbered.wait(20)
        rid = report(at_a, mine["id"])
        settle(watch)
        early = len(b.got)
        go_on.set()
        thread.join(20)
        for _ in range(20):
            settle(watch)
            if b.got:
                break
            time.sleep(0.05)
        assert early == 0
        assert [m.text("OBR", 3) for m in b.got] == [rid]


KILLED = """
import sys, django; django.setup()
from lianxin.exchange.v2 import outbound
while True:
    outbound.send_waiting(int(sys.argv[1]))
"""


def test_a_sender_that_is_killed_loses_nothing_and_repeats_only_the_same_control_ids(two):
    peer = two["OU-B"]
    receiver = Receiver()
    with listening(receiver.take) as port:
        Peer.objects.filter(pk=peer.pk).update(host="127.0.0.1", port=port)
        rows = waiting(peer, 120)
        held = connection.settings_dict
        given = {
            **os.environ,
            "DATABASE_URL": f"postgresql://{held['USER']}@/{held['NAME']}?host={held['HOST']}",
        }
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(peer.pk)], env=given)
        until = time.monotonic() + 60
        while len(receiver.got) < 30 and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert V2Message.objects.filter(state=WAITING).exists()
        until = time.monotonic() + 60
        while V2Message.objects.filter(state=WAITING).exists() and time.monotonic() < until:
            outbound.send_waiting(peer.pk)
        got = [m.control_id for m in receiver.got]
        assert list(dict.fromkeys(got)) == [r.control_id for r in rows]  # each, in order
        assert len(got) - len(rows) <= outbound.TURNS
