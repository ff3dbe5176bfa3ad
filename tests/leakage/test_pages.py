"""Every page of the site as somebody of every role who has nothing to do with the patient."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from django.test import Client as Browser
from django.urls import URLPattern, URLResolver, get_resolver

from lianxin.access import break_glass, relationships
from lianxin.access.errors import Invalid
from lianxin.access.models import Account, BreakGlass, Relationship
from lianxin.access.scope import scope_for_account
from lianxin.clinical.referral.models import Catalogue
from lianxin.duty.models import Case, Duty
from lianxin.network.models import Post
from lianxin.standards import clock
from tests.leakage.conftest import ADDRESS, DIAGNOSIS, ID_NUMBER, NAME, NOTE, PHONE, REASON, Cage

pytestmark = [pytest.mark.concurrency]

# Doors that open on purpose to who gives a reason or shows the card; they have their own tests. Signing out ends the walk.
DOORS = {"portal:person_break_glass", "portal:person_check_in", "portal:logout", "portal:person_new"}
WORDS = (NAME, PHONE, ADDRESS, DIAGNOSIS, NOTE, REASON, ID_NUMBER)
# Pages for finding a person by number.
FINDING = {"portal:people", "portal:index_people", "schedules:book", "card:find", "ecg:new", "emergency:new"}
PROGRAMS = ("/cds-services/", "/bulk/", "/auth/", "/documents", "/settlement", "/partners/selftest")
# The consortium's office and the three administrators may know of cases and of who looked, never of the record.
CURIOUS = {
    "clinician",
    "reception",
    "manager",
    "neighbour gp",
    "own system_admin",
    "own audit_admin",
    "own security_admin",
}
NOT_FOR_THIS_ROLE = (
    "没有权限"  # the heading of a page's own guard (a missing relationship says something else)
)
ASKED = (
    "",
    "?q=sikong&show=all",
    "?q={number}&institution=SC-T1",
    "?person={number}&case={case}&patient={number}&tab=identity",
)


def patterns(
    resolver: URLResolver, prefix: str = "", space: str = ""
) -> Iterator[tuple[str, str, URLPattern]]:
    """(name, route, pattern) of every address of the site."""
    for one in resolver.url_patterns:
        route = prefix + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from patterns(one, route, f"{space}{one.namespace}:" if one.namespace else space)
        else:
            yield f"{space}{one.name}", route, one


def addresses(cage: Cage) -> list[tuple[str, str]]:
    """(name, path) with the canary's numbers filled in wherever an address takes one."""
    duty = Duty.objects.unscoped("test").filter(case__number=cage.case).first()
    glass = break_glass.open(cage.world["clinician"], cage.person.pk, "昏迷患者抢救需了解用药史", hours=1)
    values: dict[str, list[str]] = {
        "code": ["SC-RMYY", "SC-T1"], "department": ["QK"], "kind": ["institutions", "people"], "move": ["receive", "accept", "cancel"], "act": ["lock", "reset"],
    }  # fmt: skip
    found = []
    for name, route, pattern in patterns(get_resolver()):
        ways = [route]
        for key in pattern.pattern.converters:
            if key == "number":
                given = (
                    [cage.person.number] if route.startswith("people") else [cage.case, cage.person.number]
                )
            elif key == "pk":
                row = {"duties": duty, "break-glass": glass, "catalogues": Catalogue.objects.first(), "manage/posts": Post.objects.first(),
                       "manage/accounts": Account.objects.first()}  # fmt: skip
                given = [str(next((r.pk for start, r in row.items() if route.startswith(start) and r), 1))]
            elif key == "rtype":
                ways = [
                    fill(fill(way, "rtype", t), "rid", r) for way in ways for t, r in cage.resources.items()
                ]
                continue
            elif key == "rid":
                continue
            else:
                given = values.get(key, ["x"])
            ways = [fill(way, key, value) for way in ways for value in given]
        found += [(name, "/" + way) for way in ways]
    return found


def asks(name: str, path: str) -> bool:
    """Whether an address may answer to a query: lists and searches, and the person's page with its tabs."""
    return name == "portal:person" or (
        not any(c.isdigit() for c in path) and "manage/institutions/" not in path
    )


def fill(route: str, key: str, value: str) -> str:
    """The route with one converter replaced."""
    start = next(
        s for s in (f"<{kind}:{key}>" for kind in ("str", "int", "slug", "path", "uuid")) if s in route
    )
    return route.replace(start, value)


def bare(cage: Cage, name: str, path: str, asked: str, body: bytes) -> list[str]:
    """What leaked: the canary's words anywhere; its numbers, except on the pages for finding a person by number."""
    leaks = cage.leaked(body, path + asked)
    # Finding gives the index number with a masked name: that is what check-in and comparing need.
    if name in FINDING:
        leaks = [s for s in leaks if s != cage.person.number]
    return leaks


def test_no_page_says_anything_to_an_outsider(cage: Cage) -> None:
    version = Case.objects.unscoped("test").get(number=cage.case).version
    places = addresses(cage)
    assert len(places) > 60, "the site has more addresses than that"
    links = Relationship.objects.filter(person_id=cage.person.pk).count()
    wrong: list[tuple[object, ...]] = []
    for role, account in cage.outsiders.items():
        office = role.removeprefix("own ") in (
            "audit_admin",
            "security_admin",
        )  # who looked at whom is what they review
        browser = cage.browser(account)
        shut: set[str] = set()  # pages whose guard refuses the role whatever they are asked for
        for name, path in places:
            if (name in DOORS and name != "portal:person_new") or name in shut:
                continue
            for asked in ASKED if role in CURIOUS and asks(name, path) else ("",):
                query = asked.format(number=cage.person.number, case=cage.case)
                answer = browser.get(path + query)
                if answer.status_code >= 500:
                    wrong.append((role, path + query, answer.status_code))
                leaks = bare(cage, name, path, query, body_of(answer))
                if office:
                    leaks = [s for s in leaks if s in WORDS]
                if leaks:
                    wrong.append((role, path + query, answer.status_code, leaks))
                if answer.status_code == 403 and NOT_FOR_THIS_ROLE in body_of(answer).decode():
                    shut.add(name)
                if answer.status_code in (403, 404, 405):
                    break  # there is no such thing, or not for this role, whatever is asked of it
            if name in DOORS or role not in CURIOUS:
                continue
            answer = browser.post(path, {})
            if answer.status_code >= 500:
                wrong.append((role, "POST " + path, answer.status_code))
            leaks = bare(cage, name, path, "", body_of(answer))
            if office:
                leaks = [s for s in leaks if s in WORDS]
            if leaks:
                wrong.append((role, "POST " + path, answer.status_code, leaks))
    assert not wrong, "\n".join(map(str, wrong[:20]))
    assert Case.objects.unscoped("test").get(number=cage.case).version == version
    assert Relationship.objects.filter(person_id=cage.person.pk).count() == links


def body_of(answer: object) -> bytes:
    """The body of a plain or a streaming response."""
    return b"".join(answer.streaming_content) if getattr(answer, "streaming", False) else answer.content  # type: ignore[attr-defined]


def test_nobody_signed_in_sees_only_the_sign_in_page(cage: Cage) -> None:
    browser = Browser(headers={"accept-language": "zh-hans"}, raise_request_exception=False)
    open_to_all = {
        "portal:login", "portal:language", "healthz", "readyz", "metrics", "portal:logout",
        "phone:type", "phone:manifest", "phone:worker", "phone:offline",
        "card:login", "card:logout", "card:keys", "card:revoked", "recognition:cds",
    }  # fmt: skip
    for name, path in addresses(cage):
        for answer in (browser.get(path), browser.post(path, {})):
            assert cage.leaked(body_of(answer), path) == [], path
            if name not in open_to_all:
                if path.startswith(PROGRAMS):  # they are told in JSON
                    assert answer.status_code < 500, path
                    continue
                refusals = (302, 403, 404, 405)  # 404: a number that is no job's
                assert answer.status_code in refusals, (path, answer.status_code)
                if answer.status_code == 302:
                    assert answer.headers["Location"].startswith(("/login", "/m/login")), path


def test_the_manager_knows_of_the_case_and_not_of_the_record(cage: Cage) -> None:
    browser = cage.browser(Account.objects.get(pk=cage.world["manager"].account_id))
    for name, path in addresses(cage):
        if name in DOORS:
            continue
        for asked in ("", f"?q={cage.person.number}", f"?person={cage.person.number}"):
            body = body_of(browser.get(path + asked)).decode(errors="replace")
            shown = [s for s in (PHONE, ADDRESS, NOTE, ID_NUMBER) if s in body]
            assert shown == [], (path + asked, shown)
    for path in (f"/people/{cage.person.number}", f"/people/{cage.person.number}/document/Observation/{cage.resources['Observation']}",
                 f"/people/{cage.person.number}/note", f"/referrals/{cage.case}/form.pdf"):  # fmt: skip
        assert browser.get(path).status_code in (403, 404), path


def test_access_ends_with_the_duty(cage: Cage) -> None:
    browser = cage.browser(Account.objects.get(pk=cage.world["surgeon"].account_id))
    path = f"/people/{cage.person.number}"
    assert DIAGNOSIS in browser.get(path).content.decode()
    cage.world.act("desk", "receive", cage.case)
    cage.world.act("desk", "redirect", cage.case, {"to_institution": "SC-ZYY", "reason_code": "capacity"})
    for tab in (
        "",
        "?tab=timeline",
        "?tab=results",
        "?tab=documents",
        "?tab=identity",
        "?tab=looked",
        "?tab=referrals",
    ):
        answer = browser.get(path + tab)
        assert answer.status_code == 403, tab
        assert [s for s in WORDS if s in answer.content.decode()] == [], tab


def test_breaking_the_glass_opens_for_one_account_and_is_listed(cage: Cage) -> None:
    path, account = f"/people/{cage.person.number}", cage.outsiders["clinician"]
    browser = cage.browser(account)
    refused = browser.post(path + "/break-glass", {"reason": "急"})
    assert refused.status_code == 403
    assert not BreakGlass.objects.exists()
    opened = browser.post(path + "/break-glass", {"reason": "昏迷患者急诊抢救,需了解用药史"})
    assert opened.status_code == 302
    assert DIAGNOSIS in browser.get(path).content.decode()
    for role in ("gp", "ward", "pharmacist", "referral_desk"):
        answer = cage.browser(cage.outsiders[role]).get(path)
        assert (answer.status_code, [s for s in WORDS if s in answer.content.decode()]) == (403, []), role
    for role in ("reception", "manager", "system_admin", "audit_admin", "security_admin"):
        denied = cage.browser(cage.outsiders[role]).post(
            path + "/break-glass", {"reason": "昏迷患者急诊抢救,需了解用药史"}
        )
        assert denied.status_code == 403, role
    assert BreakGlass.objects.count() == 1
    listed = [row.pk for row in break_glass.pending_reviews(cage.scope("security_admin"))]
    assert listed == [BreakGlass.objects.get().pk]
    page = cage.browser(cage.outsiders["security_admin"]).get("/break-glass").content.decode()
    assert "昏迷患者急诊抢救" in page
    assert [s for s in (PHONE, ADDRESS, DIAGNOSIS, NOTE, ID_NUMBER) if s in page] == []
    stranger = scope_for_account(Account.objects.get(pk=cage.world["manager"].account_id))
    assert break_glass.pending_reviews(stranger) == [], "an office reviews its own members' openings only"
    with pytest.raises(Invalid):
        break_glass.review(stranger, listed[0], "justified")
    with clock.at(clock.now() + dt.timedelta(hours=4, minutes=1)):
        assert not relationships.sees(scope_for_account(account), cage.person.pk)
        assert cage.browser(account).get(path).status_code == 403


def test_checking_in_needs_the_card_or_the_number(cage: Cage) -> None:
    browser, path = cage.browser(cage.outsiders["reception"]), f"/people/{cage.person.number}"
    for evidence in ("", "330000190001010000", cage.person.number[:4], NAME, PHONE):
        answer = browser.post(path + "/check-in", {"evidence": evidence})
        assert answer.status_code == 403, evidence
        assert [s for s in WORDS if s in answer.content.decode() and s != evidence] == []
        assert not relationships.sees(cage.scope("clinician"), cage.person.pk)
