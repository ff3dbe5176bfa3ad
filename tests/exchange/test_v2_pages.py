"""Pages: systems that speak HL7 v2 with their messages, and lists of people up and down."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client as Browser

from lianxin.access import tokens
from lianxin.access.models import AuditEvent, Client
from lianxin.exchange.feeds.models import Arrival
from lianxin.exchange.ihe.models import Domain
from lianxin.exchange.v2 import receiving
from lianxin.exchange.v2.models import SENT, WAITING, Peer, V2Message
from lianxin.index.golden import RESIDENT_ID_SYSTEM
from lianxin.index.models import SourceRecord
from lianxin.network import roles
from lianxin.standards import clock
from tests.exchange import smart_world as w
from tests.exchange.test_v2_pix import adt, pid
from tests.factories import make_institution, make_post
from tests.referral import world as worlds

pytestmark = pytest.mark.django_db


def signed(role: str, institution=None) -> Browser:
    return w.signed_in(
        worlds.account_for(make_post(institution or make_institution("SYS", "hospital"), role))
    )


@pytest.fixture
def his():
    tokens.issue("his", "system/Patient.cruds", make_institution("V2-A", "township").code)
    return Client.objects.get(name="his")


def values(his, **more):
    return {
        "name": "县医院 HIS",
        "application": "P-V2-A",
        "facility": "V2-A",
        "client": his.pk,
        "port": 2575,
        "version": "2.5",
        "active": "on",
        **more,
    }


def test_a_system_is_entered_its_messages_are_shown_and_taken_again(his):
    admin = signed(roles.SYSTEM_ADMIN)
    assert "还没有登记系统" in admin.get("/manage/hl7v2").content.decode()
    done = admin.post(
        "/manage/hl7v2/new",
        values(his, addresses="10.1.2.3/16, 127.0.0.1", codec="GBK", default_system="urn:oid:2.999.1"),
    )
    peer = Peer.objects.get()
    assert done["Location"].endswith(f"/manage/hl7v2/{peer.pk}")
    assert (peer.addresses, peer.codec) == (["10.1.0.0/16", "127.0.0.1/32"], "gb18030")
    receiving.receive(adt("A04", pid(authority="")))
    receiving.receive(adt("A04", pid(name="", authority="")))
    page = admin.get(f"/manage/hl7v2/{peer.pk}").content.decode()
    assert f"/feeds/messages?sender=peer:{peer.pk}" in page
    assert "欧阳明月" not in page
    assert Arrival.objects.filter(peer=peer, state="refused", error__contains="缺少患者姓名").count() == 1
    assert admin.get(f"/manage/hl7v2/{peer.pk}?state=refused&q=x").status_code == 200
    assert admin.get("/manage/hl7v2").status_code == 200
    assert AuditEvent.objects.filter(action="admin", what__startswith="HL7 v2").count() == 1


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("addresses", "10.1.2.999", "网段"), ("fingerprint", "zz", "SHA-256"), ("default_system", "no uri", "URI"), ("codec", "KLINGON", "字符集"),
        ("version", "9.9", "版本"), ("name", "", "必填"), ("client", "0", ""), ("port", "0", ""), ("port", "99999999999999999999", ""), ("wants", "A99", ""),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_with_a_reason(his, name, value, word):
    reply = signed(roles.SYSTEM_ADMIN).post("/manage/hl7v2/new", values(his, **{name: value}))
    assert reply.status_code == 400
    assert word in reply.content.decode()
    assert not Peer.objects.exists()


def test_the_same_sender_is_not_entered_twice(his):
    admin = signed(roles.SYSTEM_ADMIN)
    admin.post("/manage/hl7v2/new", values(his))
    assert admin.post("/manage/hl7v2/new", values(his, name="另一个")).status_code == 400
    assert admin.get(f"/manage/hl7v2/{Peer.objects.get().pk}/edit").status_code == 200


def test_what_is_to_be_sent_can_be_paused_set_aside_and_sent_again(his):
    admin = signed(roles.SYSTEM_ADMIN)
    peer = Peer.objects.create(
        name="x", application="x", client=his, created_at=clock.now(), host="127.0.0.1", wants=["A31"]
    )
    one = V2Message.objects.create(
        peer=peer,
        control_id="1",
        kind="ADT^A31",
        body=b"",
        state=WAITING,
        at=clock.now(),
    )
    for what in ("pause", "resume", "retry"):
        assert admin.post(f"/manage/hl7v2/{peer.pk}/{what}").status_code == 302
    assert admin.post(f"/manage/hl7v2/{peer.pk}/explode").status_code == 404
    admin.post(f"/manage/hl7v2/messages/{one.pk}/hold")
    admin.post(f"/manage/hl7v2/messages/{one.pk}/replay")
    one.refresh_from_db()
    assert one.state == WAITING
    V2Message.objects.filter(pk=one.pk).update(state=SENT)
    assert admin.post(f"/manage/hl7v2/messages/{one.pk}/hold").status_code == 404
    assert "重发" in admin.get(f"/manage/hl7v2/{peer.pk}").content.decode()


@pytest.mark.parametrize("role", [roles.SECURITY_ADMIN, roles.MANAGER, roles.CLINICIAN])
def test_others_do_not_see_the_systems(role):
    other = signed(role)
    assert other.get("/manage/hl7v2").status_code == 403
    assert other.get("/manage/hl7v2/new").status_code == 403


def test_domains_are_entered_and_changed():
    admin = signed(roles.SYSTEM_ADMIN)
    place = make_institution("DO-A", "township")
    given = {
        "system": "urn:oid:2.999.7",
        "institution": place.pk,
        "namespace": "HIS",
        "oid": "2.999.7",
        "sharing": "partners",
    }
    assert admin.post("/manage/domains", given).status_code == 302
    one = Domain.objects.get()
    assert admin.post("/manage/domains", given).status_code == 400
    assert admin.post(f"/manage/domains/{one.pk}", {**given, "sharing": "own"}).status_code == 302
    assert Domain.objects.get().sharing == "own"
    assert "urn:oid:2.999.7" in admin.get("/manage/domains").content.decode()
    for wrong in (
        {"system": "no uri"},
        {"system": RESIDENT_ID_SYSTEM},
        {"oid": "x.y"},
        {"institution": "0"},
        {"sharing": "everybody"},
    ):
        assert admin.post("/manage/domains", {**given, "namespace": "B", **wrong}).status_code == 400
    assert (
        signed(roles.MANAGER, make_institution("DO-B", "hospital")).get("/manage/domains").status_code == 403
    )


def upload(browser, content):
    return browser.post("/rosters", {"file": SimpleUploadedFile("名册.csv", content)})


def test_a_list_is_uploaded_and_the_cross_reference_downloaded():
    here = make_institution("RO-P", "township")
    desk = signed(roles.REFERRAL_DESK, here)
    assert desk.get("/rosters").status_code == 200
    page = upload(desk, "院内号,姓名,性别\n1,欧阳明月,男\n2,,女\n".encode("gb18030")).content.decode()
    assert "缺少姓名" in page
    assert "新登记" in page
    assert SourceRecord.objects.unscoped("test").get().institution == here
    got = desk.get("/rosters/cross-reference.csv")
    text = got.content.decode("utf-8-sig")
    assert "欧**月" in text
    assert "欧阳明月" not in text
    assert text.count("\n") == 2
    assert desk.get("/rosters/cross-reference.csv?since=2999-01-01").content.decode().count("\n") == 1
    assert desk.get("/rosters/cross-reference.csv?since=nonsense").status_code == 200


@pytest.mark.parametrize("content", [b"", b"\x00\xff", "姓名\n张三\n".encode(), b"%PDF-1.4 binary"])
def test_a_file_that_is_no_list_is_refused_with_a_reason(content):
    reply = upload(signed(roles.REFERRAL_DESK), content)
    assert reply.status_code == 400
    assert (
        signed(roles.REFERRAL_DESK, make_institution("RO-Q", "township")).post("/rosters", {}).status_code
        == 400
    )


def test_lists_are_for_those_who_keep_the_index():
    for role in (roles.SYSTEM_ADMIN, roles.MANAGER, roles.PHARMACIST):
        other = signed(role, make_institution(f"RO-{role.replace('_', '-')}"[:20], "hospital"))
        assert other.get("/rosters").status_code == 403
        assert other.get("/rosters/cross-reference.csv").status_code == 403
