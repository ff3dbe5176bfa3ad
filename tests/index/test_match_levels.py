"""The comparison levels: what each says, that missing is missing, and that SQL and Python say the same."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import duckdb
import pytest

from lianxin.index.form import COLUMNS, Form
from lianxin.index.match import levels, reasons, score, sql
from lianxin.index.match.model import DEFAULT

OWN = "370991198002031233"
WANG = Form(
    name="王小明", surname="王", given="小明", pinyin="wangxiaoming", fuzzy="wangxiaomin", shape="王小明", sex=1, born=19800203,
    id_type="01", id_no=OWN, id_state=1, phone="13912345678", card="A12345678", town="柳河镇", village="张庄", house="3-12",
)  # fmt: skip


def level(field: str, **change: Any) -> str:
    vector = levels.compare(WANG, replace(WANG, **change))
    return levels.code(field, vector[levels.POSITION[field]])


@pytest.mark.parametrize(
    ("field", "change", "code"),
    [
        ("name", {}, "exact"),
        ("name", {"name": "王晓明"}, "sound"),
        ("name", {"name": "王小朋", "pinyin": "wangxiaopeng", "fuzzy": "wangxiaopen"}, "shape"),
        ("name", {"name": "王?明", "pinyin": "wangming", "fuzzy": "", "shape": ""}, "unreadable"),
        ("name", {"name": "王小民", "pinyin": "wangxiaomin", "shape": ""}, "near_sound"),
        ("name", {"name": "王明", "pinyin": "wangming", "fuzzy": "", "shape": ""}, "dropped"),
        ("name", {"name": "王明小", "pinyin": "x", "fuzzy": "", "shape": ""}, "turned"),
        ("name", {"name": "王小军", "pinyin": "x", "fuzzy": "", "shape": ""}, "one_off"),
        ("name", {"name": "李小明", "surname": "李", "pinyin": "x", "fuzzy": "", "shape": ""}, "one_off"),
        ("name", {"name": "王建国", "given": "建国", "pinyin": "x", "fuzzy": "", "shape": ""}, "surname"),
        (
            "name",
            {"name": "王建国", "given": "建国", "pinyin": "x", "fuzzy": "", "shape": "", "former": "王小明"},
            "former",
        ),
        (
            "name",
            {"name": "李建国", "surname": "李", "given": "建国", "pinyin": "x", "fuzzy": "", "shape": ""},
            "other",
        ),
        ("name", {"kind": 1}, "missing"),
        ("id", {}, "own"),
        ("id", {"id_no": "370991198002031241"}, "strangers"),
        ("id", {"id_no": "370991198002031234", "id_state": 2}, "edit"),
        ("id", {"id_no": "110101199003070012", "id_state": 3}, "lent"),
        ("id", {"id_state": 3}, "named"),
        ("id", {"id_state": 3, "name": "李梅", "pinyin": "limei"}, "shared"),
        ("id", {"id_type": "03"}, "missing"),
        ("born", {}, "of_id"),
        ("born", {"id_no": ""}, "exact"),
        ("born", {"born": 19800302}, "swapped"),
        ("born", {"born": 19800204}, "edit"),
        ("born", {"born": 19800101, "born_default": 1}, "year_filler"),
        ("born", {"born": 19791217, "lunar": 19800203}, "lunar"),
        ("born", {"born": 19700203}, "edit"),
        ("born", {"born": 19660203}, "month_day"),
        ("born", {"born": 20051130}, "other"),
        ("sex", {"sex": 2}, "other"),
        ("phone", {"phone": "", "phone2": "13912345678"}, "exact"),
        ("phone", {"phone": "13912345670"}, "edit"),
        ("address", {}, "house"),
        ("address", {"house": "9"}, "village"),
        ("card", {"name": "李建国", "pinyin": "x", "fuzzy": "", "shape": ""}, "lent"),
        ("kin", {"mother": "李梅"}, "missing"),
    ],
)
def test_what_a_change_is_called(field: str, change: dict[str, Any], code: str) -> None:
    change = {"shape": "王小明", **change} if change.get("name") == "王小朋" else change
    assert level(field, **change) == code


def test_missing_says_nothing() -> None:
    nothing = Form()
    assert set(levels.compare(WANG, nothing)) == {0}
    assert set(levels.compare(nothing, nothing)) == {0}
    assert score.bits(WANG, nothing, DEFAULT) == DEFAULT.prior


def test_a_mother_is_not_her_child() -> None:
    mother = replace(
        WANG, name="李梅", surname="李", given="梅", pinyin="limei", fuzzy="nimei", shape="李梅", sex=2
    )
    child = replace(WANG, mother="李梅", born=20200101, id_no="", id_state=0)
    assert levels.compare(mother, child)[levels.POSITION["kin"]] == levels.number("kin", "parent")


def test_comparison_is_symmetric() -> None:
    forms = _random_forms(120)
    for a in forms[:60]:
        for b in forms[60:]:
            assert levels.compare(a, b) == levels.compare(b, a)


def test_every_level_and_review_has_words() -> None:
    for field, rows in levels.LEVELS.items():
        assert str(reasons.field(field))
        for row in rows[1:]:
            text = reasons.part(field, row.code)
            assert text.zh
            assert text.en
            assert text.zh != "缺失"
    assert all(text.zh and text.en for text in (*reasons.REVIEWS.values(), *reasons.GRADES.values()))


def _random_forms(count: int) -> list[Form]:
    rng = random.Random(7)
    pool: dict[str, list[Any]] = {
        "name": ["王小明", "王晓明", "王明", "王明小", "王军明", "李大", "", "阿布都热合曼买买提", "买买提阿布都热合曼", "smithjohn", "王?明"],
        "surname": ["王", "李", "smith", "smyth", "jones", ""],
        "given": ["小明", "晓明", "明", "john", "jon", "johnny", "smith", ""],
        "kind": [0, 0, 0, 1, 2],
        "script": [0, 1, 1, 2],
        "pinyin": ["wangxiaoming", "", "limo", "smithjohn"],
        "fuzzy": ["wangxiaomin", "", "abudurehemanmaimaiti", "abudureheman"],
        "shape": ["x", "", "y"],
        "mother": ["", "王芳", "李大"],
        "mother_id": ["", "1", OWN],
        "twin": [0, 0, 1, 2],
        "sex": [0, 1, 2],
        "born": [0, 19800203, 19800302, 19800204, 19810203, 19800101, 19800000, 19750711, 19300505, 20190131],
        "born_default": [0, 0, 1],
        "lunar": [0, 19800302, 19800204],
        "id_type": ["01", "01", "03", ""],
        "id_no": ["", OWN, "370991198002031235", "370991198002031246", "371522199002031246"],
        "id_state": [0, 1, 1, 2, 3, 4],
        "phone": ["", "13912345678", "13912345679", "13812345678"],
        "phone2": ["", "13912345678"],
        "card": ["", "123456789", "123456780", "5"],
        "county": ["", "371522", "371523"],
        "town": ["", "张庄镇", "springfield", "springfeld"],
        "village": ["", "王村", "main street", "main streets"],
        "house": ["", "3", "32"],
        "deceased": [0, 1],
        "died": [0],
        "birth_cert": ["", "B1", "B2"],
        "former": ["", "王明"],
    }  # fmt: skip
    return [Form(**{k: rng.choice(v) for k, v in pool.items()}) for _ in range(count)]


def test_sql_says_the_same() -> None:
    forms = [WANG, replace(WANG, id_state=3), *_random_forms(220)]
    base = duckdb.connect()
    columns = ", ".join(f"{n} {'BIGINT' if t == 'int' else 'VARCHAR'}" for n, t in COLUMNS)
    rarities = ", ".join(f"{name} DOUBLE" for name in sql.TF_COLUMNS)
    base.execute(f"CREATE TABLE form (rid INT, {columns}, {rarities})")
    rows = [
        (
            i,
            *(getattr(f, n) for n, _ in COLUMNS),
            *(DEFAULT.tf_bits(kind, getattr(f, attribute)) for kind, attribute in sql.TF_COLUMNS.values()),
        )
        for i, f in enumerate(forms)
    ]
    base.executemany(f"INSERT INTO form VALUES ({', '.join('?' * len(rows[0]))})", rows)
    query = (
        f"SELECT l_rid, r_rid, {sql.bits_sql(DEFAULT)}, {', '.join('v_' + f for f in levels.FIELDS)} FROM"
        f" (SELECT l.rid AS l_rid, r.rid AS r_rid, l, r, {sql.levels_sql(sql.DUCKDB)}"
        " FROM form l JOIN form r ON l.rid < r.rid)"
    )
    found = base.execute(query).fetchall()
    assert len(found) == len(forms) * (len(forms) - 1) // 2
    for a, b, bits, *vector in found:
        assert tuple(vector) == levels.compare(forms[a], forms[b]), (forms[a], forms[b])
        assert bits == pytest.approx(score.bits(forms[a], forms[b], DEFAULT), abs=1e-6)


def test_spark_is_written_too() -> None:
    text = sql.levels_sql(sql.SPARK)
    assert " div " in text
    assert "//" not in text
    with pytest.raises(ValueError, match="oracle"):
        sql.levels_sql("oracle")


def test_the_waterfall_adds_up() -> None:
    other = replace(WANG, name="王晓明", phone="13912345670", house="9")
    told = score.score(WANG, other, DEFAULT)
    assert sum(bits for _, _, bits in told.parts) == pytest.approx(told.bits, abs=0.1)
    assert told.parts[0][0] == "prior"
    assert told.grade == score.CERTAIN
