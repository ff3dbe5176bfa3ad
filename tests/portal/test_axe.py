"""Every staff page, as the person whose page it is: no axe violation and no sideways scrolling, on a desktop and a phone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser

from lianxin.access import break_glass
from lianxin.access.models import Account, BreakGlass
from lianxin.index.models import Person
from lianxin.regional.reading import items, service
from tests.reading import world as reading
from tests.referral import world as worlds

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WIDTHS = (1440, 390)
QUICK = {"resultTypes": ["violations"]}


@pytest.fixture
def pages(live: str) -> dict[int, list[str]]:
    """Account id → the pages to look at as that account, in a county with a referral under way."""
    world = worlds.build()
    account = {key: scope.account_id for key, scope in world.scopes.items()}
    number = world.until("booked")
    break_glass.open(world["surgeon"], world.person.pk, "昏迷患者急诊抢救，需了解既往用药", 4)
    glass = BreakGlass.objects.latest("pk").pk
    person, county = world.person.number, world.county
    wanted = {
        "desk": ["/", "/desk/receiving", "/desk/reception", "/desk/down", f"/referrals/{number}", "/flow", "/network", "/catalogues",
                 "/notices", f"/network/{county.lead.code}", "/beds", "/exams", "/theatres", "/pools/usage", "/pools/sync",
                 "/pools/appeals", "/cards"],
        "gp0": ["/people", f"/people/{person}", f"/people/{person}?tab=results", f"/people/{person}?tab=looked",
                f"/referrals/new?person={person}", f"/referrals/{number}", "/followups", "/totp"],
        "manager": ["/", "/overdue", "/break-glass", f"/break-glass/{glass}"],
        "system_admin": ["/manage/institutions", f"/manage/institutions/{county.lead.code}", "/manage/consortia/new",
                         f"/manage/consortia/{county.consortium.code}", f"/manage/consortia/{county.consortium.code}/rules",
                         "/manage/people", "/manage/sheets", "/manage/sms", "/manage/booking-systems"],
        "security_admin": ["/manage/accounts", "/manage/accounts/new", f"/manage/accounts/{account['gp0']}"],
        "audit_admin": ["/audit"],
    }  # fmt: skip
    return {account[key]: paths for key, paths in wanted.items() if account.get(key)}


@pytest.fixture
def centres(live: str) -> dict[int, list[str]]:
    """The same for the shared centres: a CT that somebody has claimed, one that waits, tubes ordered."""
    items.load_shipped()
    county = reading.make_world()
    person = reading.make_person("司空安")
    number = Person.objects.unscoped("test").get(pk=person).number
    claimed = reading.queued(county, person=person)
    scope, _ = reading.reader_of(county, "reader0", approves=True)
    service.claim(scope, "imaging", claimed.case.number)
    waits = reading.queued(county, person=person, item="US-ABDO")
    case, other = claimed.case.number, waits.case.number
    wanted = {
        "reader0": ["/reading", f"/reading/{case}", f"/reading/{other}", "/reading/roster", "/reading/readers", "/reading/templates",
                    "/reading/templates/new", "/reading/statistics", "/imaging", "/imaging/quality", "/archive", "/archive/quarantine",
                    "/archive/devices", "/critical", "/critical/statistics", "/critical/limits"],
        "technician0": ["/acquire", f"/acquire/{other}", "/specimens", "/specimens/boxes", "/pathology", "/pathology/send"],
        "gp0": ["/orders", f"/orders/person/{number}", f"/orders/new?person={number}&item=CT-ABDO-C&item=LAB-CBC", f"/orders/{case}", "/ecg",
                f"/ecg/new?person={number}", "/chest-pain", "/chest-pain/statistics", "/consults", f"/consults/new?person={number}", "/outreach",
                "/recognition"],
        "lab0": ["/laboratory", "/laboratory/receive", "/laboratory/kept", "/laboratory/rules", "/laboratory/controls", "/laboratory/statistics"],
        "sterile0": ["/sterile", "/sterile/scan", "/sterile/sets", "/sterile/loads", "/sterile/requests", "/sterile/recalls", "/sterile/statistics", "/sterile/sets/new"],
        "manager": ["/recognition", "/recognition/groups", "/recognition/rules", "/recognition/quality"],
        "clinician": ["/consults", "/orders"],
    }  # fmt: skip
    return {reading.account_of(county.posts[key]).pk: paths for key, paths in wanted.items()}


def test_every_staff_page_is_accessible_and_fits(
    browser: Browser, live: str, pages: dict[int, list[str]]
) -> None:
    assert len(pages) == 6
    assert looked(browser, live, pages) == []


def test_every_page_of_the_shared_centres_is_accessible_and_fits(
    browser: Browser, live: str, centres: dict[int, list[str]]
) -> None:
    assert len(centres) == 7
    faults = looked(browser, live, centres)
    assert faults == [], "\n".join(map(str, faults))


def looked(browser: Browser, live: str, pages: dict[int, list[str]]) -> list[tuple[object, ...]]:
    """What is wrong with the pages, at both widths."""
    axe, faults = Axe(), []
    for account_id, paths in pages.items():
        client = Client()
        client.force_login(Account.objects.get(pk=account_id))
        context = browser.new_context()
        context.add_cookies(
            [
                {
                    "name": settings.SESSION_COOKIE_NAME,
                    "value": client.cookies[settings.SESSION_COOKIE_NAME].value,
                    "url": live,
                }
            ]
        )
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(("error", str(error))))
        for path in paths:
            page.set_viewport_size({"width": WIDTHS[0], "height": 900})
            answer = page.goto(live + path)
            if answer is None or answer.status != 200:
                faults.append((path, answer and answer.status))
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                if page.evaluate("document.documentElement.scrollWidth") > width:
                    faults.append((path, width, "wider than the screen"))
                for found in axe.run(page, options=QUICK).response["violations"]:
                    faults.append((path, width, found["id"], [n["html"][:120] for n in found["nodes"][:3]]))
        context.close()
    return faults
