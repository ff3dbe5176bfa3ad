"""An outside reading system claims, renews, reports and gives back over the wire, as a doctor who signed in."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from lianxin.access.models import Account
from lianxin.access.scope import Scope
from lianxin.regional.reading import fhir, items, service
from lianxin.regional.reading.models import Entry, Item, Reader, Report
from lianxin.standards import clock
from tests.exchange import smart_world as smart
from tests.exchange.client import Client
from tests.reading import world

pytestmark = pytest.mark.django_db(transaction=True)

SCOPE = "user/Task.rus user/DiagnosticReport.rs"


@pytest.fixture(autouse=True)
def _catalogue() -> None:
    """What can be ordered: emptied with the other tables after each test on committed data."""
    items.load_shipped()


def system_of(scope: Scope, name: str) -> Client:
    """A reading system opened by somebody."""
    flow = smart.Flow(smart.signed_in(Account.objects.get(pk=scope.account_id)), smart.app(name, "user/*.cruds"), SCOPE)  # fmt: skip
    return smart.door(flow.tokens()["access_token"])


def asked(**values: Any) -> dict[str, Any]:
    """A Parameters body."""
    kinds = {bool: "valueBoolean", str: "valueString"}
    parts = [{"name": k, kinds[type(v)]: v} for k, v in values.items()]
    return {
        "resourceType": "Parameters",
        **({"parameter": parts} if parts else {}),
    }  # FHIR knows no empty list


def got(answer: Any, name: str) -> Any:
    """A parameter of an answer."""
    part = next(p for p in answer.json["parameter"] if p["name"] == name)
    return next(v for k, v in part.items() if k != "name")


def test_a_vendor_reads_over_the_wire() -> None:
    county = world.make_world()
    Item.objects.filter(code="CT-HEAD").update(double_read=True)
    reading = world.queued(county)
    number = reading.case.number
    one, _ = world.reader_of(county, "reader0")
    two, _ = world.reader_of(county, "reader1")
    ris, other = system_of(one, "RIS one"), system_of(two, "RIS two")
    machine = Client("machine", county.lead.code)
    assert machine("POST", "Task/$claim", asked()).status == 403
    assert ris("POST", "Task/$claim", asked(centre="nowhere")).status == 422
    assert ris("POST", "Task/JC20260101-99999-read/$claim", asked()).status == 404
    claimed = ris("POST", "Task/$claim", asked())
    assert claimed.status == 200, claimed.raw
    uid = got(claimed, "transactionUid")
    assert uid.startswith("2.25.")
    assert got(claimed, "seat") == "first"
    task = ris("GET", f"Task/{number}-read").json
    assert (task["status"], task["owner"]["reference"].partition("/")[0]) == ("in-progress", "Practitioner")
    assert ris("POST", "Task/$claim", asked()).status == 404
    assert other("POST", f"Task/{number}-read/$claim", asked()).status == 409
    assert ris("POST", f"Task/{number}-read/$renew", asked(transactionUid=uid)).status == 200
    assert ris("POST", f"Task/{number}-read/$renew", asked(transactionUid="2.25.1")).status == 409
    assert ris("POST", f"Task/{number}-read/$renew", asked()).status == 400
    assert other("POST", f"Task/{number}-read/$complete", asked(transactionUid=uid, conclusion="抢写", key="x")).status == 409  # fmt: skip
    released = ris("POST", f"Task/{number}-read/$release", asked(transactionUid=uid, reason="换班"))
    assert released.status == 200
    assert got(released, "task")["owner"]["reference"].startswith("Organization/")
    uid = got(ris("POST", f"Task/{number}-read/$claim", asked()), "transactionUid")
    report = {"transactionUid": uid, "findings": "所见", "conclusion": "未见异常。", "positive": False}
    kept = ris("POST", f"Task/{number}-read/$complete", asked(**report, final=False))
    assert got(kept, "seat") == "first"
    assert ris("POST", f"Task/{number}-read/$complete", asked(**report)).status == 400  # no key
    assert ris("POST", f"Task/{number}-read/$complete", asked(**report | {"conclusion": " "}, key="c0")).status == 422  # fmt: skip
    done = ris("POST", f"Task/{number}-read/$complete", asked(**report, key="c1"))
    assert (done.status, got(done, "state")) == (200, "second_read")
    again = ris("POST", f"Task/{number}-read/$complete", asked(**report, key="c1"))
    assert (again.status, got(again, "state")) == (200, "second_read")
    uid = got(other("POST", "Task/$claim", asked()), "transactionUid")
    second = {"transactionUid": uid, "conclusion": "未见异常", "key": "d1"}
    assert (
        other("POST", f"Task/{number}-read/$complete", asked(**second)).status == 422
    )  # the score is missing
    done = other("POST", f"Task/{number}-read/$complete", asked(**second | {"score": "1", "key": "d2"}))
    assert done.status == 200, done.raw
    assert got(done, "report")["reference"] == f"DiagnosticReport/{number}"
    assert Report.objects.unscoped("test").filter(state="signed").count() == 2
    stranger = world.make_world("ZZ")
    outside, _ = world.reader_of(stranger, "reader0")
    assert system_of(outside, "RIS three")("POST", f"Task/{number}-read/$claim", asked()).status == 404


def test_a_lapsed_claim_is_refused_over_the_wire() -> None:
    county = world.make_world()
    reading = world.queued(county)
    scope, _ = world.reader_of(county, "reader0")
    claim = service.claim(scope, "imaging")
    assert claim is not None
    with clock.at(clock.now() + dt.timedelta(minutes=30)):
        service.sweep()
        late = system_of(scope, "RIS")(
            "POST", f"Task/{reading.case.number}-read/$complete",
            asked(transactionUid=fhir.uid_of(claim[1].token), conclusion="迟到", key="z"),
        )  # fmt: skip
    assert late.status == 409
    assert Entry.objects.unscoped("test").get().state == "waiting"
    assert not Report.objects.unscoped("test").exists()
    assert Reader.objects.get().open_now == 0
    assert fhir.token_of("not a uid") == ""
    assert fhir.token_of("2.25." + "9" * 39) == ""
