"""Identity doors as seen by systems of institutions that have nothing to do with the patient: cross-reference, HL7 v2, files."""

from __future__ import annotations

import io

import pytest
from django.db import connection

from lianxin.access import tokens
from lianxin.access.models import Client as System
from lianxin.access.scope import Scope, scope_for_client
from lianxin.access.sharing import partners
from lianxin.exchange.ihe.identifiers import CARD_SYSTEM, NUMBER_SYSTEM, RESIDENT_ID_SYSTEM
from lianxin.exchange.rosters import giving
from lianxin.exchange.v2 import outbound, receiving
from lianxin.exchange.v2.models import Peer, V2Message
from lianxin.index.models import SourceRecord
from lianxin.network.models import Institution
from lianxin.record import feed
from lianxin.standards import clock
from tests.exchange.client import Client
from tests.leakage.conftest import ID_NUMBER, Cage

pytestmark = [pytest.mark.concurrency]

STRANGERS = ("OUT-1", "SC-T3")


def peer(code: str, **more: object) -> Peer:
    tokens.issue(f"v2-{code}", "system/*.cruds", code)
    return Peer.objects.create(
        name=f"v2-{code}", application=f"P-{code}", client=System.objects.get(name=f"v2-{code}"), created_at=clock.now(), **more
    )  # fmt: skip


def known(cage: Cage) -> list[tuple[str, str]]:
    return [
        (NUMBER_SYSTEM, cage.person.number), (CARD_SYSTEM, cage.person.card_number), (RESIDENT_ID_SYSTEM, ID_NUMBER),
        ("urn:lianxin:fhir", cage.patient), ("http://t/fhir", f"Patient/{cage.patient}"), ("http://t/fhir", f"Patient/{cage.person.number}"),
    ]  # fmt: skip


def test_cross_reference_answers_as_if_there_were_none(cage: Cage) -> None:
    for code in STRANGERS:
        stranger = Client(f"pix-{code}", code)
        for system, value in known(cage):
            reply = stranger("GET", f"Patient/$ihe-pix?sourceIdentifier={system}%7C{value}")
            nobody = stranger("GET", f"Patient/$ihe-pix?sourceIdentifier={system}%7C{value[:-1]}x")
            assert reply.status in (400, 404)
            assert (reply.status, reply.raw) == (nobody.status, nobody.raw)
            assert not cage.leaked(reply.raw, f"{system}|{value}")


def test_hl7_v2_queries_and_merges_learn_nothing(cage: Cage) -> None:
    for code in STRANGERS:
        peer(code)
        for n, (system, value) in enumerate(known(cage)):
            head = f"MSH|^~\\&|P-{code}||LX|LX|20260301||"
            ask = f"{head}QBP^Q23|Q{n}|P|2.5\rQPD|IHE PIX Query|T{n}|{value}^^^&{system}&URI\rRCP|I\r"
            answer = receiving.receive(ask.encode())
            assert b"|NF|" not in answer
            assert b"MSA|AE" in answer
            assert not cage.leaked(answer, value)
            merge = f"{head}ADT^A40|M{n}|P|2.5\rPID|1||X1^^^^MR||某人\rMRG|{value}^^^&{system}&URI^PI\r"
            answer = receiving.receive(merge.encode())
            assert b"MSA|AE" in answer
            assert not cage.leaked(answer, value)
    assert SourceRecord.objects.unscoped("test").filter(person=cage.person).exists()


def test_nothing_is_sent_or_given_to_strangers(cage: Cage) -> None:
    for code in STRANGERS:
        peer(code, host="127.0.0.1", port=1, wants=["A24", "A31", "A40"])
        institution = Institution.objects.get(code=code)
        out = io.StringIO()
        giving.give(
            scope_for_client(1, "x", institution.pk, ("system/*.rs",), (), partners([institution.pk])), out
        )
        assert not cage.leaked(out.getvalue())
    outbound.compose(feed.Watch(sequence=outbound.SEQUENCE))
    assert not V2Message.objects.exists()


def test_the_office_gets_names_masked_and_no_documents(cage: Cage) -> None:
    out = io.StringIO()
    giving.give(Scope.system("test"), out)
    assert cage.person.number in out.getvalue()
    assert not [s for s in cage.leaked(out.getvalue()) if s not in (cage.person.number, cage.patient)]


def test_messages_are_sealed_in_the_database(cage: Cage) -> None:
    peer("SC-T1")
    raw = f"MSH|^~\\&|P-SC-T1||LX|LX|20260301||ADT^A04|1|P|2.5\rPID|1||9^^^^MR||司空测漏||19610723|F|||||||||||{ID_NUMBER}\r"
    assert b"MSA|AA" in receiving.receive(raw.encode())
    with connection.cursor() as cur:
        cur.execute("SELECT body, answer, error FROM exchange_v2message")
        for row in cur.fetchall():
            whole = b"".join(bytes(v) if isinstance(v, memoryview) else str(v).encode() for v in row)
            assert "司空".encode() not in whole
            assert ID_NUMBER.encode() not in whole
