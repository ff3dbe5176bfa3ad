"""An app is opened in a real browser, from the record and by itself: the pages are whole, accessible, and let nobody else in."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client as Session

from lianxin.access import clients
from lianxin.access.models import Account
from tests.exchange import smart_world as w
from tests.referral import world as worlds

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
WIDTHS = (1440, 390)


class _App(BaseHTTPRequestHandler):
    """The app's own site: it takes whatever it is sent."""

    seen: list[str] = []

    def do_GET(self) -> None:
        if not self.path.startswith("/favicon"):
            type(self).seen.append(self.path)
        body = b"<!doctype html><title>app</title><h1>the app</h1>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    _App.seen = []
    with HTTPServer(("127.0.0.1", 0), _App) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def sign_in(browser: Any, live: str, account: Account, faults: list[Any]) -> Any:
    session = Session()
    session.force_login(account)
    context = browser.new_context()
    context.add_cookies(
        [
            {
                "name": settings.SESSION_COOKIE_NAME,
                "value": session.cookies[settings.SESSION_COOKIE_NAME].value,
                "url": live,
            }
        ]
    )
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    return page


def look(page: Any, faults: list[Any]) -> None:
    """The page at two widths under axe."""
    page.wait_for_load_state()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        if page.evaluate("document.documentElement.scrollWidth") > width:
            faults.append((page.url, width, "wider than the screen"))
        for found in Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]:
            faults.append((page.url, width, found["id"], [n["html"][:150] for n in found["nodes"][:3]]))
    page.set_viewport_size({"width": 1440, "height": 900})


def post(url: str, form: dict[str, str]) -> dict[str, Any]:
    with urllib.request.urlopen(urllib.request.Request(url, urlencode(form).encode()), timeout=20) as answer:
        return json.loads(answer.read())


def test_an_app_from_the_record_and_by_itself(browser: Any, live: str, site: str) -> None:
    world, faults = worlds.build(), list[Any]()
    app = w.app("生长曲线", redirect_uris=[f"{site}/back"], launch_url=f"{site}/launch")
    page = sign_in(browser, live, Account.objects.get(pk=world["gp0"].account_id), faults)

    page.goto(f"{live}/people/{world.person.number}")
    page.locator(".chart-apps summary").click()
    look(page, faults)
    page.locator(f".chart-apps-list button[value='{app.key}']").click()
    look(page, faults)
    page.locator(f"a[href^='{site}/launch']").click()
    page.wait_for_url(f"{site}/launch**")
    sent = parse_qs(urlsplit(_App.seen[-1]).query)
    assert sent["iss"] == [f"{live}/fhir"]

    flow = w.Flow(None, app, "launch openid patient/*.rs offline_access", f"{site}/back")  # type: ignore[arg-type]
    page.goto(f"{live}/auth/authorize?{urlencode(flow.query(aud=f'{live}/fhir', launch=sent['launch'][0]))}")
    assert world.person.name in page.content()
    look(page, faults)
    page.locator("input[value=offline_access]").uncheck()
    page.locator("button[name=allow]").click()
    page.wait_for_url(f"{site}/back**")
    back = parse_qs(urlsplit(_App.seen[-1]).query)
    assert back["state"] == ["st-1"]
    got = post(
        f"{live}/auth/token",
        {"grant_type": "authorization_code", "code": back["code"][0], "redirect_uri": f"{site}/back", "client_id": app.key,
         "code_verifier": flow.verifier},
    )  # fmt: skip
    assert got["patient"] == world.person.number
    assert "refresh_token" not in got
    request = urllib.request.Request(
        f"{live}/fhir/Patient/{got['patient']}", headers={"Authorization": f"Bearer {got['access_token']}"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200

    alone = w.Flow(None, app, "launch/patient patient/Observation.rs", f"{site}/back")  # type: ignore[arg-type]
    page.goto(f"{live}/auth/authorize?{urlencode(alone.query(aud=f'{live}/fhir'))}")
    look(page, faults)
    page.locator("#q").fill(world.person.name)
    page.locator("form[role=search] button[type=submit]").last.click()
    look(page, faults)
    page.locator(f"button[name=person][value='{world.person.number}']").click()
    page.locator("button[name=change]").click()
    page.locator("button[name=deny]").click()
    page.wait_for_url(f"{site}/back**")
    assert parse_qs(urlsplit(_App.seen[-1]).query)["error"] == ["access_denied"]

    page.goto(f"{live}/auth/grants")
    look(page, faults)
    page.locator("button[name=end]").click()
    page.goto(f"{live}/people/{world.person.number}?tab=consents")
    page.locator("details summary.btn-outline-secondary").last.click()
    look(page, faults)

    security = sign_in(browser, live, Account.objects.get(pk=world["security_admin"].account_id), faults)
    row = clients.save(w.ADMIN, clients.Draft("检验系统", scope="system/*.rs"))
    for path in (
        "/manage/clients",
        "/manage/clients/new",
        f"/manage/clients/{row.pk}",
        f"/manage/clients/{app.pk}",
    ):
        security.goto(live + path)
        look(security, faults)
    assert faults == []
