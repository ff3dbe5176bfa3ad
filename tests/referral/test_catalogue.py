"""Catalogues: the pure evaluation, the shipped data, and what an importer refuses. The table of machine and docs agrees."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianxin.clinical.referral import catalogue, diagram, flow, moves, receivers, rules
from lianxin.clinical.referral.models import Catalogue
from lianxin.standards import clock
from tests.referral.world import START, World


def ask(world: World, code: str, tier: str = "township", **facts: Any) -> catalogue.Answer:
    institutions = {
        "township": world.county.townships[0],
        "county": world.county.lead,
        "village": world.county.villages[0],
    }
    return catalogue.answer(code, facts, institutions[tier], world.county.consortium)


@pytest.mark.parametrize(
    ("code", "tier", "facts", "kind", "emergency"),
    [
        ("I10", "township", {"bp_systolic": 150}, "treat_here", False),
        ("I10", "township", {"bp_systolic": 190}, "treat_here", False),
        ("I10.x00", "township", {"bp_systolic": 190, "severe_headache": True}, "refer_up", True),
        ("I10", "village", {"drugs_count": 3, "at_goal": False}, "refer_up", False),
        ("I10", "village", {"drugs_count": 3}, "treat_here", False),
        ("I10", "county", {"diagnosis_clear": True, "plan_clear": True, "stable": True}, "ready_down", False),
        ("E11.900", "township", {"glucose": 20}, "refer_up", True),
        ("E11", "county", {"complications_treated": True}, "ready_down", False),
        ("I63.9", "township", {}, "refer_up", False),
        ("I63", "township", {"onset_hours": 3}, "refer_up", True),
        ("I63", "county", {"stable": True, "rehabilitation_stage": True}, "ready_down", False),
        ("I25.1", "township", {"suspected_acs": True}, "refer_up", True),
        ("J44.1", "township", {"spo2": 85}, "refer_up", True),
        ("J18", "township", {"age": 85}, "refer_up", False),
        ("J18", "township", {"age": 40, "spo2": 97}, "treat_here", False),
        ("E04.1", "township", {"tirads": 4}, "refer_up", False),
        ("D34", "township", {}, "refer_up", False),
        ("C73", "county", {"stable": True, "wound_healing": True}, "ready_down", False),
        ("S82.1", "township", {"open_fracture": True}, "refer_up", True),
        ("S82.1", "township", {}, "treat_here", False),
        ("O14", "township", {}, "refer_up", False),
        ("Z34", "township", {"bp_systolic": 142}, "refer_up", False),
        ("Z99", "township", {}, "treat_here", False),
    ],
)  # fmt: skip
def test_the_shipped_catalogues_answer(
    world: World, code: str, tier: str, facts: dict, kind: str, emergency: bool
) -> None:
    found = ask(world, code, tier, **facts)
    assert (found.kind, found.emergency) == (kind, emergency), found.why
    assert found.why.zh
    assert found.why.en
    if found.rule:
        assert found.evidence


def test_every_shipped_condition_reads_and_three_catalogues_ship(world: World) -> None:
    assert set(Catalogue.objects.values_list("kind", flat=True)) == {"first_visit", "two_level", "keep_in"}
    for book in json.loads(catalogue.DATA.read_text("utf-8")):
        for rule in book["rules"]:
            for condition in [*rule["must_refer_when"], *rule["may_down_when"]]:
                assert rules.check_expression(condition["when"])
    assert catalogue.load_shipped() == 0, "loading again changes nothing"


def test_facts_to_ask_follow_the_diagnosis(world: World) -> None:
    asked = [fact.code for fact in catalogue.facts_for("I10", tier="township")]
    assert {"bp_systolic", "severe_headache"} <= set(asked)
    assert "stable" not in asked, "whether somebody may go down is asked at the hospital"
    assert "stable" in {fact.code for fact in catalogue.facts_for("I10", tier="county")}
    assert "tirads" not in asked


def test_a_consortium_may_bring_its_own_and_periods_count(world: World) -> None:
    book = {
        "code": "own", "version": "1", "kind": "two_level", "title": "本县目录", "effective_from": "2026-03-02",
        "rules": [{"code": "X", "name": "甲状腺结节", "icd_from": "E04", "icd_to": "E04", "tiers_allowed": ["county"], "evidence": "县文 1 号"}],
    }  # fmt: skip
    catalogue.import_catalogues([book], world.county.consortium)
    assert ask(world, "E04").kind == "refer_up"
    with clock.at(START.replace(day=1)):
        assert ask(world, "E04").kind == "treat_here"
    assert catalogue.answer("E04", {}, world.county.townships[0], None).kind == "treat_here"


def test_a_bad_catalogue_is_refused_whole_and_named(world: World) -> None:
    bad = {"code": "B", "name": "坏", "icd_from": "", "icd_to": "I", "tiers_allowed": ["moon"], "evidence": "x",
           "must_refer_when": [{"when": {"fact": "__import__"}, "zh": "a", "en": "b"}, {"when": {"fact": "age", "op": "**", "value": 2}}]}  # fmt: skip
    with pytest.raises(catalogue.BadCatalogue) as refused:
        catalogue.import_catalogues(
            [
                {
                    "code": "b",
                    "version": "1",
                    "kind": "keep_in",
                    "title": "t",
                    "effective_from": "2026-01-01",
                    "rules": [bad],
                }
            ]
        )
    places = [place for place, _ in refused.value.errors]
    assert "[0].rules[0].icd_from" in places
    assert "[0].rules[0].must_refer_when[0].when" in places
    assert "[0].rules[0].tiers_allowed" in places
    assert not Catalogue.objects.filter(code="b").exists()


def expressions() -> st.SearchStrategy[Any]:
    numbers = [f.code for f in rules.FACTS.values() if f.kind == "number"]
    flags = [f.code for f in rules.FACTS.values() if f.kind == "bool"]
    leaf = st.one_of(
        st.builds(lambda c: {"fact": c}, st.sampled_from(flags)),
        st.builds(
            lambda c, o, v: {"fact": c, "op": o, "value": v},
            st.sampled_from(numbers),
            st.sampled_from(sorted(rules.OPERATORS)),
            st.integers(-5, 300),
        ),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(lambda p: {"all": p}, st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda p: {"any": p}, st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda p: {"not": p}, inner),
        ),
        max_leaves=5,
    )


@given(expressions())
def test_nothing_is_true_of_what_nobody_asked(expression: Any) -> None:
    try:
        rules.check_expression(expression)
    except rules.BadExpression:
        return
    assert rules.holds(expression, {}) is False


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda c: st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(["all", "any", "not", "fact", "op", "value"]), c, max_size=3), max_leaves=8))  # fmt: skip
def test_any_json_is_refused_or_read_never_crashes(thing: Any) -> None:
    try:
        rules.check_expression(thing)
    except rules.BadExpression:
        return
    assert rules.holds(thing, {}) in (True, False)


@pytest.mark.parametrize(
    ("code", "low", "high", "inside"),
    [("I10.x00", "I10", "I15", True), ("I15.9", "I10", "I15", True), ("I16", "I10", "I15", False), ("i10 ", "I10", "I10", True),
     ("I1", "I10", "I15", False), ("", "I10", "I15", False), ("E04.101", "E04", "E04", True)],
)  # fmt: skip
def test_icd_ranges(code: str, low: str, high: str, inside: bool) -> None:
    assert rules.icd_in(code, low, high) is inside


def test_the_documentation_is_the_table() -> None:
    text = diagram.PAGE.read_text("utf-8")
    assert moves.MACHINE.diagram() in text
    assert text == diagram.page(), "run: python -m lianxin.clinical.referral.diagram"


def test_suitable_receivers_are_ranked_with_reasons(world: World) -> None:
    world.session(department="surgery")
    up = receivers.suitable(world.county.townships[0], direction="up", specialty="04", person=world.person)
    assert up[0].institution == world.county.lead
    assert up[0].free_numbers == 10
    assert up[0].distance_km is not None
    assert up[0].reasons
    assert receivers.suitable(world.county.townships[0], direction="up", specialty="12.34") == []
    down = receivers.suitable(world.county.lead, direction="down", specialty="04", person=world.person)
    assert down[0].institution == world.county.townships[0], "home first"
    assert world.county.tcm in [r.institution for r in down]


def test_flow_figures_open_down_to_their_cases(world: World) -> None:
    closed = world.until("closed")
    back = world.until("received", specialty="03.04")
    world.act("desk", "reject", back, {"reason_code": "no_capability"})
    gone = world.until("submitted", specialty="03")
    world.act("gp0", "cancel", gone, {"reason_code": "improved"})
    late = world.until("submitted", specialty="03")
    with clock.at(START.replace(day=20)):
        span = flow.period(START.replace(hour=0), clock.now())
        found = flow.summary(world["manager"], span)
        assert (
            found.counts | {"sent": 4, "closed": 1, "returned": 1, "withdrawn": 1, "open": 2} == found.counts
        )
        assert found.counts["countable"] == 2
        assert found.closure_rate == 0.5
        assert found.return_rate == 0.25
        for figure, number in found.counts.items():
            assert len(flow.cases(world["manager"], span, figure)) == number, figure
        assert [r.case.number for r in flow.cases(world["manager"], span, "closed")] == [closed]
        assert {r.case.number for r in flow.cases(world["manager"], span, "overdue")} == {late, back}
        band = found.links[0]
        assert (band.from_id, band.to_id, band.count) == (
            world.county.townships[0].pk,
            world.county.lead.pk,
            4,
        )
        assert len(flow.cases(world["manager"], span, from_id=band.from_id, to_id=band.to_id)) == 4
        assert found.return_reasons[0][0] == "no_capability"
        assert len(flow.cases(world["manager"], span, reason="no_capability")) == 1
        stage = next(s for s in found.stages if s.code == "wait")
        assert stage.count == len(flow.cases(world["manager"], span, stage="wait")) == 1
        assert flow.summary(world["gp2"], span).counts["sent"] == 0, "each sees its own"
