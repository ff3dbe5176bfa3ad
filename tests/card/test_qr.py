"""The card's code: read on-line and off-line, what voids it, and what a forger gets."""

from __future__ import annotations

import base64
import datetime as dt
import json
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connections
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from lianxin.access.errors import Invalid, NoRelationship, NotPermitted
from lianxin.access.models import AuditEvent
from lianxin.access.scope import Scope
from lianxin.index import registry
from lianxin.resident.card import cards, keys, qr, verify
from lianxin.resident.card.models import Card, Seen
from lianxin.standards import clock
from tests.card.conftest import World, build

pytestmark = pytest.mark.django_db


def person(world: World) -> int:
    return world.person("单雄信", "1960-05-06", 101, "13800001111").pk


def test_a_code_is_read_on_line_and_off_line(world: World) -> None:
    who = person(world)
    text = qr.text(who)
    number = world.people["单雄信"].card_number
    assert qr.read(text) == qr.Read(who, number, True)
    published = verify.keys_of(json.loads(Client().get("/card/keys.json").content))
    claim = verify.read(text.lower() + "\n", published, clock.now().timestamp())
    assert (claim.ok, claim.number, claim.seconds) == (True, number, qr.SECONDS)
    assert world.ids["单雄信"] not in text
    raw = base64.b32decode(text[2:] + "=" * (-len(text[2:]) % 8))
    assert world.ids["单雄信"].encode() not in raw


def test_skew_and_expiry(world: World) -> None:
    at = clock.now()
    text = qr.text(person(world), at)
    stamp = int(at.timestamp())
    for when, why in (
        (stamp - verify.SKEW - 1, "early"),
        (stamp - verify.SKEW, ""),
        (stamp + qr.SECONDS + verify.SKEW, ""),
        (stamp + qr.SECONDS + verify.SKEW + 1, "expired"),
    ):
        assert verify.read(text, keys.public(), when).why == why
    with clock.at(at + dt.timedelta(minutes=5)):
        assert qr.read(text).why == "expired"


def test_losing_it_voids_it_at_once_and_a_new_card_has_another_serial(world: World) -> None:
    who = person(world)
    system = Scope.system("test")
    text, number = qr.text(who), world.people["单雄信"].card_number
    cards.lose(system, who)
    cards.lose(system, who)
    assert qr.read(text).why == "revoked"
    with pytest.raises(Invalid):
        qr.text(who)
    new = cards.reissue(system, who)
    again = qr.text(who)
    assert qr.read(text).why == "revoked"
    assert qr.read(again) == qr.Read(who, number, True)
    assert [c.state for c in cards.of_person(who)] == ["active", "lost"]
    assert bytes(new.serial) != bytes(Card.objects.get(state="lost").serial)


def test_a_printed_card_lives_until_it_is_replaced_and_is_on_the_list_then(world: World) -> None:
    who = person(world)
    text = qr.printed(world.desk, who)
    published = keys.public()
    with clock.at(clock.now() + dt.timedelta(days=300)):
        assert qr.read(text).ok
        cards.reissue(world.desk, who)
        assert qr.read(text).why == "revoked"
        given_list = json.loads(Client().get("/card/revoked").content)
        key = published[bytes.fromhex(given_list["kid"])]
        key.verify(bytes.fromhex(given_list["signature"]), given_list["body"].encode())
        serials = {bytes.fromhex(s) for s in json.loads(given_list["body"])["revoked"]}
        assert verify.read(text, published, clock.now().timestamp(), revoked=serials).why == "revoked"


def test_the_same_code_elsewhere_is_a_copy(world: World) -> None:
    text = qr.text(person(world))
    assert qr.read(text, by=world.desk).again is False
    assert qr.read(text, by=world.desk).again is True
    copied = qr.read(text, by=world.other_desk)
    assert (copied.ok, copied.why) == (False, "copied")
    assert Seen.objects.count() == 1
    assert AuditEvent.objects.filter(action="deny", what="card code", detail__contains="copied").exists()
    assert not AuditEvent.objects.filter(detail__contains=text[4:30]).exists()


def test_somebody_elses_key_and_a_changed_byte(world: World) -> None:
    who = person(world)
    text = qr.text(who)
    claim = verify.read(text, keys.public(), clock.now().timestamp())
    mine = Ed25519PrivateKey.generate()
    for kid, why in ((bytes.fromhex(keys.live().kid), "signature"), (b"none", "key")):
        body = verify.body(1, kid, claim.number, claim.serial, claim.issued_at, 10**9, claim.nonce)
        assert qr.read(verify.text(body, mine.sign(body))).why == why
    signed = base64.b32decode(text[2:] + "=" * (-len(text[2:]) % 8))
    for at in range(0, len(signed), 7):
        changed = bytearray(signed)
        changed[at] ^= 1
        forged = verify.text(bytes(changed[: verify.BODY.size]), bytes(changed[verify.BODY.size :]))
        assert not qr.read(forged).ok


@given(
    st.one_of(
        st.text(max_size=300),
        st.binary(max_size=101).map(lambda b: "LX" + base64.b32encode(b).decode().rstrip("=")),
    )
)
def test_whatever_is_shown_is_answered(shown: str) -> None:
    public = Ed25519PrivateKey.from_private_bytes(b"1" * 32).public_key()
    assert not verify.read(shown, {b"abcd": public}, 1_800_000_000).ok


def test_a_retired_key_still_proves_what_it_signed(world: World) -> None:
    who = person(world)
    text = qr.text(who)
    keys.retire(Scope.system("test"))
    assert qr.read(text).ok
    assert qr.read(qr.text(who)).ok
    assert len(keys.jwks()["keys"]) == 2
    assert all("d" not in key for key in keys.jwks()["keys"])


def test_cards_follow_a_merge_and_come_back(world: World) -> None:
    system = Scope.system("test")
    one, two = person(world), world.person("单雄心", "1960-05-06", 103, numbered=False).pk
    text = qr.text(two)
    merged = registry.merge(system, cards.person(one), cards.person(two), "同一人").pk
    read = qr.read(text)
    assert (read.ok, read.person_id) == (True, one)
    assert qr.read(qr.text(one)).person_id == one
    registry.unmerge(system, merged, "弄错了")
    assert qr.read(text).person_id == two
    assert qr.read(qr.text(one)).person_id == one


def test_two_active_cards_meet_in_a_merge(world: World) -> None:
    system = Scope.system("test")
    one, two = person(world), world.person("单雄心", "1960-05-06", 103, numbered=False).pk
    first, second = qr.text(one), qr.text(two)
    merged = registry.merge(system, cards.person(one), cards.person(two), "同一人").pk
    assert (qr.read(first).ok, qr.read(second).why) == (True, "revoked")
    registry.unmerge(system, merged, "弄错了")
    assert (qr.read(first).person_id, qr.read(second).person_id) == (one, two)


def test_who_may_keep_whose_card(world: World) -> None:
    who = person(world)
    stranger = world.scope("13911112222")
    with pytest.raises(NoRelationship):
        cards.lose(stranger, who)
    with pytest.raises(NotPermitted):
        cards.reissue(Scope(account_id=1, roles=frozenset({"system_admin"})), who)
    with pytest.raises(Invalid):
        cards.close(world.desk, who, " ")


@pytest.mark.concurrency
@pytest.mark.django_db(transaction=True)
def test_two_desks_at_once_give_one_card() -> None:
    world = build()
    who = person(world)
    made, wrong = [], []

    def issue() -> None:
        try:
            made.append(cards.ensure(world.desk, who).pk)
        except Exception as error:  # shown below
            wrong.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=issue) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert wrong == []
    assert len(set(made)) == 1
    assert Card.objects.count() == 1
