"""The pages of systems and apps, and the refusals on a person's page."""

from __future__ import annotations

import pytest
from django.test import Client as Browser

from lianxin.access import clients
from lianxin.access.models import Client, Consent
from tests.exchange import smart_world as w
from tests.factories import make_institution, make_post
from tests.referral import world as worlds

pytestmark = pytest.mark.django_db


@pytest.fixture
def security() -> Browser:
    lead = make_institution("SEC", "hospital")
    return w.signed_in(worlds.account_for(make_post(lead, "security_admin")))


def test_a_client_is_registered_shown_changed_and_shut_out(security: Browser) -> None:
    keys = w.key_set(w.new_key())
    form = {
        "name": "检验系统",
        "kind": "backend",
        "institution": make_institution("LAB", "hospital").pk,
        "scope": "system/*.read",
        "jwks": keys,
    }
    made = security.post("/manage/clients/new", form)
    assert made.status_code == 302, made.content.decode()
    row = Client.objects.get()
    assert row.scope == "system/*.rs"
    page = security.get(f"/manage/clients/{row.pk}").content.decode()
    assert row.key in page
    assert "检验系统" in security.get("/manage/clients?q=检验").content.decode()
    assert "检验系统" not in security.get("/manage/clients?kind=app").content.decode()
    assert security.post(f"/manage/clients/{row.pk}/secret").status_code == 302
    first = security.get(f"/manage/clients/{row.pk}")
    secret = first.context["secret"]
    assert secret in first.content.decode()
    assert secret not in security.get(f"/manage/clients/{row.pk}").content.decode()
    for act in ("no-secret", "disable", "enable", "revoke"):
        assert security.post(f"/manage/clients/{row.pk}/{act}").status_code == 302
    assert security.post(f"/manage/clients/{row.pk}/spy").status_code == 404
    assert security.get(f"/manage/clients/{row.pk}/secret").status_code == 405
    row.refresh_from_db()
    assert row.active
    assert row.secret_hash is None


def test_mistakes_are_told_on_the_form(security: Browser) -> None:
    bad = security.post(
        "/manage/clients/new",
        {"name": "x", "kind": "app", "scope": "system/*.rs", "jwks": "{", "launch_url": "ftp://a"},
    )
    assert bad.status_code == 422
    assert set(bad.context["form"].errors) == {"scope", "jwks", "launch_url", "redirect_uris"}
    clients.save(w.ADMIN, clients.Draft("taken", scope="system/*.rs"))
    assert (
        "name"
        in security.post("/manage/clients/new", {"name": "taken", "kind": "backend", "scope": "system/*.rs"})
        .context["form"]
        .errors
    )


def test_only_the_security_administrator_gets_there() -> None:
    row = clients.save(w.ADMIN, clients.Draft("x", scope="system/*.rs"))
    for role in ("system_admin", "clinician", "manager", "audit_admin"):
        other = w.signed_in(worlds.account_for(make_post(make_institution(kind="hospital"), role)))
        for path in ("/manage/clients", "/manage/clients/new", f"/manage/clients/{row.pk}"):
            assert other.get(path).status_code == 403, (role, path)
        assert other.post(f"/manage/clients/{row.pk}/secret").status_code == 403


def test_a_refusal_is_recorded_shown_and_withdrawn() -> None:
    world = worlds.build()
    doctor = w.signed_in(worlds.Account.objects.get(pk=world["gp0"].account_id))
    where = f"/people/{world.person.number}/consent"
    township = world.county.townships[0]
    assert doctor.post(where, {"refuse": "all", "evidence": ""}).status_code == 302
    assert (
        doctor.post(where, {"refuse": "all", "source": world.county.tcm.pk, "evidence": "e"}).status_code
        == 302
    )
    assert not Consent.objects.exists()
    doctor.post(where, {"refuse": "sensitive", "source": township.pk, "evidence": "form 9"})
    row = Consent.objects.get()
    assert (row.decision, row.sensitive, row.source_id, row.institution_id) == (
        "deny",
        True,
        township.pk,
        None,
    )
    page = doctor.get(f"/people/{world.person.number}?tab=consents").content.decode()
    assert "form 9" in page
    doctor.post(where, {"withdraw": row.pk})
    row.refresh_from_db()
    assert row.withdrawn_at is not None
    assert Consent.objects.filter(decision="deny", withdrawn_at__isnull=True).count() == 0
