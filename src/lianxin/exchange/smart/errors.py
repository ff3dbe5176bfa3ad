"""Refusals of the OAuth addresses, as RFC 6749 wants them."""

from __future__ import annotations

from typing import Any


class OAuthError(Exception):
    """``error`` is a code of RFC 6749 (5.2, 4.1.2.1); ``description`` is ASCII for developers and names the cure."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(f"{error}: {description}")
        self.error, self.description, self.status = error, description, status

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": self.error, "error_description": self.description}


def invalid_client(description: str) -> OAuthError:
    """The client could not prove who it is (401)."""
    return OAuthError("invalid_client", description, 401)
