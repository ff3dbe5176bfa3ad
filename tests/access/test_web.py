"""The page guard: who gets in, who is told why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path

from lianxin.access import relationships
from lianxin.access.models import Account, AuditEvent
from lianxin.access.web import page, switch_post
from lianxin.config.urls import urlpatterns as house
from lianxin.network import roles
from lianxin.network.models import Post
from tests.factories import make_post


@page()
def anybody(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.scope.name)  # type: ignore[attr-defined]


@page(roles.REFERRAL_DESK)
def desk(request: HttpRequest) -> HttpResponse:
    return HttpResponse("desk")


@page(clinical=True)
def record(request: HttpRequest, person_id: int) -> HttpResponse:
    relationships.require(request.scope, person_id)  # type: ignore[attr-defined]
    return HttpResponse("record")


@page(may="read_audit")
def log(request: HttpRequest) -> HttpResponse:
    return HttpResponse("log")


urlpatterns = [
    *house,
    path("x/anybody", anybody),
    path("x/desk", desk),
    path("x/record/<int:person_id>", record),
    path("x/log", log),
    path("x/switch", switch_post),
]
pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.access.test_web")]


@pytest.fixture
def browse(client: Client) -> Callable[[Account], Client]:
    def signed_in(account: Account) -> Client:
        client.force_login(account, "lianxin.access.accounts.Backend")
        return client

    return signed_in


def test_nobody_is_sent_to_sign_in(client: Client) -> None:
    answer = client.get("/x/desk")
    assert answer.status_code == 302
    assert "next=/x/desk" in answer["Location"]


def test_the_right_role_gets_in(browse: Any, account: Callable[..., Account]) -> None:
    answer = browse(account(roles.REFERRAL_DESK)).get("/x/desk")
    assert answer.content == b"desk"
    assert "no-store" in answer["Cache-Control"]


def test_the_wrong_role_is_told_why(browse: Any, account: Callable[..., Account]) -> None:
    browser = browse(account(roles.RECEPTION))
    for address, words in (("/x/desk", "转诊办"), ("/x/log", "审计管理员"), ("/x/record/1", "临床岗位")):
        answer = browser.get(address)
        assert answer.status_code == 403
        assert words in answer.content.decode()
        assert "no-store" in answer["Cache-Control"]
    assert AuditEvent.objects.filter(action="deny").count() == 3


def test_no_relationship_is_a_refusal_on_record(
    browse: Any, account: Callable[..., Account], person_id: int
) -> None:
    browser = browse(account(roles.CLINICIAN))
    assert browser.get(f"/x/record/{person_id}").status_code == 403
    assert AuditEvent.objects.get(action="deny").person_id == person_id


def test_a_due_password_comes_first(browse: Any, account: Callable[..., Account]) -> None:
    browser = browse(account(roles.GP, must_change_password=True))
    assert browser.get("/x/anybody").status_code == 302


@override_settings(LIANXIN_ENFORCE_TOTP=True)
def test_a_due_second_factor_comes_first(browse: Any, account: Callable[..., Account]) -> None:
    assert browse(account(roles.AUDIT_ADMIN)).get("/x/log").status_code == 302


def test_without_a_post_nothing_opens(browse: Any, account: Callable[..., Account]) -> None:
    user = account(roles.GP)
    Post.objects.filter(practitioner=user.practitioner).delete()
    answer = browse(user).get("/x/anybody")
    assert answer.status_code == 403
    assert "岗位" in answer.content.decode()


def test_switching_posts(browse: Any, account: Callable[..., Account]) -> None:
    user = account(roles.RECEPTION)
    second = make_post(
        Post.objects.get(practitioner=user.practitioner).institution, roles.GP, user.practitioner
    )
    elsewhere = make_post(second.institution, roles.REFERRAL_DESK)
    browser = browse(user)
    assert browser.post("/x/switch", {"post": elsewhere.pk}).status_code == 403
    answer = browser.post("/x/switch", {"post": second.pk, "next": "//evil.example/"})
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert browser.session["lianxin_post"] == second.pk
    Post.objects.filter(pk=second.pk).update(until=second.since)
    assert browser.get("/x/anybody").status_code == 200  # falls back to the post that is left


def test_a_bare_request_has_no_scope(rf: RequestFactory) -> None:
    request = rf.get("/x/anybody")
    assert anybody(request).status_code == 302
