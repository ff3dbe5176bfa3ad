"""Columns recognised, cells converted, resources built, templates: what a table can become is data, and all of it is sound."""

from __future__ import annotations

import csv
import datetime as dt
import io

import pytest
from openpyxl import load_workbook

from lianxin.exchange.tables import building, convert, reading, recognise, workbook
from lianxin.exchange.tables.convert import Converter, Exact, Wrong
from lianxin.exchange.tables.reading import Row
from lianxin.exchange.tables.targets import target, targets, values
from lianxin.record import validate

REFERENCES = {"patient": "Patient/p", "organization": "Organization/o"}


def converter(code: str, **given):
    into = target(code)
    names = [c.label.zh for c in into.columns.values()]
    rules = {
        "columns": {n: c.label.zh for n, c in into.columns.items()},
        "defaults": {},
        "values": {},
        **given,
    }
    return into, names, Converter(into, rules, names)


def row(names, into, **cells):
    return Row(2, [cells.get(n, "") for n in into.columns])


@pytest.mark.parametrize(
    ("code", "headings"),
    [
        ("lab", "检验单号,患者ID,病人姓名,检验项目编码,检验项目名称,检验结果,计量单位,参考值范围,结果提示,采样日期,检验日期"),
        ("lab", "BGDH,BRID,XM,XMDM,XMMC,JYJG,DW,CKZ,YCTS,CYSJ,BGSJ"),
        ("lab", "Report No,Patient ID,Patient Name,Test Code,Test Name,Result Value,Units,Reference Range,Flag,Collection Time,Report Date"),
        ("outpatient", "就诊号,门诊号,姓名,就诊日期,就诊科室,接诊医生,ICD10,诊断"),
        ("inpatient", "住院流水号,病案号,患者姓名,入院日期,出院日期,出院科室,出院主诊断编码,出院诊断"),
        ("prescription", "处方号,患者编号,开方日期,药品编码,通用名,规格,每次剂量,剂量单位,频次,给药途径,用药天数"),
        ("exam", "检查号,病人编号,姓名,检查类型,检查名称,检查日期,报告日期,影像所见,诊断意见"),
        ("immunization", "身份证号,姓名,疫苗,接种日期,接种剂次,批号,生产厂家"),
        ("surgery", "手术单号,住院次号,病案号,手术编码,手术操作名称,手术日期,主刀"),
        ("hypertension", "身份证号码,姓名,随访日期,高压,低压,心率次分,体重（kg）,药物名称1,药物用法1,随访分类"),
        ("diabetes", "居民编号,姓名,随访时间,空腹血糖(mmol/L),糖化血红蛋白,收缩压,舒张压"),
        ("checkup", "体检号,档案号,姓名,体检日期,收缩压,舒张压,身高,体重,血红蛋白,总胆固醇,体检结论"),
        ("resident", "健康档案号,姓名,性别,出生年月日,身份证号,手机号,现住址"),
    ],
)  # fmt: skip
def test_columns_of_many_makers_are_recognised(code, headings):
    names = headings.split(",")
    found = recognise.columns(target(code), names)
    assert len(found) == len(names), set(names) - set(found.values())
    assert recognise.guess(names).code == code
    layout = reading.Layout("csv", names)
    assert recognise.lacking(target(code), recognise.rules(target(code), layout)) == []


def test_what_a_mapping_lacks_and_gets_wrong_is_told():
    into = target("lab")
    rules = {
        "columns": {"result": "结果"},
        "defaults": {},
        "values": {"abnormal": {"x": "ZZ"}, "result": {"a": "b"}},
    }
    told = "".join(t.zh for t in recognise.lacking(into, rules))
    assert "报告单号" in told
    assert "院内号" in told
    assert "项目代码" in told
    assert len(recognise.problems(into, rules, ["结果"])) == 2
    assert recognise.problems(
        into, {"columns": {"result": "无此列", "bogus": "结果"}, "values": {}}, ["结果"]
    )


def test_headings_are_known_to_one_column_of_a_target_each():
    for one in targets().values():
        seen: dict[str, str] = {}
        for column in one.columns.values():
            for heading in {reading.plain(h) for h in (column.label.zh, column.name)}:
                assert seen.setdefault(heading, column.name) == column.name, (one.code, heading)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("2026-01-05", "2026-01-05"), ("2026/1/5", "2026-01-05"), ("2026年1月5日", "2026-01-05"), ("20260105", "2026-01-05"),
        ("2026.01.05 8:30", "2026-01-05T08:30:00+08:00"), ("20260105083015", "2026-01-05T08:30:15+08:00"),
        ("2026-01-05T08:30:15Z", "2026-01-05T08:30:15+00:00"), ("2026-01-05 24:00", "2026-01-06T00:00:00+08:00"),
        ("2026－01－05　08：30", "2026-01-05T08:30:00+08:00"), ("2026-01-05 08:30:15.123", "2026-01-05T08:30:15+08:00"),
        ("2026年1月5日 8时30分", "2026-01-05T08:30:00+08:00"), ("20260105T0830", "2026-01-05T08:30:00+08:00"),
    ],
)  # fmt: skip
def test_dates_as_people_write_them(text, made):
    assert convert.moment(text) == made


@pytest.mark.parametrize(
    "text",
    ["2026-02-30", "46000", "05/01/2026", "昨天", "2026-13-01", "0000-00-00", "2026-01-05 25:00", "1-2-3"],
)
def test_what_is_no_date_is_not_guessed(text):
    with pytest.raises(Wrong):
        convert.moment(text)


def test_numbers_keep_their_digits():
    assert [convert.number(t).text for t in ("7.30", "007.3", "+5", "1,234.50", ".5", "-0.0", "１２.5", "1e3")] == [
        "7.30", "7.3", "5", "1234.50", "0.5", "-0.0", "12.5", "1e3",
    ]  # fmt: skip
    assert building.text_of({"v": Exact("7.30")}) == b'{"v":7.30}'
    for text in ("1,23", "12a", "1e99", "--1", "", "NaN", "inf", "9" * 30):
        with pytest.raises(Wrong):
            convert.number(text)


def test_results_and_ranges():
    into, names, own = converter("lab")

    def made(result, rng=""):
        return own.convert(
            row(
                names,
                into,
                report_no="R",
                patient_no="P",
                item_code="X",
                result=result,
                range=rng,
                reported_at="2026-01-05",
            )
        ).values

    assert made("6.20")["result.number"].text == "6.20"
    assert (made("<0.5")["result.comparator"], made("≥ 12")["result.comparator"]) == ("<", ">=")
    assert made("阴性(-)")["result.text"] == "阴性(-)"
    assert (made("1", "3.5-9.5")["range.low"], made("1", "3.5～9.5")["range.high"]) == (3.5, 9.5)
    assert made("1", "<5.2")["range.high"] == 5.2
    assert "range.low" not in made("1", "<5.2")
    assert made("1", "男：1-2")["range"] == "男：1-2"
    assert "range.low" not in made("1", "男：1-2")


def test_identity_numbers_in_scientific_notation_are_refused_clearly():
    into, names, own = converter("resident")
    made = own.convert(row(names, into, patient_no="1.2E+17", name="张三", id_no="3.30721E+17"))
    assert {c for c, t in made.wrong if "科学计数" in t.zh} == {"patient_no", "id_no"}


def test_values_of_codes_defaults_and_own_words():
    into, names, own = converter("resident", values={"sex": {"先生": "male"}}, defaults={"sex": "未知"})
    said = [
        own.convert(row(names, into, patient_no="1", name="张三", sex=s)).values["sex"]
        for s in ("男", "2", "F", " 女性 ", "先生", "")
    ]
    assert said == ["male", "female", "female", "female", "male", "unknown"]
    wrong = own.convert(row(names, into, patient_no="1", name="张三", sex="甲")).wrong
    assert wrong[0][0] == "sex"
    assert "甲" not in wrong[0][1].zh
    into, names, own = converter("lab")
    lenient = own.convert(
        row(
            names,
            into,
            report_no="R",
            patient_no="P",
            item_code="X",
            result="1",
            abnormal="怪",
            reported_at="2026-01-05",
        )
    )
    assert not lenient.wrong
    assert lenient.values["abnormal.label"] == "怪"
    assert "abnormal" not in lenient.values


def test_rows_are_checked_as_a_whole():
    into, names, own = converter("inpatient")
    made = own.convert(row(names, into, stay_no="Z1", admitted_at="2026-01-05", discharged_at="2026-01-02"))
    assert {c for c, _ in made.wrong} == {"discharged_at", "patient_no"}
    future = (dt.date.today() + dt.timedelta(days=40)).isoformat()
    assert [
        c for c, _ in own.convert(row(names, into, stay_no="Z1", patient_no="1", admitted_at=future)).wrong
    ] == ["admitted_at"]
    into, names, own = converter("hypertension")
    assert [
        c
        for c, _ in own.convert(
            row(names, into, patient_no="1", visited_on="2026-01-05", sbp="1380", dbp="86")
        ).wrong
    ] == ["sbp"]


@pytest.mark.parametrize("code", list(targets()))
def test_the_example_of_every_target_becomes_valid_fhir(code):
    into, _names, own = converter(code)
    full = own.convert(Row(2, [c.example for c in into.columns.values()]))
    least = own.convert(
        Row(2, [c.example if n in into.require or n in {"patient_no", *into.key[0]} or any(n == a[0] for a in into.require_any) else ""
                for n, c in into.columns.items()])
    )  # fmt: skip
    made = building.Builder(into, "X-1")
    for converted in (full, least):
        assert converted.wrong == []
        v = {
            **converted.values,
            **REFERENCES,
            **{
                f"ref.{b.name}": f"{b.type}/{b.name}"
                for b in into.builds
                if not b.when or any(w in converted.values for w in b.when)
            },
        }
        for build, node in [*made.single, *made.grouped]:
            if build.when and not any(n in v for n in build.when):
                continue
            resource = node(v)
            assert validate.read(building.text_of({**resource, "id": "x"}))[0]["resourceType"] == build.type
            assert "None" not in str(resource)
            assert "$" not in str(resource)


def test_fillers_and_control_characters_are_nothing():
    assert [convert.tidy(t) for t in ("NULL", " - ", "N/A", "\u3000x\xa0", "a\x07b", "e\u0301", "\\N")] == [
        "",
        "",
        "",
        "x",
        "ab",
        "é",
        "",
    ]


# ---------------------------------------------------------------------------------------------------------------- templates


@pytest.mark.parametrize("code", list(targets()))
def test_a_template_explains_itself_and_is_read_back(code):
    into = target(code)
    data = workbook.template(into)
    book = load_workbook(io.BytesIO(data))
    assert book.sheetnames[:3] == ["填报", "示例", "说明"]
    sheet = book["填报"]
    assert [c.value for c in sheet[1]] == [c.label.zh for c in into.columns.values()]
    lists = [v for v in sheet.data_validations.dataValidation if v.type == "list"]
    assert len(lists) == sum(bool(c.values) for c in into.columns.values())
    for at, column in enumerate(into.columns.values(), 1):
        sheet.cell(row=3, column=at).value = column.example
    out = io.BytesIO()
    book.save(out)
    layout = reading.look(out, list(into.known()))
    rows = list(reading.rows(out, layout))
    assert layout.sheet == "填报"
    assert len(rows) == 1
    assert recognise.guess(layout.columns).code == code
    own = Converter(into, recognise.rules(into, layout), layout.columns)
    assert own.convert(rows[0]).wrong == []


def test_nothing_given_back_is_a_formula():
    line = ["=cmd|' /C calc'!A0", "+1", "-1", "@x"]
    data = workbook.only_refused(["a", "b", "c", "d"], [(5, "b", "=原因", line)])
    sheet = load_workbook(io.BytesIO(data)).active
    assert all(c.data_type in ("s", "n") for r in sheet.iter_rows() for c in r)
    assert [c.value for c in sheet[2]] == [*line, "=原因"]
    from lianxin.exchange.rosters.giving import safe

    out = io.StringIO()
    csv.writer(out).writerow([safe(c) for c in line])
    assert all(cell.startswith("'") for cell in next(csv.reader([out.getvalue()])))


def test_value_tables_have_no_word_twice():
    for column in {c.values for t in targets().values() for c in t.columns.values() if c.values}:
        seen: dict[str, str] = {}
        for value in values(column).values():
            for said in value.words:
                assert seen.setdefault(said, value.code) == value.code, (column, said)
