"""Clinical documents as seen by those who have nothing to do with the patient: lists, pages, bytes, the FHIR door, the tables."""

from __future__ import annotations

import pytest
from django.db import connection
from django.urls import reverse

from lianxin.access.scope import Scope
from lianxin.exchange.cda import door
from lianxin.exchange.cda.door_files import Named
from lianxin.exchange.cda.models import RegisteredDocument
from tests.exchange import documents_world as world
from tests.exchange.client import Client
from tests.leakage.conftest import ID_NUMBER, NAME, Cage

pytestmark = [pytest.mark.concurrency]

WORDS = "金丝雀文书丁"
STRANGERS = ("OUT-1", "SC-T3")


@pytest.fixture
def document(cage: Cage) -> RegisteredDocument:
    """A document about the canary, of the township's own."""
    raw = world.lab(
        name=NAME,
        id_no=ID_NUMBER,
        birth="19610723",
        custodian="SC-T1",
        narrative=f"<paragraph>{WORDS}</paragraph>",
    )
    assert door.take(Scope.system("test"), [Named("x.xml", raw)], "command")[0].verdict.state == "taken"
    return RegisteredDocument.objects.get()


def test_pages_tell_outsiders_nothing(cage: Cage, document: RegisteredDocument) -> None:
    addresses = [
        reverse("documents:list"), f"{reverse('documents:list')}?person={cage.person.number}",
        reverse("documents:one", args=[document.pk]), reverse("documents:original", args=[document.pk]),
        reverse("documents:part", args=[document.pk, 0]), reverse("documents:paper", args=[document.pk]),
    ]  # fmt: skip
    for name, account in cage.outsiders.items():
        if name.startswith("own "):
            continue
        browser = cage.browser(account)
        for address in addresses:
            body = browser.get(address).content.decode(errors="replace")
            assert WORDS not in body, (name, address)
            assert not cage.leaked(body, address), (name, address)
            assert document.reference not in body, (name, address)


def test_the_own_administrators_see_lists_but_no_words(cage: Cage, document: RegisteredDocument) -> None:
    for name in ("own system_admin", "own security_admin", "own audit_admin"):
        browser = cage.browser(cage.outsiders[name])
        for view in ("documents:one", "documents:original", "documents:paper"):
            response = browser.get(reverse(view, args=[document.pk]))
            assert response.status_code in (403, 404)
            assert WORDS not in response.content.decode(errors="replace")
            assert not cage.leaked(response.content)


def test_systems_of_strangers_get_neither_bytes_nor_documents(
    cage: Cage, document: RegisteredDocument
) -> None:
    for code in STRANGERS:
        stranger = Client(f"doc-{code}", code)
        for path in (
            f"Binary/{document.binary}", f"DocumentReference/{document.reference}", f"Binary/{document.binary}/_history/1",
            "DocumentReference", f"DocumentReference?patient={cage.patient}", "Composition", "Binary/_history",
        ):  # fmt: skip
            for accept in ("application/fhir+json", "application/xml"):
                reply = stranger("GET", path, ACCEPT=accept)
                assert WORDS.encode() not in reply.raw
                assert not cage.leaked(reply.raw, path)
        nobody = stranger("GET", "Binary/ffffffffffffffffffffffffffffffff", ACCEPT="application/xml")
        missing = stranger("GET", f"Binary/{document.binary}", ACCEPT="application/xml")
        assert (nobody.status, len(nobody.raw)) == (missing.status, len(missing.raw))


def test_a_stranger_cannot_point_at_the_bytes(cage: Cage, document: RegisteredDocument) -> None:
    """A DocumentReference of one's own that names somebody's Binary opens nothing."""
    stranger = Client("thief", "OUT-1")
    own = stranger(
        "POST",
        "Patient",
        {"resourceType": "Patient", "name": [{"text": "贼测"}], "gender": "male", "birthDate": "1990-01-01"},
    )
    made = stranger("POST", "DocumentReference", {
        "resourceType": "DocumentReference", "status": "current", "subject": {"reference": f"Patient/{own.json['id']}"},
        "content": [{"attachment": {"contentType": "application/xml", "url": f"Binary/{document.binary}"}}],
    })  # fmt: skip
    assert made.status in (201, 403, 422)
    reply = stranger("GET", f"Binary/{document.binary}", ACCEPT="application/xml")
    assert reply.status == 404
    assert WORDS.encode() not in reply.raw


def test_arrivals_and_the_registry_hold_no_open_words(cage: Cage, document: RegisteredDocument) -> None:
    with connection.cursor() as cur:
        for table in ("exchange_arrival", "exchange_registereddocument"):
            cur.execute(f"SELECT * FROM {table}")
            for row in cur.fetchall():
                whole = b"".join(bytes(v) if isinstance(v, memoryview) else str(v).encode() for v in row)
                assert NAME.encode() not in whole
                assert ID_NUMBER.encode() not in whole
                assert WORDS.encode() not in whole
