"""Accounts and scopes for the tests of access."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index.registry import Registration, register
from lianxin.network.models import Institution
from tests.factories import make_institution, make_post

PASSWORD = "Lianxin-2026"


@pytest.fixture
def account(db: None) -> Callable[..., Account]:
    """account(role, institution=None, username=…) -> an account with a live post."""

    def make(role: str, institution: Institution | None = None, username: str = "", **fields: Any) -> Account:
        post = make_post(institution or make_institution(kind="hospital"), role)
        name = username or f"u{post.pk}"
        return Account.objects.create_user(
            name, PASSWORD, name="甄试", practitioner=post.practitioner, **fields
        )

    return make


@pytest.fixture
def scope(account: Callable[..., Account]) -> Callable[..., Scope]:
    """scope(role, institution=None) -> the scope of a fresh account."""

    def make(role: str, institution: Institution | None = None) -> Scope:
        return scope_for_account(account(role, institution))

    return make


@pytest.fixture
def person_id(db: None) -> int:
    """A person known to an institution that no test belongs to."""
    elsewhere = make_institution(kind="township")
    reg = Registration(elsewhere.pk, "urn:t", "p1", "甄有病", "female")
    return register(Scope.system("test"), reg).person_id
