"""The seams of the door: operations, routes and capabilities that other rooms register."""

import pytest

from lianxin.access import connections
from lianxin.exchange.fhir import capability, handlers
from lianxin.exchange.fhir.handlers import Request, Response
from tests.exchange.client import Client

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(db):
    yield Client("whole")
    connections.close()


@pytest.fixture(autouse=True)
def _registries(monkeypatch):
    monkeypatch.setattr(handlers, "_operations", dict(handlers._operations))
    monkeypatch.setattr(handlers, "_routes", dict(handlers._routes))
    monkeypatch.setattr(handlers, "_capabilities", list(handlers._capabilities))
    capability.forget()
    yield
    capability.forget()


def test_arguments_come_from_query_and_body():
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "url", "valueUri": "http://a"},
            {"name": "flag", "valueBoolean": True},
            {"name": "it", "resource": {"resourceType": "Patient"}},
            {"name": "outer", "part": [{"name": "inner", "valueInteger": 3}]},
            {"name": "coding", "valueCoding": {"code": "x"}},
            {"name": "empty"},
            "nonsense",
        ],
    }
    asked = Request("POST", "ValueSet", None, "expand", [("count", "5"), ("url", "http://q")], {}, body)
    assert asked.arguments["url"] == ["http://q", "http://a"]
    assert asked.argument("flag", bool) is True
    assert asked.argument("count", int) == 5
    assert asked.argument("it", dict) == {"resourceType": "Patient"}
    assert asked.argument("outer", dict) == {"inner": [3]}
    assert asked.argument("coding", dict) == {"code": "x"}
    assert asked.argument("nothing") is None
    with pytest.raises(Exception, match="must be"):
        asked.argument("url", int)


def test_get_calls_only_what_changes_nothing(client):
    handlers.register_operation(
        "Basic", "look", lambda scope, r: Response(200, {"resourceType": "Parameters"}), affects_state=False
    )
    handlers.register_operation(
        "Basic", "make", lambda scope, r: Response(200, {"resourceType": "Parameters"}), instance=False
    )
    assert client("GET", "Basic/$look").status == 200
    assert client("POST", "Basic/x/$look").status == 200
    refused = client("GET", "Basic/$make")
    assert (refused.status, refused.headers["Allow"]) == (405, "POST, OPTIONS")
    assert client("POST", "Basic/$make").status == 200
    assert client("POST", "Basic/1/$make").status == 404
    assert client("POST", "Patient/$make").status == 404


def test_routes_are_exact_and_may_be_public(client):
    handlers.register_route(
        (".well-known", "x"), lambda scope, r: Response(200, {"open": scope is None}), public=True
    )
    handlers.register_route(("_closed",), lambda scope, r: Response(200, {"open": scope is None}))
    assert client("GET", ".well-known/x", authorization="").json == {"open": True}
    assert client("GET", "_closed", authorization="").status == 401
    assert client("GET", "_closed").json == {"open": False}


def test_capabilities_are_added_to_the_statement(client):
    handlers.register_operation(
        "Resource", "peek", lambda scope, r: Response(200), affects_state=False, definition="http://d/peek"
    )
    handlers.register_capability(lambda statement: statement["rest"][0]["security"].update(cors=True))
    made = client("GET", "metadata").json
    assert made["rest"][0]["security"]["cors"] is True
    for one in made["rest"][0]["resource"]:
        assert {"name": "peek", "definition": "http://d/peek"} in one["operation"]
