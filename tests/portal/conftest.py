"""A small county with an account for every post, and clients that are signed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.test import Client

from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from tests.factories import SmallCounty, small_county

PASSWORD = "Lianxin-2026"


@cache
def _hash() -> str:
    """Argon2 is slow on purpose: one hash serves all."""
    return make_password(PASSWORD)


@dataclass
class Town:
    """The county and its accounts, by the key of the post."""

    county: SmallCounty
    accounts: dict[str, Account]

    def scope(self, key: str) -> Scope:
        """The scope of an account in its only post."""
        return scope_for_account(self.accounts[key])


@pytest.fixture
def town(db: None) -> Town:
    """The small county; every post's holder has an account named by the post's key."""
    county = small_county()
    made = Account.objects.bulk_create(
        Account(username=key, name=post.practitioner.name, practitioner=post.practitioner, password=_hash())
        for key, post in county.posts.items()
    )
    return Town(county, {account.username: account for account in made})


@pytest.fixture
def as_(town: Town) -> Callable[[str], Client]:
    """``as_("gp0")``: a client signed in as that account."""

    def sign(key: str, **extra: Any) -> Client:
        client = Client(**extra)
        client.force_login(town.accounts[key])
        return client

    return sign
