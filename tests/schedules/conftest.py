"""Every test stands on Monday 2 November 2026, half past seven."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lianxin.standards import clock
from tests.schedules import world as worlds


@pytest.fixture
def monday() -> Iterator[None]:
    """The clock of the tests."""
    with clock.at(worlds.NOW):
        yield


@pytest.fixture
def world(db: None, monday: None) -> worlds.World:
    """The county."""
    return worlds.build()
