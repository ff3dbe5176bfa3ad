"""What goes wrong on the hot path is told in the door's words too: an OperationOutcome, never an empty 500."""

import psycopg
import pytest

from lianxin.access import connections
from lianxin.exchange.fhir import hot
from lianxin.network.models import Institution
from tests.exchange.client import Client, observation, patient

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


def test_connections_the_database_has_ended_are_replaced_unseen(db):
    """A restart of PostgreSQL leaves each thread's idle connections dead: the next request must not be the one to find out."""
    Institution.objects.create(code="H1", name="县医院", kind="hospital", tier="county", division="331023")
    client = Client("hot", "H1")
    known = client("POST", "Patient", patient()).json
    asks = [
        ("POST", "Observation", observation(known["id"]), 201),
        ("GET", "$export?_type=Patient", None, 202),
        ("PUT", f"Patient/{known['id']}", {**known, "gender": "female"}, 200),
        ("GET", "Observation?code=8480-6", None, 200),
        ("GET", f"Patient/{known['id']}", None, 200),
    ]
    try:
        assert client(*asks[0][:3]).status == 201, "the thread has its own connection now"
        for method, where, body, status in asks:
            with psycopg.connect(**connections._options(), autocommit=True) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
            answer = client(method, where, body)
            assert answer.status == status, (method, where, answer.raw)
    finally:
        connections.close()
