"""``Communication/{number}/$acknowledge`` over the wire: read back by a hospital's own system, wrong words kept, strangers see nothing."""

from __future__ import annotations

from typing import Any

import pytest

from lianxin.access.models import Account
from lianxin.access.scope import Scope
from lianxin.regional.critical.models import Attempt
from lianxin.regional.reading import items
from tests.critical import kit
from tests.exchange import smart_world as smart
from tests.exchange.client import Client
from tests.reading import world

pytestmark = pytest.mark.django_db(transaction=True)


def system_of(scope: Scope, rights: str = "user/Communication.ru user/Task.ru") -> Client:
    """A township's own system, opened by somebody."""
    flow = smart.Flow(smart.signed_in(Account.objects.get(pk=scope.account_id)), smart.app(f"HIS {scope.account_id} {rights}", "user/*.cruds"), rights)  # fmt: skip
    return smart.door(flow.tokens()["access_token"])


def asked(**values: str) -> dict[str, Any]:
    """A Parameters body."""
    return {"resourceType": "Parameters", "parameter": [{"name": k, "valueString": v} for k, v in values.items()]}  # fmt: skip


def test_read_back_over_the_wire() -> None:
    items.load_shipped()
    county = kit.staffed()
    call = kit.report(county, world.order(county, "gp0"))
    path = f"Communication/{call.case.number}/$acknowledge"
    his = system_of(world.scope_of(county, "gp0"))
    readonly = system_of(world.scope_of(county, "gp0"), "user/Communication.r user/Task.r")
    stranger = system_of(world.scope_of(county, "gp1"))
    right = asked(readback="6.8", recipient="王医生 全科", key="k1")
    assert readonly("POST", path, right).status == 403
    assert stranger("POST", path, right).status == 404
    assert his("POST", "Communication/WJ0/$acknowledge", right).status == 404
    assert his("POST", path, asked(key="k0")).status == 400
    assert his("POST", path, asked(readback="6.8")).status == 400  # no key
    assert his("POST", path, asked(readback="6.8", key="x" * 101)).status == 400
    wrong = his("POST", path, asked(readback="8.6", key="k2"))
    assert (wrong.status, wrong.issues[0]["code"]) == (422, "invalid")
    assert kit.state(call) == "notified"
    assert Attempt.objects.filter(critical=call, outcome="WRONG_READBACK", heard="8.6").count() == 1
    for _ in range(2):  # sent again after a cut line: the same answer
        answer = his("POST", path, right)
        assert answer.status == 200
        assert (answer.json["id"], answer.json["status"]) == (call.case.number, "completed")
    assert his("POST", path, asked(readback="6.8", key="k3")).status == 409
    assert Attempt.objects.filter(critical=call, outcome="CONFIRMED").count() == 1
    assert kit.again(call).readback == "6.8"
