"""Scopes, relationships, scoped models, break-glass, consent, tokens."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from django.db import connection

from lianxin.access import break_glass, consent, relationships, tokens
from lianxin.access.errors import Invalid, NoRelationship, NotPermitted, ScopeRequired
from lianxin.access.models import Account, Relationship
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index.models import Person, SourceRecord
from lianxin.network import roles
from lianxin.network.models import Post
from lianxin.standards import clock
from tests.factories import make_consortium, make_institution, make_post

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=clock.ZONE)
REASON = "昏迷患者急诊抢救需了解用药史"


def test_a_township_role_reaches_its_village_clinics(scope: Callable[..., Scope]) -> None:
    township = make_institution(kind="township")
    village = make_institution(kind="village", parent=township)
    other = make_institution(kind="village")
    mine = scope(roles.GP, township)
    assert mine.institution_ids == {township.pk, village.pk}
    assert scope(roles.VILLAGE_DOCTOR, village).institution_ids == {village.pk}
    assert other.pk not in mine.institution_ids


def test_the_office_oversees_but_reads_no_record(scope: Callable[..., Scope], person_id: int) -> None:
    lead, member = make_institution(kind="hospital"), make_institution()
    make_consortium(lead, [member])
    office = scope(roles.MANAGER, lead)
    assert office.oversight_ids == {lead.pk, member.pk}
    relationships.grant(person_id, lead.pk, "encounter", "visit:1")
    assert not office.clinical
    assert not relationships.sees(office, person_id)


def test_administrators_are_apart(account: Callable[..., Account]) -> None:
    user = account(roles.GP)
    gp = Post.objects.get(practitioner=user.practitioner)
    admin = make_post(gp.institution, roles.SYSTEM_ADMIN, user.practitioner)
    assert scope_for_account(user, gp).roles == {roles.GP}
    assert scope_for_account(user, admin).roles == {roles.SYSTEM_ADMIN}
    assert not scope_for_account(user, admin).clinical
    with pytest.raises(NotPermitted):
        scope_for_account(user, make_post(gp.institution, roles.GP))


def test_an_account_without_a_post_reaches_nothing(account: Callable[..., Account]) -> None:
    user = account(roles.GP)
    Post.objects.filter(practitioner=user.practitioner).update(until=clock.today())
    left = scope_for_account(user)
    assert left.institution_ids == frozenset()
    assert not left.clinical
    assert relationships.sql(left, "x") == ("FALSE", [])


def _ways(scope: Scope, person_id: int) -> set[bool]:
    """The same question in the four ways it can be asked."""
    fragment, params = relationships.sql(scope, "p.id")
    with connection.cursor() as cur:
        cur.execute(
            f"SELECT count(*) FROM index_person p WHERE p.id = %s AND {fragment}", [person_id, *params]
        )
        by_sql = cur.fetchone()[0] == 1
    return {
        relationships.sees(scope, person_id),
        by_sql,
        Person.objects.unscoped("test").filter(relationships.q(scope, "pk"), pk=person_id).exists(),
        Person.objects.within(scope).filter(pk=person_id).exists(),
    }


def test_a_relationship_opens_and_its_end_closes(scope: Callable[..., Scope], person_id: int) -> None:
    doctor = scope(roles.CLINICIAN)
    with clock.at(NOW):
        assert _ways(doctor, person_id) == {False}
        relationships.grant(person_id, doctor.institution_id, "duty", "duty:7", NOW + dt.timedelta(hours=1))
        assert _ways(doctor, person_id) == {True}
    with clock.at(NOW + dt.timedelta(hours=1)):
        assert _ways(doctor, person_id) == {False}
    with clock.at(NOW):
        relationships.grant(person_id, doctor.institution_id, "duty", "duty:7")  # extended without end
    with clock.at(NOW + dt.timedelta(days=9)):
        assert _ways(doctor, person_id) == {True}
        assert relationships.end("duty:7") == 1
        assert _ways(doctor, person_id) == {False}
        with pytest.raises(NoRelationship):
            relationships.require(doctor, person_id)
    assert _ways(Scope.system("test"), person_id) == {True}


def test_home_and_registration_end_for_one_person_only(person_id: int) -> None:
    assert relationships.end("index") == 0
    assert relationships.end("index", person_id=person_id) == 1


def test_forgetting_the_scope_raises(person_id: int) -> None:
    for forgotten in (
        lambda: Person.objects.all(),
        lambda: Person.objects.filter(pk=person_id),
        lambda: Person.objects.get(pk=person_id),
        lambda: Person.objects.count(),
        lambda: Person.objects.within(None),
        lambda: Person.objects.unscoped(" "),
        lambda: Person.objects.unscoped("test").first().sources.all(),
        lambda: relationships.require(None, person_id),
    ):
        with pytest.raises(ScopeRequired):
            forgotten()


def test_rows_of_the_own_institution_are_visible(scope: Callable[..., Scope], person_id: int) -> None:
    source = SourceRecord.objects.unscoped("test").get(person_id=person_id)
    assert not SourceRecord.objects.within(scope(roles.RECEPTION)).exists()
    assert SourceRecord.objects.within(scope(roles.RECEPTION, source.institution)).get() == source
    assert not SourceRecord.objects.within(scope(roles.AUDIT_ADMIN, source.institution)).exists()


def test_break_glass(scope: Callable[..., Scope], person_id: int) -> None:
    doctor = scope(roles.CLINICIAN)
    hospital = Post.objects.get(pk=doctor.post_id).institution
    colleague = scope(roles.CLINICIAN, hospital)
    opened: list[int] = []
    listener = lambda row: opened.append(row.pk)  # noqa: E731
    break_glass.on_open(listener)
    try:
        with clock.at(NOW):
            with pytest.raises(Invalid) as short:
                break_glass.open(doctor, person_id, "急", hours=48)
            assert set(short.value.errors) == {"reason", "hours"}
            with pytest.raises(NotPermitted):
                break_glass.open(scope(roles.RECEPTION, hospital), person_id, REASON)
            row = break_glass.open(doctor, person_id, REASON)
            assert opened == [row.pk]
            assert _ways(doctor, person_id) == {True}
            assert _ways(colleague, person_id) == {False}
        with clock.at(NOW + dt.timedelta(hours=4)):
            assert _ways(doctor, person_id) == {False}
    finally:
        break_glass._listeners.remove(listener)
    keeper = scope(roles.SECURITY_ADMIN)
    assert [r.pk for r in break_glass.pending_reviews(keeper)] == [row.pk]
    with pytest.raises(Invalid):
        break_glass.review(keeper, row.pk, "unjustified", "")
    break_glass.review(keeper, row.pk, "justified")
    with pytest.raises(Invalid, match="已复核"):
        break_glass.review(keeper, row.pk, "justified")
    assert break_glass.pending_reviews(keeper) == []
    assert break_glass.of_person(person_id)[0].verdict == "justified"


def test_an_unjustified_opening_ends_at_once(scope: Callable[..., Scope], person_id: int) -> None:
    doctor = scope(roles.CLINICIAN)
    row = break_glass.open(doctor, person_id, REASON)
    break_glass.review(scope(roles.SECURITY_ADMIN), row.pk, "unjustified", "并非急诊")
    assert not relationships.sees(doctor, person_id)


def test_consent(scope: Callable[..., Scope], person_id: int) -> None:
    desk = scope(roles.RECEPTION)
    with pytest.raises(Invalid) as missing:
        consent.record(desk, person_id, "gossip", None, "", "")
    assert set(missing.value.errors) == {"kind", "text_version", "evidence"}
    row = consent.record(desk, person_id, "share", None, "2026-1", "签字单 17")
    assert consent.holds(person_id, "share", desk.institution_id)
    assert not consent.holds(person_id, "research")
    consent.withdraw(desk, row.pk, "本人要求")
    assert not consent.holds(person_id, "share", desk.institution_id)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("system/*.rs", ("system/*.rs",)),
        ("system/Patient.read user/Observation.cruds", ("system/Patient.rs", "user/Observation.cruds")),
        ("system/*.*", ("system/*.cruds",)),
        ("system/Task.write", ("system/Task.cud",)),
        ("system/Observation.rs?category=x", ("system/Observation.rs?category=x",)),
    ],
)
def test_smart_scopes(text: str, expected: tuple[str, ...]) -> None:
    assert tokens.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "patient/*.rs",
        "system/*.",
        "system/*.sr",
        "system/Observation.rs?",
        "system/*.rs?category=x",
        "openid",
    ],
)
def test_bad_smart_scopes_name_the_part(text: str) -> None:
    with pytest.raises(Invalid) as bad:
        tokens.parse(text)
    assert list(bad.value.errors) == ["scope"]


def test_tokens(db: None, scope: Callable[..., Scope], monkeypatch: pytest.MonkeyPatch) -> None:
    tokens.forget()
    township = make_institution(kind="township")
    village = make_institution(kind="village", parent=township)
    bearer = tokens.issue("his", "system/Observation.rs", township.code, hours=1)
    seen = tokens.scope_for_token(bearer)
    assert seen.institution_ids == {township.pk, village.pk}
    assert seen.clinical
    assert not seen.everything
    assert tokens.allows(seen, "Observation", "r")
    assert not tokens.allows(seen, "Observation", "c")
    assert not tokens.allows(seen, "Patient", "r")
    assert tokens.scope_for_token("x" * 43) is None
    assert tokens.scope_for_token("ü" * 43) is None
    with clock.at(clock.now() + dt.timedelta(hours=2)):
        assert tokens.scope_for_token(bearer) is None  # expired, though cached
    assert tokens.scope_for_token(tokens.issue("platform", "system/*.rs")).everything
    with pytest.raises(Invalid):
        tokens.issue("platform", "system/*.rs", township.code)
    with pytest.raises(Invalid):
        tokens.issue("x", "system/*.rs", "NOWHERE")
    # Revoked by another process: this one forgets within 30 seconds.
    from lianxin.access.models import Token

    assert tokens.scope_for_token(bearer) is not None
    Token.objects.update(revoked_at=clock.now())
    assert tokens.scope_for_token(bearer) is not None
    real = tokens.time.monotonic
    monkeypatch.setattr(tokens.time, "monotonic", lambda: real() + 31)
    assert tokens.scope_for_token(bearer) is None
    assert tokens.revoke(scope(roles.SECURITY_ADMIN), "his") == 0


def test_granting_again_never_shortens(person_id: int) -> None:
    place = make_institution()
    later = NOW + dt.timedelta(days=30)
    relationships.grant(person_id, place.pk, "encounter", "e:1", later)
    relationships.grant(person_id, place.pk, "encounter", "e:1", NOW)
    assert Relationship.objects.get(source="e:1").until == later
