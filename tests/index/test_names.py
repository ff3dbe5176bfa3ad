"""Names as people type them: variants of one name are equal, what is no name is none, nothing raises."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lianxin.index.normal import chars, latin, names
from lianxin.index.normal.names import HAN, LATIN, MINORITY, NAMED, NEWBORN, PLACEHOLDER

SAME = [
    ["张伟", "張偉", "张 伟", " 张伟\u3000", "张伟（医保）", "张伟(新农合)", "张伟1", "张伟01", "张伟A", "张伟2号", "张伟12床", "张伟先生", "张伟-自费",
     "张伟医保", "张伟（本人）", "张\u200b伟", "张伟(职工医保", "张·伟", "张伟(省医保)1"],
    ["欧阳娜娜", "歐陽娜娜", "欧阳 娜娜", "欧阳娜娜女士"],
    ["买买提·艾力", "买买提•艾力", "买买提.艾力", "买买提．艾力", "买买提‧艾力", "买买提・艾力", "买买提 艾力", "买买提艾力", "买买提－艾力"],
    ["Smith, John", "John Smith", "JOHN SMITH", "Ｊｏｈｎ　Ｓｍｉｔｈ", "Mr John Smith", "john smith jr"],
    ["O'Brien Mary", "O’Brien Mary", "obrien mary"],
    ["张?伟", "张□伟", "张＊伟", "张\ue863伟", "张？伟", "张�伟"],
    ["于建国", "於建国"],
    ["José García", "Jose Garcia"],
]  # fmt: skip


@pytest.mark.parametrize("variants", SAME, ids=lambda v: v[0])
def test_ways_to_write_one_name_are_equal(variants):
    assert {names.read(v).name for v in variants} == {names.read(variants[0]).name} != {""}


@pytest.mark.parametrize(
    "text",
    ["无名氏", "未知", "急诊患者", "路人甲", "测试", "测试123", "无名女尸", "不详", "张XX", "李某某", "张*", "张**", "王先生", "", "  ", "-", "123",
     "null", "NONE", "???", "□□", "Unknown", "john doe", "test patient", "xxx", "待查2", "\ue000", "某男", "😀", "张某", "（ ）", "患者"],
)  # fmt: skip
def test_what_is_no_name_is_a_placeholder(text):
    read = names.read(text)
    assert (read.kind, read.name, read.pinyin, read.shape) == (PLACEHOLDER, "", "", "")


@pytest.mark.parametrize(
    "text", ["王小宝", "李无忌", "张三", "陈二女", "王秀女", "李乾", "吴明", "王羲之", "付某琴", "李宝", "男才", "Na Li", "Testa Anna", "刘老师傅"]
)  # fmt: skip
def test_odd_but_real_names_stay(text):
    assert names.read(text).kind == NAMED


@pytest.mark.parametrize(
    ("text", "mother", "twin", "sex"),
    [
        ("王芳之子", "王芳", 0, 1), ("王芳之女", "王芳", 0, 2), ("王芳之婴", "王芳", 0, 0), ("王芳婴", "王芳", 0, 0),
        ("王芳之大女", "王芳", 1, 2), ("王芳之长子", "王芳", 1, 1), ("王芳之二女", "王芳", 2, 2), ("王芳之次子", "王芳", 2, 1),
        ("王芳大宝", "王芳", 1, 0), ("王芳二宝", "王芳", 2, 0), ("王芳之双胞胎二子", "王芳", 2, 1), ("王芳之子1", "王芳", 1, 1),
        ("王芳之女B", "王芳", 2, 2), ("新生儿(王芳)", "王芳", 0, 0), ("王芳之女婴", "王芳", 0, 2), ("王 芳 之 子", "王芳", 0, 1),
        ("王芳之子（医保）", "王芳", 0, 1), ("買買提古麗之女", "买买提古丽", 0, 2), ("欧阳娜娜之子", "欧阳娜娜", 0, 1),
        ("新生儿", "", 0, 0), ("男婴", "", 0, 1), ("王芳之毛毛", "王芳", 0, 0), ("王芳宝宝", "王芳", 0, 0),
    ],
)  # fmt: skip
def test_newborns_are_named_after_their_mother(text, mother, twin, sex):
    read = names.read(text, age=0)
    assert (read.kind, read.mother, read.twin, read.sex) == (NEWBORN, mother, twin, sex)


def test_a_grown_person_with_a_pet_name_is_no_newborn():
    assert names.read("陈芳大宝", age=30).kind == NAMED
    assert names.read("王芳之子", age=30).kind == NEWBORN  # said in so many words


@pytest.mark.parametrize(
    ("text", "surname", "given", "pinyin", "script"),
    [
        ("单雄信", "单", "雄信", "shanxiongxin", HAN), ("尉迟恭", "尉迟", "恭", "yuchigong", HAN), ("仇英", "仇", "英", "qiuying", HAN),
        ("曾国藩", "曾", "国藩", "zengguofan", HAN), ("区文", "区", "文", "ouwen", HAN), ("张王小明", "张", "王小明", "zhangwangxiaoming", HAN),
        ("欧阳", "欧", "阳", "ouyang", HAN), ("王zhe", "王", "?", "wangzhe", HAN), ("张?伟", "张", "?伟", "zhang?wei", HAN),
        ("扎西多吉", "扎西", "多吉", "zhaxidouji", MINORITY), ("阿依古丽", "阿依", "古丽", "ayiguli", MINORITY),
        ("John Smith", "smith", "john", "jnsmt", LATIN),
    ],
)  # fmt: skip
def test_surname_given_name_and_reading(text, surname, given, pinyin, script):
    read = names.read(text)
    assert (read.surname, read.given, read.pinyin, read.script) == (surname, given, pinyin, script)


@pytest.mark.parametrize(
    ("one", "two"),
    [("阿布都热依木", "阿不都热依木"), ("阿布都·热依木", "阿卜杜热依木"), ("买买提艾力", "麦麦提艾里"), ("次仁卓玛", "才仁卓玛"), ("其其格玛", "琪琪格马"),
     ("吐尔逊江", "图尔荪江"), ("古丽娜尔", "古力那尔")],
)  # fmt: skip
def test_spellings_of_one_transliterated_name_have_one_shape_and_sound(one, two):
    a, b = names.read(one), names.read(two)
    assert (a.shape, a.pinyin, a.fuzzy, a.surname) == (b.shape, b.pinyin, b.fuzzy, b.surname)
    assert a.script == MINORITY


@pytest.mark.parametrize(
    ("one", "two"),
    [("张晓玲", "张骁铃"), ("李芳", "李芬"), ("王己", "王巳"), ("侯丽", "候丽"), ("赵未", "赵末")],
)
def test_look_alike_characters_have_one_shape(one, two):
    assert names.read(one).shape == names.read(two).shape
    assert names.read(one).name != names.read(two).name


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("张胜", "章生"),
        ("李兰", "李南"),
        ("陈静", "程进"),
        ("黄飞", "方飞"),
        ("吕林", "鲁宁"),
        ("史祥", "斯贤"),
        ("杨寒", "杨范"),
        ("陈辉", "陈飞"),
        ("汪洪", "王鸿"),
    ],
)
def test_near_sounds_fold_together(one, two):
    assert names.read(one).fuzzy == names.read(two).fuzzy


def test_spellings_of_latin_names_sound_alike():
    for one, two in [
        ("Jon Smyth", "John Smith"),
        ("Catherine Philips", "Katherine Phillips"),
        ("Smith John", "John Smith"),
    ]:
        assert names.read(one).pinyin == names.read(two).pinyin
    assert names.read("", family="van der Berg", given="Anna").surname == "vanderberg"
    assert names.read("Anna van der Berg").surname == "vanderberg"


def test_soundex_is_the_classic_one():
    assert [latin.soundex[w] for w in ("robert", "rupert", "ashcraft", "tymczak", "pfister", "honeyman")] == [
        "r163", "r163", "a261", "t522", "p236", "h555",
    ]  # fmt: skip


def test_stars_and_what_cannot_be_read():
    assert names.read("高明涛*").name == "高明涛"
    assert names.read("高明*").kind == NAMED
    assert names.read("闫？").name == names.read("闫□").name == "闫?"
    assert names.read("闫*").kind == PLACEHOLDER


def test_former_name_in_brackets():
    assert names.read("王丽（曾用名：王莉）").former == "王莉"


def test_other_readings_are_few_and_likely():
    read = names.read("曾乐行")
    others = names.readings(read.name, read.script, read.pinyin)
    assert 0 < len(others) <= 4
    assert read.pinyin not in others
    assert "zengyuexing" in others
    assert names.readings("王芳", HAN, "wangfang") == ()
    assert "danxiongxin" in names.readings("单雄信", HAN, "shanxiongxin")


def test_kept_characters_are_not_merged_with_another_reading():
    assert names.read("李乾").pinyin == "liqian"


@pytest.mark.parametrize(
    "text",
    ["张" + "1" * 150 + "王1", "1号" * 90 + "张a", "医保" * 90 + "张1", "*" * 5000 + "x ", "(" * 5000, "之" * 5000 + "子", "大宝" * 90 + "1x",
     "a" * 5000, "· " * 5000, "张" + " -" * 90 + "医", "新生儿" * 60 + "x"],
)  # fmt: skip
def test_long_and_crafted_names_are_read_without_ado(text):
    assert len(names.read(text).name) <= names.LONGEST + 2


ANY = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.sampled_from("张王李芳伟之子女婴大二宝医保新农合（）()·.•- 1aA?□某先生无名氏买提艾力布都单曾"),
    ),
    max_size=14,
)


@settings(max_examples=400, deadline=None)
@given(ANY)
@example("张伟先生先生")
@example("张伟医 保")
@example("之之子")
@example("王芳之子之女")
def test_any_text_is_read_and_reading_again_changes_nothing(text):
    once = names.read(text)
    assert all(isinstance(v, str | int) for v in once)
    assert chars.fold(once.name) == once.name
    again = names.read(once.name)
    if once.name:
        assert names.read(again.name).name == again.name
    if once.kind == NAMED and once.script == HAN and not set("之?") & set(once.name):
        assert again.name == once.name
    names.readings(once.name, once.script, once.pinyin)


@settings(max_examples=150, deadline=None)
@given(ANY, ANY, ANY)
def test_any_latin_parts_are_read(text, family, given_name):
    assert isinstance(names.read(text, family, given_name).name, str)
