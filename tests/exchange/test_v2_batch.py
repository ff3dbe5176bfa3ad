"""HL7 v2 messages that come together: each as if it were alone, in one transaction; both modes of acknowledgement; files."""

import threading

import pytest
from django.db import DataError, connection

from lianxin.access import audit
from lianxin.access.models import AuditEvent, ChainLink
from lianxin.exchange.feeds import inbox, quality
from lianxin.exchange.feeds.models import QUARANTINED, REFUSED, TAKEN, Arrival
from lianxin.exchange.feeds.quality import Found
from lianxin.exchange.v2 import batch, files, framing, message, receiving, strangers
from lianxin.exchange.v2.framing import Frame
from lianxin.exchange.v2.peers import Origin
from lianxin.exchange.v2.receiving import Came
from lianxin.index.models import SourceRecord
from lianxin.record import store
from lianxin.standards.text import T
from tests.exchange.test_v2_pix import HIS, adt, make_peer, people, pid, world  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def his(world):  # noqa: F811
    peer = make_peer("HIS", world["a"], scope="system/*.cruds", default_system=HIS)
    yield peer
    strangers.forget()


def head(kind, control, at="20260301080000", tail="", version="2.5"):
    return f"MSH|^~\\&|HIS|V2-A|LIANXIN|LX|{at}||{kind}|{control}|P|{version}|||{tail}"


def feed(event, control, who="A1", name="欧阳明月", at="20260301080000", more=(), phone="", tail=""):
    patient = f"PID|1||{who}^^^HISA&2.999.1&ISO^MR||{name}||19690517|M|||||{phone}"
    return "\r".join([head(f"ADT^{event}", control, at, tail), f"EVN|{event}|{at}", patient, *more]).encode()


def visit(number, status="I"):
    return f"PV1|1|{status}|W1^2^3||||D1^某医生|||||||||||I|{number}|||||||||||||||||||||||||20260301080000"


def oru(
    control,
    who="A1",
    order="F1",
    values=(("718-7", "120"),),
    at="20260301090000",
    status="F",
    tail="",
    issued="",
):
    lines = [
        head("ORU^R01", control, at, tail), f"PID|1||{who}^^^HISA&2.999.1&ISO^MR||欧阳明月||19690517|M",
        f"OBR|1|P{order}|{order}|58410-2^血常规^LN|||20260301083000|||||||||||||||{issued or at}||LAB|{status}",
    ]  # fmt: skip
    for n, (code, value) in enumerate(values, 1):
        lines.append(f"OBX|{n}|NM|{code}^项目{code}^LN||{value}|g/L|100-200|N|||{status}|||20260301083000")
    return "\r".join(lines).encode()


def together(*raw):
    return [
        message.parse(one.data.split(b"\x1c\r\x0b")[-1]) if one.data else None
        for one in receiving.receive_many([Came(Frame(r), Origin()) for r in raw])
    ]


def codes(answers):
    return [a.text("MSA", 1) if a else None for a in answers]


def stored(rtype):
    with connection.cursor() as cur:
        cur.execute("SELECT id, version, body FROM record_resource WHERE rtype = %s AND NOT deleted", [rtype])
        return {
            r[0]: (r[1], store.text.parse(store.opened(rtype, bytes(r[2])).encode())) for r in cur.fetchall()
        }


def test_what_came_together_is_understood_one_after_the_other_and_committed_once(his):
    begun = ChainLink.objects.count()
    answers = together(
        feed("A01", "1", more=[visit("V1")]),
        oru("2", values=[("718-7", "120"), ("6690-2", "5.1")]),
        feed("A08", "3", phone="13912345678", at="20260301100000"),
        feed("A01", "4", name=""),  # refused alone
        feed("A01", "1", more=[visit("V1")]),  # the first once more
        feed("A31", "1", name="别人"),  # its control id for something else
        oru("7", who="A1", order="F2", values=[("718-7", "130")], at="20260301110000"),
    )
    assert codes(answers) == ["AA", "AA", "AA", "AE", "AA", "AE", "AA"]
    assert [a.text("MSA", 2) for a in answers] == ["1", "2", "3", "4", "1", "1", "7"]
    assert answers[0].control_id == answers[4].control_id
    assert len(people()) == 1
    ((_, patient),) = stored("Patient").values()
    assert patient["telecom"][0]["value"] == "13912345678"
    assert len(stored("Observation")) == 3
    assert {b["subject"]["reference"] for _, b in stored("Observation").values()} == {
        f"Patient/{patient['id']}"
    }
    kept = {(a.control_id, a.state): a for a in Arrival.objects.all()}
    assert set(kept) == {
        ("1", TAKEN),
        ("2", TAKEN),
        ("3", TAKEN),
        ("4", REFUSED),
        ("1", REFUSED),
        ("7", TAKEN),
    }
    assert kept["1", TAKEN].attempts == 2
    assert {r.split("/")[0] for r in kept["2", TAKEN].resources} >= {"Observation", "DiagnosticReport"}
    assert inbox.body_of(kept["2", TAKEN]) == oru("2", values=[("718-7", "120"), ("6690-2", "5.1")])
    assert audit.verify() == []
    assert ChainLink.objects.count() - begun <= 4  # a link for the batch, not for every act
    assert AuditEvent.objects.filter(action="create", what__startswith="Observation").count() + AuditEvent.objects.filter(
        action="create", what__startswith="DiagnosticReport"
    ).count() >= 2  # fmt: skip


def test_a_patient_who_is_said_again_is_not_written_again(his):
    together(feed("A04", "1"))
    together(feed("A08", "2"), oru("3"))
    ((version, _),) = stored("Patient").values()
    assert version == 1
    assert SourceRecord.objects.unscoped("test").count() == 1


def test_one_that_the_database_does_not_take_spoils_no_other(his, monkeypatch):
    seen = []

    def apply(cur, scope, writes, **more):
        seen.append(len(writes))
        if any((w.resource or {}).get("birthDate") == "1911-11-11" for w in writes):
            raise DataError("out of range")
        return kept(cur, scope, writes, **more)

    kept = store.apply
    monkeypatch.setattr(store, "apply", apply)
    bad = feed("A04", "b3", who="B3").replace(b"19690517", b"19111111")
    answers = together(
        *(feed("A04", f"b{n}", who=f"B{n}", name=f"某{n}人") for n in range(3)),
        bad,
        feed("A04", "b4", who="B4"),
    )
    assert codes(answers) == ["AA", "AA", "AA", "AE", "AA"]
    assert Arrival.objects.filter(state=TAKEN).count() == 4
    assert Arrival.objects.get(state=REFUSED).control_id == "b3"
    assert max(seen) == 5


def test_what_the_gate_holds_back_is_not_built_upon(his, monkeypatch):
    whole = quality.check_many

    def check_many(pairs, cur):
        found = whole(pairs, cur)
        for (piece, _), mine in zip(pairs, found, strict=True):
            if piece.control_id == "1":
                mine.append(Found("test.hold", "quarantine", "PID", T("可疑", "odd"), "validity"))
        return found

    monkeypatch.setattr(quality, "check_many", check_many)
    answers = together(feed("A04", "1"), oru("2"), feed("A04", "3", who="A9", name="另一人"))
    assert codes(answers) == ["AA", "AA", "AA"]
    assert {a.control_id: a.state for a in Arrival.objects.all()} == {
        "1": QUARANTINED,
        "2": TAKEN,
        "3": TAKEN,
    }
    assert len(stored("Patient")) == 2  # the report registered its patient itself
    monkeypatch.setattr(quality, "check_many", whole)
    assert inbox.replay(Arrival.objects.get(control_id="1").pk).state == TAKEN
    assert len(stored("Patient")) == 2


def test_an_older_word_that_comes_late_changes_nothing_newer(his):
    together(feed("A04", "1"), oru("2", values=[("718-7", "120")], at="20260301090000"))
    together(oru("3", values=[("718-7", "125")], at="20260301120000", status="C"))
    (late,) = together(oru("4", values=[("718-7", "99")], at="20260301100000", status="P"))
    assert late.text("MSA", 1) == "AA"
    assert any("before the one that is stored" in s.text(7) for s in late.every("ERR"))
    ((version, body),) = stored("Observation").values()
    assert (version, body["valueQuantity"]["value"]) == (2, 125)
    assert Arrival.objects.get(control_id="4").state == TAKEN
    (moved,) = together(feed("A08", "5", phone="13900000001", at="20260302000000"))
    (old,) = together(feed("A08", "6", phone="13900000002", at="20260301000000"))
    assert codes([moved, old]) == ["AA", "AA"]
    ((_, patient),) = stored("Patient").values()
    assert patient["telecom"][0]["value"] == "13900000001"


def test_admission_and_its_cancelling(his):
    together(feed("A01", "1", more=[visit("V1")]), feed("A11", "2", more=[visit("V1")], at="20260301110000"))
    ((_, encounter),) = stored("Encounter").values()
    assert encounter["status"] in ("cancelled", "entered-in-error")


def test_a_merge_between_others_keeps_the_order(his):
    join = "\r".join([head("ADT^A40", "3", "20260301110000"), "EVN|A40", "PID|1||A1^^^HISA&2.999.1&ISO^MR||欧阳明月||19690517|M",
                      "MRG|A2^^^HISA&2.999.1&ISO^MR"]).encode()  # fmt: skip
    answers = together(
        feed("A04", "1", who="A1"), feed("A04", "2", who="A2", name="欧阳月", phone="13911112222"), oru("2b", who="A2"), join,
        oru("4", who="A2", order="F9", at="20260301120000"), oru("5", who="A1", order="F8", at="20260301120000"),
    )  # fmt: skip
    assert codes(answers) == ["AA"] * 6
    persons = set(Arrival.objects.filter(control_id__in=("4", "5")).values_list("person_id", flat=True))
    assert len(persons) == 1
    with connection.cursor() as cur:
        cur.execute("SELECT DISTINCT person_id FROM record_resource WHERE rtype = 'Observation'")
        assert {r[0] for r in cur.fetchall()} == persons
    assert sum(b.get("active") is False for _, b in stored("Patient").values()) == 1


def test_a_sender_of_patients_only_may_not_send_results(world):  # noqa: F811
    raw = adt("A01", pid(), visit("V1"))
    answer = message.parse(receiving.receive(raw))
    assert answer.text("MSA", 1) == "AA"
    assert any("may not send Encounter" in s.text(7) for s in answer.every("ERR"))
    assert stored("Encounter") == {}
    refused = message.parse(receiving.receive(oru("9").replace(b"|HIS|", b"|P-V2-A|", 1)))
    assert refused.text("MSA", 1) == "AE"
    assert stored("Observation") == {}


@pytest.mark.parametrize(
    ("tail", "good", "bad"),
    [
        ("", ["AA"], ["AE"]), ("AL|AL", ["CA", "AA"], ["CA", "AE"]), ("AL|NE", ["CA"], ["CA"]), ("NE|AL", ["AA"], ["AE"]),
        ("NE|NE", [], []), ("AL|ER", ["CA"], ["CA", "AE"]), ("NE|SU", ["AA"], []), ("ER|ER", [], ["AE"]), ("AL", ["CA"], ["CA"]),
    ],
)  # fmt: skip
def test_both_modes_of_acknowledgement(his, tail, good, bad):
    def told(raw):
        answer = receiving.receive(raw)
        frames = framing.Frames(1 << 20).feed(framing.wrap(answer)) if answer else []
        return [message.parse(f.data).text("MSA", 1) for f in frames]

    first = feed("A04", "1", tail=tail)
    assert told(first) == good
    assert told(first) == good  # a repetition is answered alike
    assert told(feed("A04", "2", name="", tail=tail)) == bad
    assert Arrival.objects.filter(state=TAKEN).count() == 1
    assert Arrival.objects.filter(state=REFUSED).count() == 1


def test_what_cannot_be_taken_at_all_is_rejected_in_enhanced_mode(his):
    raw = head("XYZ^Z01", "1", tail="AL|AL").encode()
    assert message.parse(receiving.receive(raw)).text("MSA", 1) == "CR"
    assert Arrival.objects.get().state == REFUSED


def test_an_error_of_ours_keeps_the_message(his, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(batch, "item_of", lambda *given: 1 / 0)
        assert codes(together(feed("A08", "9"))) == ["AE"]
    kept = Arrival.objects.get()
    assert (kept.state, kept.peer_id, kept.control_id) == (REFUSED, his.pk, "9")
    assert inbox.replay(kept.pk).state == TAKEN


def test_an_answer_is_not_answered(his):
    assert receiving.receive(head("ACK", "1").encode() + b"\rMSA|AA|LX1") == b""
    assert not Arrival.objects.exists()


def test_the_same_people_by_several_at_once(his):
    def lane(k):
        try:
            for start in range(0, 30, 10):
                raw = [
                    feed("A08", f"L{k}-{n}", who=f"P{n % 7}", name=f"某{n % 7}某", phone=f"139{k:04}{n:04}", at=f"2026030{1 + k}0800{n:02}")
                    for n in range(start, start + 10)
                ]  # fmt: skip
                found.extend(codes(together(*raw)))
        finally:
            connection.close()

    found = []
    lanes = [threading.Thread(target=lane, args=(k,)) for k in range(3)]
    for one in lanes:
        one.start()
    for one in lanes:
        one.join()
    assert found == ["AA"] * 90
    assert Arrival.objects.filter(state=TAKEN).count() == 90
    assert len(stored("Patient")) == 7
    assert len(people()) == 7
    assert audit.verify() == []


def test_a_file_is_answered_by_a_file(his):
    whole = b"\r".join([
        b"FHS|^~\\&|HIS|V2-A|LX|LX|20260301||||FILE7", b"BHS|^~\\&|HIS|V2-A|LX|LX|20260301||||BATCH9", feed("A04", "1"),
        feed("A04", "2", name=""), oru("3", tail="NE|NE"), b"BTS|3", b"FTS|1", b"",
    ])  # fmt: skip
    done = files.take(whole)
    assert done.codes == {"AA": 1, "AE": 1, "": 1}
    lines = [line.split(b"|") for line in done.file().split(b"\r") if line]
    assert [line[0] for line in lines][:3] == [b"FHS", b"BHS", b"MSH"]
    assert (lines[0][11], lines[1][11]) == (b"FILE7", b"BATCH9")
    assert [line[0] for line in lines][-2:] == [b"BTS", b"FTS"]
    assert lines[-2][1] == b"2"
    again = files.take(whole)
    assert again.codes == done.codes
    assert Arrival.objects.filter(state=TAKEN).count() == 2


def test_the_database_that_is_away_for_a_moment(his, monkeypatch):
    from django.db import OperationalError

    tries = []
    whole = inbox.take

    def take(pieces):
        tries.append(len(pieces))
        if len(tries) == 1:
            raise OperationalError("gone")
        return whole(pieces)

    monkeypatch.setattr(inbox, "take", take)
    monkeypatch.setattr(receiving, "PAUSES", (0.01,))
    assert codes(together(feed("A04", "1"), oru("2"))) == ["AA", "AA"]
    assert tries == [2, 2]

    def never(pieces):
        raise OperationalError("gone")

    monkeypatch.setattr(inbox, "take", never)
    (answer,) = together(feed("A04", "3"))
    assert (answer.text("MSA", 1), answer.text("ERR", 3)) == ("AE", "207")


def test_what_messages_are_about_is_looked_up_once_for_all_of_them(his, monkeypatch):
    together(*(feed("A04", f"w{n}", who=f"W{n}", name=f"某{n}丁") for n in range(12)))
    looked = []
    whole = batch.prepare
    monkeypatch.setattr(batch, "prepare", lambda cur, items: looked.append(len(items)) or whole(cur, items))
    together(*(oru(f"x{n}", who=f"W{n}", order=f"X{n}") for n in range(12)))
    assert looked == [12]
