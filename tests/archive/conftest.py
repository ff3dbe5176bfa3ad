"""An archive of its own for every test, and orders that its accession numbers stand for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lianxin.regional.archive import callers, hooks, spool


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, settings: Any) -> Iterator[Path]:
    """The archive's folder."""
    settings.LIANXIN_ARCHIVE_DIR = tmp_path / "archive"
    settings.LIANXIN_ARCHIVE_RESERVE = 0
    settings.LIANXIN_ORTHANC_URL = ""
    callers.forget()
    yield settings.LIANXIN_ARCHIVE_DIR
    spool._spool = None


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> dict[str, hooks.Order]:
    """Accession numbers and whose they are; rooms above are not asked."""
    known: dict[str, hooks.Order] = {}
    monkeypatch.setattr(hooks, "_order_of", [known.get])
    monkeypatch.setattr(hooks, "_study", [])
    return known
