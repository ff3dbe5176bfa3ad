"""What goes wrong on the hot path is told in the door's words too: an OperationOutcome, never an empty 500."""

import psycopg
import pytest

from lianxin.access import connections
from lianxin.exchange.fhir import hot
from lianxin.network.models import Institution
from tests.exchange.client import Client

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (psycopg.OperationalError("gone"), 503, "transient"),
        (psycopg.errors.QueryCanceled("slow"), 503, "too-costly"),
        (psycopg.errors.DeadlockDetected("dead"), 503, "transient"),
        (TypeError("ours"), 500, "exception"),
    ],
)
def test_errors_are_answers(db, monkeypatch, error, status, code):
    Institution.objects.create(code="H1", name="县医院", kind="hospital", tier="county", division="331023")
    client = Client("hot", "H1")

    def fail(*args):
        raise error

    monkeypatch.setattr(hot, "_quick", fail)
    try:
        for method, path, body in (
            ("GET", "Patient/x", None),
            ("POST", "Patient", {"resourceType": "Patient"}),
        ):
            reply = client(method, path, body)
            assert reply.status == status
            assert reply.issues[0]["code"] == code
            assert reply.headers["Content-Type"].startswith("application/fhir+json")
    finally:
        connections.close()
