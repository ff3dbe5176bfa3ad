"""Sending on, seen by those who have nothing to do with the patient: messages composed, files exported, pages and self-tests of partners."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.access import seal, tokens
from lianxin.access.models import Client as System
from lianxin.exchange.partners import delivery, exports, selftest
from lianxin.exchange.partners.models import (
    Export,
    ExportFile,
    ExportRun,
    Partner,
    PartnerClient,
    PartnerTest,
)
from lianxin.exchange.v2 import outbound_changes
from lianxin.exchange.v2.models import Peer, V2Message
from lianxin.network.models import Institution
from lianxin.record import feed
from lianxin.standards import clock
from tests.leakage.conftest import Cage

pytestmark = [pytest.mark.concurrency]

STRANGERS = ("OUT-1", "SC-T3")
EVERYTHING = ["A08", "ORU", "REF", "SIU"]


def system(code: str) -> System:
    tokens.issue(f"p-{code}", "system/*.cruds", code)
    return System.objects.get(name=f"p-{code}")


def partner(code: str) -> Partner:
    made = Partner.objects.create(
        name=f"P-{code}", state="live", waived="t", state_at=clock.now(), created_at=clock.now()
    )
    made.institutions.add(Institution.objects.get(code=code))
    PartnerClient.objects.create(partner=made, client=system(code))
    return made


def test_strangers_are_told_nothing_by_hl7_v2(cage: Cage) -> None:
    lead = cage.world.county.lead.code
    for code in (*STRANGERS, lead):
        Peer.objects.create(
            name=code,
            application=f"A-{code}",
            client=system(code),
            created_at=clock.now(),
            host="127.0.0.1",
            port=1,
            wants=EVERYTHING,
        )
    for _ in range(5):
        outbound_changes.compose(feed.Watch())
    told = {m.peer.name for m in V2Message.objects.select_related("peer")}
    assert told == {lead}  # the receiver of the referral, and nobody else
    body = b"".join(seal.unseal_bytes(bytes(m.body)) for m in V2Message.objects.all())
    assert "司空测漏".encode() in body  # the canary is in what the receiver hears


def test_strangers_exports_hold_nothing_of_it(cage: Cage) -> None:
    for code in STRANGERS:
        one = partner(code)
        for what, kinds, form in (
            (
                "resources",
                ["Patient", "Condition", "Observation", "ServiceRequest", "Task", "Encounter"],
                "ndjson",
            ),
            ("resources", ["DocumentReference", "RelatedPerson", "Communication"], "bundle"),
            ("table", ["Patient"], "csv"),
            ("documents", ["500.2", "483.20"], "cda"),
        ):
            export = Export.objects.create(
                partner=one, client=one.links.get().client, name=f"{code}-{kinds[0]}-{form}", what=what, kinds=kinds, format=form,
                columns="n = name.text", method="folder", folder="x", daily=dt.time(1), next_at=clock.now(), created_at=clock.now(),
            )  # fmt: skip
            for _ in range(3):
                exports.make(export.pk)
    for file in ExportFile.objects.all():
        assert not cage.leaked(delivery.body_of(file)), file.name
    assert not ExportRun.objects.exists()


def test_a_strangers_self_test_and_pages_show_nothing_of_it(cage: Cage) -> None:
    one = partner("OUT-1")
    Peer.objects.create(
        name="x", application="X", facility="OUT-1", client=one.links.get().client, created_at=clock.now()
    )
    sample = f"MSH|^~\\&|X|OUT-1|LX|LX|20260301||ADT^A04|1|P|2.5||||||UNICODE UTF-8\rPID|1||7^^^^MR||某人||19610723|F|||||||||||{cage.person.number}\r"
    shown = selftest.run(one, one.links.get().client, "t", sample.encode())
    said = " ".join(str(s.as_dict()) for s in shown)
    assert not cage.leaked(said, sample)
    for name in ("system_admin", "manager"):
        browser = cage.browser(cage.outsiders[name])
        for page in ("/feeds/partners", f"/feeds/partners/{one.pk}", f"/feeds/partners/{one.pk}/selftest"):
            assert not cage.leaked(browser.get(page).content, page)
    other = partner("SC-T1")
    for name in ("system_admin", "manager"):
        assert cage.browser(cage.outsiders[name]).get(f"/feeds/partners/{other.pk}").status_code == 404
    for kept in PartnerTest.objects.all():
        assert "某人".encode() not in bytes(kept.report)
