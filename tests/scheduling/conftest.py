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


@pytest.fixture
def committed(transactional_db: None) -> Iterator[worlds.World]:
    """The same, committed: for real connections and for the FHIR door."""
    with clock.at(worlds.START):
        yield worlds.build()
