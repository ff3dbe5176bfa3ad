"""The viewer: its address, its files and its policy."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from lianxin.regional.imaging import viewer
from tests.reading import world

built = pytest.mark.skipif(not viewer.built(), reason="the viewer is built by make setup")


@pytest.fixture(autouse=True)
def _own_folder(settings: Any, tmp_path: Any) -> None:
    settings.LIANXIN_ARCHIVE_DIR = tmp_path
    settings.LIANXIN_ARCHIVE_RESERVE = 0


@built
@pytest.mark.django_db
def test_the_viewer_alone_has_a_policy_of_its_own() -> None:
    county = world.make_world()
    client = Client()
    assert client.get("/viewer/basic").status_code == 302
    client.force_login(world.account_of(county.posts["technician0"]))
    answer = client.get("/viewer/basic")
    policy = answer.headers["Content-Security-Policy"]
    assert "'wasm-unsafe-eval'" in policy
    assert "'unsafe-eval'" not in policy
    assert "frame-ancestors 'self'" in policy
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    page = answer.content.decode()
    assert "<script>" not in page
    assert "http://" not in page.replace("http://127", "")
    other = client.get("/acquire")
    assert "wasm" not in other.headers["Content-Security-Policy"]
    assert other.headers["X-Frame-Options"] == "DENY"


@built
@pytest.mark.django_db
def test_files_come_small_and_only_the_viewers_own() -> None:
    name = next(n for n in viewer.assets(viewer.built()) if n.startswith("app.bundle") and n.endswith(".js"))
    answer = Client().get(f"/viewer/{name}", headers={"accept-encoding": "gzip, br"})
    assert answer.headers["Content-Encoding"] == "br"
    assert "immutable" in answer.headers["Cache-Control"]
    assert sum(len(part) for part in answer.streaming_content) < 3_000_000  # type: ignore[attr-defined, misc]
    plain = Client().get(f"/viewer/{name}")
    assert "Content-Encoding" not in plain.headers
    plain.close()
    for bad in ("../../models.py", "index.html.br", "nothing.js", f"{name}.br"):
        assert Client().get(f"/viewer/{bad}").status_code == 404
