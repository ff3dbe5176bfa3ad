"""The medical group of the golden story, committed, on its Monday morning."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lianxin.access import tokens
from tests.golden import group as groups


@pytest.fixture
def group(transactional_db: None) -> Iterator[groups.Group]:
    """Institutions, staff and clinics; the clock stands on Monday 9:00 and runs."""
    with groups.story_time():
        tokens.forget()
        yield groups.stand_up()
