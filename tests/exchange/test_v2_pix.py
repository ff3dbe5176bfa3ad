"""PIX v2: patients fed by ADT, numbers joined by A40, queries by Q23; repetitions, refusals, and junk."""

import datetime as dt
import random

import pytest
from django.db import connection

from lianxin.access import connections, tokens
from lianxin.access.models import Client as System
from lianxin.access.scope import Scope
from lianxin.exchange.feeds.models import REFUSED, TAKEN, Arrival
from lianxin.exchange.ihe import domains, identifiers
from lianxin.exchange.v2 import message, receiving
from lianxin.exchange.v2.models import Peer
from lianxin.exchange.v2.peers import Origin
from lianxin.index import golden
from lianxin.index.foreign import registration_from_patient
from lianxin.index.models import Person, ReviewItem, SourceRecord
from lianxin.index.registry import Registration, register
from lianxin.record import rows
from lianxin.standards import clock
from tests.exchange.client import Client
from tests.factories import make_consortium, make_institution, make_resident_id

pytestmark = pytest.mark.django_db(transaction=True)

HIS, LIS = "urn:oid:2.999.1", "urn:oid:2.999.2"


def make_peer(name, institution, scope="system/Patient.cruds", **more):
    tokens.issue(f"v2-{name}", scope, institution.code)
    return Peer.objects.create(
        name=name, application=name, facility=institution.code, client=System.objects.get(name=f"v2-{name}"), created_at=clock.now(), **more
    )  # fmt: skip


@pytest.fixture
def world(db):
    a, b, out = (make_institution(code, "township") for code in ("V2-A", "V2-B", "V2-OUT"))
    make_consortium(a, [b])
    make_consortium(out, [make_institution("V2-X", "township")])
    domains.enter(HIS, a.pk, namespace="HISA", oid="2.999.1")
    domains.enter(LIS, b.pk, namespace="HISB", oid="2.999.2")
    peers = {
        i.code: make_peer(f"P-{i.code}", i, default_system=s) for i, s in ((a, HIS), (b, LIS), (out, ""))
    }
    yield {"a": a, "b": b, "out": out, **peers}
    connections.close()


_numbers = iter(range(1, 10**6))


def adt(
    event="A04",
    pid="",
    *more,
    sender="V2-A",
    control=None,
    version="2.5",
    codec="utf-8",
    cs="UNICODE UTF-8",
    msh9=None,
):
    control = control or f"C{next(_numbers)}"
    head = f"MSH|^~\\&|P-{sender}|{sender}|LIANXIN|LX|20260301080000||{f'ADT^{event}' if msh9 is None else msh9}|{control}|P|{version}||||||{cs}"
    return "\r".join([head, f"EVN|{event}|20260301080000", pid, *more]).encode(codec)


def pid(number="A1", name="欧阳明月", birth="19690517", authority="HISA&2.999.1&ISO", sex="M", more=""):
    return f"PID|1||{number}^^^{authority}^MR||{name}||{birth}|{sex}{more}"


def send(raw, origin=None):
    return message.parse(receiving.receive(raw, origin))


def ok(raw):
    answer = send(raw)
    assert answer.text("MSA", 1) == "AA", [s.fields for s in answer.segments]
    return answer


def code_of(answer):
    """MSA-1, the code and the place of ERR (2.5)."""
    return (
        answer.text("MSA", 1),
        answer.text("ERR", 3),
        "-".join(answer.first("ERR").repetitions(2)[0][:3] if answer.text("ERR", 2) else []),
    )


def q23(value="A1", authority="HISA&2.999.1&ISO", targets="", sender="V2-A"):
    head = f"MSH|^~\\&|P-{sender}|{sender}|LIANXIN|LX|20260301||QBP^Q23^QBP_Q21|Q{next(_numbers)}|P|2.5"
    return f"{head}\rQPD|IHE PIX Query|T{next(_numbers)}|{value}^^^{authority}^PI|{targets}\rRCP|I\r".encode()


def people():
    return list(Person.objects.unscoped("test").order_by("pk"))


def test_a_patient_is_registered_answered_and_kept(world):
    number = make_resident_id()
    raw = adt(
        "A04",
        pid(more=f"|||幸福村3组12号^^青溪县^浙江省^^^H^^331023||13812345678^PRN^CP||||||{number}"),
        "PV1|1|O",
    )
    answer = ok(raw)
    assert answer.kind == ("ACK", "A04")
    assert answer.text("MSA", 2) == message.parse(raw).control_id
    assert (answer.header.text(5), answer.header.text(6)) == ("P-V2-A", "V2-A")
    person = people()[0]
    assert (person.name, str(person.birth_date), person.sex) == ("欧阳明月", "1969-05-17", "male")
    assert person.id_type == "01"
    kept = Arrival.objects.get()
    assert (kept.state, kept.person_id, kept.kind) == (TAKEN, person.pk, "ADT^A04")
    assert "欧阳".encode() not in bytes(kept.body)
    seen = Client("reader", "V2-A")("GET", "Patient?identifier=urn:oid:2.999.1%7CA1").json
    assert seen["total"] == 1
    shown = seen["entry"][0]["resource"]
    assert shown["name"][0]["text"] == "欧阳明月"
    assert shown["address"][0]["district"] == "331023"


@pytest.mark.parametrize("event", ["A01", "A04", "A05", "A08", "A28", "A31"])
def test_every_event_of_the_feed_adds_and_revises(world, event):
    ok(adt(event, pid()))
    ok(adt(event, pid(name="欧阳明悦")))
    assert SourceRecord.objects.unscoped("test").count() == 1
    assert people()[0].name == "欧阳明悦"


@pytest.mark.parametrize(
    ("codec", "cs"), [("gb18030", "GB 18030-2000"), ("gbk", "GBK"), ("gb18030", ""), ("utf-8", "ASCII")]
)
def test_character_sets_are_kept_and_answered_in_kind(world, codec, cs):
    raw = adt("A04", pid(name="张誠驊"), codec=codec, cs=cs)
    ok(raw)
    assert people()[0].name == "张誠驊"
    bad = adt("A04", pid(name="", more="|||某路1号"), codec=codec, cs=cs)
    answer = receiving.receive(bad)
    assert "姓名".encode("gb18030" if codec.startswith("gb") else "utf-8") in answer


def newborn(number, authority, mother="", name="王芳之女", more=()):
    fields = f"PID|1||{number}^^^{authority}^MR||{name}|{more[0] if more else ''}|20260905|F"
    return fields + "|" * 13 + mother if mother else fields


def test_a_newborn_is_known_by_its_mothers_number_by_v2_and_by_fhir(world):
    mother = make_resident_id(dt.date(1996, 4, 5), 128)
    ok(adt("A28", newborn("N1", "HISA&2.999.1&ISO", f"{mother}^^^&2.16.156.10011.1.3&ISO^NI", more=["王芳"])))
    lis = "HISB&2.999.2&ISO"
    ok(adt("A28", newborn("N2", lis), f"NK1|1|王芳|MTH{'|' * 30}{mother}^^^^01", sender="V2-B"))
    words = [golden.spoken(s).reg for s in SourceRecord.objects.unscoped("test").order_by("pk")]
    assert [(w.mother_name, w.mother_id_no, w.id_no) for w in words] == [("王芳", mother, "")] * 2
    assert len(people()) == 1
    ok(adt("A08", newborn("N1", "HISA&2.999.1&ISO", f"{mother}^^^&2.16.156.10011.1.3&ISO^NI")))
    stored = bodies()[0]
    assert stored["contact"][0]["name"]["extension"][0]["valueCode"] == "unknown"
    assert stored["contact"][0]["extension"][0]["valueIdentifier"]["value"] == mother
    read = registration_from_patient(stored, world["a"].pk)
    assert (read.mother_name, read.mother_id_no, read.id_no) == ("", mother, "")
    ok(
        adt("A28", newborn("N3", lis, "M-77^^^HISB^MR"), sender="V2-B")
    )  # her number in the hospital is no identity number
    assert golden.spoken(SourceRecord.objects.unscoped("test").latest("pk")).reg.mother_id_no == ""


def bodies():
    ids = SourceRecord.objects.unscoped("test").order_by("pk").values_list("patient_id", flat=True)
    with connection.cursor() as own:
        found = identifiers.bodies_of(rows.server_cursor(own), list(ids))
    return [found[i] for i in ids]


def test_an_empty_field_says_nothing_and_two_quotes_take_away(world):
    ok(adt("A04", pid(more="|||某路1号||13812345678")))
    ok(adt("A08", pid(birth="", sex="")))
    body = Client("reader", "V2-A")("GET", "Patient?identifier=urn:oid:2.999.1%7CA1").json["entry"][0][
        "resource"
    ]
    assert body["birthDate"] == "1969-05-17"
    assert body["gender"] == "male"
    assert body["telecom"][0]["value"] == "13812345678"
    ok(adt("A08", pid(more='|||||""')))
    body = Client("reader", "V2-A")("GET", "Patient?identifier=urn:oid:2.999.1%7CA1").json["entry"][0][
        "resource"
    ]
    assert "telecom" not in body


def test_a_repetition_is_answered_alike_and_stored_once(world):
    raw = adt("A04", pid(), control="SAME")
    first = receiving.receive(raw)
    again = receiving.receive(raw.replace(b"20260301080000||ADT", b"20260301090000||ADT"))
    assert again == first
    assert Arrival.objects.count() == 1
    assert Arrival.objects.get().attempts == 2
    assert SourceRecord.objects.unscoped("test").count() == 1


def test_a_control_id_used_for_something_else_is_refused_unless_the_sender_begins_anew(world):
    ok(adt("A04", pid(), control="SAME"))
    other = adt("A04", pid("A2", "另一人"), control="SAME")
    assert code_of(send(other))[:2] == ("AE", "205")
    assert len(people()) == 1
    Peer.objects.update(reuses_ids=True)
    ok(other)
    assert len(people()) == 2


def test_what_was_refused_is_taken_when_it_is_sent_again_after_the_cause_is_gone(world):
    System.objects.filter(name="v2-P-V2-A").update(scope="")
    from lianxin.access.models import Token

    Token.objects.update(scope="system/Observation.rs")
    raw = adt("A04", pid())
    assert send(raw).text("MSA", 1) == "AE"
    assert Arrival.objects.get().state == REFUSED
    Token.objects.update(scope="system/Patient.cruds")
    assert receiving.replay(Arrival.objects.get().pk) == "AA"
    ok(raw)
    kept = Arrival.objects.get()
    assert (kept.state, kept.attempts) == (TAKEN, 3)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (lambda: adt("A04", pid(number="")), ("AE", "101", "PID-1-3")),
        (lambda: adt("A04", pid(name="")), ("AE", "101", "PID-1-5")),
        (lambda: adt("A04", pid(birth="19691332")), ("AE", "102", "PID-1-7")),
        (lambda: adt("A04", pid(birth="昨天")), ("AE", "102", "PID-1-7")),
        (lambda: adt("A04", "PV1|1|O"), ("AE", "100", "PID-1")),
        (lambda: adt("A99", pid()), ("AR", "201", "MSH-1-9")),
        (lambda: adt("A04", pid(), msh9="XYZ^Z01"), ("AR", "200", "MSH-1-9")),
        (lambda: adt("A04", pid(), msh9=""), ("AR", "200", "MSH-1-9")),
        (lambda: adt("A04", pid(), control=" "), ("AR", "101", "MSH-1-10")),
        (lambda: adt("A04", pid(), version="3.0"), ("AR", "203", "MSH-1-12")),
        (lambda: adt("A40", pid()), ("AE", "100", "MRG-1")),
        (lambda: adt("A40", pid(), "MRG|"), ("AE", "101", "MRG-1-1")),
        (lambda: adt("A40", pid(), "MRG|NOBODY^^^HISA"), ("AE", "204", "MRG-1-1")),
        (lambda: adt("A40", pid(), "MRG|A1^^^HISA&2.999.1&ISO"), ("AE", "102", "MRG-1-1")),
    ],
)  # fmt: skip
def test_refusals_name_code_and_place(world, raw, expected):
    answer = send(raw())
    assert code_of(answer) == expected
    assert answer.text("ERR", 8)
    assert answer.text("ERR", 7)
    assert people() == []


def test_an_older_version_gets_the_older_err(world):
    answer = send(adt("A04", pid(name=""), version="2.3"))
    assert answer.version == "2.3"
    assert answer.first("ERR").repetitions(1)[0][:3] == ["PID", "1", "5"]
    assert answer.first("ERR").subs(1, 4)[0] == "101"
    assert "PID-5" in answer.text("MSA", 3)


def test_strangers_are_rejected(world):
    for raw in (adt("A04", pid(), sender="NOBODY"), adt("A04", pid()).replace(b"|V2-A|", b"|V2-B|", 1)):
        assert code_of(send(raw))[:2] == ("AR", "204")
    assert code_of(send(adt("A04", pid()), Origin("10.9.8.7")))[0] == "AR"
    assert send(adt("A04", pid()), Origin("127.0.0.1")).text("MSA", 1) == "AA"
    assert send(adt("A04", pid()), Origin("::ffff:127.0.0.1")).text("MSA", 1) == "AA"
    world["V2-A"].addresses = ["10.9.0.0/16"]
    world["V2-A"].save()
    assert send(adt("A04", pid()), Origin("10.9.8.7")).text("MSA", 1) == "AA"
    assert send(adt("A04", pid()), Origin("127.0.0.1")).text("MSA", 1) == "AR"
    world["V2-A"].fingerprint = "ab" * 32
    world["V2-A"].save()
    assert send(adt("A04", pid()), Origin("10.9.8.7")).text("MSA", 1) == "AR"
    assert send(adt("A04", pid()), Origin("10.9.8.7", "AB" * 32)).text("MSA", 1) == "AA"
    System.objects.filter(name="v2-P-V2-A").update(active=False)
    assert send(adt("A04", pid()), Origin("10.9.8.7", "ab" * 32)).text("MSA", 1) == "AR"


def test_a40_joins_two_numbers_of_the_sender(world):
    ok(adt("A04", pid("OLD", "李二丫", "19550130")))
    ok(adt("A04", pid("NEW", "李尔雅", "19580130")))
    assert [p.status for p in people()] == ["active", "active"]
    raw = adt("A40", pid("NEW", "李尔雅", "19580130"), "MRG|OLD^^^HISA&2.999.1&ISO", control="J1")
    ok(raw)
    ok(raw)
    assert sorted(p.status for p in people()) == ["active", "merged"]
    old = Client("reader", "V2-A")("GET", "Patient?identifier=urn:oid:2.999.1%7COLD").json["entry"][0][
        "resource"
    ]
    assert old["active"] is False
    assert old["link"][0]["type"] == "replaced-by"
    answer = ok(q23("OLD"))
    values = [r[0] for r in answer.first("PID").repetitions(3)]
    assert "NEW" in values
    assert "OLD" not in [r[0] for r in ok(q23("NEW")).first("PID").repetitions(3)]
    ok(adt("A40", pid("NEW", "李尔雅", "19580130"), "MRG|OLD^^^HISA&2.999.1&ISO"))


def test_a40_reaches_nobody_elses_numbers(world):
    ok(adt("A04", pid("A1")))
    ok(adt("A04", pid("B1", "另一人", "19800101", "HISB&2.999.2&ISO"), sender="V2-B"))
    answer = send(adt("A40", pid("A1"), "MRG|B1^^^HISB&2.999.2&ISO"))
    assert code_of(answer)[:2] == ("AE", "204")
    assert [p.status for p in people()] == ["active", "active"]


def test_a40_against_two_valid_identity_numbers_warns_and_asks(world):
    for value in ("N1", "N2"):
        ok(adt("A04", pid(value, f"王{value}", more=f"|||||||||||{make_resident_id()}")))
    answer = ok(adt("A40", pid("N1", "王N1"), "MRG|N2^^^HISA&2.999.1&ISO"))
    assert answer.text("ERR", 4) == "W"
    assert [p.status for p in people()] == ["active", "active"]
    assert ReviewItem.objects.filter(state="open").exists()


def test_a_registration_that_came_as_a_table_stays_the_same_one(world):
    register(Scope.system("test"), Registration(world["a"].pk, HIS, "A1", "欧阳明月", "male"))
    ok(adt("A08", pid()))
    source = SourceRecord.objects.unscoped("test").get()
    assert source.patient_id
    assert [h.value for h in identifiers.of_person(_cursor(), source.person_id) if h.system == HIS] == ["A1"]


def _cursor():
    return rows.server_cursor(connection.cursor())


def test_what_fhir_began_v2_goes_on_with(world):
    client = Client("fhir", "V2-A")
    body = {
        "resourceType": "Patient",
        "identifier": [{"system": HIS, "value": "A1"}],
        "name": [{"text": "欧阳明月"}],
        "birthDate": "1969-05-17",
    }
    made = client("PUT", "Patient?identifier=urn:oid:2.999.1%7CA1", body).json["id"]
    ok(adt("A08", pid(name="欧阳明悦")))
    assert client("GET", f"Patient/{made}").json["name"][0]["text"] == "欧阳明悦"
    assert client("PUT", "Patient?identifier=urn:oid:2.999.1%7CA1", body).json["id"] == made


def both(world):
    number = make_resident_id()
    ok(adt("A04", pid("A1", more=f"|||||||||||{number}")))
    ok(adt("A04", pid("B1", authority="HISB&2.999.2&ISO", more=f"|||||||||||{number}"), sender="V2-B"))
    assert len(people()) == 1


def test_q23_tells_the_numbers_of_the_other_institution(world):
    both(world)
    answer = ok(q23())
    assert answer.kind == ("RSP", "K23")
    assert answer.text("QAK", 2) == "OK"
    assert answer.text("QPD", 3) == "A1"
    given = answer.first("PID")
    told = {(given.text(3, 1, 1, n), given.text(3, 4, 2, n)) for n in range(1, len(given.repetitions(3)) + 1)}
    assert ("B1", "2.999.2") in told
    assert any(u == identifiers.NUMBER_SYSTEM for _, u in told)
    assert given.raw(5) == "~^^^^^^S"
    only = ok(q23(targets="^^^HISB&2.999.2&ISO"))
    assert [r[0] for r in only.first("PID").repetitions(3)] == ["B1"]
    assert Arrival.objects.filter(kind="QBP^Q23").count() == 0


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (lambda: q23("NOBODY"), "QPD^1^3^1"),
        (lambda: q23("A1", "X&2.999.77&ISO"), "QPD^1^3^1^4"),
        (lambda: q23("A1", targets="^^^HISB&2.999.2&ISO~^^^X&2.999.77&ISO"), "QPD^1^4^2"),
        (lambda: q23("A1", sender="V2-OUT"), "QPD^1^3^1"),
        (lambda: q23("B1", "HISB&2.999.2&ISO", sender="V2-OUT"), "QPD^1^3^1"),
    ],
)
def test_q23_refusals(world, raw, place):
    both(world)
    answer = send(raw())
    assert (answer.text("MSA", 1), answer.text("QAK", 2), answer.text("ERR", 3)) == ("AE", "AE", "204")
    assert answer.first("ERR").raw(2) == place
    assert answer.first("PID") is None


def test_q23_nobody_else_knows_them(world):
    ok(adt("A04", pid()))
    answer = ok(q23(targets="^^^HISB&2.999.2&ISO"))
    assert answer.text("QAK", 2) == "NF"


def test_fuzz_every_frame_is_answered_and_nothing_breaks(world):
    rnd = random.Random(11)
    seeds = [adt("A04", pid()), adt("A40", pid(), "MRG|X^^^HISA"), q23(), b"MSH|^~\\&|", b"", b"\x00" * 20]
    for n in range(250):
        data = bytearray(rnd.choice(seeds))
        for _ in range(rnd.randint(0, 6)):
            at = rnd.randrange(len(data) + 1)
            if rnd.random() < 0.4:
                del data[at : at + rnd.randint(1, 8)]
            else:
                data[at:at] = bytes(rnd.choice(b"|^~\\&\r\x00\xff\xb0AZ0") for _ in range(rnd.randint(1, 4)))
        data = data.replace(b"|P|", f"|P{n}|".encode(), 1)
        answer = message.parse(receiving.receive(bytes(data)))
        assert answer.text("MSA", 1) in ("AA", "AE", "AR")
        assert answer.text("ERR", 8) not in (
            "An error of ours, which has been logged; send it again later.",
        ), data
        assert "平台内部出错" not in answer.text("ERR", 8), bytes(data)
