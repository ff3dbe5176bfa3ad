"""Limits of partners: the bucket of a minute, the quota of a day, doors that are shut, and what asking costs those without any."""

import json

import pytest
from django.db import IntegrityError, transaction

from lianxin.access import connections
from lianxin.access.models import Client as System
from lianxin.exchange.partners import limits
from lianxin.exchange.partners.models import Partner, PartnerClient, PartnerUsage
from lianxin.standards import clock
from tests.exchange.client import Client
from tests.factories import make_institution

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def his(db):
    client = Client("lim-his", make_institution("LIM-A", "hospital").code)
    yield client
    Partner.objects.all().delete()
    limits.refresh()
    connections.close()


def partner(state="live", **more):
    made = Partner.objects.create(
        name="P", state=state, waived="已在用", state_at=clock.now(), created_at=clock.now(), **more
    )
    PartnerClient.objects.create(partner=made, client=System.objects.get(name="lim-his"))
    limits.refresh()
    return made, f"client:{System.objects.get(name='lim-his').pk}"


def test_the_bucket_of_a_minute(his):
    _, who = partner(per_minute=60)
    assert [limits.admit(who, 1, 1000.0 + limits._known.until) is None for _ in range(1)] == [True]
    now = limits._known.until - limits.FRESH
    assert all(limits.admit(who, 1, now) is None for _ in range(59))
    denied = limits.admit(who, 1, now)
    assert denied is not None
    assert (denied.kind, denied.seconds) == ("rate", 1)
    assert limits.admit(who, 1, now + 1.01) is None
    assert limits.admit("client:0", 1000, now) is None


def test_the_quota_of_a_day_is_shared_by_way_of_the_database(his):
    made, who = partner(per_day=5)
    assert all(limits.admit(who) is None for _ in range(3))
    limits.refresh()
    assert PartnerUsage.objects.get().pieces == 3
    PartnerUsage.objects.update(pieces=5)  # another process counted two
    limits.refresh()
    denied = limits.admit(who)
    assert denied is not None
    assert denied.kind == "quota"
    assert 0 < denied.seconds <= 86401
    limits.refresh()
    assert PartnerUsage.objects.get().refused == 1
    made.delete()
    limits.refresh()
    assert limits.admit(who) is None


def test_the_fhir_door_says_when_to_come_again(his):
    partner(per_minute=2)
    replies = [his("GET", "Patient?_count=1") for _ in range(3)]
    assert [r.status for r in replies] == [200, 200, 429]
    assert 1 <= int(replies[2].headers["Retry-After"]) <= 30
    assert "每分钟" in json.loads(replies[2].raw)["issue"][0]["details"]["text"]


@pytest.mark.parametrize("state", ["preparing", "testing", "suspended"])
def test_doors_are_shut_until_a_partner_is_live(his, state):
    partner(state)
    assert his("GET", "Patient?_count=1").status == 403
    assert his("POST", "Patient", {"resourceType": "Patient"}).status == 403
    Partner.objects.update(state="live")
    limits.refresh()
    assert his("GET", "Patient?_count=1").status == 200


def test_a_suspended_partners_messages_are_not_taken(his):
    from lianxin.exchange.feeds.models import Arrival
    from lianxin.exchange.models import Peer
    from lianxin.exchange.v2 import message, receiving

    made, _ = partner("suspended")
    client = System.objects.get(name="lim-his")
    Peer.objects.create(
        name="lim", application="LIM", client=client, default_system="urn:oid:2.999.5", created_at=clock.now()
    )
    limits.refresh()
    sent = b"MSH|^~\\&|LIM||LX|LX|20260101||ADT^A04|L1|P|2.5\rPID|1||7||\xe8\xb5\xb5\xe6\xb8\x85||19800101|F"
    told = message.parse(receiving.receive(sent))
    assert (told.text("MSA", 1), told.text("ERR", 3)) == ("AE", "207")
    in_enhanced = sent.replace(b"|2.5\r", b"|2.5|||AL|AL\r")
    assert message.parse(receiving.receive(in_enhanced)).text("MSA", 1) == "CE"
    assert not Arrival.objects.exists()
    Partner.objects.filter(pk=made.pk).update(state="live")
    limits.refresh()
    assert message.parse(receiving.receive(sent)).text("MSA", 1) == "AA"


def test_nobody_is_ready_or_live_untested(db):
    for state in ("ready", "live"):
        with pytest.raises(IntegrityError), transaction.atomic():
            Partner.objects.create(name="Q", state=state, state_at=clock.now(), created_at=clock.now())
    with pytest.raises(IntegrityError), transaction.atomic():
        Partner.objects.create(name="Q", state="unheard", state_at=clock.now(), created_at=clock.now())
