"""The shell in a real browser: our own assets load, the content policy is kept, nothing outside is asked for."""

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request

pytestmark = pytest.mark.browser


def test_the_first_page_loads_whole_and_alone(live: str, page: Page) -> None:
    said: list[str] = []
    asked: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            said.append(message.text)

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("console", hear)
    page.on("request", note)
    page.on("pageerror", lambda error: said.append(str(error)))
    answer = page.goto(f"{live}/login")
    assert answer is not None
    assert answer.status == 200
    page.wait_for_load_state("networkidle")
    assert said == []
    assert all(url.startswith((live, "data:")) for url in asked)
    assert any("/dist/app" in url and url.endswith(".js") for url in asked)
    assert any("/dist/app" in url and url.endswith(".css") for url in asked)
    assert page.locator("html").get_attribute("lang") == "zh-Hans"
    assert "联心" in page.title()
