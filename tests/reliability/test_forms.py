"""Forms of pages sent empty, wrong or absurd: the field is named with its cure in both languages, and what was typed stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

import pytest
from django.conf import settings
from django.test import Client

from lianxin.access.models import Account
from lianxin.standards import clock, codes
from tests.referral import world as worlds

CHINESE = re.compile(r"[㐀-鿿]")
ABSURD = [
    "",
    "长" * 5000,
    "<script>alert(1)</script>",
    "'; DROP TABLE index_person; --",
    "\u202e",
    "9" * 400,
    "-1",
    "NaN",
    "2026-02-30",
    "٣٤",
    "{}",
    "%s",
    "👩‍⚕️",
]
KEPT = "不要丢<b>'\"&"

# who sends it, the address, what is wrong, a field that is right and must be kept, the field to be named: (Chinese, English)
CASES = [
    ("gp0", "/people/new", {"name": "", "birth_date": "1980-01-01"}, "address", ("姓名", "Name")),
    ("gp0", "/people/new", {"name": "查无错", "id_type": "01", "id_no": "110105194912310021"}, "address", ("证件", "identity number")),
    ("gp0", "/people/new", {"name": "查无错", "birth_date": "2026-02-30"}, "address", ("出生日期", "birth")),
    ("gp0", "/people/new", {"name": "查无错", "birth_date": "2999-01-01"}, "address", ("出生日期", "birth")),
    ("gp0", "/people/new", {"name": "查无错", "birth_date": "1980-01-01", "phone": "12ab"}, "address", ("手机", "phone")),
    ("gp0", "/referrals/new?person={person}", {"_send": "1", "direction": "up", "_key": "f1"}, "reason", ("诊断", "iagnos")),
    ("gp0", "/referrals/new?person={person}", {"_send": "1", "direction": "sideways", "diagnosis_code": "E04.1", "_key": "f2"}, "reason", ("方向", "irection")),
    ("desk", "/referrals/{case}/act/reject", {"_version": "{version}", "_key": "f3"}, "comment", ("原因", "eason")),
    ("desk", "/referrals/{case}/act/ask_info", {"_version": "{version}", "_key": "f4", "reason_code": "nonsense"}, "question", ("类别", "ind of")),
    ("system_admin", "/manage/institutions/new", {"code": "a b", "name": "新院"}, "address", ("代码", "ode")),
    ("system_admin", "/manage/institutions/new", {"code": "NEW", "name": "新院", "uscc": "123"}, "address", ("统一社会信用代码", "redit")),
    ("system_admin", "/manage/people/new", {"name": "", "code": "P1"}, "licence_no", ("姓名", "Name")),
    ("security_admin", "/manage/accounts/new", {"code": "nobody-such"}, "username", ("工号", "Staff number")),
]  # fmt: skip


@pytest.fixture
def world(db: None) -> Iterator[worlds.World]:
    """A county on a Monday morning, with the shipped codes."""
    with clock.at(worlds.START):
        codes.load_shipped()
        yield worlds.build()


def browser(world: worlds.World, name: str, language: str) -> Client:
    made = Client(headers={"accept-language": language}, raise_request_exception=False)
    account = Account.objects.get(pk=world[name].account_id)
    account.language = language
    account.save(update_fields=["language"])
    made.force_login(account, backend=settings.AUTHENTICATION_BACKENDS[0])
    made.cookies[settings.LANGUAGE_COOKIE_NAME] = language
    return made


def errors(page: str) -> str:
    """The words of the summary of errors at the head of the form, and those beside the fields."""
    found = re.findall(r'class="form-errors".*?</div>', page, re.S) + re.findall(
        r'class="[^"]*invalid-feedback[^"]*".*?</', page, re.S
    )
    return unescape(re.sub(r"<[^>]+>", " ", " ".join(found)))


def test_every_refusal_names_the_field_and_keeps_what_was_typed(world: worlds.World) -> None:
    case = world.send()
    wrong = []
    for who, path, data, kept, names in CASES:
        values = {"person": world.person.number, "case": case, "version": str(world.case(case).version)}
        sent = {k: v.format(**values) if "{" in v else v for k, v in data.items()} | {kept: KEPT}
        for language, name in zip(("zh-hans", "en"), names, strict=True):
            answer = browser(world, who, language).post(path.format(**values), sent)
            page = answer.content.decode()
            said = errors(page)
            if answer.status_code not in (200, 400, 409, 422):
                wrong.append((path, language, answer.status_code))
            elif name not in said or (language == "zh-hans") != bool(CHINESE.search(said.replace(KEPT, ""))):
                wrong.append((path, language, data, said.split()))
            elif KEPT not in unescape(page):
                wrong.append((path, language, f"{kept} was lost"))
            elif KEPT in page:
                wrong.append((path, language, "not escaped"))
    assert not wrong, "\n".join(map(str, wrong))


def test_no_word_in_any_field_breaks_a_form(world: worlds.World) -> None:
    case = world.send()
    places = [
        ("gp0", "/people/new", ("name", "sex", "birth_date", "id_type", "id_no", "phone", "address", "village", "home_here")),
        ("gp0", f"/people/{world.person.number}/note", ("diagnosis_code", "diagnosis_name", "complaint", "plan", "bp_systolic")),
        ("gp0", f"/referrals/new?person={world.person.number}", ("direction", "diagnosis_code", "to_institution", "specialty", "priority", "reason", "fact_tirads", "pack_present", "_key", "_send")),
        ("gp0", "/referrals/new/answer", ("diagnosis_code", "fact_tirads", "direction", "_part")),
        ("desk", f"/referrals/{case}/act/reject", ("_version", "_key", "_next", "reason_code", "comment")),
        ("desk", f"/referrals/{case}/act/redirect", ("to_institution", "to_department", "reason_code")),
        ("desk", f"/referrals/{case}/act/accept_other", ("priority", "reason_code", "to_department")),
        ("lead_reception", f"/people/{world.person.number}/check-in", ("evidence",)),
        ("clinician", f"/people/{world.person.number}/break-glass", ("reason",)),
        ("system_admin", "/manage/institutions/new", ("code", "name", "kind", "tier", "uscc", "lon", "lat", "parent", "division")),
        ("system_admin", "/manage/institutions/SC-T1/departments/new", ("code", "name", "specialty")),
        ("system_admin", "/manage/people/new", ("code", "name", "sex", "phone", "title")),
        ("security_admin", "/manage/accounts/new", ("code", "username")),
        ("gp0", "/password", ("old_password", "new_password", "again")),
        ("gp0", "/post", ("post", "next")),
        ("gp0", "/language", ("language", "next")),
        ("security_admin", "/break-glass/1", ("verdict", "note")),
        ("gp0", "/login", ("username", "password", "next")),
    ]  # fmt: skip
    broken = []
    for who, path, fields in places:
        client = browser(world, who, "zh-hans")
        for word in ABSURD:
            answer = client.post(path, dict.fromkeys(fields, word))
            if answer.status_code >= 500:
                broken.append((path, word[:20], answer.status_code))
        for name in fields:
            answer = client.post(path, {name: "\x00nul"})
            if answer.status_code >= 500:
                broken.append((path, f"{name} with NUL", answer.status_code))
    assert not broken, "\n".join(map(str, broken))


def test_no_word_in_any_query_breaks_a_page(world: worlds.World) -> None:
    broken = []
    places = [
        ("gp0", "/people", ("q",)), ("gp0", f"/people/{world.person.number}", ("tab", "before", "kind", "from")), ("gp0", "/referrals/new", ("person", "diagnosis_code")),
        ("gp0", "/", ("show", "kind", "page", "q")), ("gp0", "/notices", ("show", "page")), ("desk", "/desk/receiving", ("state", "q", "page", "who")),
        ("desk", "/desk/down", ("state", "q", "page")), ("manager", "/flow", ("since", "until", "from", "to", "consortium")),
        ("manager", "/flow/cases", ("from", "to", "since", "until", "figure", "page")), ("audit_admin", "/audit", ("person", "account", "since", "until", "action", "page", "q")),
        ("audit_admin", "/audit.csv", ("person", "since", "until")), ("manager", "/break-glass", ("show",)), ("gp0", "/network", ("q", "consortium")),
        ("gp0", "/people/codes", ("q",)), ("gp0", "/login", ("next",)), ("system_admin", "/manage/people", ("q", "page", "institution")),
        ("system_admin", "/manage/institutions", ("q", "page")), ("security_admin", "/manage/accounts", ("q", "page")), ("gp0", "/catalogues", ("q",)),
        ("gp0", "/followups", ("show", "page")), ("manager", "/overdue", ("page", "institution")), ("lead_reception", "/desk/reception", ("q", "person")),
    ]  # fmt: skip
    for who, path, names in places:
        client = browser(world, who, "zh-hans")
        for word in [
            *ABSURD,
            "\x00",
            "0",
            "99999999999999999999",
            "2026-13-45",
            "../..",
            "//evil.example",
            "http://evil.example/",
        ]:
            for name in names:
                answer = client.get(path, {name: word})
                if answer.status_code >= 500:
                    broken.append((path, name, word[:20], answer.status_code))
                elif (
                    answer.status_code in (301, 302)
                    and "evil.example" in answer.headers["Location"].split("?")[0]
                ):
                    broken.append((path, name, word, "leads away"))
    assert not broken, "\n".join(map(str, broken))
