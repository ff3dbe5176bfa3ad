"""Codes: what ships, versions and days, search, the importer and its refusals."""

import datetime as dt
import io

import pytest
from django.db import IntegrityError, transaction
from openpyxl import Workbook

from lianxin.standards import clock, codes, divisions, loader
from lianxin.standards.models import CodeSystem, Concept, Division

URL = "http://lianxin.example/cs/test"
DAY = dt.date(2020, 1, 1)


def csv_bytes(*lines: str, encoding: str = "utf-8") -> bytes:
    return "\n".join(lines).encode(encoding)


def load(data: bytes, version: str = "1", day: dt.date = DAY, **more):
    return codes.import_codes(data, URL, version, day, **more)


@pytest.mark.django_db
class TestShipped:
    @pytest.fixture(autouse=True)
    def _shipped(self):
        loader.load_shipped()

    def test_the_same_door_stands_in_codes(self):
        assert codes.load_shipped() == 0

    def test_loading_again_writes_nothing(self):
        before = Concept.objects.count(), Division.objects.count()
        assert loader.load_shipped() == 0
        loader.load_shipped(force=True)
        assert (Concept.objects.count(), Division.objects.count()) == before

    def test_every_system_has_a_value_set_in_both_languages(self):
        for row in loader.shipped():
            found = codes.choices(row["name"])
            assert found, row["name"]
            for code, label in found:
                assert label.zh, (row["name"], code)
                assert label.en.isascii() or row["name"] == "icd-10", (row["name"], code, label.en)
                assert label.en

    def test_sizes_that_the_standards_fix(self):
        assert len(codes.choices("ethnic")) == 56
        assert [c for c, _ in codes.choices("sex")] == ["0", "1", "2", "9"]
        assert len(codes.choices("icd-10")) >= 250
        assert len(codes.choices("specialty")) >= 40

    def test_allowed_says_what_may_be_chosen(self):
        assert codes.allowed("priority", "urgent").label.zh == "紧急"
        assert codes.allowed("priority", "no such") is None
        assert codes.allowed("no such set", "urgent") is None

    def test_a_value_set_of_chosen_codes(self):
        entries = [(codes.ICD10, "I10"), (codes.ICD10, "E11.9"), (codes.ICD10, "gone")]
        codes.set_value_set("chronic", "慢病", "Chronic", entries)
        assert [c for c, _ in codes.choices("chronic")] == ["I10", "E11.9"]
        codes.set_value_set("chronic", "慢病", "Chronic", entries[1:])
        assert [c for c, _ in codes.choices("chronic")] == ["E11.9"]
        assert codes.allowed("chronic", "I10") is None

    def test_a_version_of_the_user_s_is_left_alone_by_loading_again(self):
        codes.import_codes(
            csv_bytes("code,display", "X99,县里的病"), codes.ICD10, "county", dt.date(2020, 1, 1)
        )
        loader.load_shipped(force=True)
        assert codes.lookup(codes.ICD10, "X99").display == "县里的病"
        assert codes.lookup(codes.ICD10, "I10", dt.date(2019, 1, 1)).display_en.startswith("Essential")

    def test_division_path_and_name(self):
        assert [d.level for d in divisions.path("331023")] == ["province", "prefecture", "county"]
        assert divisions.full_name("331023") == "浙江省台州市天台县"
        assert divisions.full_name("630121") == "青海省西宁市大通回族土族自治县"
        assert divisions.full_name("419001").startswith("河南省")
        assert divisions.full_name("999999") == ""

    @pytest.mark.parametrize(
        ("query", "first"),
        [
            ("I10", "I10"), ("e119", "E11.9"), ("高血压", "I10"), ("gaoxueya", "I10"), ("copd", "J44.9"), ("cop", "J44.9"), ("2xtnb", "E11"),
            ("naogengsi", "I63"), ("thyroid", "C73"), ("脑梗", "I63.9"), ("tnb", "E11.9"), ("甲状腺恶性肿瘤", "C73"), 
            ("糖尿病 肾", "E11.2"), ("GXY", "I10"),
        ],
    )  # fmt: skip
    def test_search_by_code_characters_pinyin_initials(self, query, first):
        hits = codes.search(codes.ICD10, query)
        assert first in [h.code for h in hits[:4]]
        assert [h.rank for h in hits] == sorted(h.rank for h in hits)

    def test_search_treats_wildcards_and_quotes_as_characters(self):
        for nasty in ("%", "_", "\\", "'", '"; drop', "", "   "):
            assert codes.search(codes.ICD10, nasty) == []

    def test_search_words_must_all_fit(self):
        found = {h.code for h in codes.search(codes.ICD10, "脑梗死 后遗症", 50)}
        assert found == {"I69.3"}


@pytest.mark.django_db
class TestVersions:
    def test_the_version_in_force_on_the_day_answers(self):
        load(csv_bytes("code,display", "A,旧名"), "1", dt.date(2020, 1, 1))
        load(csv_bytes("code,display", "A,新名", "B,新增"), "2", dt.date(2025, 1, 1))
        assert codes.lookup(URL, "A", dt.date(2024, 12, 31)).display == "旧名"
        assert codes.lookup(URL, "A", dt.date(2025, 1, 1)).display == "新名"
        assert codes.lookup(URL, "B", dt.date(2024, 12, 31)) is None
        assert codes.lookup(URL, "A", dt.date(2019, 12, 31)) is None
        with clock.at(dt.datetime(2021, 6, 1, tzinfo=clock.ZONE)):
            assert codes.label(URL, "A").zh == "旧名"
            assert codes.label(URL, "Z").zh == "Z"

    def test_a_concept_has_its_own_period(self):
        load(csv_bytes("代码,名称,启用日期,停用日期", "A,甲,2021-01-01,2022-01-01"))
        days = [dt.date(2020, 12, 31), dt.date(2021, 1, 1), dt.date(2021, 12, 31), dt.date(2022, 1, 1)]
        assert [codes.lookup(URL, "A", d) is not None for d in days] == [False, True, True, False]

    def test_an_ended_version_answers_no_more(self):
        load(csv_bytes("code,display", "A,甲"), effective_to=dt.date(2021, 1, 1))
        assert codes.lookup(URL, "A", dt.date(2020, 12, 31))
        assert codes.lookup(URL, "A", dt.date(2021, 1, 1)) is None

    def test_two_versions_from_one_day_are_refused(self):
        load(csv_bytes("code,display", "A,甲"))
        report = load(csv_bytes("code,display", "A,乙"), "2")
        assert [e[1] for e in report.errors] == ["effective_from"]
        with pytest.raises(IntegrityError), transaction.atomic():
            CodeSystem.objects.create(url=URL, version="3", effective_from=DAY, imported_at=clock.now())


@pytest.mark.django_db
class TestImport:
    def test_same_content_again_changes_nothing_and_new_content_replaces(self):
        first = load(csv_bytes("code,display,level", "A,甲,1", "B,乙,2"))
        assert (first.created, first.errors) == (2, [])
        assert load(csv_bytes("code,display,level", "A,甲,1", "B,乙,2")).unchanged
        third = load(csv_bytes("code,display,level,needs_comment", "A,甲改,1,是", "C,丙,2,false"))
        assert (third.created, third.updated, third.removed) == (1, 1, 1)
        assert codes.lookup(URL, "A").props == {"level": "1", "needs_comment": True}

    def test_gb18030_and_semicolons_and_bom(self):
        assert load(csv_bytes("代码;名称", "A;镕基与𠮷", encoding="gb18030")).ok
        assert codes.lookup(URL, "A").display == "镕基与𠮷"
        assert load(b"\xef\xbb\xbf" + csv_bytes("code\tdisplay", "A\t乙")).ok

    def test_bad_rows_are_all_named_and_nothing_is_written(self):
        report = load(
            csv_bytes(
                "code,display,parent,since,until",
                "A,甲,,2022-01-01,2021-01-01",
                "B,,,,",
                "A,乙,,,",
                "C,丙,Z,,",
                "D,丁,,昨天,",
                "E,=1+1,,,",
                ",己,,,",
                f"{'F' * 41},庚,,,",
            )
        )
        assert [(r, f) for r, f, _ in report.errors] == [
            (2, "until"), (3, "display"), (4, "code"), (5, "parent"), (6, "since"), (7, "display"), (8, "code"), (9, "code"),
        ]  # fmt: skip
        assert all(m.zh and m.en for *_, m in report.errors)
        assert not CodeSystem.objects.filter(url=URL).exists()

    def test_formula_and_numeric_codes_in_a_workbook(self):
        book = Workbook()
        sheet = book.active
        sheet.append(["code", "display"])
        sheet.append([3.04, "心内"])
        sheet.append(["B", "=A1"])
        sheet.append([7, "儿科"])
        out = io.BytesIO()
        book.save(out)
        report = load(out.getvalue())
        assert [(r, f) for r, f, _ in report.errors] == [(2, "code"), (3, "display")]

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xff\xfe\x00\x01",
            b"PK\x03\x04 not a zip",
            b"code,display",
            b"display\nx",
            b"code,code,display\n1,2,3",
        ],
    )
    def test_files_that_are_none_are_refused(self, data):
        report = load(data)
        assert report.errors
        assert not CodeSystem.objects.filter(url=URL).exists()

    def test_dry_run_reports_and_leaves_no_trace(self):
        report = load(csv_bytes("code,display", "A,甲"), dry_run=True)
        assert (report.created, report.dry_run) == (1, True)
        assert not CodeSystem.objects.filter(url=URL).exists()
