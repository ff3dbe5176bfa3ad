"""From the container to the report: nothing comes to hang on the wrong case, nothing is done twice, a frozen section runs against its clock."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Case, Notice
from lianxin.regional.archive.models import Study
from lianxin.regional.pathology import frozen, pictures, reports, service, statistics
from lianxin.regional.pathology.models import Block, Picture, Slide, Specimen, Trace, Work
from lianxin.regional.reading.models import Entry, Reading, Template
from lianxin.standards import clock
from tests.pathology import world

pytestmark = pytest.mark.django_db


def state(reading: Reading) -> str:
    """Where the case stands."""
    return str(Case.objects.unscoped("test").get(pk=reading.pk).state)


def test_from_the_container_to_the_report() -> None:
    county = world.make_world()
    case, specimen = world.received(county)
    assert state(case) == "acquired"
    assert specimen.code == f"{case.accession}A"
    assert service.work_of(case).number.endswith("00001")
    slide = world.ready(county, case, specimen)
    assert slide.code == f"{specimen.code}01-01"
    assert state(case) == "queued"
    world.report(county, case)
    assert state(case) == "issued"
    for rid, parent in ((f"{specimen.code}01", specimen.code), (slide.code, f"{specimen.code}01")):
        assert world.published("Specimen", rid)["parent"] == [{"reference": f"Specimen/{parent}"}]
    held = world.published("Specimen", specimen.code)
    assert held["receivedTime"]
    assert held["request"] == [{"reference": f"ServiceRequest/{case.case.number}"}]
    whats = set(Trace.objects.unscoped("test").filter(reading=case).values_list("what", flat=True))
    assert {"registered", "sent", "received", "grossed", "cut", "ready"} <= whats
    start, end = statistics.span(f"{clock.today():%Y-%m}")
    found = statistics.figures(frozenset({county.lead.pk}), start, end)
    assert (found["routine"], found["fit"], found["refused_n"]) == (1, "100.0%", 0)


def test_the_database_holds_the_chain() -> None:
    county = world.make_world()
    one, first = world.received(county)
    two, second = world.received(county)
    lab = world.scope_of(county, "lab0")
    block = service.gross(lab, first.code, "一块。", ["全取"])[0]
    slide = Slide.objects.unscoped("test").get(block=block)
    made = pictures.add(lab, one, slide.code, "micro", world.png())
    wrong = (
        lambda: Block.objects.unscoped("test").filter(pk=block.pk).update(reading=two),
        lambda: Block.objects.unscoped("test").filter(pk=block.pk).update(specimen=second),
        lambda: Slide.objects.unscoped("test").filter(pk=slide.pk).update(reading=two),
        lambda: Specimen.objects.unscoped("test").filter(pk=first.pk).update(reading=two, letter="Z"),
        lambda: Picture.objects.unscoped("test").filter(pk=made.pk).update(reading=two),
        lambda: Picture.objects.unscoped("test").filter(pk=made.pk).update(specimen=second),
    )
    for change in wrong:
        with pytest.raises(IntegrityError), transaction.atomic():
            change()
    with pytest.raises(DatabaseError), transaction.atomic():
        Trace.objects.unscoped("test").filter(reading=one).delete()


def test_a_code_of_another_case_is_refused() -> None:
    county = world.make_world()
    one, first = world.received(county)
    two, second = world.received(county)
    lab = world.scope_of(county, "lab0")
    with pytest.raises(Refused):
        pictures.add(lab, one, second.code, "gross", world.png())
    slide = world.ready(county, one, first)
    Study.objects.create(
        study_uid="1.2.3.1", accession=two.accession, person_id=two.person_id, institution_id=county.lead.pk, modality="SM",
        received_at=clock.now(), last_at=clock.now(), state="stored",
    )  # fmt: skip
    Study.objects.create(
        study_uid="1.2.3.2", accession=one.accession, person_id=one.person_id, institution_id=county.lead.pk, modality="SM",
        received_at=clock.now(), last_at=clock.now(), state="stored",
    )  # fmt: skip
    for uid in ("1.2.3.1", "1.2.9", ""):
        with pytest.raises(Refused):
            service.attach_scan(lab, slide.code, uid)
    assert service.attach_scan(lab, slide.code, "1.2.3.2").study_uid == "1.2.3.2"
    assert service.named(world.scope_of(county, "gp1"), slide.code) == ""
    assert service.named(lab, slide.code) == one.case.number


def test_a_refused_specimen_is_told_and_replaced() -> None:
    county = world.make_world()
    case = world.order(county)
    specimen = world.registered(county, case)
    lab, sender = world.scope_of(county, "lab0"), world.scope_of(county, "technician0")
    with pytest.raises(NotAllowed):
        service.refuse(sender, specimen.code, ["label"], "")
    world.sent(county, specimen)
    for reasons, note in (([], ""), (["king"], ""), (["other"], " ")):
        with pytest.raises(Refused):
            service.refuse(lab, specimen.code, reasons, note)
    service.refuse(lab, specimen.code, ["unfixed", "label"], "")
    assert Notice.objects.filter(
        case_id=case.pk, institution=county.townships[0], text_zh__contains="拒收"
    ).exists()
    with pytest.raises(NotAllowed):
        service.gross(lab, specimen.code, "x", ["全取"])
    again = world.registered(county, case)
    assert again.letter == "B"
    service.receive(lab, world.sent(county, again))
    world.ready(county, case, Specimen.objects.unscoped("test").get(pk=again.pk))
    assert state(case) == "queued"


def test_what_is_registered_must_make_sense() -> None:
    county = world.make_world()
    case, now = world.order(county), clock.now()
    for wrong, field in (({"site": " "}, "site"), ({"fixative": "tea"}, "fixative"), ({"taken_at": now + dt.timedelta(hours=2)}, "taken_at"),
                         ({"fixed_at": now - dt.timedelta(days=3)}, "fixed_at"), ({"fixed_at": None}, "fixed_at"), ({"pieces": 999}, "pieces")):  # fmt: skip
        with pytest.raises(Refused) as refusal:
            world.registered(county, case, **wrong)
        assert field in refusal.value.errors, wrong
    with pytest.raises(NotAllowed):
        service.register(world.scope_of(county, "gp1"), case, world.container())
    specimen = world.registered(county, case)
    by = world.scope_of(county, "technician0")
    one = service.dispatch(by, [specimen.code], "甲", "same")
    assert service.dispatch(by, [specimen.code], "甲", "same") == one
    with pytest.raises(Refused):
        service.dispatch(by, [specimen.code], "甲", "other")
    with pytest.raises(Refused):
        service.receive(world.scope_of(county, "tcm_clinician"), one.number)
    lab = world.scope_of(county, "lab0")
    service.receive(lab, one.number)
    with pytest.raises(Refused):
        service.receive(lab, one.number)


def test_a_frozen_section_runs_against_its_clock_and_is_compared() -> None:
    county = world.make_world()
    case, specimen = world.received(county, "PATH-FROZEN", fixative="fresh", fixed_at=None)
    work = service.work_of(case)
    assert work.due_at is not None
    assert work.received_at is not None
    assert work.due_at - work.received_at == dt.timedelta(minutes=30)
    assert case.report_due_at == work.due_at
    assert frozen.watch() == 0
    with clock.at(clock.now() + dt.timedelta(minutes=31)):
        assert frozen.watch() == 1
        assert frozen.watch() == 0
    world.ready(county, case, specimen, "frozen")
    assert Entry.objects.unscoped("test").get(reading=case).due_at == work.due_at
    scope = world.scope_of(county, "reader0")
    with pytest.raises(NotAllowed):
        frozen.call(scope, case, "护士甲", "恶性")
    scope = world.report(county, case, "（乳腺）冰冻：浸润性癌。")
    with pytest.raises(Refused):
        frozen.call(scope, case, "护士甲", " ")
    frozen.call(scope, case, "护士甲", "恶性，已复述")
    with pytest.raises(NotAllowed):
        frozen.call(scope, case, "护士甲", "恶性")
    later = world.order(county, person=case.person_id)
    own = world.registered(county, later)
    service.receive(world.scope_of(county, "lab0"), world.sent(county, own))
    stranger, _ = world.received(county)
    with pytest.raises(Refused):
        frozen.link(scope, stranger, case)
    frozen.link(scope, later, case)
    with pytest.raises(NotAllowed):
        frozen.compare(scope, later, "concordant")
    own.refresh_from_db()
    world.ready(county, later, own)
    world.report(county, later, "（乳腺）浸润性癌，Ⅱ级。")
    with pytest.raises(Refused):
        frozen.compare(scope, later, "major")
    assert frozen.compare(scope, later, "concordant").concordance == "concordant"
    assert frozen.Work.objects.unscoped("test").get(pk=later.pk).frozen_id == case.pk


def test_slides_step_once_and_a_failed_one_is_made_again() -> None:
    county = world.make_world()
    case, specimen = world.received(county)
    lab = world.scope_of(county, "lab0")
    with pytest.raises(Refused):
        service.gross(lab, specimen.code, "一块。", [" "])
    blocks = service.gross(lab, specimen.code, "两块。", ["肿物", "切缘"])
    slides = list(Slide.objects.unscoped("test").filter(reading=case).order_by("code"))
    service.step(lab, slides[0].code)
    assert service.fail(lab, slides[0].code, "皱褶").number == 2
    with pytest.raises(NotAllowed):
        service.step(lab, slides[0].code)
    assert not service.release(lab, case)
    for slide in Slide.objects.unscoped("test").filter(reading=case, state="ordered"):
        service.step(lab, slide.code)
        service.step(lab, slide.code)
    assert state(case) == "queued"
    with pytest.raises(Refused):
        service.order_stains(lab, blocks[0].code, ["XYZ"])
    assert [s.stain for s in service.order_stains(lab, blocks[0].code, ["ER", "PR"])] == ["ER", "PR"]
    loan = service.lend(lab, blocks[1].code, "家属", "上级医院", "会诊")
    assert loan.due_on > clock.today()
    with pytest.raises(NotAllowed):
        service.order_stains(lab, blocks[1].code, ["ER"])
    with pytest.raises(NotAllowed):
        service.lend(lab, blocks[1].code, "他人", "别院", "会诊")
    assert service.take_back(lab, blocks[1].code, "").condition == "完好"
    with pytest.raises(NotAllowed):
        service.take_back(lab, blocks[1].code, "")


def test_pictures_are_made_anew_and_chosen_for_the_report() -> None:
    county = world.make_world()
    case, specimen = world.received(county)
    lab = world.scope_of(county, "lab0")
    for wrong in (b"", b"<svg onload=alert(1)>", b"\xff\xd8\xff broken", world.png()[:40]):
        with pytest.raises(Refused):
            pictures.add(lab, case, specimen.code, "gross", wrong)
    made = pictures.add(lab, case, specimen.code, "gross", world.png(), "大体")
    assert pictures.jpeg(made).startswith(b"\xff\xd8\xff")
    with pytest.raises(Refused):
        pictures.add(lab, case, specimen.code, "gross", world.png())
    pictures.choose(lab, case, made.pk, True)
    world.ready(county, case, specimen)
    assert reports.context(case) is None
    world.report(county, case)
    case = service.find(lab, case.case.number)
    shown = reports.context(case)
    assert shown is not None
    assert [p["caption"] for p in shown["pictures"]] == ["大体"]
    with pytest.raises(NotAllowed):
        pictures.choose(lab, case, made.pk, False)
    assert Template.objects.filter(code="PATH-COLORECTAL", centre="pathology").exists()
    assert Work.objects.unscoped("test").filter(pk=case.pk).exists()
