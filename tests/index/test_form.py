"""A registration in comparable form: documents, dates, phones, addresses and the whole; nothing raises, missing stays missing."""

import dataclasses
import datetime as dt
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lunar_python import Lunar

from lianxin.index import form as forms
from lianxin.index.foreign import registration_from_patient
from lianxin.index.form import (
    COLUMNS,
    Form,
    Generic,
    Registration,
    form_of,
    form_with_notes,
    pack,
    readings,
    unpack,
)
from lianxin.index.normal import dates, documents, phones, places
from lianxin.standards.identifiers import resident_id_make

NOW = 20261123
OWN = "11010519491231002X"


def reg(**values):
    return Registration(**{"institution_id": 1, "system": "his", "local_id": "1", "name": "", **values})


# --- documents


def document(kind, text, born=0, others=(), generic=forms.NOTHING):
    return documents.read(kind, text, born, NOW, [], others, generic)


@pytest.mark.parametrize(
    "text",
    [OWN, OWN.lower(), "１１０１０５１９４９１２３１００２Ｘ", "110105 19491231 002x", "110105-19491231-002X", "110105491231002", "11O10519491231002X",
     "1l0105l949l23l002X", "11010519491231002*"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["", "01"])
def test_ways_to_write_one_resident_number(text, kind):
    read = document(kind, text)
    assert (read.type, read.number, read.state, read.born, read.sex) == (
        "01",
        OWN,
        documents.OWN,
        19491231,
        2,
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [("110105194912310021", "check digit"), ("110105194913310026", "no such month"), ("70010519491231002X", "no province"),
     ("11010520491231002X", "the future"), ("110105194912310", "a 15-digit one with a wrong date"), ("371522197611121665", "check digit")],
)  # fmt: skip
def test_numbers_that_cannot_be_right_are_kept_as_invalid(text, why):
    assert document("01", text).state == documents.INVALID, why


def test_a_division_nobody_knows_is_no_reason_to_refuse():
    assert document("01", "371522197611121664").state == documents.OWN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "无",
        "-",
        "0",
        "111111111111111111",
        "123456789012345678",
        "不详",
        "110105194912310000",
        "1.10105E+17",
        "***",
    ],
)
def test_fillers_say_nothing(text):
    assert document("01", text) == documents.Document()


@pytest.mark.parametrize(
    ("kind", "text", "want"),
    [("", "H12345678", ("06", "H12345678")), ("", "h1234567801", ("06", "H12345678")), ("99", "M 0123456789", ("06", "M01234567")),
     ("07", "23456781", ("07", "23456781")), ("07", "T23456781", ("07", "23456781")), ("03", "e12345679", ("03", "E12345679")), ("01", "EA2345679", ("03", "EA2345679")),
     ("", "FRA110100123456", ("foreign", "FRA110100123456")), ("04", "军字第1234569号", ("04", "1234569")),
     ("", "P330123456", ("birth", "P330123456")), ("99", "Ｐ３３０１２３４５６", ("birth", "P330123456"))],
)  # fmt: skip
def test_other_documents_keep_their_kind(kind, text, want):
    read = document(kind, text)
    assert (read.type, read.number, read.state) == (*want, documents.OTHER_TYPE)


@pytest.mark.parametrize("division", ["810000", "820000", "830000", "931250"])
def test_permits_of_hong_kong_macau_taiwan_and_foreigners_have_check_digits_too(division):
    number = resident_id_make(division, dt.date(1980, 5, 6), 123)
    assert document("99", number) == documents.Document("01", number, documents.OWN, 19800506, 1)


def test_whose_number_it_is():
    assert document("01", OWN, born=19491231).state == documents.OWN
    assert document("01", OWN, born=19580101).state == documents.OWN
    assert document("01", OWN, born=19600101).state == documents.OTHERS
    assert document("01", OWN, born=20200101).state == documents.OTHERS
    assert document("01", OWN, others=(OWN,)).state == documents.OTHERS
    assert document("01", OWN, generic=Generic(ids=frozenset({OWN}))) == documents.Document()


def test_a_lost_last_x_is_mended_but_proves_nothing_by_itself():
    assert document("01", OWN[:17]) == documents.Document("01", OWN, documents.INVALID)
    assert document("01", OWN[:17], others=(OWN,)).state == documents.OTHERS


def test_every_one_digit_error_and_swap_is_invalid():
    good = resident_id_make("331023", dt.date(1987, 6, 5), 24)
    for at in range(17):
        wrong = good[:at] + str((int(good[at]) + 1) % 10) + good[at + 1 :]
        assert document("01", wrong).state != documents.OWN, wrong
        if at < 16 and good[at] != good[at + 1]:
            swapped = good[:at] + good[at + 1] + good[at] + good[at + 2 :]
            assert document("01", swapped).state != documents.OWN, swapped


# --- dates


@pytest.mark.parametrize(
    ("text", "want"),
    [("19800305", 19800305), ("1980.3.5", 19800305), ("1980/03/05", 19800305), ("1980年3月5日", 19800305), ("1980-3-5", 19800305),
     ("一九八〇年三月五日", 19800305), ("１９８０．３．５", 19800305), ("5/3/1980", 19800305), ("25/12/1980", 19801225), ("12/25/1980", 19801225),
     ("1980-03-05 10:20:30", 19800305), ("1980-03-05T00:00:00", 19800305), ("19800305102030", 19800305), ("1980", 19800000), ("1980年", 19800000),
     ("1980-05", 19800000), ("1980-13-05", 19800513), ("1980-02-30", 19800000), ("农历1980年8月15", 19800923), ("一九八〇年腊月初八", 19810113),
     ("1980年正月初一", 19800216), ("二〇〇一年十二月三十一日", 20011231), ("阴历1980年冬月廿三", 19801229), ("", 0), ("abc", 0), ("0000-00-00", 0),
     ("20990101", 0), ("18500101", 0), ("19000101", 0), ("无", 0)],
)  # fmt: skip
def test_dates_as_typed(text, want):
    assert dates.read(None, text, [], NOW)[0] == want


def test_first_of_january_is_marked_and_the_future_is_noted():
    notes = []
    assert dates.read(dt.date(1980, 1, 1), "", notes, NOW)[1] == 1
    assert dates.read(dt.date(2030, 1, 1), "", notes, NOW) == (0, 0, 0)
    assert notes == ["born_future"]


def test_lunar_table_agrees_with_the_library_it_came_from():
    chance = random.Random(4)
    for _ in range(60):
        year, month, day = chance.randint(1901, 2099), chance.randint(1, 12), chance.randint(1, 29)
        solar = Lunar.fromYmd(year, month, day).getSolar()
        want = solar.getYear() * 10000 + solar.getMonth() * 100 + solar.getDay()
        assert dates.to_solar(year * 10000 + month * 100 + day) == want
    assert dates.to_solar(19800232) == dates.to_solar(18000101) == dates.to_solar(19801301) == 0


# --- phones


@pytest.mark.parametrize(
    ("text", "want"),
    [("13712345679", "13712345679"), ("+86 137-1234-5679", "13712345679"), ("8613712345679", "13712345679"), ("0086-13712345679", "13712345679"),
     ("013712345679", "13712345679"), ("１３７１２３４５６７９", "13712345679"), ("0576-83011234", "83011234"), ("057683011234", "83011234"),
     ("83011234", "83011234"), ("(0576)83011234转801", "83011234"), ("83011234-801", "83011234"), ("010-62345671", "62345671"),
     ("电话:13712345679", "13712345679"), ("", ""), ("无", ""), ("13800000000", ""), ("13800138000", ""), ("11111111111", ""), ("12345678", ""),
     ("123", ""), ("13712345678", "13712345678"), ("00000000", ""), ("*******5679", "")],
)  # fmt: skip
def test_phones(text, want):
    assert phones.read(text) == want


def test_two_phones_in_one_field_and_a_generic_one():
    assert phones.both("13712345679/0576-83011234") == ("13712345679", "83011234")
    assert phones.both("13712345679、13712345679") == ("13712345679", "")
    assert phones.read("13712345679", Generic(phones=frozenset({"13712345679"}))) == ""


# --- places


@pytest.mark.parametrize(
    ("address", "division", "village", "want"),
    [
        ("浙江省台州市天台县平桥镇后岸村3组12号", "", "", ("331023", "平桥", "后岸", "12")),
        ("天台县平桥镇后岸村三组十二号", "", "", ("331023", "平桥", "后岸", "12")),
        ("平桥镇后岸村12号", "331023", "", ("331023", "平桥", "后岸", "12")),
        ("后岸村12", "331023", "后岸村", ("331023", "", "后岸", "12")),
        ("后岸村委会3组", "331023103", "", ("331023", "331023103", "后岸", "g3")),
        ("赤城街道人民东路125号阳光小区3幢2单元501室", "331023", "", ("331023", "赤城", "阳光", "3-2-501")),
        ("赤城街道阳光小区三栋二单元五〇一", "331023", "", ("331023", "赤城", "阳光", "3-2-501")),
        ("广东省东莞市东城街道主山社区东城大道12号B座1201", "", "", ("441900", "东城", "东城", "12-b-1201")),
        ("东莞东城街道主山社区", "", "", ("441900", "东城", "主山", "")),
        ("青海省西宁市大通回族土族自治县桥头镇人民路5#", "", "", ("630121", "桥头", "人民", "5")),
        ("新疆维吾尔自治区喀什地区莎车县阿热勒乡3村2组", "", "", ("653125", "阿热勒", "3", "g2")),
        ("赤城街道(原城关镇)栖霞路12弄3号", "331023", "", ("331023", "赤城", "栖霞", "12-3")),
        ("山东省泰沂市清河县王山乡胜利路52号龙湖新城17幢2单元", "370991", "", ("370991", "王山", "龙湖新城", "17-2")),
        ("雪域藏族自治州高原县卡多乡日隆26号", "632691", "", ("632691", "卡多", "日隆", "26")),
        ("江苏省江宁市滨江区锦园街道和谐名苑15幢", "320191", "", ("320191", "锦园", "和谐名苑", "15")),
        ("鼓楼区中山路3号", "", "", ("鼓楼区", "", "中山", "3")),
        ("上海市浦东新区张江镇科苑路88弄3号楼502室", "", "", ("310115", "张江", "科苑", "88-3-502")),
        ("", "331023", "", ("331023", "", "", "")), ("不详", "", "", ("", "", "", "")), ("", "", "", ("", "", "", "")),
        ("12 Main Street, Springfield, 2600, NSW", "", "", ("2600", "springfield", "main", "12")),
        ("47 fowler place weston 2611", "", "", ("2611", "weston", "fowler", "47")),
        ("1007 Kertzmann Station", "02139", "", ("02139", "", "kertzmannstation", "1007")),
    ],
)  # fmt: skip
def test_places(address, division, village, want):
    read = tuple(places.read(address, division, village))
    assert read == want


# --- the whole


def test_an_empty_registration_is_an_empty_form():
    empty = Form(kind=forms.PLACEHOLDER)
    assert form_of(reg()) == empty
    assert readings(empty) == ()


def test_sex_and_birth_come_from_an_own_number_only():
    own = form_of(reg(name="张伟", id_no=OWN))
    assert (own.sex, own.born, own.id_state) == (2, 19491231, documents.OWN)
    child, notes = form_with_notes(reg(name="张小伟", id_no=OWN, birth_date=dt.date(2020, 2, 2)))
    assert (child.sex, child.born, child.id_state, child.mother_id) == (0, 20200202, documents.OTHERS, OWN)
    assert notes == ["id_not_own"]


def test_a_newborn_with_its_mother():
    baby = form_of(
        reg(
            name="王芳之二女",
            birth_date=dt.date(2026, 10, 1),
            mother_id_no=OWN.lower(),
            id_no=OWN,
            birth_certificate="p 330123456",
        )
    )
    assert (baby.kind, baby.mother, baby.mother_id, baby.twin, baby.sex) == (forms.NEWBORN, "王芳", OWN, 2, 2)
    assert (baby.id_state, baby.birth_cert) == (documents.OTHERS, "P330123456")
    named = form_of(reg(name="李小宝", mother_name="王 芳（医保）", guardian_name="李强", birth_order=1))
    assert (named.kind, named.mother, named.twin) == (forms.NAMED, "王芳", 1)


def test_an_insurance_number_that_is_the_identity_number_counts_once():
    form = form_of(reg(name="张丽", id_no=OWN, card=OWN.lower()))
    assert (form.id_no, form.card) == (OWN, "")
    form = form_of(reg(name="张丽", card=OWN))
    assert (form.id_no, form.id_state, form.card, form.sex) == (OWN, documents.OWN, "", 2)
    assert form_of(reg(name="张丽", card="A12345679")).card == "A12345679"


def test_generic_values_are_left_out():
    generic = Generic(phones=frozenset({"13712345679"}), ids=frozenset({OWN}))
    form, notes = form_with_notes(
        reg(name="张伟", id_no=OWN, phone="13712345679", phone2="13987654329"), generic
    )
    assert (form.id_no, form.id_state, form.mother_id, form.phone, form.phone2) == (
        "",
        0,
        "",
        "13987654329",
        "",
    )
    assert set(notes) >= {"id_generic", "phone_filler"}
    assert form_of(reg(name="王芳之子", mother_id_no=OWN), generic).mother_id == ""


def test_a_fhir_patient_tells_its_mother_but_not_its_husband():
    def contact(name, code):
        return {"relationship": [{"coding": [{"code": code}]}], "name": {"text": name}}

    patient = {
        "id": "p1",
        "name": [{"family": "van der Berg", "given": ["Anna"]}, {"use": "maiden", "text": "Anna Smith"}],
        "birthDate": "1980-05",
        "multipleBirthInteger": 2,
        "multipleBirthBoolean": True,
        "contact": [contact("李强", "HUSB"), contact("王芳", "MTH"), contact("赵六", "GUARD"), "odd"],
        "telecom": [{"system": "phone", "value": "13711112222"}, {"system": "phone", "value": "83011234"}],
        "identifier": [{"type": {"coding": [{"code": "BCT"}]}, "value": "P330123456", "system": "urn:x"}],
    }
    read = registration_from_patient(patient, 1)
    assert (read.mother_name, read.guardian_name, read.former_name) == ("王芳", "赵六", "Anna Smith")
    assert (read.local_id, read.birth_order) == ("p1", 2)
    form = form_of(read)
    assert (form.surname, form.former, form.mother, form.twin) == ("vanderberg", "annasmith", "王芳", 2)
    assert (form.born, form.phone, form.phone2, form.birth_cert) == (
        19800000,
        "13711112222",
        "83011234",
        "P330123456",
    )


TEXT = st.text(max_size=30) | st.text(
    alphabet="0123456789xX年月日农历初十-/.,号组村镇市区路张王李之子女（）", max_size=20
)
DATE = st.none() | st.dates()


@settings(max_examples=250, deadline=None)
@given(
    st.builds(
        Registration,
        institution_id=st.just(1),
        system=TEXT,
        local_id=TEXT,
        name=TEXT,
        sex=TEXT,
        birth_date=DATE,
        id_type=st.sampled_from(["", "01", "03", "06", "07", "99"]) | TEXT,
        id_no=TEXT,
        phone=TEXT,
        address=TEXT,
        division=TEXT,
        village=TEXT,
        card=TEXT,
        deceased_on=DATE,
        mother_id_no=TEXT,
        guardian_name=TEXT,
        birth_text=TEXT,
        family=TEXT,
        given=TEXT,
        former_name=TEXT,
    )
)
def test_any_registration_has_a_form_that_packs(any_reg):
    form = form_of(any_reg)
    assert unpack(pack(form)) == form
    for (name, kind), value in zip(COLUMNS, dataclasses.astuple(form), strict=True):
        assert isinstance(value, int if kind == "int" else str), name
        assert not isinstance(value, str) or "\0" not in value, name
    assert len(readings(form)) <= 4


def test_packed_forms_of_another_version_are_refused():
    with pytest.raises(ValueError, match="version"):
        unpack(b"\x91\x63")
