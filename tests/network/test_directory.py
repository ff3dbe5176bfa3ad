"""Who belongs where, who leads, who is near, who works there."""

import datetime as dt

import pytest

from lianxin.network import directory, roles
from lianxin.network.models import Agreement, Membership, Post
from lianxin.standards import clock
from tests.factories import (
    SINCE,
    make_consortium,
    make_institution,
    make_post,
    make_practitioner,
    small_county,
)

pytestmark = pytest.mark.django_db


def test_village_clinics_belong_through_their_township():
    county = small_county()
    village = county.villages[0]
    assert list(directory.consortia_of(village)) == [county.consortium]
    assert directory.lead_of(village) == county.lead
    assert directory.ancestors(village) == [county.townships[0]]
    assert set(directory.descendants(county.townships[0])) == set(county.villages[:2])
    assert directory.members_of(county.consortium).count() == 5
    assert directory.members_of(county.consortium, below=True).count() == 11
    assert directory.lead_of(make_institution()) is None


def test_an_institution_in_several_consortia():
    county = small_county()
    other_lead = make_institution(kind="hospital")
    alliance = make_consortium(other_lead, [county.tcm], form="specialist_alliance", code="AAA")
    assert set(directory.consortia_of(county.tcm)) == {county.consortium, alliance}
    assert directory.consortia_of(county.tcm, form="specialist_alliance").get() == alliance
    assert directory.lead_of(county.tcm) == county.lead  # the community before the alliance
    assert directory.same_consortium(county.tcm, other_lead)
    assert directory.may_refer(county.villages[0], county.lead)
    assert not directory.may_refer(county.lead, county.lead)
    assert not directory.may_refer(county.villages[0], other_lead)
    Agreement.objects.create(
        party_a=other_lead, party_b=county.villages[0], kind="referral", number="A", since=SINCE
    )
    assert directory.may_refer(county.villages[0], other_lead)
    assert not directory.may_refer(county.villages[0], other_lead, SINCE - dt.timedelta(days=1))


def test_periods_are_half_open_days():
    county = small_county()
    member = Membership.objects.get(institution=county.tcm)
    member.until = dt.date(2025, 1, 1)
    member.save()
    assert directory.consortia_of(county.tcm, dt.date(2024, 12, 31)).exists()
    assert not directory.consortia_of(county.tcm, dt.date(2025, 1, 1)).exists()
    assert not directory.consortia_of(county.tcm, SINCE - dt.timedelta(days=1)).exists()
    with clock.at(dt.datetime(2024, 6, 1, tzinfo=clock.ZONE)):
        assert directory.consortia_of(county.tcm).exists()


def test_people_by_role_and_day():
    county = small_county()
    assert [p.name for p in directory.practitioners_of(county.lead, roles.REFERRAL_DESK)] == ["曾静宜"]
    person = make_practitioner("派驻医生")
    make_post(county.lead, practitioner=person)
    make_post(county.townships[0], practitioner=person, until=dt.date(2021, 1, 1))
    assert [p.institution for p in directory.posts_of(person)] == [county.lead]
    assert len(directory.posts_of(person, dt.date(2020, 6, 1))) == 2
    person.active = False
    person.save()
    assert person not in directory.practitioners_of(county.lead)


def test_distance_and_nearest():
    county = small_county()
    assert directory.haversine_km(121.47, 31.23, 116.40, 39.90) == pytest.approx(1068, abs=5)
    assert directory.haversine_km(0, 0, 180, 0) == pytest.approx(20015, abs=1)
    assert directory.distance_km(county.lead, county.lead) == 0
    nowhere = make_institution()
    assert directory.distance_km(county.lead, nowhere) is None
    ranked = directory.nearest(county.lead, [nowhere, *county.townships])
    assert [i for i, _ in ranked] == [*county.townships, nowhere]


def test_capabilities_and_rules():
    county = small_county()
    assert list(directory.capable("specialty", "03.04")) == [county.lead]
    county.consortium.rules = {"clocks": {"acknowledge": "2h"}}
    county.consortium.save()
    assert directory.rule(county.villages[0], "clocks.acknowledge") == "2h"
    assert directory.rule(county.villages[0], "clocks.none", "4wh") == "4wh"
    assert directory.is_above(county.lead, county.townships[0])


@pytest.mark.parametrize("query", ["人民医院", "qingxi", "qxxrm", "SC-RMYY", "sc-rmyy", "People", "县人民"])
def test_find_by_any_key(query):
    county = small_county()
    assert directory.find(query)[0] == county.lead


def test_find_nothing():
    small_county()
    assert directory.find("  ") == []
    assert directory.find("不存在") == []


def test_check_sees_what_no_constraint_can():
    county = small_county()
    assert directory.check() == []
    Membership.objects.filter(institution=county.lead).update(until=dt.date(2021, 1, 1))
    county.villages[0].active = False
    county.villages[0].save()
    problems = directory.check()
    assert len(problems) == 2
    assert county.lead.code in problems[0]


def test_admins_are_separate_people_and_open_no_record():
    assert roles.conflicts([roles.SYSTEM_ADMIN, roles.AUDIT_ADMIN])
    assert roles.conflicts([roles.SECURITY_ADMIN, roles.GP])
    assert roles.conflicts([roles.GP, roles.FAMILY_DOCTOR]) is None
    assert not roles.is_clinical(roles.ADMINS | {roles.MANAGER, roles.RECEPTION})
    assert roles.is_clinical([roles.MANAGER, roles.GP])
    for code, role in roles.ROLES.items():
        assert code == role.code
        assert role.label.zh
        assert role.label.en
    assert Post(role=roles.GP).role_label.zh == "全科医生"
