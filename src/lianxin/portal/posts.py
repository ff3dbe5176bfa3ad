"""The posts one may act in, and changing between them."""

from __future__ import annotations

from typing import Any

from lianxin.access.scope import posts_of as _posts_of
from lianxin.network.models import Post


def posts_of(account: Any) -> list[Post]:
    """Live posts of an account, steadily ordered; none for the signed-out."""
    return _posts_of(account) if getattr(account, "is_authenticated", False) else []
