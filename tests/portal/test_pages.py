"""Every page of the portal as every role: open to those whose work it is, refused with a reason to the others."""

from __future__ import annotations

from collections.abc import Callable

from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse

from lianxin.access.models import AuditEvent
from tests.portal.conftest import Town

EVERYBODY = {
    "gp0", "desk", "clinician", "ward", "reception0", "village0", "pharmacist", "manager",
    "system_admin", "security_admin", "audit_admin",
}  # fmt: skip
PAGES: dict[str, set[str]] = {
    "/": EVERYBODY,
    "/waiting": EVERYBODY,
    "/overdue": {"manager"},
    "/notices": EVERYBODY,
    "/notices?show=all": EVERYBODY,
    "/network": EVERYBODY,
    "/network/SC-RMYY": EVERYBODY,
    "/network/SC-T1-V1": EVERYBODY,
    "/password": EVERYBODY,
    "/totp": EVERYBODY,
    "/manage/institutions": {"system_admin", "manager"},
    "/manage/institutions/new": {"system_admin"},
    "/manage/institutions/SC-T1": {"system_admin"},
    "/manage/institutions/SC-T1/departments/new": {"system_admin"},
    "/manage/institutions/SC-T1/departments/QK": {"system_admin"},
    "/manage/people": {"system_admin", "manager"},
    "/manage/people/new": {"system_admin"},
    "/manage/sheets": {"system_admin"},
    "/manage/sheets/institutions.xlsx": {"system_admin", "manager"},
    "/manage/sheets/people.xlsx?empty=1": {"system_admin", "manager"},
    "/manage/accounts": {"security_admin"},
    "/manage/bulk": {"system_admin"},
    "/manage/accounts/new": {"security_admin"},
    "/audit": {"audit_admin"},
    "/audit.csv": {"audit_admin"},
    "/break-glass": {"security_admin", "manager"},
    "/break-glass?show=done": {"security_admin", "manager"},
}


def test_open_to_those_whose_work_it_is(as_: Callable[..., Client]) -> None:
    wrong = []
    for key in sorted(EVERYBODY):
        client = as_(key)
        for path, allowed in PAGES.items():
            response = client.get(path)
            if response.status_code != (200 if key in allowed else 403):
                wrong.append((key, path, response.status_code))
            if "no-store" not in response.headers.get("Cache-Control", ""):
                wrong.append((key, path, "may be stored"))
    assert wrong == []


def test_nobody_enters_without_signing_in(town: Town) -> None:
    for path in PAGES:
        response = Client().get(path)
        assert response.status_code == 302, path
        assert response.headers["Location"].startswith("/login?next="), path


def test_every_page_speaks_english(as_: Callable[..., Client]) -> None:
    for path, roles in PAGES.items():
        if ".xlsx" in path or ".csv" in path:
            continue
        client = as_(sorted(roles)[0])
        client.cookies["lianxin_lang"] = "en"
        page = client.get(path).content.decode()
        assert '<html lang="en"' in page, path
        assert "Skip to content" in page, path


def test_a_refusal_says_why_and_is_audited(as_: Callable[..., Client]) -> None:
    page = as_("gp0").get("/manage/accounts").content.decode()
    assert "安全管理员" in page
    assert "可以这样做" in page
    assert AuditEvent.objects.filter(action="deny", what="/manage/accounts").count() == 1


def test_the_menu_offers_only_what_opens(as_: Callable[..., Client]) -> None:
    for key in ("gp0", "desk", "manager", "system_admin", "security_admin", "audit_admin"):
        client = as_(key)
        page = client.get("/").content.decode()
        for path in PAGES:
            if f'class="side-link" href="{path}"' in page:
                assert client.get(path).status_code == 200, (key, path)


def test_unknown_institution_is_not_found(as_: Callable[..., Client]) -> None:
    assert as_("gp0").get("/network/NOPE").status_code == 404


def test_the_three_administrators_have_no_find_box(as_: Callable[..., Client]) -> None:
    for key in ("system_admin", "security_admin", "audit_admin", "manager"):
        assert "data-find" not in as_(key).get("/").content.decode()
    assert "data-find" in as_("gp0").get("/").content.decode()


def test_language_is_kept_with_the_account(as_: Callable[..., Client], town: Town) -> None:
    client = as_("gp0")
    response = client.post(reverse("portal:language"), {"language": "en", "next": "/"})
    assert response.status_code == 302
    town.accounts["gp0"].refresh_from_db()
    assert town.accounts["gp0"].language == "en"
    assert "My duties" in client.get("/").content.decode()


def test_the_pages_for_what_is_missing_stale_or_broken(town: Town, as_: Callable[..., Client]) -> None:
    missing = as_("gp0").get("/no-such-page")
    assert missing.status_code == 404
    assert "没有找到这一页" in missing.content.decode()
    strict = as_("gp0", enforce_csrf_checks=True)
    stale = strict.post("/notices/read", {})
    assert stale.status_code == 403
    assert "放得太久" in stale.content.decode()
    assert "平台出错了" in render_to_string("500.html")
