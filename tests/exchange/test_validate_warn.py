"""A client that is only warned: what breaks a rule is kept and told, what breaks the structure is refused all the same."""

import pytest

from lianxin.access import connections
from lianxin.access.models import Client as Row
from lianxin.network.models import Institution
from tests.exchange.client import Client

pytestmark = pytest.mark.django_db(transaction=True)

RULE = {"resourceType": "Practitioner", "telecom": [{"value": "0"}]}  # cpt-2: a system is missing


@pytest.fixture
def clients(db):
    Institution.objects.create(
        code="T1", name="甲镇卫生院", kind="township", tier="township", division="331023"
    )
    Row.objects.create(name="warned", institution=Institution.objects.get(code="T1"), validation="warn")
    yield Client("strict", "T1"), Client("warned", "T1")
    connections.close()


def test_rules_refuse_a_strict_client_and_warn_the_other(clients):
    strict, warned = clients
    for client in clients:
        assert client("POST", "Practitioner", {**RULE, "bogus": 1}).status == 422
    refused = strict("POST", "Practitioner", RULE)
    assert refused.status == 422
    assert refused.issues[0]["expression"] == ["Practitioner.telecom[0]"]
    made = warned("POST", "Practitioner", RULE)
    assert made.status == 201, made.raw
    told = warned(
        "PUT",
        f"Practitioner/{made.json['id']}",
        {**RULE, "id": made.json["id"], "active": True},
        prefer="return=OperationOutcome",
    )
    assert told.status == 200
    assert [(i["severity"], i["expression"]) for i in told.issues] == [
        ("warning", ["Practitioner.telecom[0]"])
    ]


def test_in_a_bundle_too(clients):
    strict, warned = clients
    for kind in ("transaction", "batch"):
        entry = {"resource": RULE, "request": {"method": "POST", "url": "Practitioner"}}
        bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
        reply = strict("POST", "", bundle)
        status = (
            reply.status if kind == "transaction" else int(reply.json["entry"][0]["response"]["status"][:3])
        )
        assert status == 422
        reply = warned("POST", "", bundle)
        assert reply.status == 200
        assert reply.json["entry"][0]["response"]["status"][:3] == "201"
