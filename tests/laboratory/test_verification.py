"""Who may vouch for what: the guards of a person's verification and the rules by which a report goes out without one."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lianxin.duty.errors import NotAllowed, Refused
from lianxin.regional.critical.models import Critical
from lianxin.regional.laboratory import catalogue, judge, quality, results, service, verification
from lianxin.regional.laboratory.judge import Standing
from lianxin.regional.laboratory.models import Policy, Result, Verification
from lianxin.standards import clock
from tests.laboratory import world

PEOPLE = (1, 2, 3)
NEEDS = {"TP": (), "ALB": (), "GLOB": ("TP", "ALB"), "AG": ("TP", "ALB"), "ALT": ()}


class VerificationMachine(RuleBasedStateMachine):
    """Whatever people try in whatever order: nobody vouches twice or for their own, and inputs come before what is computed from them."""

    @initialize(
        required=st.sampled_from([1, 2]),
        own=st.booleans(),
        authors=st.lists(st.sampled_from([None, *PEOPLE]), min_size=3, max_size=3),
    )
    def begin(self, required: int, own: bool, authors: list[int | None]) -> None:
        self.required, self.own = required, own
        given = iter(authors)
        self.all = {
            c: Standing(c, next(given) if not needs else None, (), needs) for c, needs in NEEDS.items()
        }

    @rule(by=st.sampled_from(PEOPLE), wanted=st.sets(st.sampled_from(sorted(NEEDS)), min_size=1))
    def verify(self, by: int, wanted: set[str]) -> None:
        done, why = judge.closed(sorted(wanted), self.all, by, required=self.required, own_allowed=self.own)
        assert set(done) | set(why) == wanted
        assert not set(done) & set(why)
        for code in done:
            before = self.all[code]
            self.all[code] = Standing(
                code, before.entered_by, (*before.verifiers, by), before.needs, before.qc
            )

    @rule(code=st.sampled_from(["TP", "ALB", "ALT"]), by=st.sampled_from([None, *PEOPLE]))
    def run_again(self, code: str, by: int | None) -> None:
        """A value is measured again: its verifications and those of what is computed from it are gone."""
        for one, needs in NEEDS.items():
            if one == code or code in needs:
                self.all[one] = Standing(one, by if one == code else None, (), needs)

    @rule(code=st.sampled_from(sorted(NEEDS)), gate=st.sampled_from(["", "qc"]))
    def controls(self, code: str, gate: str) -> None:
        before = self.all[code]
        self.all[code] = Standing(code, before.entered_by, before.verifiers, before.needs, gate)
        if gate:
            for by in PEOPLE:
                done, _ = judge.closed([code], self.all, by, required=self.required, own_allowed=self.own)
                assert done == []

    @invariant()
    def guards_hold(self) -> None:
        for one in getattr(self, "all", {}).values():
            assert len(set(one.verifiers)) == len(one.verifiers) <= self.required
            assert self.own or one.entered_by not in one.verifiers
            for need in one.needs:
                assert len(self.all[need].verifiers) >= len(one.verifiers)


VerificationMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestVerificationMachine = VerificationMachine.TestCase


@given(
    flag=st.sampled_from(["N", "L", "H", "A", ""]), source=st.sampled_from(["hand", "astm", "v2"]), qc=st.sampled_from(["", "qc", "qc_old"]),
    device=st.sampled_from(["", "*R"]), critical=st.booleans(), beyond=st.booleans(), on=st.booleans(), value=st.sampled_from(["5.0", "60"]),
)  # fmt: skip
def test_a_rule_verifies_only_what_nothing_speaks_against(
    flag, source, qc, device, critical, beyond, on, value
) -> None:
    one = catalogue.analyte("GLU")
    said = judge.Said("", Decimal(value))
    why = judge.why_not_auto(
        one,
        said,
        rule=judge.Rule(on),
        flag=flag,
        delta={"beyond": beyond},
        device_flags=device,
        source=source,
        qc=qc,
        critical=critical,
    )
    clean = (
        on
        and flag == "N"
        and source != "hand"
        and not qc
        and not device
        and not critical
        and not beyond
        and value == "5.0"
    )
    assert (why == []) == clean


@pytest.mark.django_db
def test_two_people_vouch_when_settings_ask_and_never_the_same_twice() -> None:
    county = world.make_world()
    reading = world.received(county, "LAB-HBV")
    world.measured(reading, HBSAG="阳性", HBSAB="0.5", HBEAG="阴性", HBEAB="阳性", HBCAB="阳性")
    with pytest.raises(Refused):
        world.act(county, "lab0", reading, "verify", seen="stale")
    world.act(county, "lab0", reading, "verify", analytes="HBSAG,HBSAB")
    assert world.state(reading) == "resulted"  # the rest is left
    world.act(county, "lab0", reading, "verify")
    assert world.state(reading) == "verified"
    with pytest.raises(NotAllowed):
        world.act(county, "lab0", reading, "confirm")
    one = Result.objects.unscoped("test").filter(reading=reading).earliest("pk")
    first = Verification.objects.filter(result=one).get()
    with pytest.raises(IntegrityError), transaction.atomic():
        Verification.objects.create(result=one, level=2, account_id=first.account_id, at=clock.now())
    with pytest.raises(Exception, match=r"(?i)cannot"), transaction.atomic():
        Result.objects.unscoped("test").filter(pk=one.pk).update(text="阴性")
    world.act(county, "lab1", reading, "confirm")
    assert world.state(reading) == "issued"


@pytest.mark.django_db
def test_the_submitter_verifies_only_where_the_setting_allows() -> None:
    county = world.make_world()
    reading = world.received(county, "LAB-GLU")
    world.enter(county, reading, GLU="5.2")
    with pytest.raises(NotAllowed):
        world.act(county, "lab0", reading, "verify")
    Policy.objects.create(
        name="verify.self", value=True, effective_from="2020-01-01", source="夜班单人值守，中心主任批准"
    )
    world.act(county, "lab0", reading, "verify")
    assert world.state(reading) == "issued"


@pytest.mark.django_db
def test_by_rule_with_whoever_set_it_and_not_when_anything_speaks_against_it() -> None:
    county = world.make_world()
    control = world.control(county)
    world.qc(county, control, "5.05")
    person = world.make_person(sex="female", birth_date="1980-01-01")
    first = world.received(county, "LAB-GLU", person=person)
    world.measured(first, GLU="5.4")
    assert world.state(first) == "resulted"
    assert service.reading_of(first.case).laboratory.why_not == [{"GLU": ["off"]}]
    rule = world.rule(county)
    again = world.received(county, "LAB-GLU")
    world.measured(again, GLU="5.4")
    assert world.state(again) == "issued"
    assert service.reading_of(again.case).laboratory.auto
    vouched = Verification.objects.get(result__reading=again)
    assert (vouched.rule_id, vouched.account_id) == (rule.pk, rule.account_id)
    for value, why in (("6.8", ["range"]), ("60", ["critical", "range", "method"])):
        odd = world.received(county, "LAB-GLU")
        world.measured(odd, GLU=value)
        assert service.reading_of(odd.case).laboratory.why_not == [{"GLU": why}]
    world.qc(county, control, "5.40")  # beyond three standard deviations
    shut = world.received(county, "LAB-GLU")
    world.measured(shut, GLU="5.4")
    assert service.reading_of(shut.case).laboratory.why_not == [{"GLU": ["qc"]}]
    with pytest.raises(NotAllowed):
        world.act(county, "lab1", shut, "verify")
    with pytest.raises(Refused):
        quality.correct(world.scope_of(county, "lab0"), control.measures.latest("pk").pk, "reagent", " ")
    quality.correct(
        world.scope_of(county, "lab0"), control.measures.latest("pk").pk, "reagent", "更换试剂后复测在控"
    )
    world.act(county, "lab1", shut, "verify")
    assert world.state(shut) == "issued"
    assert service.sweep() == 0


@pytest.mark.django_db
def test_a_critical_value_is_checked_by_a_person_told_once_and_outlives_its_correction() -> None:
    county = world.make_world()
    world.rule(county)
    reading = world.received(county, "LAB-GLU")
    world.measured(reading, GLU="1.8")
    assert results.current(reading)["GLU"].flag == "LL"
    with pytest.raises(Refused) as refused:
        world.act(county, "lab0", reading, "verify")
    assert "notified" in refused.value.errors
    world.act(county, "lab0", reading, "verify", notified="1")
    assert world.state(reading) == "verified"  # a second person confirms a critical value
    told = Critical.objects.unscoped("test").get(source="laboratory")
    assert (told.value, told.source_case_id, told.person_id) == ("1.80", reading.pk, reading.person_id)
    world.act(county, "lab1", reading, "confirm", notified="1")
    world.act(county, "lab0", reading, "retract", analytes="GLU", reason="标本放置过久")
    world.enter(county, reading, GLU="4.9")
    world.act(county, "lab1", reading, "verify")
    assert world.state(reading) == "issued"
    assert Critical.objects.unscoped("test").get(source="laboratory").value == "1.80"


@pytest.mark.django_db
def test_delta_against_the_persons_previous_result() -> None:
    county = world.make_world()
    person = world.make_person(sex="male", birth_date="1960-01-01")
    first = world.received(county, "LAB-CBC", person=person)
    world.measured(first, **world.CBC)
    world.act(county, "lab0", first, "verify")
    second = world.received(county, "LAB-CBC", person=person)
    world.measured(second, **(world.CBC | {"HGB": "102", "PLT": "230"}))
    have = results.current(service.reading_of(second.case))
    assert (have["HGB"].delta["beyond"], have["HGB"].delta["before"]) == (True, "140")
    assert have["PLT"].delta["beyond"] is False
    assert "delta" in verification.why_not(service.reading_of(second.case))["HGB"]


@pytest.mark.django_db
def test_a_rerun_is_an_attempt_and_what_is_computed_follows() -> None:
    county = world.make_world()
    reading = world.received(county, "LAB-LIPID")
    world.measured(reading, CHOL="5.0", TG="1.5", HDL="1.2")
    assert (world.values(reading)["LDL"], world.values(reading)["NONHDL"]) == ("3.12", "3.80")
    with pytest.raises(Refused):
        world.act(county, "lab0", reading, "rerun", analytes="LDL", reason="只退计算项")
    world.act(county, "lab0", reading, "rerun", analytes="TG", reason="脂浊")
    assert world.state(reading) == "in_analysis"
    assert set(world.values(reading)) == {"CHOL", "HDL", "NONHDL"}
    world.measured(reading, TG="6.0")
    assert world.state(reading) == "resulted"
    assert "LDL" not in world.values(reading)  # Friedewald does not hold beyond 4.5 mmol/L
    assert [r.attempt for r in results.attempts(reading)["TG"]] == [2, 1]
    world.act(county, "lab0", reading, "verify")
    assert world.state(reading) == "issued"
