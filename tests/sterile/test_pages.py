"""The pages: scanned step by step, opened on a patient, loads judged, recalled, asked for; strangers see nothing."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from lianxin.access.models import Account
from lianxin.index.models import Person
from lianxin.regional.sterile.models import Duty, Load, Recall, Request, Set, Steriliser
from lianxin.standards import clock
from tests.factories import SmallCounty
from tests.reading import world
from tests.sterile import kit

pytestmark = pytest.mark.django_db


def browser(county: SmallCounty, key: str) -> Client:
    """Signed in as the post called ``key``."""
    client = Client()
    client.force_login(Account.objects.get(pk=world.scope_of(county, key).account_id))
    return client


def test_a_round_through_the_pages() -> None:
    county, _ = kit.centre()
    Load.objects.all().delete()
    centre, gp = browser(county, "sterile0"), browser(county, "gp0")
    form = {"type": "HC", "owner": county.lead.code, "count": "2", "_key": "n"}
    assert centre.post(reverse("sterile:new"), form | {"count": "0"}).status_code == 422
    assert centre.post(reverse("sterile:new"), form).status_code == 302
    assert centre.post(reverse("sterile:new"), form).status_code == 302  # a double click
    codes = list(Set.objects.order_by("code").values_list("code", flat=True))
    assert codes == ["HC-00001", "HC-00002"]
    both = "\n".join(codes)
    scan = reverse("sterile:scan")
    for step in ("receive", "wash", "inspect"):
        assert centre.post(scan, {"move": step, "codes": both, "_key": step}).status_code == 200
    assert centre.post(scan, {"move": "wash", "codes": both, "_key": "again"}).status_code == 409
    assert centre.post(scan, {"move": "pack", "codes": both, "material": "", "_key": "p0"}).status_code == 422
    assert (
        centre.post(scan, {"move": "pack", "codes": " ", "material": "pouch", "_key": "p1"}).status_code
        == 422
    )
    assert (
        centre.post(scan, {"move": "pack", "codes": both, "material": "pouch", "_key": "p2"}).status_code
        == 200
    )
    start = reverse("sterile:start")
    load = {"what": "load", "steriliser": "M1", "program": "134-4", "codes": both, "_key": "l"}
    refused = centre.post(start, load)
    assert refused.status_code == 422
    assert "B-D" in refused.content.decode()
    assert (
        centre.post(start, {"what": "bd", "steriliser": "M1", "passed": "", "_key": "b"}).status_code == 422
    )
    assert (
        centre.post(start, {"what": "bd", "steriliser": "M1", "passed": "pass", "_key": "b"}).status_code
        == 302
    )
    assert centre.post(start, load).status_code == 302
    number = Load.objects.get(kind="load").number
    one = reverse("sterile:load", args=[number])
    assert centre.post(one, {"temperature": "x", "_key": "j0"}).status_code == 422
    assert centre.post(one, kit.PASS | {"_key": "j"}).status_code == 302
    day = f"{clock.today()}"
    assert gp.post(reverse("sterile:ask"), {"n-HC": "", "needed_on": day, "_key": "a0"}).status_code == 422
    assert gp.post(reverse("sterile:ask"), {"n-HC": "2", "needed_on": "", "_key": "a1"}).status_code == 422
    assert gp.post(reverse("sterile:ask"), {"n-HC": "2", "needed_on": day, "_key": "a"}).status_code == 302
    case = Request.objects.get().case.number

    def act(client: Client, move: str, **data: str) -> int:
        return client.post(reverse("sterile:case_act", args=[case, move]), {"_key": move, **data}).status_code

    assert act(gp, "pack", codes=both) == 409
    assert act(centre, "pack", codes="GHOST") == 422
    assert act(centre, "pack", codes=both) == 302
    assert act(centre, "send", courier="甲") == 302
    assert act(gp, "receive", codes=codes[0]) == 422
    assert act(gp, "receive", codes=both) == 302
    assert "HC-00001" in gp.get(reverse("sterile:case", args=[case])).content.decode()
    person = Person.objects.unscoped("test").get(pk=world.order(county, "gp0").person_id)
    opening = {"code": codes[0], "person": person.number, "procedure": "换药", "_key": "o"}
    assert gp.post(reverse("sterile:open"), opening | {"person": "nobody"}).status_code == 422
    assert gp.post(reverse("sterile:open"), opening).status_code == 302
    assert gp.post(reverse("sterile:open"), opening | {"_key": "o2"}).status_code == 422
    recalled = centre.post(
        reverse("sterile:recalls"), {"kind": "load", "what": number, "reason": "芽孢生长", "_key": "r"}
    )
    assert recalled.status_code == 302
    row = Recall.objects.get()
    assert (row.sets, row.patients) == (2, 1)
    body = centre.get(reverse("sterile:recall", args=[row.pk])).content.decode()
    assert person.name not in body  # the centre is no reader of records
    assert gp.post(reverse("sterile:open"), opening | {"code": codes[1], "_key": "o3"}).status_code == 422
    contact = Duty.objects.unscoped("test").exclude(person=None).get(recall=row).case.number
    assert person.name in gp.get(reverse("sterile:case", args=[contact])).content.decode()
    assert browser(county, "gp1").get(reverse("sterile:case", args=[contact])).status_code == 404
    assert "禁止使用" in gp.get(reverse("sterile:home")).content.decode()


def test_pages_answer_and_strangers_see_nothing() -> None:
    county, steriliser = kit.centre()
    one = kit.make(county)[0]
    kit.released(county, steriliser, [one])
    centre, office = browser(county, "sterile0"), browser(county, "manager")
    for name in ("home", "sets", "loads", "recalls", "requests", "statistics"):
        for client in (centre, office):
            assert client.get(reverse(f"sterile:{name}")).status_code == 200, name
    for query in ("?state=nonsense&page=9x", "?expiring=1&mine=1&type=HC", f"?q={one.code.lower()}"):
        assert centre.get(reverse("sterile:sets") + query).status_code == 200
    assert centre.get(reverse("sterile:set", args=[one.code])).status_code == 200
    assert (
        office.post(reverse("sterile:recalls"), {"kind": "set", "what": one.code, "reason": "x"}).status_code
        == 403
    )
    bad = (
        {"kind": ""},
        {"kind": "load", "what": "none"},
        {"kind": "set", "what": ""},
        {"kind": "period", "steriliser": "M1", "since": "x", "until": ""},
    )
    for data in bad:
        assert centre.post(reverse("sterile:recalls"), {"reason": "x", **data}).status_code == 422
    for udi, expected in (("UDI-1", 1), ("UDI-1", 1), ("", 1)):
        centre.post(reverse("sterile:instrument", args=[one.code]), {"udi": udi, "name": "止血钳"})
        assert one.instruments.count() == expected
    centre.post(
        reverse("sterile:instrument", args=[one.code]), {"gone": one.instruments.get().pk, "note": "断裂"}
    )
    assert not one.instruments.get().active
    new = {
        "what": "steriliser",
        "code": "M2",
        "name": "2 号灭菌器",
        "programs": "134-4，121-20",
        "bowie_dick": "1",
    }
    for wrong in ({"code": "!"}, {"name": ""}, {"programs": " "}):
        assert centre.post(reverse("sterile:start"), new | wrong).status_code == 422
    assert centre.post(reverse("sterile:start"), new).status_code == 302
    assert Steriliser.objects.get(code="M2").programs == ["134-4", "121-20"]
    other, _ = kit.centre("XH")
    stranger = browser(other, "sterile0")
    assert stranger.get(reverse("sterile:set", args=[one.code])).status_code == 404
    assert (
        stranger.get(
            reverse("sterile:load", args=[Load.objects.filter(kind="load").get().number])
        ).status_code
        == 404
    )
    assert browser(county, "desk").get(reverse("sterile:home")).status_code == 403
    assert browser(county, "gp0").get(reverse("sterile:loads")).status_code == 403
    assert Steriliser.objects.count() == 3
