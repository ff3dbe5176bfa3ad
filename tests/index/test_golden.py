"""The golden record: each field's rule, where a value comes from and why, whatever the order in which sources came."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest

from lianxin.access import seal
from lianxin.access.errors import Invalid
from lianxin.access.scope import Scope
from lianxin.index import golden, refit, survivorship
from lianxin.index.form import Registration, form_of
from lianxin.index.golden import Spoken, compose, golden_patient
from lianxin.index.models import SourceRecord
from lianxin.index.registry import register, register_many
from tests.factories import make_institution

OWN = "11010519491231002X"
T0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def word(at: int, system: str = "his", disputed: bool = False, **values: Any) -> Spoken:
    reg = Registration(1, system, str(at), values.pop("name", "张伟"), **values)
    return Spoken(at, T0 + dt.timedelta(days=at), reg, form_of(reg), disputed)


def best(*words: Spoken) -> dict[str, Any]:
    """Golden values; the same in every order."""
    made = [compose(order).values() for order in itertools.permutations(words)]
    open_ = [{k: v for k, v in m.items() if not k.endswith("_sealed")} for m in made]
    assert all(m == open_[0] for m in open_)
    return open_[0]


def test_one_source_is_taken_as_it_is_but_for_what_is_no_part_of_a_name() -> None:
    values = best(
        word(1, name="張 偉（医保）", sex="male", birth_date=dt.date(1980, 3, 5), phone="0576-83011234")
    )
    assert values["name"] == "张伟"
    assert (values["sex"], values["birth_date"], values["phone_tail"]) == (
        "male",
        dt.date(1980, 3, 5),
        "1234",
    )
    assert values["contact_source_id"] is None
    assert best(word(1, name="買買提·艾力"))["name"] == "買買提·艾力"
    assert best(word(1, name="John  Smith"))["name"] == "John Smith"


def test_a_card_reader_is_trusted_before_what_was_typed_later() -> None:
    values = best(
        word(1, "card-reader", name="张玮", sex="male"),
        word(2, name="张伟", sex="female"),
        word(3, name="张伟"),
    )
    assert values["name"] == "张玮"
    assert values["sex"] == "male"


def test_an_own_number_proves_a_name_and_decides_sex_and_birth() -> None:
    values = best(
        word(1, name="张丽", id_no=OWN, sex="female", birth_date=dt.date(1949, 12, 31)),
        word(2, name="张莉", sex="male", birth_date=dt.date(1950, 1, 1)),
        word(3, name="张莉", sex="male", birth_date=dt.date(1950, 1, 1)),
    )
    assert (values["name"], values["sex"], values["birth_date"]) == ("张丽", "female", dt.date(1949, 12, 31))
    assert values["id_type"] == "01"


def test_more_sources_outweigh_a_later_one_for_a_name_but_not_for_a_phone() -> None:
    values = best(
        word(1, phone="13700000001"), word(2, phone="13700000001"), word(3, name="张韦", phone="13700000023")
    )
    assert (values["name"], values["phone_tail"]) == ("张伟", "0023")


def test_fillers_give_way_and_guardians_numbers_are_nobodys_own() -> None:
    values = best(
        word(1, birth_date=dt.date(2020, 6, 7)),
        word(2, birth_date=dt.date(2020, 1, 1), id_no=OWN),
        word(3, name="无名氏"),
    )
    assert (values["birth_date"], values["id_blind"], values["name"]) == (dt.date(2020, 6, 7), None, "张伟")


def test_a_disputed_source_is_silent_while_others_speak() -> None:
    assert best(word(1), word(2, "card-reader", disputed=True, name="李四"))["name"] == "张伟"
    assert best(word(2, disputed=True, name="李四"))["name"] == "李四"


def test_an_address_changes_when_it_names_another_place_or_the_same_more_fully() -> None:
    full = "大同县城关镇南街七号"
    assert best(word(1, address=full), word(2, address="大同县城关镇"))["address"] == full
    assert best(word(1, address=full), word(2, address="大同县城关镇南街7号"))["address"] == full
    assert best(word(1, address="大同县城关镇"), word(2, address=full))["address"] == full
    assert best(
        word(1, address=full), word(2, address="大同县城关镇北街九号"), word(3, address="大同县城关镇")
    )["address"] == ("大同县城关镇北街九号")
    told = best(word(1, address=full), word(2, address=full, division="140215"), word(3, address=full))
    assert (told["address"], told["division"]) == (full, "140215")
    moved = best(
        word(1, address="城关镇1号", division="140215"), word(2, address="城关镇1号", division="330212")
    )
    assert moved["division"] == "330212"


@pytest.mark.django_db
def test_what_is_written_at_once_is_what_all_the_sources_give() -> None:
    place = make_institution().pk
    same = {"id_no": OWN, "sex": "female", "birth_date": dt.date(1949, 12, 31)}
    said = [
        {"phone": "13711112222", "address": "后岸村1号"},
        {"phone": "13733334444"},
        {"address": "后岸村一号"},
        {"phone": "13711112222", "address": "前岸村2号", "village": "前岸村"},
        {"address": "前岸村"},
        {"phone": "13733334444", "address": "前岸村3号", "division": "331002"},
    ]
    versions = []
    for n, more in enumerate(said):
        done = register(Scope.system("test"), Registration(place, "his", str(n), "张丽", **same, **more))
        person = done.person
        versions.append(person.version)
        sources = SourceRecord.objects.unscoped("test").filter(person_id=person.pk).order_by("id")
        words = [golden.spoken(source) for source in sources]
        assert len(words) == n + 1
        for column, value in compose(words).bare().items():
            kept = getattr(person, column)
            assert (bytes(kept) if isinstance(kept, memoryview) else kept) == value, (n, column)
        assert seal.unseal(person.phone_sealed)[-4:] == person.phone_tail
    assert versions == [1, 2, 2, 3, 3, 4]


def test_only_fields_whose_rule_asks_for_the_latest_word_are_written_without_the_other_sources() -> None:
    assert refit.LAST == {"phone", "address"} == survivorship.latest_word(survivorship._RULES["fields"])
    rules = {"phone": ["trust", "recency"], "address": ["recency"], "home": ["recency"], "sex": ["trust"]}
    assert survivorship.latest_word(rules) == {"address", "home"}


@pytest.mark.parametrize("by_place", [True, False])
def test_an_address_in_other_words_is_news_unless_places_decide(
    monkeypatch: pytest.MonkeyPatch, by_place: bool
) -> None:
    monkeypatch.setattr(refit, "BY_PLACE", by_place)
    first = "大同县城关镇南街七号"
    kept = ["", *(None if v is None else str(v) for v in compose([word(1, address=first)]).row())]
    for text, is_news in (
        (first, False),
        ("大同县城关镇南街7号", not by_place),
        ("大同县城关镇北街九号", True),
    ):
        said = word(2, address=text)
        assert ("address" in refit.news(kept, said.reg, said.form)) == is_news


@pytest.mark.django_db
def test_an_institution_that_does_not_exist_registers_nobody() -> None:
    place = make_institution().pk
    for wrong in ({"institution_id": place + 1000}, {"home_institution_id": place + 1000}):
        given = {"institution_id": place, "system": "his", "local_id": "1", "name": "张丽", **wrong}
        with pytest.raises(Invalid):
            register(Scope.system("test"), Registration(**given))


def test_every_rule_is_known_and_every_class_ends_in_a_catch_all() -> None:
    assert survivorship.class_of("读卡终端").name == "card"
    assert survivorship.class_of("HIS").name == "hospital"
    assert set(survivorship.FIELDS) == set(golden.LABELS) == set(survivorship.VALUE)


@pytest.mark.django_db
def test_every_field_shows_its_source_and_what_others_say() -> None:
    one, two = make_institution().pk, make_institution().pk
    born = dt.date(1949, 12, 31)
    same = {"id_no": OWN, "birth_date": born, "sex": "female"}
    done = register_many(
        Scope.system("test"),
        [
            Registration(one, "his", "1", "张丽", phone="13711112222", address="后岸村1号", **same),
            Registration(two, "card-reader", "2", "张丽", phone="13733334444", **same),
        ],
    )
    assert done[0].person_id == done[1].person_id
    shown = {f.field: f for f in golden.fields(done[0].person)}
    assert set(shown) == {"name", "sex", "birth", "id", "phone", "address"}
    assert shown["id"].value == "1101************2X"
    assert str(shown["phone"].why) == "最近登记"
    assert [o.value for o in shown["phone"].others] == ["137****2222"]
    assert str(shown["address"].why) == "只有这一个来源"
    assert str(shown["name"].why) == "各来源一致"
    assert str(shown["name"].source) == "读卡器"


@pytest.mark.django_db
def test_a_childs_mother_is_its_contact_and_her_number_nobodys() -> None:
    [done] = register_many(
        Scope.system("test"),
        [
            Registration(
                make_institution().pk,
                "his",
                "1",
                "王芳之子",
                "male",
                dt.date(2026, 5, 1),
                mother_name="王芳",
                mother_id_no=OWN,
            )
        ],
    )
    patient = golden_patient(done.person)
    assert patient["contact"][0]["name"] == {"text": "王芳"}
    assert patient["contact"][0]["relationship"][0]["coding"][1]["code"] == "MTH"
    assert OWN not in str(patient)
