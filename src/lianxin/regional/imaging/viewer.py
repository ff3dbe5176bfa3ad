"""The image viewer's own address: OHIF's files as they were built, the one page with its content security policy.

The viewer decodes images in WebAssembly and in workers and writes its own styles; no other page of the platform may, so the policy here is
the viewer's alone. It speaks to ``/dicomweb`` with the session of the page around it, and to nobody else.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import NamedTuple

from csp.decorators import csp
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.utils.translation import get_language
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_safe

from lianxin.access.web import page
from lianxin.standards.text import T

FOLDER = Path(__file__).parent / "dist" / "viewer"
TYPES = {
    ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".wasm": "application/wasm", ".woff2": "font/woff2",
    ".png": "image/png", ".svg": "image/svg+xml",
}  # fmt: skip
POLICY = {
    "default-src": ["'self'"],
    "script-src": ["'self'", "'wasm-unsafe-eval'"],
    "worker-src": ["'self'", "blob:"],
    "style-src": ["'self'", "'unsafe-inline'"],
    "img-src": ["'self'", "data:", "blob:"],
    "font-src": ["'self'", "data:"],
    "connect-src": ["'self'", "blob:", "data:"],
    "media-src": ["'self'", "blob:"],
    "object-src": ["'self'", "blob:"],
    "frame-src": ["'self'", "blob:"],
    "frame-ancestors": ["'self'"],
    "form-action": ["'none'"],
    "base-uri": ["'self'"],
}
_HASHED = re.compile(r"(^|\.)[0-9a-f]{16}\.[a-z0-9]+$")
_WAYS = (("br", ".br"), ("gzip", ".gz"))


class Asset(NamedTuple):
    """One file of the viewer: its type, its encodings, for how long a browser may keep it."""

    path: Path
    kind: str
    ways: tuple[str, ...]
    keep: str


@functools.cache
def assets(stamp: float) -> dict[str, Asset]:
    """The files by name, as they were when the viewer was built (``stamp``)."""
    found = {}
    for path in FOLDER.rglob("*"):
        kind = TYPES.get(path.suffix)
        if kind is None:
            continue
        name = path.relative_to(FOLDER).as_posix()
        ways = tuple(way for way, ending in _WAYS if Path(f"{path}{ending}").exists())
        keep = "public, max-age=31536000, immutable" if _HASHED.search(name) else "public, max-age=3600"
        found[name] = Asset(path, kind, ways, keep)
    return found


def built() -> float:
    """When the viewer was built; 0.0 when it was not."""
    try:
        return (FOLDER / "index.html").stat().st_mtime
    except OSError:
        return 0.0


@require_safe
@csp(POLICY)  # type: ignore[arg-type]
@xframe_options_sameorigin
def file(request: HttpRequest, name: str) -> HttpResponseBase:
    """A file of the viewer (no patient's data is in any), in the smallest form that the browser takes."""
    asset = assets(built()).get(name)
    if asset is None:
        raise Http404
    accepted = request.headers.get("Accept-Encoding", "")
    way = next((w for w in asset.ways if re.search(rf"\b{w}\b", accepted)), "")
    path = Path(f"{asset.path}{dict(_WAYS)[way]}") if way else asset.path
    answer = FileResponse(path.open("rb"), content_type=asset.kind)
    if way:
        answer.headers["Content-Encoding"] = way
    answer.headers["Vary"] = "Accept-Encoding"
    answer.headers["Cache-Control"] = asset.keep
    return answer


@functools.cache
def _index(stamp: float) -> tuple[bytes, bytes]:
    text = (FOLDER / "index.html").read_text("utf-8")
    return text.encode(), text.replace('<html lang="zh-CN">', '<html lang="en">').encode()


@page(clinical=True)  # type: ignore[arg-type]
@csp(POLICY)
@xframe_options_sameorigin
def index(request: HttpRequest) -> HttpResponse:
    """The viewer itself; which images it may have is decided where it asks for them (``/dicomweb``)."""
    stamp = built()
    if not stamp:
        text = T("阅片器尚未构建，请运行 make setup。", "The viewer has not been built; run make setup.")
        return HttpResponse(str(text), status=503, content_type="text/plain; charset=utf-8")
    return HttpResponse(_index(stamp)[(get_language() or "").startswith("en")])
