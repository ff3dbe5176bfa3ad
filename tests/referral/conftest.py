from __future__ import annotations

from collections.abc import Iterator

import pytest

from lianxin.standards import clock
from tests.referral import world as worlds


@pytest.fixture
def world(db: None) -> Iterator[worlds.World]:
    """A county on a Monday morning."""
    with clock.at(worlds.START):
        yield worlds.build()
