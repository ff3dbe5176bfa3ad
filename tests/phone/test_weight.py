"""What a first visit costs on a slow line, that nothing is loaded from elsewhere, and that nothing of anybody is kept off line."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from tests.phone import world

pytestmark = pytest.mark.django_db
LIMIT = 200 * 1024


def pages(county: world.County) -> list[str]:
    """Every page that can be had by looking."""
    return [
        "/m/", "/m/who", "/m/find", "/m/find?q=gxy", "/m/numbers?specialty=03.04", f"/m/numbers/{county.session.pk}",
        f"/m/numbers/{county.full.pk}", "/m/visits", "/m/appeal", "/m/record", "/m/record/results", "/m/record/list/reports",
        "/m/record/entries/DiagnosticReport/ph-r", "/m/record/entries/DiagnosticReport/ph-r/wrong", "/m/referrals", "/m/me", "/m/looked",
        "/m/looked?own=1", "/m/consents", "/m/corrections", "/m/offline", "/m/login",
    ]  # fmt: skip


def weight(client: Client, path: str) -> tuple[int, set[str]]:
    """Bytes (gzip) of a page and of everything it loads, and what it loads."""
    answer = client.get(path)
    assert answer.status_code == 200, path
    body = answer.content.decode()
    loaded = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', body))
    total = len(gzip.compress(answer.content))
    for url in loaded:
        found = finders.find(url.removeprefix("/static/"))
        assert found, url
        with open(str(found), "rb") as file:
            total += len(gzip.compress(file.read()))
    return total, loaded


def test_every_page_is_light_and_loads_nothing_from_elsewhere() -> None:
    county = world.build()
    world.record(county)
    world.fill(county)
    client, found = county.client(), {}
    for path in pages(county):
        asked = Client() if path == "/m/login" else client
        found[path], loaded = weight(asked, path)
        body = asked.get(path).content.decode()
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', body), path
        assert not re.findall(r"<script(?![^>]*src=)|style=|\son[a-z]+=", body), path
        assert not [u for u in loaded if re.search(r"woff|app\.(css|js)", u)], path
    heavy = {path: size for path, size in found.items() if size >= LIMIT}
    assert not heavy, heavy


def test_the_sheet_asks_for_no_fonts_and_no_pictures() -> None:
    with open(str(finders.find("dist/phone.css"))) as file:
        sheet = file.read()
    assert "@font-face" not in sheet
    assert not re.findall(r"url\((?!['\"]?data:)", sheet)


def test_the_application_can_be_installed_and_keeps_nothing_of_anybody() -> None:
    county = world.build()
    manifest = json.loads(Client().get("/m/manifest.webmanifest").content)
    assert (manifest["scope"], manifest["start_url"], manifest["display"]) == ("/m/", "/m/", "standalone")
    assert all(finders.find(icon["src"].removeprefix("/static/")) for icon in manifest["icons"])
    worker = Client().get("/m/sw.js")
    assert worker.headers["Content-Type"].startswith("text/javascript")
    script = worker.content.decode()
    shell = re.search(r"const SHELL = \[(.*?)\]", script)
    assert shell is not None
    kept = re.findall(r'"([^"]+)"', shell[1])
    assert all(url.startswith("/static/") or url == "/m/offline" for url in kept)
    assert "/*" not in script.replace("/* Lianxin", "").replace("/* VERSION", "//").split("*/", 1)[1]
    body = county.client().get("/m/offline").content.decode()
    assert county.me.name not in body
    for path in ("/m/", "/m/record", f"/m/numbers/{county.session.pk}"):
        assert "no-store" in county.client().get(path).headers["Cache-Control"], path


def test_large_type_is_kept_without_javascript_and_comes_back_where_one_was() -> None:
    county = world.build()
    client = county.client()
    answer = client.post("/m/type", {"large": "1", "next": "/m/find"})
    assert answer.headers["Location"] == "/m/find"
    assert 'class="large-type"' in client.get("/m/find").content.decode()
    assert (
        client.post("/m/type", {"large": "0", "next": "https://evil.example/"}).headers["Location"] == "/m/"
    )
    assert 'class="large-type"' not in client.get("/m/find").content.decode()
