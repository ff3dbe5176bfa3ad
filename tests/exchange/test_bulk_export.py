"""``$export``: what the Bulk Data guide asks for, and what it may not give."""

from __future__ import annotations

from typing import Any

import pytest

from tests.exchange.bulk_world import Bulk, fill, ids

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _folder(settings: Any, tmp_path: Any) -> None:
    settings.LIANXIN_BULK_DIR = tmp_path / "bulk"


@pytest.fixture
def platform() -> Bulk:
    return Bulk("platform")


def test_a_system_export_gives_everything_once(platform: Bulk) -> None:
    people = fill(platform)
    found = platform.exported("$export")
    assert ids(found, "Patient") == sorted(people)
    assert len(set(ids(found, "Observation"))) == 12
