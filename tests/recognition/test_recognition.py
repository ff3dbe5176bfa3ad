"""Which results are found, under which mark, by which rule; what a decision needs; the indicator."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from django.db import DatabaseError, transaction

from lianxin.clinical.recognition import (
    decisions,
    figures,
    incoming,
    knowing,
    marks,
    results,
    rules,
    search,
    sheets,
    shipped,
)
from lianxin.clinical.recognition.decisions import Choice
from lianxin.clinical.recognition.models import Assessment, Code, Decision, Group, Result, Rule, Term
from lianxin.duty.errors import Refused
from lianxin.standards import clock
from tests.factories import SmallCounty, make_institution
from tests.reading import world
from tests.recognition.world import given, passed

pytestmark = pytest.mark.django_db


@pytest.fixture
def county() -> Iterator[SmallCounty]:
    """The small county, with nothing remembered of another test's."""
    knowing.forget()
    yield world.make_world()
    knowing.forget()


def test_a_result_stands_for_its_days_and_not_longer(county: SmallCounty) -> None:
    person = world.make_person()
    given(person, "LAB-CBC", county.townships[0], days_ago=6.9)
    assert [h.days_left for h in search.find(person, ["LAB-CBC"], county.lead.pk)] == [1]
    given(person, "LAB-BMP", county.townships[0], days_ago=7.1)
    assert search.find(person, ["LAB-BMP"], county.lead.pk) == []
    assert search.find(world.make_person(), ["LAB-CBC"], county.lead.pk) == []
    assert search.find(person, ["NO-SUCH"], county.lead.pk) == []


def test_a_panel_answers_its_analytes_and_not_the_other_way_round(county: SmallCounty) -> None:
    person = world.make_person()
    given(person, "LAB-LFT", county.townships[0])
    (hit,) = search.find(person, ["LAB-ALT"], county.lead.pk)
    assert (hit.wanted.code, hit.group.code) == ("LAB-ALT", "LAB-LFT")
    other = world.make_person()
    given(other, "LAB-ALT", county.townships[0])
    assert search.find(other, ["LAB-LFT"], county.lead.pk) == []


def test_a_consortiums_own_days_go_first_from_their_day_on(county: SmallCounty) -> None:
    person, today = world.make_person(), clock.today()
    given(person, "LAB-CBC", county.townships[0], days_ago=5)
    assert search.find(person, ["LAB-CBC"], county.lead.pk)
    group = Group.objects.get(code="LAB-CBC")
    Term.objects.create(
        group=group,
        consortium=county.consortium,
        valid_days=3,
        effective_from=today + dt.timedelta(days=1),
        source="文",
    )
    assert search.find(person, ["LAB-CBC"], county.lead.pk)
    sheets.set_term(group, county.consortium, 3, today, "试验文件")
    assert search.find(person, ["LAB-CBC"], county.lead.pk) == []


def test_only_who_took_part_and_passed_has_a_mark(county: SmallCounty) -> None:
    person, maker = world.make_person(), county.townships[0]
    given(person, "LAB-CBC", maker)
    (hit,) = search.find(person, ["LAB-CBC"], county.lead.pk)
    assert (hit.mark, hit.must) == ("", False)
    assert marks.remark(passed(maker, "LAB-CBC", ok=False)) == 0
    row = passed(maker, "LAB-CBC", "city")
    assert marks.remark(row) == 1
    (hit,) = search.find(person, ["LAB-CBC"], county.lead.pk)
    assert hit.mark.endswith("HR")
    assert hit.must
    failed = passed(maker, "LAB-CBC", "city", ok=False, year=2027)
    assert marks.remark(failed) == 1
    assert [h.mark for h in search.find(person, ["LAB-CBC"], county.lead.pk)] == [""]


def test_a_mark_holds_in_its_region_only(county: SmallCounty) -> None:
    maker = make_institution("OUT-1", "hospital", division="331002", level="三级甲等")
    far = make_institution("OUT-2", "hospital", division="320102", level="三级甲等")
    person = world.make_person()
    passed(maker, "CT-HEAD", "province")
    given(person, "CT-HEAD", maker)
    assert [h.must for h in search.find(person, ["CT-HEAD"], county.lead.pk)] == [True]
    assert search.find(person, ["CT-HEAD"], far.pk) == []
    passed(maker, "CT-CHEST", "national")
    given(person, "CT-CHEST", maker)
    assert [h.mark for h in search.find(person, ["CT-CHEST"], far.pk)] == ["全国HR"]


def test_the_first_rule_that_fits_decides(county: SmallCounty) -> None:
    person = world.make_person()
    given(person, "CT-HEAD", county.townships[0])
    common = {
        "scope": "consortium",
        "effective_from": dt.date(2020, 1, 1),
        "source": "文",
        "consortium": county.consortium,
    }
    no = Rule.objects.create(name="CT 不认", rank=10, kind="ct", allows=False, **common)
    assert search.find(person, ["CT-HEAD"], county.lead.pk) == []
    no.effective_until = clock.today()
    no.save()
    assert search.find(person, ["CT-HEAD"], county.lead.pk)
    known = knowing.known()
    maker, receiver = known.places[county.townships[0].pk], known.places[county.lead.pk]
    higher = Rule(scope="consortium", level="higher", effective_from=dt.date(2020, 1, 1))
    group = Group.objects.get(code="CT-HEAD")
    assert rules.fits(higher, receiver, maker, group, False, clock.today())
    assert not rules.fits(higher, maker, receiver, group, False, clock.today())


def test_an_amendment_changes_the_row_and_an_error_withdraws_it(county: SmallCounty) -> None:
    person, other = world.make_person(), world.make_person()
    row = given(person, "CT-HEAD", county.lead, ref="DiagnosticReport/a1")
    again = given(other, "CT-CHEST", county.lead, ref="DiagnosticReport/a1")
    assert Result.objects.unscoped("test").get(pk=row.pk).state == "withdrawn"
    assert again.person_id == other
    assert results.withdraw(["DiagnosticReport/a1"]) == 1
    assert search.find(other, ["CT-CHEST"], county.lead.pk) == []


def test_what_must_be_recognised_is_repeated_with_a_reason_only(county: SmallCounty) -> None:
    person, maker = world.make_person(), county.townships[0]
    passed(maker, "LAB-CBC")
    given(person, "LAB-CBC", maker)
    by = world.scope_of(county, "clinician")
    hits = search.find(person, ["LAB-CBC"], county.lead.pk)
    for choice in (None, Choice(False), Choice(False, "07"), Choice(False, "55", "x")):
        with pytest.raises(Refused):
            decisions.decide(
                by, person, hits, {hits[0].pk: choice} if choice else {}, order="o", door="page", key="k"
            )
    (made,) = decisions.decide(
        by, person, hits, {hits[0].pk: Choice(False, "07", "咯血加重")}, order="o", door="page", key="k"
    )
    assert made.explanation.endswith("咯血加重")
    assert (
        county.townships[0].short_name
        in shipped.reasons()["01"].explanation(made.group.label, hits[0].institution, clock.today()).zh
    )
    (again,) = decisions.decide(by, person, hits, {hits[0].pk: Choice(True)}, order="o", door="page", key="k")
    assert again.pk == made.pk
    published = world.published("DetectedIssue", f"HR-{made.pk}")
    assert published["implicated"][0]["reference"] == hits[0].ref
    with pytest.raises(DatabaseError), transaction.atomic():
        Decision.objects.unscoped("test").filter(pk=made.pk).update(verdict="recognised", reason="")


def test_98_and_99_do_not_count_and_own_results_stand_apart(county: SmallCounty) -> None:
    by, today = world.scope_of(county, "clinician"), clock.today()
    for n, (maker, choice) in enumerate(
        [(county.townships[0], Choice(True)), (county.townships[0], Choice(True)), (county.townships[1], Choice(False, "02")),
         (county.townships[1], Choice(False, "98")), (county.townships[1], Choice(False, "99")), (county.lead, Choice(True))]
    ):  # fmt: skip
        person = world.make_person()
        given(person, "CT-HEAD", maker)
        hits = search.find(person, ["CT-HEAD"], county.lead.pk)
        decisions.decide(by, person, hits, {hits[0].pk: choice}, order=f"o{n}", door="page", key=f"k{n}")
    found = figures.rows(by, today, today)
    whole, out = figures.total(found)
    assert (whole.recognised, whole.refused, whole.percent) == (2, 1, "67%")
    assert whole.saved.fen == 2 * Group.objects.get(code="CT-HEAD").price_fen
    assert out == {"excluded": 2, "own": 1}
    assert [(line.recognised, line.refused) for line in figures.by_group(found)] == [(2, 1)]
    assert {code for code, _, _, _ in figures.by_reason(found)} == {"02", "98", "99"}
    assert figures.rows(by, today, today, figure="refused").count() == 1
    assert figures.rows(world.scope_of(county, "gp0"), today, today).count() == 0
    assert figures.rows(world.scope_of(county, "manager"), today, today).count() == 6


def test_tables_are_taken_whole_or_not_at_all(county: SmallCounty) -> None:
    head = "institution,item,year,organiser,reach,passed,effective_from,effective_until,source\n"
    code = county.townships[0].code
    good = f"{code},LAB-CBC,2026,省临检中心,province,是,2026-01-01,2027-01-01,文1\n{code},ct,2026,省放射质控,city,否,2026-01-01,,文2\n"
    members = {county.townships[0].pk}
    for bad in ("NOBODY,LAB-CBC,2026,a,province,是,2026-01-01,,文\n", f"{code},NO,2026,a,province,是,2026-01-01,,文\n",
                f"{code},ct,2026,a,moon,是,2026-01-01,,文\n", f"{code},ct,2026,a,city,maybe,2026-01-01,,文\n",
                f"{code},ct,2026,a,city,是,2026-01-01,2025-01-01,文\n", f"{code},ct,12,a,city,是,2026-01-01,,文\n"):  # fmt: skip
        rows, problems = sheets.take_assessments((head + good + bad).encode(), members, county.consortium)
        assert rows == 0
        assert len(problems) == 1
        assert problems[0][0] == 4
    assert Assessment.objects.count() == 0
    assert sheets.take_assessments((head + good).encode(), members, county.consortium) == (2, [])
    assert sheets.take_assessments((head + good).encode(), members, county.consortium) == (2, [])
    assert Assessment.objects.count() == 2
    again = sheets.give_assessments(Assessment.objects.select_related("institution", "group").order_by("pk"))
    assert sheets.take_assessments(again, members, county.consortium) == (2, [])
    assert sheets.take_terms(sheets.give_terms(county.consortium), county.consortium)[1] == []
    assert (
        sheets.take_terms(b"code,days,effective_from,source\nLAB-CBC,0,2026-01-01,x\n", county.consortium)[0]
        == 0
    )


def test_results_of_hospitals_own_systems_are_followed(county: SmallCounty) -> None:
    from django.db import connection

    from lianxin.access.scope import Scope
    from lianxin.record import publish, rows, store
    from lianxin.record import text as fhir

    incoming.run()
    person = world.make_person()
    number = world_number(person)
    about = {
        "resourceType": "Basic",
        "id": "known",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{number}"},
    }
    publish.publish(
        [about], person_id=person, institution_id=county.lead.pk
    )  # from now on the record knows the number
    Code.objects.create(
        system="urn:his", code="XCG", institution=county.tcm, group=Group.objects.get(code="LAB-CBC")
    )

    def put(rid: str, status: str, system: str, code: str, maker: int) -> None:
        body = {
            "resourceType": "DiagnosticReport", "id": rid, "status": status, "subject": {"reference": f"Patient/{number}"},
            "code": {"coding": [{"system": system, "code": code}]}, "effectiveDateTime": clock.now().isoformat(timespec="seconds"),
        }  # fmt: skip
        with transaction.atomic(), connection.cursor() as cur:
            write = store.Write("update", "DiagnosticReport", rid, body, fhir.dumps(body))
            store.apply(rows.server_cursor(cur), Scope.system("test"), [write], source_institution_id=maker)

    put("his-1", "final", "urn:his", "XCG", county.tcm.pk)
    put("his-2", "final", "urn:his", "XCG", county.lead.pk)  # another hospital's own code says nothing here
    put("his-3", "preliminary", shipped.LOINC, "58410-2", county.lead.pk)
    assert incoming.run() == 3
    (hit,) = search.find(person, ["LAB-CBC"], county.lead.pk)
    assert (hit.ref, hit.institution_id) == ("DiagnosticReport/his-1", county.tcm.pk)
    put("his-1", "entered-in-error", "urn:his", "XCG", county.tcm.pk)
    put("his-3", "final", shipped.LOINC, "58410-2", county.lead.pk)
    incoming.run()
    assert [h.ref for h in search.find(person, ["LAB-CBC"], county.lead.pk)] == ["DiagnosticReport/his-3"]
    with transaction.atomic(), connection.cursor() as cur:
        store.delete(rows.server_cursor(cur), Scope.system("test"), "DiagnosticReport", "his-3")
    incoming.run()
    assert search.find(person, ["LAB-CBC"], county.lead.pk) == []


def world_number(person: int) -> str:
    """The number of a person."""
    from lianxin.index.models import Person

    return str(Person.objects.unscoped("test").get(pk=person).number)
