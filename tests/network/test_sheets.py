"""The network by spreadsheet: round trip, every refusal named, all or nothing."""

import datetime as dt
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook

from lianxin.network import roles, sheets
from lianxin.network.models import Department, Institution, Post, Practitioner
from lianxin.standards import clock, identifiers, loader
from tests.factories import make_department, make_institution, make_post, make_practitioner, small_county

pytestmark = pytest.mark.django_db
USCC = identifiers.uscc_make("1233102347200000")


def csv_bytes(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def where(report) -> list[tuple[int, str]]:
    for _, _, message in report.errors:
        assert message.zh
        assert message.en
    return [(row, field) for row, field, _ in report.errors]


@pytest.mark.parametrize("kind", ["institutions", "departments", "people"])
@pytest.mark.parametrize("export", [sheets.export_workbook, sheets.export_csv])
def test_what_is_exported_is_imported_back_unchanged(kind, export):
    county = small_county()
    county.lead.uscc = USCC
    county.lead.save()
    report = sheets.import_workbook(export(kind), kind)
    assert report.errors == []
    assert (report.created, report.updated) == (0, 0)
    assert report.unchanged > 0


def test_a_text_that_looks_like_a_formula_never_leaves_as_one():
    make_institution("A", name="=HYPERLINK(1)", address="+86@x")
    cells = list(load_workbook(io.BytesIO(sheets.export_workbook("institutions"))).active[3])
    assert cells[1].value == "=HYPERLINK(1)"
    assert cells[1].data_type == "s"
    line = sheets.export_csv("institutions").decode("utf-8-sig").splitlines()[1]
    assert "'=HYPERLINK(1)" in line
    assert "'+86@x" in line


@pytest.mark.parametrize("kind", ["institutions", "departments", "people"])
def test_the_template_explains_every_column_in_both_languages_and_is_empty(kind):
    data = sheets.template_workbook(kind)
    sheet = load_workbook(io.BytesIO(data)).active
    for head, note in zip(sheet[1], sheet[2], strict=True):
        assert head.value
        assert any("\u4e00" <= c <= "\u9fff" for c in note.value)
        assert "\n" in note.value
    assert where(sheets.import_workbook(data, kind)) == [(0, "")]


def test_a_county_from_nothing_children_before_parents():
    report = sheets.import_workbook(
        csv_bytes(
            "机构代码,机构名称,机构类别,上级机构代码,经度,纬度,统一社会信用代码,启用",
            "V1,上塘村卫生室,村卫生室,T1,,,,",
            f"T1,白鹤镇卫生院,township,H1,121.1,29.1,{USCC.lower()},是",
            "H1,县人民医院,综合医院,,121,29,,",
        ),
        "institutions",
    )
    assert (report.errors, report.created) == ([], 3)
    village = Institution.objects.get(code="V1")
    assert (village.parent.code, village.parent.parent.code, village.tier) == ("T1", "H1", "village")
    assert (village.parent.uscc, village.initials) == (USCC, "stcwss")


def test_missing_columns_are_left_alone_and_empty_cells_clear():
    make_institution("A", phone="110", address="旧址", name="甲")
    report = sheets.import_workbook(csv_bytes("code,name,kind,phone", "A,甲改,township,"), "institutions")
    assert (report.updated, report.errors) == (1, [])
    found = Institution.objects.get(code="A")
    assert (found.name, found.phone, found.address) == ("甲改", "", "旧址")


def test_every_bad_row_is_named_and_nothing_is_written():
    make_institution("H", "hospital", uscc=USCC)
    before = Institution.objects.count()
    report = sheets.import_workbook(
        csv_bytes(
            "code,name,kind,parent,uscc,division,lon,lat,active,tier",
            "OK,好机构,township,,,,,,,",
            "坏 码,甲,township,,,,,,,",
            "OK,重复,township,,,,,,,",
            "B1,,township,,,,,,,",
            "B2,乙,饭店,,,,,,,",
            "B3,丙,village,,,,,,,",
            "B4,丁,village,H,,,,,,",
            "B5,戊,township,NONE,,,,,,",
            f"B6,己,township,,{USCC},,,,,",
            "B7,庚,township,,123,,,,,",
            "B8,辛,township,,,3310,,,,",
            "B9,壬,township,,,,121,,,",
            "C1,癸,township,,,,200,10,,",
            "C2,子,township,,,,abc,10,,",
            "C3,丑,township,,,,,,也许,",
            "C4,寅,township,C5,,,,,,",
            "C5,卯,township,C4,,,,,,",
            "C6,辰,township,B3,,,,,,",
            f"C7,{'长' * 121},township,,,,,,,月级",
            '"=HYPERLINK(""x"")",午,township,,,,,,,',
        ),
        "institutions",
    )
    assert where(report) == [
        (3, "code"), (4, "code"), (5, "name"), (6, "kind"), (7, "parent"), (8, "parent"), (9, "parent"), (10, "uscc"),
        (11, "uscc"), (12, "division"), (13, "lon"), (14, "lon"), (15, "lon"), (16, "active"), (17, "parent"),
        (18, "parent"), (19, "parent"), (20, "name"), (20, "tier"), (21, "code"),
    ]  # fmt: skip
    assert Institution.objects.count() == before
    assert report.created == 0


def test_two_rows_with_one_credit_code():
    report = sheets.import_workbook(
        csv_bytes("code,name,kind,uscc", f"A,甲,township,{USCC}", f"B,乙,township,{USCC}"), "institutions"
    )
    assert where(report) == [(3, "uscc")]


def test_what_only_the_database_can_see_is_refused_without_a_trace():
    township = make_institution("T", "township")
    make_institution("V", "village", parent=township)
    report = sheets.import_workbook(
        csv_bytes("code,name,kind", "N,新,township", "T,改,hospital"), "institutions"
    )
    assert where(report) == [(0, "")]
    assert "network_village_parent_kind" in report.errors[0][2].en
    assert not Institution.objects.filter(code="N").exists()


def test_dry_run_counts_and_writes_nothing():
    report = sheets.import_workbook(
        csv_bytes("code,name,kind", "N,新,township"), "institutions", dry_run=True
    )
    assert (report.created, report.ok, report.dry_run) == (1, True, True)
    assert not Institution.objects.filter(code="N").exists()


def test_an_institution_s_own_administrator_reaches_only_his_own():
    mine, other = make_institution("M"), make_institution("O")
    within = frozenset({mine.pk})
    rows = csv_bytes("code,name,kind", "M,我,township", "O,他,township", "N,新,township")
    assert where(sheets.import_workbook(rows, "institutions", within=within)) == [(3, "code"), (4, "code")]
    rows = csv_bytes("institution,code,name", f"{other.code},NK,内科")
    assert where(sheets.import_workbook(rows, "departments", within=within)) == [(2, "institution")]
    rows = csv_bytes("code,name,institution,role", f"P,人,{other.code},gp")
    assert where(sheets.import_workbook(rows, "people", within=within)) == [(2, "institution")]


def test_departments_take_specialties_by_code_or_name():
    loader.load_shipped()
    inst = make_institution("H", "hospital")
    report = sheets.import_workbook(
        csv_bytes("机构代码,科室代码,科室名称,诊疗科目", "H,XNK,心血管内科,心血管内科", "H,NK,内科,03"),
        "departments",
    )
    assert report.errors == []
    assert dict(inst.departments.values_list("code", "specialty")) == {"XNK": "03.04", "NK": "03"}
    report = sheets.import_workbook(
        csv_bytes("institution,code,name,specialty", "H,A,甲,3.04", "X,B,乙,", "H,C,,", ",D,丁,", "H,A,又,"),
        "departments",
    )
    assert where(report) == [
        (2, "specialty"),
        (3, "institution"),
        (4, "name"),
        (5, "institution"),
        (6, "code"),
    ]
    assert Department.objects.count() == 2


def test_a_numeric_specialty_cell_is_refused_not_guessed():
    make_institution("H", "hospital")
    book = Workbook()
    book.active.append(["institution", "code", "name", "specialty"])
    book.active.append(["H", "A", "甲", 3.1])
    out = io.BytesIO()
    book.save(out)
    assert where(sheets.import_workbook(out.getvalue(), "departments")) == [(2, "specialty")]


def test_people_with_several_posts_and_a_second_import():
    here = make_institution("H", "hospital")
    make_department(here, "NK")
    make_institution("T")
    lines = [
        "人员代码,姓名,性别,职称,执业证书编号,机构代码,科室代码,岗位,任职开始,任职结束",
        "P1,单明远,男,主任医师,110,H,NK,专科医生,2020-01-01,",
        "P1,单明远,男,主任医师,110,T,,gp,2021年3月1日,2022-03-01",
        "P2,仇立新,,,,,,,,",
    ]
    report = sheets.import_workbook(csv_bytes(*lines), "people")
    assert (report.errors, report.created) == ([], 4)
    person = Practitioner.objects.get(code="P1")
    assert (person.initials, person.sex, person.posts.count()) == ("smy", "male", 2)
    assert person.posts.get(role=roles.GP).since == dt.date(2021, 3, 1)
    again = sheets.import_workbook(csv_bytes(*lines), "people")
    assert (again.errors, again.created, again.updated, again.unchanged) == ([], 0, 0, 4)
    lines[1] = lines[1].replace("2020-01-01,", "2020-01-01,2026-01-01")
    assert sheets.import_workbook(csv_bytes(*lines[:2]), "people").updated == 1
    assert Post.objects.get(role=roles.CLINICIAN).until == dt.date(2026, 1, 1)


def test_a_post_without_a_beginning_begins_today():
    make_institution("T")
    with clock.at(dt.datetime(2026, 2, 3, 4, tzinfo=clock.ZONE)):
        sheets.import_rows("people", [{"code": "P", "name": "人", "institution": "T", "role": "gp"}])
    assert Post.objects.get().since == dt.date(2026, 2, 3)


def test_bad_people_are_all_named():
    here = make_institution("H", "hospital")
    make_post(here, roles.SYSTEM_ADMIN, make_practitioner("管理", "ADM", licence_no="L1"))
    report = sheets.import_workbook(
        csv_bytes(
            "code,name,sex,licence_no,institution,department,role,since,until",
            "P1,甲,中,,,,,,",
            "P2,乙,,L1,,,,,",
            "P3,丙,,,H,,厨师,,",
            "P4,丁,,,H,XX,gp,,",
            "P5,戊,,,,,gp,,",
            "P6,己,,,H,,gp,2025-02-30,",
            "P7,庚,,,H,,gp,2025-02-03,2024-01-01",
            "P8,辛,,,H,,gp,,",
            "P8,辛辛,,,H,,clinician,,",
            "P9,壬,,,H,,gp,,",
            "P9,壬,,,H,,gp,,",
            "ADM,管理,,L1,H,,audit_admin,,",
            "Q1,癸,,,H,,resident,,",
        ),
        "people",
    )
    assert where(report) == [
        (2, "sex"), (3, "licence_no"), (4, "role"), (5, "department"), (6, "institution"), (7, "since"), (8, "until"),
        (10, "name"), (12, "role"), (13, "role"), (14, "role"),
    ]  # fmt: skip
    assert Practitioner.objects.count() == 1


def test_rows_from_a_program_are_checked_the_same_way():
    report = sheets.import_rows(
        "institutions", [{"code": "A", "name": "甲", "kind": "township", "colour": "red"}]
    )
    assert where(report) == [(1, "colour")]
    assert sheets.import_rows("institutions", []).errors


@given(
    st.sampled_from(["institutions", "departments", "people"]),
    st.lists(st.lists(st.text(max_size=8), max_size=14), max_size=5),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_table_is_answered_never_an_exception(kind, lines):
    head = ",".join(c.name for c in sheets.KINDS[kind][1])
    body = "\n".join(",".join(cells) for cells in lines)
    report = sheets.import_workbook(f"{head}\n{body}".encode(errors="replace"), kind, dry_run=True)
    where(report)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_answered_never_an_exception(data):
    for head in (b"", b"PK\x03\x04", b"code,name,kind\n"):
        where(sheets.import_workbook(head + data, "institutions", dry_run=True))
