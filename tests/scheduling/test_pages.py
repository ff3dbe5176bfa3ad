"""The pages of hospitals' systems: who sees which, what may be done, forms that refuse with clear words."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from lianxin.pool.models import Session
from lianxin.resident.booking import service
from lianxin.resident.scheduling import asking
from lianxin.resident.scheduling.models import BookingSystem, OwnerRule, Question
from lianxin.standards import clock
from tests.referral.world import World, account_for, key

from .world import session


def signed_in(world: World, post: str) -> Client:
    client = Client()
    client.force_login(account_for(world.county.posts[post]))
    return client


@pytest.fixture
def own(world: World) -> BookingSystem:
    made = BookingSystem.objects.create(
        name="人民医院 HIS",
        institution=world.county.lead,
        way="fhir",
        url="http://127.0.0.1:9/fhir",
        seconds=1,
        created_at=clock.now(),
    )
    OwnerRule.objects.create(system=made, owner="hospital")
    return made


def test_what_waits_is_seen_by_its_own_hospital_alone(world: World, own: BookingSystem) -> None:
    one = session(world, 3, owner="hospital", external_id="S1")
    made = service.book(world["gp0"], one.pk, world.person.pk, key())
    assert asking.note(made.pk) is not None
    page = signed_in(world, "desk").get("/pools/sync").content.decode()
    assert made.case.number in page
    assert world.person.name not in page
    elsewhere = signed_in(world, "tcm_desk")
    assert made.case.number not in elsewhere.get("/pools/sync").content.decode()
    assert elsewhere.get(f"/pools/sync/{own.pk}").status_code == 404
    row = Question.objects.unscoped("test").get()
    assert elsewhere.post(f"/pools/sync/bookings/{row.pk}/again").status_code == 404
    assert signed_in(world, "desk").post(f"/pools/sync/bookings/{row.pk}/again").status_code == 302
    assert signed_in(world, "clinician").get("/pools/sync").status_code == 403
    assert signed_in(world, "system_admin").get("/pools/sync").status_code == 403


def test_a_table_of_sessions_is_taken_over(world: World, own: BookingSystem) -> None:
    client = signed_in(world, "desk")
    start = f"{clock.now():%Y-%m}-20"
    rows = f"external_id,department,start,end,capacity,fee\nT1,WK,{start} 08:00,{start} 12:00,8,15.5\nT2,WK,{start} 13:00,{start} 12:00,8,\n"

    def send(data: bytes) -> int:
        return client.post(
            f"/pools/sync/{own.pk}/table", {"file": SimpleUploadedFile("t.csv", data)}
        ).status_code

    assert send(rows.encode("gb18030")) == 302
    one = Session.objects.get(external_id="T1")
    assert (one.owner, one.capacity, one.fee_fen) == ("hospital", 8, 1550)
    assert "第 3 行" in client.get(f"/pools/sync/{own.pk}").content.decode()
    assert send(b"a,b\n1,2\n") == 400
    assert send(b"") == 400
    assert send(b"\xff\xfe\x00\x00") == 400
    assert client.post(f"/pools/sync/{own.pk}/nothing").status_code == 404
    assert client.post(f"/pools/sync/{own.pk}/pull").status_code == 302


def test_the_administrator_keeps_connections_and_rules(world: World) -> None:
    client = signed_in(world, "system_admin")
    given = {
        "name": "HIS", "institution": world.county.lead.pk, "way": "fhir", "url": "https://his.example/fhir", "port": 2575, "version": "2.5",
        "seconds": 10, "pull_minutes": 5, "days": 28, "active": "on", "token": "geheim-1", "asks_by_key": "on",
    }  # fmt: skip
    for wrong in (
        {"seconds": 121}, {"seconds": 0}, {"url": "http://10.0.0.1/fhir"}, {"url": "ftp://x"}, {"url": ""}, {"way": "fax"}, {"port": 0},
        {"days": 9999}, {"version": "9"}, {"token": "令牌"}, {"way": "v2", "host": "a b"}, {"way": "v2", "host": "h", "pulls": "on"},
        {"institution": 0}, {"name": ""},
    ):  # fmt: skip
        assert client.post("/manage/booking-systems/new", given | wrong).status_code == 400, wrong
    assert not BookingSystem.objects.exists()
    assert client.post("/manage/booking-systems/new", given).status_code == 302
    row = BookingSystem.objects.get()
    assert "geheim" not in row.secret
    assert row.bearer == "geheim-1"
    assert client.post("/manage/booking-systems/new", given | {"name": "2"}).status_code == 400, (
        "one a hospital"
    )
    assert client.post(f"/manage/booking-systems/{row.pk}", given | {"token": ""}).status_code == 302
    row.refresh_from_db()
    assert row.bearer == "geheim-1"
    address = f"/manage/booking-systems/{row.pk}"
    assert client.post(f"{address}/rule", {"owner": "hospital", "kind": "exam"}).status_code == 302
    assert client.post(f"{address}/rule", {"owner": "hospital", "kind": "exam"}).status_code == 400, (
        "the same again"
    )
    assert client.post(f"{address}/rule", {"owner": "nobody"}).status_code == 400
    assert client.post(f"{address}/pause").status_code == 302
    assert client.post(f"{address}/unrule", {"rule": "x"}).status_code == 404
    assert client.post(f"{address}/unrule", {"rule": OwnerRule.objects.get().pk}).status_code == 302
    page = client.get(address).content.decode()
    assert "geheim" not in page
    assert signed_in(world, "desk").get(address).status_code == 403
    assert "HIS" in client.get("/manage/booking-systems").content.decode()
