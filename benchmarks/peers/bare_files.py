"""A file server and nothing else (WSGI): what the image archive's doors are held against.

``GET /name`` sends a file of ``BARE_FILES`` in pieces; ``POST /name`` writes one, synced with its folder before the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("BARE_FILES", "."))
CHUNK = 256 * 1024


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI entry."""
    path = ROOT / Path(environ["PATH_INFO"]).name
    if environ["REQUEST_METHOD"] == "POST":
        with path.open("wb") as file:
            while chunk := environ["wsgi.input"].read(CHUNK):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(ROOT, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        start_response("201 Created", [("Content-Length", "0")])
        return []
    start_response("200 OK", [("Content-Length", str(path.stat().st_size)), ("Content-Type", "application/dicom")])  # fmt: skip
    return _pieces(path)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
