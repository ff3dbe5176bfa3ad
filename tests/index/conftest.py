"""Registrations of invented people."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from lianxin.access.scope import Scope
from lianxin.index.registry import Registration
from lianxin.network.models import Institution
from tests.factories import make_institution

SYSTEM = Scope.system("test")
BORN = dt.date(1969, 5, 17)
_serial = count(1)


@pytest.fixture
def here(db: None) -> Institution:
    """An institution that registers."""
    return make_institution(kind="township")


@pytest.fixture
def reg(here: Institution) -> Callable[..., Registration]:
    """reg(name=…, …) -> a registration with a local id of its own."""

    def make(**fields: Any) -> Registration:
        base: dict[str, Any] = {
            "institution_id": here.pk,
            "system": "urn:test:his",
            "local_id": f"L{next(_serial)}",
            "name": "单雄信",
            "sex": "male",
            "birth_date": BORN,
        }
        return Registration(**(base | fields))

    return make
