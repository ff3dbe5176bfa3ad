"""Pinyin: surnames, words, search keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianxin.standards import pinyin


@pytest.mark.parametrize(
    ("name", "full", "initials"),
    [
        ("单雄信", "shanxiongxin", "sxx"), ("仇英", "qiuying", "qy"), ("曾国", "zengguo", "zg"), ("区寄", "ouji", "oj"),
        ("查良", "zhaliang", "zl"), ("解珍", "xiezhen", "xz"), ("朴正", "piaozheng", "pz"), ("盖聂", "genie", "gn"),
        ("尉迟恭", "yuchigong", "ycg"), ("万俟卨", "moqixie", "mqx"), ("吕布", "lvbu", "lb"), ("欧阳修", "ouyangxiu", "oyx"),
        ("诸葛亮", "zhugeliang", "zgl"), ("任我行", "renwoxing", "rwx"), ("乐毅", "yueyi", "yy"), ("翟让", "zhairang", "zr"),
        ("单于", "shanyu", "sy"), ("古丽·买买提", "gulimaimaiti", "glmmt"), ("李A", "lia", "la"), ("Ann Lee", "annlee", "annlee"),
        ("", "", ""), ("··", "", ""), ("王１", "wang1", "w1"),
    ],
)  # fmt: skip
def test_names(name, full, initials):
    assert pinyin.full(name) == full
    assert pinyin.initials(name) == initials


@pytest.mark.parametrize(
    ("text", "full", "initials"),
    [
        ("重庆市", "chongqingshi", "cqs"), ("重症肺炎", "zhongzhengfeiyan", "zzfy"), ("长沙", "changsha", "cs"),
        ("绿色通道", "lvsetongdao", "lstd"), ("2型糖尿病", "2xingtangniaobing", "2xtnb"), ("CT诊断", "ctzhenduan", "ctzd"),
        ("单纯疱疹", "danchunpaozhen", "dcpz"),
    ],
)  # fmt: skip
def test_terms_are_read_by_words_not_as_surnames(text, full, initials):
    assert pinyin.term(text) == full
    assert pinyin.term_initials(text) == initials


def test_all_readings_likeliest_first():
    found = pinyin.readings("曾乐")
    assert found[0] == "zengle"
    assert {"cengle", "zengyue"} <= set(found)
    assert len(pinyin.readings("单曾乐重长", limit=5)) == 5


@given(st.text(max_size=20))
def test_any_text_gives_ascii_keys_for_a_keyboard(text):
    for key in (pinyin.full(text), pinyin.initials(text), pinyin.term(text), pinyin.term_initials(text)):
        assert key.isascii()
        assert key == key.lower()
        assert " " not in key


@given(st.text("单王李曾欧阳尉迟修国", min_size=1, max_size=5))
def test_the_likeliest_reading_is_always_among_the_readings(name):
    assert pinyin.full(name) in pinyin.readings(name)
