"""What the database refuses, broken on purpose past every form: through bulk writes and raw updates."""

import datetime as dt

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, transaction

from lianxin.network.models import (
    Agreement,
    Capability,
    Consortium,
    Department,
    Institution,
    Membership,
    Post,
    Practitioner,
)
from tests.factories import (
    SINCE,
    make_consortium,
    make_department,
    make_institution,
    make_post,
    make_practitioner,
    small_county,
)

pytestmark = pytest.mark.django_db


def refused(act, match=None):
    with pytest.raises(DatabaseError, match=match), transaction.atomic():
        act()


def new(**fields):
    base = {"code": "N-1", "name": "新", "kind": "township", "tier": "township"} | fields
    return Institution.objects.bulk_create([Institution(**base)])


@pytest.mark.parametrize(
    "fields",
    [
        {"code": ""}, {"code": "有空 格"}, {"code": "A" * 41}, {"code": "-A"}, {"code": "A\nB"}, {"kind": "spa"}, {"tier": "moon"},
        {"ownership": "x"}, {"division": "33102"}, {"division": "33102X"}, {"uscc": "123"}, {"uscc": "I" * 18},
        {"lon": 181.0, "lat": 1.0}, {"lon": 1.0}, {"lat": 91.0, "lon": 0.0}, {"kind": "village", "tier": "village"},
    ],
)  # fmt: skip
def test_rows_that_cannot_be_institutions(fields):
    refused(lambda: new(**fields))


def test_codes_and_credit_codes_are_unique():
    new(uscc="91110000600037341L")
    refused(lambda: new(), "unique|duplicate")
    refused(lambda: new(code="N-2", uscc="91110000600037341L"), "unique|duplicate")
    new(code="N-3")
    new(code="N-4")  # several without a credit code


def test_a_village_clinic_hangs_on_a_township_or_community_centre():
    hospital, township = make_institution(kind="hospital"), make_institution(kind="township")
    community = make_institution(kind="community")
    refused(lambda: new(kind="village", tier="village", parent=hospital), "network_village_parent_kind")
    for n, parent in enumerate((township, community)):
        new(code=f"V-{n}", kind="village", tier="village", parent=parent)
    refused(
        lambda: Institution.objects.filter(code="V-0").update(parent=hospital), "network_village_parent_kind"
    )
    refused(lambda: Institution.objects.filter(code="V-0").update(parent=None), "network_village_has_parent")
    refused(
        lambda: Institution.objects.filter(pk=township.pk).update(kind="hospital"),
        "network_village_parent_kind",
    )
    refused(township.delete)


def test_nothing_hangs_on_a_village_clinic_and_no_ring():
    village = make_institution(kind="village")
    refused(lambda: new(parent=village), "network_no_child_of_village")
    a, b, c = (make_institution(kind="hospital") for _ in range(3))
    Institution.objects.filter(pk=b.pk).update(parent=a)
    Institution.objects.filter(pk=c.pk).update(parent=b)
    refused(lambda: Institution.objects.filter(pk=a.pk).update(parent=c), "network_no_ring")
    refused(lambda: Institution.objects.filter(pk=a.pk).update(parent=a), "own_parent|network_no_ring")


def test_clean_says_the_same_in_words():
    hospital = make_institution(kind="hospital")
    with pytest.raises(ValidationError) as caught:
        Institution(
            code="V-9",
            name="村",
            kind="village",
            tier="village",
            parent=hospital,
            uscc="91110000600037341M",
            lon=1.0,
        ).full_clean()
    assert {"uscc", "parent", "lon"} <= set(caught.value.message_dict)
    fine = Institution(code="H-9", name="院", kind="hospital", tier="county", uscc=" 91110000600037341l ")
    fine.clean()
    assert fine.uscc == "91110000600037341L"


def test_consortium_forms_and_one_live_lead():
    a, b = make_institution(kind="hospital"), make_institution(kind="hospital")
    for form in ("city_group", "county_community", "specialist_alliance", "remote_network"):
        make_consortium(a, [b], form=form)
    refused(lambda: Consortium.objects.create(code="C-X", name="x", form="club", lead=a))
    consortium = make_consortium(a)
    refused(lambda: Membership.objects.create(consortium=consortium, institution=b, role="lead", since=SINCE))
    refused(
        lambda: Membership.objects.create(consortium=consortium, institution=a, role="member", since=SINCE)
    )
    refused(lambda: Membership.objects.create(consortium=consortium, institution=b, role="boss", since=SINCE))
    refused(
        lambda: Membership.objects.create(
            consortium=consortium, institution=b, since=SINCE, until=SINCE - dt.timedelta(days=1)
        )
    )
    Membership.objects.filter(consortium=consortium, institution=a).update(until=dt.date(2024, 1, 1))
    Membership.objects.create(consortium=consortium, institution=b, role="lead", since=dt.date(2024, 1, 1))
    Membership.objects.create(consortium=consortium, institution=a, role="member", since=dt.date(2024, 1, 1))


def test_agreements_have_two_parties_and_capabilities_live_once():
    a, b = make_institution(), make_institution()
    refused(lambda: Agreement.objects.create(party_a=a, party_b=a, kind="referral", number="1", since=SINCE))
    refused(lambda: Agreement.objects.create(party_a=a, party_b=b, kind="wish", number="1", since=SINCE))
    Agreement.objects.create(party_a=a, party_b=b, kind="referral", number="1", since=SINCE)
    refused(lambda: Agreement.objects.create(party_a=b, party_b=a, kind="referral", number="1", since=SINCE))
    Capability.objects.create(institution=a, kind="device", code="CT", name="CT", since=SINCE)
    refused(
        lambda: Capability.objects.create(institution=a, kind="device", code="CT", name="CT", since=SINCE)
    )
    refused(lambda: Capability.objects.create(institution=a, kind="magic", code="CT", name="CT", since=SINCE))


def test_a_post_is_held_once_and_in_a_department_of_its_institution():
    here, elsewhere = make_institution(kind="hospital"), make_institution(kind="hospital")
    ours, theirs = make_department(here), make_department(elsewhere)
    person = make_practitioner()
    post = make_post(here, practitioner=person, department=ours)
    refused(lambda: make_post(here, practitioner=person, department=ours))
    refused(lambda: make_post(here, department=theirs), "network_post_department")
    refused(lambda: Post.objects.filter(pk=post.pk).update(institution=elsewhere), "network_post_department")
    refused(
        lambda: Department.objects.filter(pk=ours.pk).update(institution=elsewhere),
        "network_department_stays",
    )
    refused(lambda: Department.objects.create(institution=here, code="NK", name="又一内科"))
    make_post(here, practitioner=person)
    refused(lambda: make_post(here, practitioner=person))  # no department counts as one value
    Post.objects.filter(pk=post.pk).update(until=dt.date(2024, 1, 1))
    make_post(here, practitioner=person, department=ours, since=dt.date(2024, 1, 1))


def test_licences_are_unique_and_may_be_missing():
    make_practitioner(licence_no="110")
    refused(lambda: make_practitioner(licence_no="110"))
    make_practitioner()
    make_practitioner()
    refused(lambda: make_practitioner(sex="m"))


def test_search_keys_follow_the_name():
    person = make_practitioner("单雄信")
    assert (person.pinyin, person.initials) == ("shanxiongxin", "sxx")
    person.name = "尉迟恭"
    person.save(update_fields=["name"])
    assert Practitioner.objects.get(pk=person.pk).initials == "ycg"
    assert make_institution(name="重庆单县医院").pinyin.startswith("chongqing")


def test_the_small_county_is_whole():
    county = small_county()
    assert (len(county.townships), len(county.villages)) == (3, 6)
    assert county.posts["village0"].institution == county.villages[0]
    small_county("S2")  # a second one fits beside it
