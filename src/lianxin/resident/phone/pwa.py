"""The pages as an installable application: manifest, service worker, and what stands there without a network.

The worker keeps only what is nobody's: style, script, icons and the page that says one is off line. What a page says of a person is
never kept on the phone (many are shared in a family; answers are ``no-store``), so off line nothing of a person can be read.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.templatetags.static import static
from django.urls import reverse
from django.utils.translation import get_language
from django.views.decorators.http import require_safe

from lianxin.standards.text import T

_SCRIPT = Path(__file__).parent / "data" / "worker.js"
_OFFLINE = {
    "title": T("没有网络", "No connection"),
    "why": T(
        "连上网络后再试。为保护隐私，健康档案和预约不会存在手机里，离线时看不到。",
        "Try again when you are on line. To protect you, records and visits are never kept on the phone.",
    ),
    "desk": T(
        "到医院没有网络时：出示身份证，窗口同样可以报到。急症请拨打",
        "At the hospital without a connection: show your identity card at the desk. In an emergency call",
    ),
    "again": T("再试一次", "Try again"),
}
_SHELL = ("dist/phone.css", "dist/phone.js", "portal/logo.svg", "phone/icon-192.png")


@require_safe
def manifest(request: HttpRequest) -> HttpResponse:
    """The web app manifest."""
    english = (get_language() or "").startswith("en")
    return JsonResponse(
        {
            "id": "/m/", "name": "Lianxin, my health" if english else "联心 · 我的健康", "short_name": "Lianxin" if english else "联心",
            "lang": "en" if english else "zh-Hans", "start_url": reverse("phone:home"), "scope": "/m/", "display": "standalone",
            "background_color": "#f8f5f0", "theme_color": "#f8f5f0",
            "icons": [
                {"src": static("phone/icon-192.png"), "sizes": "192x192", "type": "image/png", "purpose": "any"},
                {"src": static("phone/icon-512.png"), "sizes": "512x512", "type": "image/png", "purpose": "any"},
                {"src": static("phone/icon-maskable.png"), "sizes": "512x512", "type": "image/png", "purpose": "maskable"},
            ],
        },
        content_type="application/manifest+json", json_dumps_params={"ensure_ascii": False},
    )  # fmt: skip


@cache
def _worker() -> str:
    shell = [static(name) for name in _SHELL]
    script = _SCRIPT.read_text("utf-8")
    version = hashlib.sha256((script + "".join(shell)).encode()).hexdigest()[:12]
    listed = ", ".join(f'"{url}"' for url in [*shell, reverse("phone:offline")])
    return (
        script.replace("/* VERSION */", f'"{version}"')
        .replace("/* SHELL */", listed)
        .replace("/* OFFLINE */", f'"{reverse("phone:offline")}"')
    )


@require_safe
def worker(request: HttpRequest) -> HttpResponse:
    """The service worker, served from its own scope /m/."""
    response = HttpResponse(_worker(), content_type="text/javascript; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache"
    return response


@require_safe
def offline(request: HttpRequest) -> HttpResponse:
    """What stands there without a network: that it is so, and what to do. Says nothing of anybody, in both languages."""
    sides = [
        {"lang": "zh-Hans", **{name: words.zh for name, words in _OFFLINE.items()}},
        {"lang": "en", **{name: words.en for name, words in _OFFLINE.items()}},
    ]
    return render(request, "phone/offline.html", {"sides": sides})
