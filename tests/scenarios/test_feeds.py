"""The demonstration's senders: the same from the same seed, every door used, the neglected one seen, nothing twice."""

import datetime as dt
from collections import Counter
from random import Random

import pytest

from lianxin.exchange.feeds import scores
from lianxin.exchange.feeds.models import Arrival, Finding
from lianxin.exchange.settlement.models import SettlementBatch, SettlementLine
from lianxin.exchange.tables.models import TableRun
from lianxin.exchange.v2 import message
from lianxin.network.models import Institution, Membership
from lianxin.scenarios import feeds, feeds_files, feeds_spoilt, tiantai
from lianxin.scenarios.feeds_v2 import PANELS, Writer
from lianxin.scenarios.population import generate
from lianxin.standards import clock
from tests.factories import make_consortium, make_institution

NOW = dt.datetime(2026, 11, 20, 15, 0, tzinfo=clock.ZONE)
WRITER = Writer("TESTSYS", "TT-TT", "2.4", "GB18030", local_codes=True)


def someone(seed=7):
    return next(generate(tiantai.villages(), 5, seed, NOW.date()))


def report(panel="blood"):
    segments = WRITER.report(
        someone(), Random(3), panel, "1", NOW - dt.timedelta(hours=2), NOW - dt.timedelta(hours=1)
    )
    return feeds_v2_message("ORU^R01", segments)


def feeds_v2_message(kind, segments):
    return feeds.Message([WRITER.head(kind, "T1", NOW), *segments], NOW, NOW)


@pytest.mark.parametrize("panel", PANELS)
def test_messages_are_hl7_and_keep_their_character_set(panel):
    read = message.parse(report(panel).data())
    assert (read.kind[:2], read.control_id) == (("ORU", "R01"), "T1")
    assert someone().name in read.segments[1].fields[5]
    assert len([s for s in read.segments if s.name == "OBX"]) == len(PANELS[panel][2])


@pytest.mark.parametrize(
    "mistake", [m for m, _ in (*feeds_spoilt.RESULTS, *feeds_spoilt.VISITS)], ids=lambda m: m.__name__
)
def test_every_mistake_changes_what_is_sent(mistake):
    whole = report("kidney").data() if mistake is not feeds_spoilt.no_code else report("sugar").data()
    made = report("kidney") if mistake is not feeds_spoilt.no_code else report("sugar")
    sent = mistake(made, Random(5))
    assert [one.data() for one in sent] != [whole]


def test_settlements_and_their_sheet_agree():
    people = list(generate(tiantai.villages(), 50, 7, NOW.date()))
    rows = feeds_files.settlements(
        people,
        [("TT-RMYY", "县人民医院")],
        dt.date(2026, 10, 1),
        dt.date(2026, 10, 31),
        400,
        Random(1),
        "331023",
    )
    assert len(rows) == 402
    sheet = feeds_files.control_sheet(rows)
    assert sheet[-1][0] == "合计"
    assert sheet[-1][4] == "402"


@pytest.mark.django_db(transaction=True)
def test_a_day_of_all_senders_through_the_doors():
    plan = ("TT-RMYY", "TT-ZYY", "TT-PQ", "TT-BH", "TT-TT", "TT-CC", "TT-JT")
    places = [
        make_institution(code, "hospital" if n < 2 else "township", name=f"试验{code}", division="331023")
        for n, code in enumerate(plan)
    ]
    make_consortium(places[0], places[1:], code="TT-YGT", division="331023")
    sent = feeds.play(tiantai.villages(), 300, 11, NOW, days=2)
    arrivals = Counter(Arrival.objects.values_list("door", "institution__code"))
    assert {door for door, _ in arrivals} == {"hl7v2", "cda", "table", "settlement"}
    assert sum(n for (door, _), n in arrivals.items() if door == "hl7v2") == sent
    assert not Arrival.objects.filter(state="refused").exclude(institution__code="TT-TT").exists()
    assert set(SettlementBatch.objects.values_list("state", flat=True)) == {"accepted", "held"}
    assert TableRun.objects.filter(state="done").count() == 2
    assert Institution.objects.get(code="TT-YBJ").pk not in Membership.objects.values_list(
        "institution_id", flat=True
    )
    counted = scores.figures(("institution_id",), NOW.date() - dt.timedelta(days=2), NOW.date())
    totals = {
        code: counted[(one.pk,)].total for code, one in zip(plan, places, strict=True) if (one.pk,) in counted
    }
    assert min(totals, key=totals.get) == "TT-TT"
    before = (
        Arrival.objects.count(),
        SettlementLine.objects.unscoped("test").count(),
        Finding.objects.count(),
    )
    assert feeds.play(tiantai.villages(), 300, 11, NOW, days=2) == sent
    assert (
        Arrival.objects.count(),
        SettlementLine.objects.unscoped("test").count(),
        Finding.objects.count(),
    ) == before
